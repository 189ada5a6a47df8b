"""Files that are there twice: the same content, or the same name in several folders.

The same content: equal size, then equal samples of a few kilobytes, and only then is the SHA-256 of both computed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_lora.errors import AdapterFileError
from lib_lora.formats.hashes import Hashes
from lib_lora.formats.opening import open_file
from lib_lora.library.entry import Entry

SAMPLE = 4096  # bytes at the beginning, in the middle and at the end


@dataclass(frozen=True)
class Group:
    """Entries that are the same in one respect."""

    kind: str  # "content" or "name"
    reason: str  # a sentence
    entries: tuple[Entry, ...]


def groups(entries: Sequence[Entry]) -> list[Group]:
    """All duplicates, those of content first. Reads files as far as it must."""
    contents = [Group("content", _reason(same), same) for same in _same_content(entries)]
    together = [frozenset(group.entries) for group in contents]
    names = [
        Group("name", f"{len(same)} files are called {same[0].stem}: a tag needs the folder too", same)
        for same in _by(entries, lambda entry: entry.stem.casefold())
        if not any(content.issuperset(same) for content in together)
    ]
    return contents + names


def known(entries: Sequence[Entry], hashes: Callable[[Entry], Hashes | None]) -> dict[int, str]:
    """{id: what the entry shares with another}, "name" or "content", as far as is known without reading a file."""
    found = {entry.id: "name" for same in _by(entries, lambda entry: entry.stem.casefold()) for entry in same}
    hashed = [entry for entry in entries if hashes(entry)]
    same_content = _by(hashed, lambda entry: (entry.size, (hashes(entry) or Hashes("")).sha256))
    return found | {entry.id: "content" for same in same_content for entry in same}


def is_same_content(one: Entry, other: Entry, hashes: Callable[[Entry], Hashes | None]) -> bool:
    """Whether two files are copies, by their hashes where they are known, else by their size and some samples."""
    if one.size != other.size:
        return False
    first, second = hashes(one), hashes(other)
    if first and second:
        return first.sha256 == second.sha256
    return _sample(one.path, one.size) == _sample(other.path, other.size)


def _same_content(entries: Sequence[Entry]) -> Iterable[tuple[Entry, ...]]:
    for size in _by((entry for entry in entries if entry.size), lambda entry: entry.size):
        for alike in _by(size, lambda entry: _sample(entry.path, entry.size)):
            yield from _by(alike, _sha256)


def _by(entries: Iterable[Entry], key: Callable[[Entry], Hashable]) -> list[tuple[Entry, ...]]:
    """Entries with the same key, where there are several; None is no key."""
    found: defaultdict[Hashable, list[Entry]] = defaultdict(list)
    for entry in entries:
        found[key(entry)].append(entry)
    return [tuple(same) for value, same in found.items() if value is not None and len(same) > 1]


def _sample(path: Path, size: int) -> bytes | None:
    try:
        with open_file(path) as file:
            parts = [file.read(SAMPLE)]
            for place in (size // 2, max(size - SAMPLE, 0)):
                file.seek(place)
                parts.append(file.read(SAMPLE))
    except OSError:
        return None
    return b"".join(parts)


def _sha256(entry: Entry) -> str | None:
    try:
        return entry.hashes.sha256
    except AdapterFileError:
        return None


def _reason(same: Sequence[Entry]) -> str:
    return f"{len(same)} files with the same content: {len(same) - 1} of them could go"
