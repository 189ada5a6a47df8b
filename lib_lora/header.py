"""The header of a .safetensors file: names, shapes and places of the tensors, and the metadata. No tensor is read.

Layout of the file: 8 bytes N (little endian), N bytes of JSON, tensor bytes. The JSON maps a tensor's name to
{dtype, shape, data_offsets}, and optionally `__metadata__` to a map of strings. The file comes from the internet: every
number in it is checked against the file's real size before anything believes it, and whatever is wrong is an
AdapterFileError that names the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from lib_lora.errors import AdapterFileError

MAX_HEADER = 100 * 1024 * 1024  # bytes; the largest real ones have a few hundred thousand
MAX_DIMENSIONS = 16
METADATA = re.compile(r'\s*\{\s*"__metadata__"\s*:\s*')
COMMA = re.compile(r"\s*,?")
AGAIN = "download it again, or take it out of the folder"

BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


class TensorInfo(NamedTuple):
    """One tensor of the file; it occupies the bytes data_start + begin … data_start + end."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Listing(NamedTuple):
    """The tensors of a header, checked against each other."""

    tensors: Mapping[str, TensorInfo]
    end: int  # bytes of tensors that the file must have


@dataclass(frozen=True)
class Header:
    """What the header says, checked."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_start: int  # offset in the file of tensor byte 0: 8 + N
    metadata_json: str  # the metadata as JSON text; where it is in order, the very text of the file
    layout: str  # equal for two files whose tensors have the same names, types, shapes and places

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tensor.shape for name, tensor in self.tensors.items()}


def read_header(
    path: str | os.PathLike[str], *, layouts: MutableMapping[str, Listing] | None = None
) -> Header:
    """Read and check the header of `path`. Raises AdapterFileError.

    `layouts` remembers tensor listings by `Header.layout`: adapters of one trainer and rank have the very same listing,
    so that the scan of a folder reads it once.
    """
    name = Path(path).name
    text, data_start, data_size = _read_text(path, name)
    metadata, metadata_json, listing = _split_metadata(text, name)
    layout = hashlib.sha256(listing.encode()).hexdigest()  # quarter of a megabyte each; processors help with this one
    known = layouts.get(layout) if layouts is not None else None
    if known is None:
        known = _read_listing(listing, name)
        if layouts is not None:
            layouts[layout] = known
    if known.end > data_size:
        missing = known.end - data_size
        raise AdapterFileError(f"{name}: {missing} bytes are missing at its end, the download broke off: {AGAIN}")
    return Header(known.tensors, MappingProxyType(metadata), data_start, metadata_json, layout)


def _read_text(path: str | os.PathLike[str], name: str) -> tuple[str, int, int]:
    """`(header text, offset of the tensors, bytes of tensors)`."""
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 10 or not 2 <= length <= min(MAX_HEADER, size - 8):
                raise AdapterFileError(f"{name} is not a safetensors file, or the download broke off: {AGAIN}")
            text = file.read(length).decode("utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise AdapterFileError(f"{name} cannot be read ({reason}): check the file and its rights") from error
    except UnicodeDecodeError as error:
        raise AdapterFileError(f"{name}: its header is not text: {AGAIN}") from error
    return text, 8 + length, size - 8 - length


def _split_metadata(text: str, name: str) -> tuple[dict[str, str], str, str]:
    """`(metadata, metadata as JSON, the rest as JSON)`; the usual writers put the metadata first or leave it out."""
    if first := METADATA.match(text):
        value, end = _decode(text, first.end(), name)
        start = COMMA.match(text, end).end()  # type: ignore[union-attr]
        return *_clean(value, text[first.end() : end]), "{" + text[start:].rstrip()
    if '"__metadata__"' not in text:
        return {}, "{}", text.rstrip()
    everything, _ = _decode(text, 0, name)
    value = everything.pop("__metadata__", None) if isinstance(everything, dict) else None
    return *_clean(value, ""), json.dumps(everything)


def _decode(text: str, start: int, name: str) -> tuple[Any, int]:
    try:
        return json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        raise AdapterFileError(f"{name}: its header is broken: {AGAIN}") from error


def _clean(value: Any, text: str) -> tuple[dict[str, str], str]:
    """The metadata as a map of encodable strings, and its JSON; `text` is kept where nothing had to be mended."""
    if not isinstance(value, dict):
        return {}, "{}"
    if all(map(str.isascii, value)) and all(type(item) is str and item.isascii() for item in value.values()):
        return value, text or json.dumps(value)
    texts = {key: item if isinstance(item, str) else json.dumps(item) for key, item in value.items()}
    mended = {encodable(key): encodable(item) for key, item in texts.items()}
    return mended, text if text and mended == value else json.dumps(mended)


def encodable(text: str) -> str:
    """`text` without lone surrogates, which JSON can smuggle in and no file or database takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _read_listing(listing: str, name: str) -> Listing:
    everything, end = _decode(listing, 0, name)
    if not isinstance(everything, dict) or listing[end:].strip():
        raise AdapterFileError(f"{name}: its header is broken: {AGAIN}")
    tensors = {key: _tensor(key, entry, name) for key, entry in everything.items()}
    end = max((tensor.end for tensor in tensors.values()), default=0)
    if sum(tensor.end - tensor.begin for tensor in tensors.values()) > end:
        raise AdapterFileError(f"{name}: tensors lie on top of each other: {AGAIN}")
    return Listing(MappingProxyType(tensors), end)


def _tensor(key: str, entry: Any, name: str) -> TensorInfo:
    """Check one entry: whole numbers, not negative, and as many bytes as the shape needs."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = (*shape, begin, end)
        is_whole = set(map(type, numbers)) == {int} and min(numbers) >= 0 and len(numbers) <= MAX_DIMENSIONS + 2
        bits = BITS.get(dtype)
    except (KeyError, TypeError, ValueError):
        is_whole, dtype, bits = False, "", 0
    if bits is None:
        raise AdapterFileError(f"{name}: {_short(key)} has the unknown number type {_short(str(dtype))}: {AGAIN}")
    if not is_whole or (end - begin) * 8 != prod(shape) * bits:
        raise AdapterFileError(f"{name}: the entry of {_short(key)} in its header contradicts itself: {AGAIN}")
    return TensorInfo(dtype, tuple(shape), begin, end)


def _short(text: str) -> str:
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")
