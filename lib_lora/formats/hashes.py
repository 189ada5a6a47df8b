"""The hashes by which adapters are known: full SHA-256, AutoV2, AutoV1, and the one over the tensors (AutoV3, kohya).

| name | what is hashed |
| --- | --- |
| sha256; AutoV2 = its first 10 digits | the whole file |
| tensors; AutoV3 = its first 12 digits; kohya's `sshs_model_hash` | all after the header of a .safetensors file |
| AutoV1, 8 digits | 64 KiB at offset 1 MiB; a shorter file has none |

The WebUI's short hash (`Lora hashes` in a picture's text) is the first 12 digits of the stored `sshs_model_hash`, else
of the tensor hash, else of the full one. Unlike the WebUI we do not believe stored ones that are known to be wrong:
those that begin with `0x` (another recipe, cut by two digits) and the hash of nothing (a bug of one trainer).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lib_lora.errors import AdapterFileError
from lib_lora.formats.kinds import HEAD, is_safetensors, is_torch, no_model
from lib_lora.formats.opening import open_file

BLOCK = 1 << 20
AUTOV1_START, AUTOV1_LENGTH = 0x100000, 0x10000
NOTHING = hashlib.sha256(b"").hexdigest()  # e3b0c442...
STORED = ("sshs_model_hash", "modelspec.hash_sha256", "sshs_legacy_hash")


@dataclass(frozen=True)
class Hashes:
    """Computed hashes of one file; hexadecimal, lower case."""

    sha256: str
    tensors: str = ""  # empty: the file has no header
    autov1: str = ""  # empty: the file is too short

    @property
    def autov2(self) -> str:
        return self.sha256[:10]

    @property
    def autov3(self) -> str:
        return self.tensors[:12]


def hash_file(path: Path) -> Hashes:
    """All hashes in one pass over the file. Raises AdapterFileError."""
    try:
        with open_file(path) as file:
            start = _tensors_start(file, path)
            file.seek(0)
            return _hash_all(file, start)
    except OSError as error:
        raise AdapterFileError(f"{path.name} cannot be read ({error.strerror or error}): check its rights") from error


def tensor_hash(path: Path) -> str:
    """SHA-256 of everything after the header of a .safetensors file. Raises AdapterFileError."""
    try:
        with open_file(path) as file:
            file.seek(_tensors_start(file, path))
            digest = hashlib.sha256()
            for block in _blocks(file):
                digest.update(block)
            return digest.hexdigest()
    except OSError as error:
        raise AdapterFileError(f"{path.name} cannot be read ({error.strerror or error}): check its rights") from error


def stored_hash(metadata: Mapping[str, str]) -> str:
    """kohya's `sshs_model_hash` where it can be believed, else an empty text."""
    value = metadata.get("sshs_model_hash", "").strip().lower()
    return value if re.fullmatch(r"[0-9a-f]{64}", value) and value != NOTHING else ""


def stated_hashes(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Every hash that the header states, right or wrong: other tools show them, so people look for them."""
    values = (metadata.get(key, "").strip().lower().removeprefix("0x") for key in STORED)
    hexadecimal = (value for value in values if re.fullmatch(r"[0-9a-f]{8,64}", value))
    return tuple(dict.fromkeys(value for value in hexadecimal if not NOTHING.startswith(value)))


def short_hash(metadata: Mapping[str, str], hashes: Hashes) -> str:
    """12 digits, as the WebUI writes them into a picture's text."""
    return (stored_hash(metadata) or hashes.tensors or hashes.sha256)[:12]


def _hash_all(file: BinaryIO, start: int) -> Hashes:
    whole, tensors, old = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    place = 0
    for block in _blocks(file):
        whole.update(block)
        if start:
            tensors.update(block[max(start - place, 0) :])
        old.update(block[max(AUTOV1_START - place, 0) : max(AUTOV1_START + AUTOV1_LENGTH - place, 0)])
        place += len(block)
    return Hashes(
        whole.hexdigest(),
        tensors.hexdigest() if start else "",
        old.hexdigest()[:8] if place > AUTOV1_START else "",
    )


def _blocks(file: BinaryIO) -> Iterator[memoryview]:
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    while count := file.readinto(buffer):  # type: ignore[attr-defined]
        yield view[:count]


def _tensors_start(file: BinaryIO, path: Path) -> int:
    """Offset of the first tensor byte; 0 if the file has no header."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(HEAD)
    if is_safetensors(head, size):
        return 8 + int.from_bytes(head[:8], "little")
    if path.suffix.lower() == ".safetensors" and not is_torch(head):
        raise AdapterFileError(no_model(path.name, head, size))
    return 0
