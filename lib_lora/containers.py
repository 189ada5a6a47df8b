"""The tensors and the metadata of a file: .safetensors by memory map, torch's zip files by `unpickling.py`.

A tensor of .safetensors is made here from its place in the file, which `header.py` has checked: the library of that
name takes ten times as long for it, and adapters have thousands of small ones.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lib_lora.errors import AdapterFileError
from lib_lora.header import Header, TensorInfo, check_header, read_raw
from lib_lora.unpickling import FLOAT8, PICKLES, read_pickle

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
    """What a file holds. fp8 comes as fp16, which has all its values."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    blocks: tuple[Tensor, ...]  # the values of all tensors in as few flat ones as possible


def read_contents(path: Path, *, mapped: bool = True) -> Contents:
    """Read `path`. Raises AdapterFileError.

    `mapped`: tensors of .safetensors stay in the file until they are used; else the file is read now, and let go.
    """
    if path.suffix.lower() not in PICKLES:
        return _read_safetensors(path, mapped)
    tensors = _without_fp8(read_pickle(path))
    return Contents(tensors, {}, tuple(tensors.values()))


def _read_safetensors(path: Path, mapped: bool) -> Contents:
    raw = read_raw(path)
    header = check_header(raw)
    for key, info in header.tensors.items():
        if info.dtype not in DTYPES:
            raise AdapterFileError(
                f"{path.name}: {key!a} holds numbers of the type {info.dtype}, which torch {torch.__version__} "
                "does not know; save it again as float16"
            )
    try:
        with open(path, "rb") as file:
            # Copied on write: memory that is only for reading, torch does not take.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if mapped else bytearray(file.read())
    except (OSError, ValueError) as error:
        raise AdapterFileError(f"{path.name} cannot be read ({error}): check the file and its rights") from error
    tensor_bytes = len(data) - header.data_start
    if tensor_bytes != raw.data_size or data[8 : header.data_start] != raw.content:
        raise AdapterFileError(f"{path.name} was written to while it was read; draw again when that is over")
    tensors = {key: _flat(data, header, info).view(info.shape) for key, info in header.tensors.items()}
    metadata = dict(header.metadata)
    if any(tensor.dtype in FLOAT8 for tensor in tensors.values()):
        tensors = _without_fp8(tensors)
        return Contents(tensors, metadata, tuple(tensors.values()))
    return Contents(tensors, metadata, tuple(_flat(data, header, each) for each in _blocks(header.tensors)))


def _flat(data: mmap.mmap | bytearray, header: Header, info: TensorInfo) -> Tensor:
    """The values of `info`, which lies in `data`."""
    dtype, size, offset = DTYPES[info.dtype], info.end - info.begin, header.data_start + info.begin
    if size == 0:
        return torch.empty(0, dtype=dtype)
    if offset % dtype.itemsize == 0:
        return torch.frombuffer(data, dtype=dtype, count=size // dtype.itemsize, offset=offset)
    return torch.frombuffer(data, dtype=torch.uint8, count=size, offset=offset).clone().view(dtype)


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
