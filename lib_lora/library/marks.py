"""The user's own marks, favourite and tags: in the index's database, apart from what can be read again from files.

A mark belongs to a path. If its file is gone and one that must be the same appeared elsewhere (same name, size and
time; or the only new file of that size and time; or the same SHA-256 where it is known), the mark moves there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lib_lora.header import encodable
from lib_lora.library.database import Database, MarkRow
from lib_lora.library.entry import Entry

MAX_TAGS = 100  # of one adapter
MAX_TAG = 100  # characters


@dataclass(frozen=True)
class Mark:
    """What the user says about one adapter."""

    favorite: bool | None = None  # None: as other tools' sidecars say
    tags: tuple[str, ...] = ()  # in the order in which they were given


NO_MARK = Mark()


@dataclass(frozen=True)
class Change:
    """What shall become of some marks."""

    favorite: bool | None = None  # None: stays
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    def applied(self, mark: Mark) -> Mark:
        gone = {tag.casefold() for tag in self.remove}
        tags = {tag.casefold(): tag for tag in reversed((*mark.tags, *self.add)) if tag.casefold() not in gone}
        kept = tuple(reversed(tags.values()))[:MAX_TAGS]  # of two spellings the older one stays
        return Mark(mark.favorite if self.favorite is None else self.favorite, kept)


class Present(NamedTuple):
    """A file that is there, as far as it matters for finding it again."""

    path: str
    size: int
    mtime_ns: int
    is_new: bool
    hashes: Sequence[str]  # SHA-256 and whatever else is known of it


@dataclass
class Marks:
    """All marks by path. Safe with several threads."""

    database: Database
    _rows: dict[str, MarkRow] = field(default_factory=dict)
    _parsed: dict[str, Mark] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self) -> None:
        """Read them from the database."""
        with self._lock:
            self._rows = {row.path: row for row in self.database.marks()}
            self._parsed = {path: Mark(row.favorite, row.tags) for path, row in self._rows.items()}

    def of(self, path: str) -> Mark:
        return self._parsed.get(path, NO_MARK)

    def change(self, entries: Iterable[Entry], change: Change, sha256: Mapping[int, str]) -> int:
        """Apply `change`; how many marks are different now. `sha256`: by the entry's id, where it is known."""
        with self._lock:
            rows = []
            for entry in entries:
                path = entry.location
                before = self._parsed.get(path, NO_MARK)
                after = change.applied(before)
                if after != before:
                    rows.append(MarkRow(path, entry.size, entry.mtime_ns, sha256.get(entry.id, ""),
                                        after.favorite, after.tags))  # fmt: skip
            self._put(rows)
            return len(rows)

    def has(self, path: str) -> bool:
        return path in self._rows

    def gone(self, there: Container[str], is_reachable: Mapping[str, bool]) -> list[MarkRow]:
        """Marks of files that are not `there` any more. `is_reachable`: {top folder: whether it is there}."""
        with self._lock:
            return [row for path, row in self._rows.items() if path not in there and _is_gone(path, is_reachable)]

    def move(self, gone: Sequence[MarkRow], free: Sequence[Present]) -> int:
        """Move marks to the files that theirs became, among those without a mark; how many."""
        with self._lock:
            moves = _moves(gone, free)
            for row, to in moves:
                self._put([row._replace(path=to.path, size=to.size, mtime_ns=to.mtime_ns)])
                self.database.remove_mark(row.path)
                del self._rows[row.path], self._parsed[row.path]
            return len(moves)

    def learn(self, path: str, sha256: str) -> None:
        """Note the hash of a marked file, by which it may be found again one day."""
        with self._lock:
            row = self._rows.get(path)
            if row is not None and row.sha256 != sha256:
                self._put([row._replace(sha256=sha256)])

    def __len__(self) -> int:
        return len(self._rows)

    def _put(self, rows: Sequence[MarkRow]) -> None:
        self.database.put_marks(rows)
        self._rows.update((row.path, row) for row in rows)
        self._parsed.update((row.path, Mark(row.favorite, row.tags)) for row in rows)


def clean_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags as they are kept: one line each, no longer than MAX_TAG."""
    texts = (" ".join(encodable(tag).split())[:MAX_TAG].strip() for tag in tags)
    return tuple(dict.fromkeys(text for text in texts if text))[:MAX_TAGS]


def _is_gone(path: str, is_reachable: Mapping[str, bool]) -> bool:
    """Not there, and not merely on a drive that is not plugged in."""
    unplugged = any(not there and path.startswith(os.path.join(top, "")) for top, there in is_reachable.items())
    return not unplugged and not os.path.lexists(path)


def _moves(gone: Sequence[MarkRow], free: Sequence[Present]) -> list[tuple[MarkRow, Present]]:
    moves = []
    for row in gone:
        alike = [each for each in free if (each.size, each.mtime_ns) == (row.size, row.mtime_ns)]
        named = [each for each in alike if os.path.basename(each.path) == os.path.basename(row.path)]
        renamed = [each for each in alike if each.is_new]
        rivals = [other for other in gone if (other.size, other.mtime_ns) == (row.size, row.mtime_ns)]
        hashed = [each for each in free if row.sha256 and row.sha256 in each.hashes]
        found = hashed or named or (renamed if len(renamed) == len(rivals) == 1 else [])
        if found:
            moves.append((row, found[0]))
            free = [each for each in free if each is not found[0]]
    return moves
