"""What the values of a file are like, without torch: some that are no numbers, or nothing but zeros."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lib_lora.describe.survey import BUNDLE, algorithm_of
from lib_lora.errors import AdapterFileError
from lib_lora.formats.header import Header, TensorInfo
from lib_lora.formats.opening import open_file
from lib_lora.keys import sort_keys
from lib_lora.keys.zeros import ALL_ZERO, changes_nothing

PIECE = 1 << 22  # bytes looked at a time
EXPONENTS: dict[str, tuple[type[np.unsignedinteger], int]] = {  # all of whose bits are set in what is no finite number
    "F64": (np.uint64, 0x7FF0000000000000),
    "F32": (np.uint32, 0x7F800000),
    "BF16": (np.uint16, 0x7F80),
    "F16": (np.uint16, 0x7C00),
}


def value_warnings(path: Path, header: Header) -> list[str]:
    """Sentences, the same as when the adapter is drawn with. Raises OSError; AdapterFileError for a file cut off."""
    with open_file(path) as file:
        return list(_warnings(file, header))


def _warnings(data: BinaryIO, header: Header) -> Iterator[str]:
    modules = {}
    for module, parts in sort_keys(key for key in header.tensors if not key.startswith(BUNDLE)).modules.items():
        found = {part: header.tensors[key] for part, key in parts.items()}
        if algorithm_of(module, {part: info.shape for part, info in found.items()}):
            modules[module] = found
    broken = [
        f"{module}: {part} holds values that are not finite numbers"
        for module, parts in modules.items()
        for part, info in parts.items()
        if not _is_finite(data, header, info)
    ]
    if broken:
        yield broken[0] + (f" (and {len(broken) - 1} more)" if len(broken) > 1 else "")
    has_embeddings = any(key.startswith(BUNDLE) for key in header.tensors)
    is_zero = partial(_is_zero, data, header)
    if modules and not has_embeddings and all(changes_nothing(parts, is_zero) for parts in modules.values()):
        yield ALL_ZERO


def _pieces(data: BinaryIO, header: Header, info: TensorInfo) -> Iterator[bytes]:
    begin, end = header.data_start + info.begin, header.data_start + info.end
    for start in range(begin, end, PIECE):
        data.seek(start)
        piece = data.read(min(PIECE, end - start))
        if len(piece) < min(PIECE, end - start):  # not mapped: a map of what is not there would end the process
            raise AdapterFileError("the file became shorter while it was read; wait until it is written")
        yield piece


def _is_zero(data: BinaryIO, header: Header, info: TensorInfo) -> bool:
    return all(not piece.strip(b"\0") for piece in _pieces(data, header, info))


def _is_finite(data: BinaryIO, header: Header, info: TensorInfo) -> bool:
    kind = EXPONENTS.get(info.dtype)
    if kind is None:
        return True
    dtype, exponent = kind
    mask = dtype(exponent)
    return not any(
        bool(((np.frombuffer(piece, dtype) & mask) == mask).any()) for piece in _pieces(data, header, info)
    )
