"""A file of torch's (.pt, .ckpt, .bin): the names and places of its tensors, read without torch and without running it.

New ones are zip archives: `data.pkl`, a pickle that lists the tensors, and one record of bytes for each storage, never
compressed. Those from before 2020 are a row of pickles (a magic number, a version, the system, the listing, the names
of the storages) and the storages behind them. Every size in either is compared with the file's real one before
anything believes it; what comes out is checked data, of which `unpickling.py` makes tensors and a scan takes shapes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from lib_lora.errors import AdapterFileError
from lib_lora.formats import nested
from lib_lora.formats.kinds import AGAIN, UNPACK
from lib_lora.formats.opening import open_file
from lib_lora.formats.pickles import ITEMSIZES, CutError, PickledTensor, PickleError, Storage, interpret

MAX_PICKLE = 50 * 1024 * 1024  # bytes of `data.pkl`: the listing, without the tensors
MAX_RECORDS = 200_000  # of an archive; a checkpoint with its optimizer has 10,000
MOST_SHARED = 4  # times the file's size that its tensors may have together: some share their bytes, as tied weights do
FIRST_LOOK = 1 << 20  # bytes of an old file that are tried before more
END, ZIP64_PLACE, ZIP64_END, RECORD, LOCAL = b"PK\5\6", b"PK\6\7", b"PK\6\6", b"PK\1\2", b"PK\3\4"
VERSION = 1001
MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a number of ten bytes, pickled, behind the protocol's number


class Record(NamedTuple):
    """One part of the archive."""

    header: int  # where its own header begins
    size: int  # bytes
    oddity: str = ""  # "a compressed", "an encrypted": what torch's own never are


class Place(NamedTuple):
    """Where the bytes of a storage lie in the file."""

    begin: int
    size: int
    behind_header: bool  # then a header of the archive's stands at `begin`, and the bytes after it


@dataclass(frozen=True)
class TorchListing:
    """What a file of torch's holds."""

    tensors: Mapping[str, PickledTensor]
    places: Mapping[str, Place]  # of the storages, by key

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{tensor name: shape}"""
        return {name: tensor.shape for name, tensor in self.tensors.items()}


def read_listing(path: Path) -> TorchListing:
    """The listing of the file `path`. Raises AdapterFileError."""
    try:
        with open_file(path) as file:
            return listing_of(file, path.name)
    except OSError as error:
        raise AdapterFileError(
            f"{path.name} cannot be read ({error.strerror or error}): check the file and its rights"
        ) from error


def listing_of(file: BinaryIO, name: str) -> TorchListing:
    """The same of an open file. Raises AdapterFileError and OSError."""
    size = os.fstat(file.fileno()).st_size
    try:
        start = read_at(file, 0, min(2 + len(MAGIC), size))
        is_old = start[2:] == MAGIC
        if start[:1] == b"\x80" and not is_old:
            raise AdapterFileError(f"{name}: a pickle that torch did not write; save it again as .safetensors")
        loaded, places = _read_old(file, size) if is_old else _read_archive(file, size, name)
        tensors = dict(_named(loaded, name))
        _check(tensors, places, size)
    except PickleError as error:
        raise AdapterFileError(
            f"{name}: not a plain file of tensors; convert it to .safetensors ({error})"
        ) from error
    return TorchListing(tensors, places)


def read_at(file: BinaryIO, begin: int, count: int) -> bytearray:
    """`count` bytes of the file. Raises PickleError if they are not there, and OSError."""
    found = bytearray(count)
    read_into(file, begin, memoryview(found))
    return found


def read_into(file: BinaryIO, begin: int, target: memoryview) -> None:
    """The same into memory that is there."""
    file.seek(begin)
    done = 0
    while done < len(target):
        count = file.readinto(target[done:])  # type: ignore[attr-defined]
        if not count:
            raise PickleError("the file ends too early")
        done += count


def begin_of(file: BinaryIO, place: Place) -> int:
    """Where the bytes of a storage begin. Raises PickleError and OSError."""
    if not place.behind_header:
        return place.begin
    header = read_at(file, place.begin, 30)
    if not header.startswith(LOCAL):
        raise PickleError("the archive is damaged")
    return place.begin + 30 + sum(struct.unpack_from("<HH", header, 26))


# what is in it


def _named(loaded: Any, name: str) -> Iterator[tuple[str, PickledTensor]]:
    """Tensors by name; those that lie deeper by `outer.inner`, so that it can be seen what such a file is."""
    if type(loaded) is dict and type(loaded.get("state_dict")) is dict:
        loaded = loaded["state_dict"]
    if type(loaded) is not dict:
        raise AdapterFileError(f"{name}: holds no tensors by name")
    yield from ((_key(key), tensor) for key, tensor in nested.named(loaded, PickledTensor))


def _key(key: Any) -> str:
    text = str(key)
    if len(text) > nested.MAX_NAME:
        raise PickleError("a tensor's name is too long")
    return text


def _check(tensors: Mapping[str, PickledTensor], places: Mapping[str, Place], size: int) -> None:
    """Every tensor lies in the bytes that the file holds for it. Raises PickleError."""
    total = 0
    for tensor in tensors.values():
        place = places.get(tensor.storage.key)
        if place is None:
            raise PickleError("the data of a tensor are missing")
        held = place.size // ITEMSIZES[tensor.dtype]
        if max(tensor.end, tensor.count) > held:
            raise PickleError("a tensor is larger than its data")
        total += tensor.count * ITEMSIZES[tensor.dtype]
    if total > MOST_SHARED * size:
        raise PickleError("its tensors lie on top of each other")


# the archive


def _read_archive(file: BinaryIO, size: int, name: str) -> tuple[Any, dict[str, Place]]:
    """`(what its pickle makes, where its storages are)`"""
    records = _records(file, size, name)
    if "constants.pkl" in records or ("data.pkl" not in records and any(key.startswith("code/") for key in records)):
        raise AdapterFileError(
            f"{name}: a program (TorchScript), not a file of tensors; it was not opened: look for it as .safetensors"
        )
    if "data.pkl" not in records:
        raise AdapterFileError(f"{name} is a zip archive, not a model: {UNPACK}")
    if records["data.pkl"].size > MAX_PICKLE:
        raise AdapterFileError(f"{name}: its listing is larger than {MAX_PICKLE >> 20} MB; it was not opened")
    if oddity := next((record.oddity for record in records.values() if record.oddity), ""):
        raise AdapterFileError(f"{name}: {oddity} archive, which torch does not write; it was not opened: {UNPACK}")
    if sum(record.size for record in records.values()) > size:
        raise AdapterFileError(f"{name}: its parts are larger than itself; it was not opened")
    if "byteorder" in records and _content(file, records["byteorder"], size) != b"little":
        raise PickleError("it was written on a big-endian machine")
    loaded, _ = interpret(_content(file, records["data.pkl"], size))
    places = {
        key.removeprefix("data/"): Place(record.header, record.size, True)
        for key, record in records.items()
        if key.startswith("data/")
    }
    return loaded, places


def _content(file: BinaryIO, record: Record, size: int) -> bytes:
    begin = begin_of(file, Place(record.header, record.size, True))
    if begin + record.size > size:
        raise PickleError("the archive is damaged")
    return bytes(read_at(file, begin, record.size))


def _records(file: BinaryIO, size: int, name: str) -> dict[str, Record]:
    """The archive's records by their name below its one folder."""
    tail_begin = max(0, size - (1 << 16) - 22 - 20)
    tail = bytes(read_at(file, tail_begin, size - tail_begin))
    end = tail.rfind(END)
    if not tail or end < 0 or len(tail) < end + 22:
        raise AdapterFileError(f"{name}: not a whole file of torch, its end is missing: {AGAIN}")
    count, length, begin = struct.unpack_from("<HII", tail, end + 10)
    if end >= 20 and tail[end - 20 :].startswith(ZIP64_PLACE):
        place = struct.unpack_from("<Q", tail, end - 12)[0]
        if place + 56 > size or not (zip64 := read_at(file, place, 56)).startswith(ZIP64_END):
            raise PickleError("the archive is damaged")
        count, length, begin = struct.unpack_from("<QQQ", zip64, 32)
    if begin + length > tail_begin + end or count > MAX_RECORDS or length > MAX_PICKLE:
        raise PickleError("the archive is damaged")
    directory = bytes(read_at(file, begin, length))
    return dict(_entries(directory, count, size))


