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
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from lib_lora.errors import AdapterFileError
from lib_lora.formats.json_text import read_json, whole_number
from lib_lora.formats.kinds import AGAIN, HEAD, no_model
from lib_lora.formats.opening import open_file
from lib_lora.formats.text import encodable

MAX_HEADER = 100 * 1024 * 1024  # bytes; the largest real ones have a few hundred thousand
ALIGNED = 8  # bytes: the tensors of a file that is written begin at a multiple of it
MAX_DIMENSIONS = 16
MAX_VALUES = 1 << 48  # of one tensor, dimensions of 0 left out: more than any disk holds
MAX_NAME = 2000  # characters of a tensor's name
MAX_BRACKETS = 5_000_000  # in a header: each may become an object of 100 bytes
METADATA = re.compile(rb'\s*\{\s*"__metadata__"\s*:\s*')
COMMA = re.compile(rb"\s*,?")
BLANKS = b" \t\r\n"
BACKSLASH = ord("\\")

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


class RawHeader(NamedTuple):
    """A header as it stands in its file."""

    name: str  # of the file
    content: bytes
    data_size: int  # bytes of tensors behind it


class Layouts(dict[str, Listing]):
    """Listings by `Header.layout`. Adapters of one trainer and rank have the very same one: a scan reads it once."""

    MOST = 64  # texts that are kept to be compared: that is ten times as fast as hashing a quarter of a megabyte

    def __init__(self) -> None:
        super().__init__()
        self._texts: dict[tuple[int, bytes], tuple[bytes, str]] = {}  # {(length, end): (text, name)}

    def name(self, listing: bytes) -> str:
        """What two listings have in common if they are the same, and nothing else has."""
        alike = len(listing), listing[-100:]
        text, name = self._texts.get(alike, (b"", ""))
        if not name or text != listing:
            name = hashlib.sha256(listing).hexdigest()
            if len(self._texts) < self.MOST:
                self._texts[alike] = listing, name
        return name


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
    path: str | os.PathLike[str], *, layouts: Layouts | None = None
) -> Header:
    """Read and check the header of `path`. Raises AdapterFileError; `layouts` as for `check_header`."""
    return check_header(read_raw(path), layouts=layouts)


def read_raw(path: str | os.PathLike[str], *, most: int = MAX_HEADER) -> RawHeader:
    """The header of `path`, unread, if it has no more than `most` bytes. Raises AdapterFileError."""
    name = Path(path).name
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(9)
            length = int.from_bytes(start[:8], "little")
            if size < 10 or not 2 <= length <= min(most, size - 8):
                raise AdapterFileError(no_model(name, start + file.read(HEAD), size))
            content = start[8:] + file.read(length - 1)
            if len(content) < length:
                raise AdapterFileError(f"{name} was written to while it was read; wait until that is over")
    except OSError as error:
        reason = error.strerror or error
        raise AdapterFileError(f"{name} cannot be read ({reason}): check the file and its rights") from error
    return RawHeader(name, content, size - 8 - length)


def check_header(raw: RawHeader, *, layouts: Layouts | None = None) -> Header:
    """What `raw` says. Raises AdapterFileError. `layouts` remembers the listings that were read before."""
    name, content, data_size = raw
    metadata, metadata_json, listing = _split_metadata(content, name)
    layouts = Layouts() if layouts is None else layouts
    layout = layouts.name(listing)
    known = layouts.get(layout)
    if known is None:
        known = layouts[layout] = _read_listing(listing, name)
    if known.end > data_size:
        missing = known.end - data_size
        raise AdapterFileError(f"{name}: {missing} bytes are missing at its end, the download broke off: {AGAIN}")
    return Header(known.tensors, MappingProxyType(metadata), 8 + len(content), metadata_json, layout)


