"""The tensors and the metadata of a file, told by its content: .safetensors is read here, torch's by `unpickling.py`.

A tensor of .safetensors is made here from its place in the file, which `header.py` has checked: the library of that
name takes ten times as long for it, and adapters have thousands of small ones. The bytes are read, not mapped: a file
that somebody overwrites or cuts off under a map ends the process.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from lib_lora.errors import AdapterFileError, is_out_of_memory
from lib_lora.formats.header import TensorInfo, check_header, read_raw
from lib_lora.formats.kinds import TORCH, kind_of
from lib_lora.formats.opening import open_file
from lib_lora.formats.unpickling import FLOAT8, read_pickle

DTYPES = {  # safetensors' name -> torch's, where this version of it has one
    name: getattr(torch, torch_name)
    for name, torch_name in {
        "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64",
        "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64"}.items()
    if hasattr(torch, torch_name)
}  # fmt: skip


@dataclass(frozen=True)
class Contents:
    """What a file holds, in memory of its own. fp8 comes as fp16, which has all its values."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    blocks: tuple[Tensor, ...]  # the values of all tensors in as few flat ones as possible


def read_contents(path: Path) -> Contents:
    """Read `path`, whatever its ending. Raises AdapterFileError."""
    try:
        if kind_of(path) != TORCH:
            return _read_safetensors(path)
        tensors = _without_fp8(read_pickle(path))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise AdapterFileError(
            f"{path.name} does not fit into memory ({path.stat().st_size / 1e9:.1f} GB): close other programs"
        ) from error
    return Contents(tensors, {}, tuple(tensors.values()))


class TensorFile:
    """An open .safetensors file whose tensors are read one by one, each into memory of its own.

    Unlike a map of the file it survives that the file becomes shorter; that is an AdapterFileError, as is a file that
    was written to since it was opened. Without `close` it is closed with the object. Safe to use from several threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._raw = read_raw(path)
        self.header = check_header(self._raw)
        self._file = _opened(path)
        weakref.finalize(self, self._file.close)
        self._stamp = _stamp(self._file)
        self._lock = threading.Lock()  # a file has one place at which it is read
        if _read(self._file, path, 8, len(self._raw.content)) != self._raw.content:
            raise _written_to(path)

    def read(self, name: str) -> Tensor:
        """One tensor. Raises KeyError and AdapterFileError."""
        info = self.header.tensors[name]
        _check_type(self.path, name, info)
        data = torch.empty(info.end - info.begin, dtype=torch.uint8, device="cpu")
        with self._lock:
            _read_into(self._file, self.path, self.header.data_start + info.begin, data.numpy().data)
        if _stamp(self._file) != self._stamp:
            raise _written_to(self.path)
        return data.view(DTYPES[info.dtype]).view(info.shape)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _read_safetensors(path: Path) -> Contents:
    raw = read_raw(path)
    header = check_header(raw)
    for key, info in header.tensors.items():
        _check_type(path, key, info)
    with _opened(path) as file:
        before = _stamp(file)
        if _read(file, path, 8, len(raw.content)) != raw.content or before[1] - header.data_start != raw.data_size:
            raise _written_to(path)
        used = max((info.end for info in header.tensors.values()), default=0)
        data = torch.empty(used, dtype=torch.uint8, device="cpu")
        _read_into(file, path, header.data_start, data.numpy().data)
        if _stamp(file) != before:
            raise _written_to(path)
    tensors = {key: _flat(data, info).view(info.shape) for key, info in header.tensors.items()}
    metadata = dict(header.metadata)
    if any(tensor.dtype in FLOAT8 for tensor in tensors.values()):
        tensors = _without_fp8(tensors)
        return Contents(tensors, metadata, tuple(tensors.values()))
    return Contents(tensors, metadata, tuple(_flat(data, each) for each in _blocks(header.tensors)))


def _check_type(path: Path, key: str, info: TensorInfo) -> None:
    if info.dtype not in DTYPES:
        raise AdapterFileError(
            f"{path.name}: {key!a} holds numbers of the type {info.dtype}, which torch {torch.__version__} "
            "does not know; save it again as float16"
        )


def _flat(data: Tensor, info: TensorInfo) -> Tensor:
    """The values of `info`, which lies in `data`."""
    dtype, values = DTYPES[info.dtype], data[info.begin : info.end]
    return (values if info.begin % dtype.itemsize == 0 else values.clone()).view(dtype)


def _opened(path: Path) -> BinaryIO:
    try:
        return open_file(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _stamp(file: BinaryIO) -> tuple[int, int]:
    """(modification time, size)"""
    stat = os.fstat(file.fileno())
    return stat.st_mtime_ns, stat.st_size


def _read(file: BinaryIO, path: Path, begin: int, count: int) -> bytearray:
    found = bytearray(count)
    _read_into(file, path, begin, memoryview(found))
    return found


def _read_into(file: BinaryIO, path: Path, begin: int, target: memoryview) -> None:
    """Fill `target` from the file; a file that ends before is an error, and no more than that."""
    try:
        file.seek(begin)
        done = 0
        while done < len(target):
            count = file.readinto(target[done:])  # type: ignore[attr-defined]
            if not count:
                raise _written_to(path)
            done += count
    except OSError as error:
        raise _unreadable(path, error) from error


def _written_to(path: Path) -> AdapterFileError:
    return AdapterFileError(f"{path.name} was written to while it was read; draw again when that is over")


def _unreadable(path: Path, error: OSError) -> AdapterFileError:
    return AdapterFileError(f"{path.name} cannot be read ({error.strerror or error}): check the file and its rights")


def _blocks(tensors: Mapping[str, TensorInfo]) -> Iterator[TensorInfo]:
    """Neighbours of one type, taken together; their shape means nothing."""
    block: TensorInfo | None = None
    for info in sorted(tensors.values(), key=lambda info: info.begin):
        if block and (block.dtype, block.end) == (info.dtype, info.begin):
            block = block._replace(end=info.end)
            continue
        if block:
            yield block
        block = info
    if block:
        yield block


def _without_fp8(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.half() if tensor.dtype in FLOAT8 else tensor for name, tensor in tensors.items()}