def _entries(directory: bytes, count: int, size: int) -> Iterator[tuple[str, Record]]:
    at = 0
    for _ in range(count):
        if not directory.startswith(RECORD, at) or len(directory) < at + 46:
            raise PickleError("the archive is damaged")
        flags, method = struct.unpack_from("<HH", directory, at + 8)
        packed, unpacked, name_length, extra_length, comment_length = struct.unpack_from("<IIHHH", directory, at + 20)
        header = struct.unpack_from("<I", directory, at + 42)[0]
        extra = directory[at + 46 + name_length : at + 46 + name_length + extra_length]
        unpacked, packed, header = _large(extra, unpacked, packed, header)
        key = directory[at + 46 : at + 46 + name_length].decode("utf-8", "replace").partition("/")[2]
        oddity = "an encrypted" if flags & 1 else "a compressed" if method or packed != unpacked else ""
        if header + 30 + packed > size:
            raise PickleError("the archive is damaged")
        yield key, Record(header, unpacked, oddity)
        at += 46 + name_length + extra_length + comment_length


def _large(extra: bytes, *numbers: int) -> list[int]:
    """The numbers of a record, those that need more than four bytes taken from its extra field."""
    found, at = list(numbers), 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            field = extra[at + 4 : at + 4 + length]
            for place, number in enumerate(found):
                if number == 0xFFFFFFFF and len(field) >= 8:
                    found[place], field = struct.unpack_from("<Q", field)[0], field[8:]
            break
        at += 4 + length
    return found