def write_header(tensors: Mapping[str, TensorInfo], metadata: Mapping[str, str]) -> bytes:
    """What stands before the tensors of a file, its length included; half characters become question marks."""
    listing: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    for name, (dtype, shape, begin, end) in tensors.items():
        listing[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    content = json.dumps(listing, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    content += b" " * (-len(content) % ALIGNED)
    return len(content).to_bytes(8, "little") + content


def _split_metadata(content: bytes, name: str) -> tuple[dict[str, str], str, bytes]:
    """`(metadata, metadata as JSON, the rest without its brace)`; the usual writers put metadata first or leave it out.
    """
    stop = len(content)
    while stop and content[stop - 1] in BLANKS:
        stop -= 1
    if first := METADATA.match(content):
        value, end = _object(content, first.end(), name)
        start = COMMA.match(content, end).end()  # type: ignore[union-attr]
        return *_clean(value, content[first.end() : end].decode(), name), content[start:stop]
    brace = content.find(b"{") + 1
    if b'"__metadata__"' not in content and not content[: brace - 1].strip():
        return {}, "{}", content[brace:stop]
    everything = _json(content, name)
    value = everything.pop("__metadata__", None) if isinstance(everything, dict) else None
    return *_clean(value, "", name), _dumps(everything, name).encode()[1:]


def _object(content: bytes, start: int, name: str) -> tuple[Any, int]:
    """The JSON value at `start`, and where it ends."""
    end = content.find(b'"}', start) + 2  # as every map of strings does; inside of strings, `"` has a backslash
    while end > 1 and content[end - 3] == BACKSLASH:
        end = content.find(b'"}', end) + 2
    try:
        return orjson.loads(memoryview(content)[start:end]), end
    except orjson.JSONDecodeError:
        pass  # empty, with spaces in it, or no map of strings
    try:
        text = content[start:].decode()
        value, length = json.JSONDecoder(parse_int=whole_number).raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise _broken(name, error) from error
    return value, start + len(text[:length].encode())


def _json(content: bytes, name: str) -> Any:
    try:
        return read_json(content)
    except (ValueError, RecursionError) as error:
        raise _broken(name, error) from error


def _dumps(value: Any, name: str) -> str:
    try:
        return json.dumps(value)
    except RecursionError as error:  # it could just be read
        raise _broken(name, error) from error


def _broken(name: str, error: Exception | None = None) -> AdapterFileError:
    what = "not text" if isinstance(error, UnicodeDecodeError) else "broken"
    return AdapterFileError(f"{name}: its header is {what}: {AGAIN}")


def _clean(value: Any, text: str, name: str) -> tuple[dict[str, str], str]:
    """The metadata as a map of encodable strings, and its JSON; `text` is kept where nothing had to be mended."""
    if not isinstance(value, dict):
        return {}, "{}"
    if all(map(str.isascii, value)) and all(type(item) is str and item.isascii() for item in value.values()):
        return value, text or json.dumps(value)
    texts = {key: item if isinstance(item, str) else _dumps(item, name) for key, item in value.items()}
    mended = {encodable(key): encodable(item) for key, item in texts.items()}
    return mended, text if text and mended == value else json.dumps(mended)


def _read_listing(listing: bytes, name: str) -> Listing:
    if len(listing) > MAX_BRACKETS and listing.count(b"[") + listing.count(b"{") > MAX_BRACKETS:
        raise _broken(name)
    everything = _json(b"{" + listing, name)
    if not isinstance(everything, dict):
        raise _broken(name)
    tensors = {key: _tensor(key, entry, name) for key, entry in everything.items()}
    for key in tensors:
        if len(key) > MAX_NAME or encodable(key) != key:
            raise AdapterFileError(f"{name}: the name {_short(key)} in its header is none: {AGAIN}")
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
    if not is_whole or prod(filter(None, shape)) > MAX_VALUES or (end - begin) * 8 != prod(shape) * bits:
        raise AdapterFileError(f"{name}: the entry of {_short(key)} in its header contradicts itself: {AGAIN}")
    return TensorInfo(dtype, tuple(shape), begin, end)


def _short(text: str) -> str:
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")
