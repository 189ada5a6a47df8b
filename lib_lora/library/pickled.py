"""Names and shapes inside a .pt / .ckpt / .bin file, read without torch and without running anything in it."""

from __future__ import annotations

from pathlib import Path

from lib_lora.formats.torch_file import read_listing


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """{tensor name: shape} of a file of torch's. Raises AdapterFileError."""
    return read_listing(path).shapes