# the old format


def _read_old(file: BinaryIO, size: int) -> tuple[Any, dict[str, Place]]:
    look = FIRST_LOOK
    while True:
        content = bytes(read_at(file, 0, min(size, look)))
        try:
            loaded, keys, end = _pickles(content)
            break
        except CutError:
            if len(content) == size or look >= MAX_PICKLE:
                raise
            look *= 8
    places, at = {}, end
    for key, storage in keys:
        if at + 8 > size:
            raise PickleError("the file ends too early")
        count, length = struct.unpack("<q", read_at(file, at, 8))[0], ITEMSIZES[storage.dtype] * storage.count
        if count != storage.count or at + 8 + length > size:
            raise PickleError("the data of a tensor are missing")
        places[key] = Place(at + 8, length, False)
        at += 8 + length
    return loaded, places


def _pickles(content: bytes) -> tuple[Any, list[tuple[str, Storage]], int]:
    """`(what the listing makes, its storages in the order of the file, where they begin)`"""
    version, at = interpret(content, 2 + len(MAGIC))
    system, at = interpret(content, at)
    if version != VERSION or type(system) is not dict or system.get("little_endian") is not True:
        raise PickleError("a version of torch's format that is not known")
    storages: dict[str, Storage] = {}
    loaded, at = interpret(content, at, storages)
    keys, at = interpret(content, at)
    if type(keys) is not list or len(keys) > len(storages) or any(type(key) is not str for key in keys):
        raise PickleError("it is damaged")
    if len(set(keys)) < len(keys) or not storages.keys() >= set(keys):
        raise PickleError("it is damaged")
    return loaded, [(key, storages[key]) for key in keys], at
