"""The user's own marks, favourite and tags: in the index's database, apart from what can be read again from files.

A mark belongs to a path. If its file is gone and one that must be the same appeared elsewhere (same name, size and
time; or the only new file of that size and time; or the same SHA-256 where it is known), that one is marked too. The
mark of the path stays: the file may only be away for a moment, on a drive that is not there or while it is replaced.
"""

from __future__ import annotations

import os
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lib_lora.library.database import Database
from lib_lora.library.entry import Entry
from lib_lora.library.mark import NO_MARK, Change, Mark
from lib_lora.library.rescue import MarkRow

PASSED_ON = -1  # the size in the row of a file that is gone and whose mark another file got


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

    def load(self) -> bool:
        """Read them from the database; whether they are others than before."""
        rows = {row.path: row for row in self.database.marks()}
        with self._lock:
            changed, self._rows = rows != self._rows, rows
            self._parsed = {path: Mark(row.favorite, row.tags) for path, row in rows.items()}
            return changed

    def of(self, path: str) -> Mark:
        return self._parsed.get(path, NO_MARK)

    def change(self, entries: Iterable[Entry], change: Change, sha256: Mapping[int, str]) -> int:
        """Apply `change`; how many marks are different now. `sha256`: by the entry's id, where it is known.

        Raises LoraError if they cannot be saved.
        """
        chosen = {entry.location: entry for entry in entries}

        def changed(known: Mapping[str, MarkRow]) -> list[MarkRow]:
            rows = []
            for path, entry in chosen.items():
                before = _mark_of(known.get(path))
                after = change.applied(before)
                if after != before:
                    rows.append(MarkRow(path, entry.size, entry.mtime_ns, sha256.get(entry.id, ""),
                                        after.favorite, after.tags))  # fmt: skip
            return rows

        return len(self._store(list(chosen), changed))

    def has(self, path: str) -> bool:
        return path in self._rows

    def gone(self, there: Container[str], is_reachable: Mapping[str, bool]) -> list[MarkRow]:
        """Marks of files that are not `there` any more. `is_reachable`: {top folder: whether it is there}."""
        return [
            row for path, row in self._rows.items()
            if row.size != PASSED_ON and path not in there and _is_gone(path, is_reachable)
        ]  # fmt: skip

    def move(self, gone: Sequence[MarkRow], free: Sequence[Present]) -> int:
        """Mark the files too that the `gone` ones became, among those without a mark; how many.

        Raises LoraError if they cannot be saved.
        """
        moves = {to.path: (row, to) for row, to in _moves(gone, free)}
        if not moves:
            return 0

        def passed_on(known: dict[str, MarkRow]) -> list[MarkRow]:
            rows = []
            for path, (row, to) in moves.items():
                row = known.get(row.path, row)
                if path not in known:
                    rows.append(row._replace(path=path, size=to.size, mtime_ns=to.mtime_ns))
                rows.append(row._replace(size=PASSED_ON))
            return rows

        self._store([*moves, *(row.path for row, _ in moves.values())], passed_on)
        return len(moves)

    def keep_up(self, entries: Mapping[str, Entry]) -> None:
        """Note size and time of marked files that changed, or came back: by these they are found again one day.

        Raises LoraError if that cannot be saved.
        """
        here = ((entries[path], row) for path, row in self._rows.items() if path in entries)
        stale = {entry.location: entry for entry, row in here
                 if (row.size, row.mtime_ns) != (entry.size, entry.mtime_ns)}  # fmt: skip
        if stale:
            self._store(list(stale), lambda known: [
                row._replace(size=stale[path].size, mtime_ns=stale[path].mtime_ns,
                             sha256=row.sha256 if row.size in (PASSED_ON, stale[path].size) else "")
                for path, row in known.items()
            ])  # fmt: skip

    def learn(self, path: str, sha256: str) -> None:
        """Note the hash of a marked file, by which it may be found again one day. Raises LoraError."""
        row = self._rows.get(path)
        if row is not None and row.sha256 != sha256:
            self._store([path], lambda known: [row._replace(sha256=sha256) for row in known.values()])

    def __len__(self) -> int:
        return len(self._rows)

    def _store(
        self, paths: Sequence[str], change: Callable[[dict[str, MarkRow]], list[MarkRow]]
    ) -> list[MarkRow]:
        """Whatever other programs wrote meanwhile counts: `change` gets the rows as they are in the database."""
        rows = self.database.change_marks(paths, change)
        with self._lock:
            self._rows = self._rows | {row.path: row for row in rows}
            self._parsed = self._parsed | {row.path: _mark_of(row) for row in rows}
        return rows


def _mark_of(row: MarkRow | None) -> Mark:
    return Mark(row.favorite, row.tags) if row is not None else NO_MARK


def _is_gone(path: str, is_reachable: Mapping[str, bool]) -> bool:
    """Not there, and not merely on a drive that is not plugged in."""
    unplugged = any(not there and path.startswith(os.path.join(top, "")) for top, there in is_reachable.items())
    return not unplugged and not os.path.lexists(path)


def _moves(gone: Sequence[MarkRow], free: Sequence[Present]) -> list[tuple[MarkRow, Present]]:
    """Each free file is taken once: the one with the same hash, else name, else the only new one of that time and size.
    """
    by_stamp: defaultdict[tuple[int, int], list[Present]] = defaultdict(list)
    by_hash: defaultdict[str, list[Present]] = defaultdict(list)
    for each in free:
        by_stamp[each.size, each.mtime_ns].append(each)
        for digits in each.hashes:
            by_hash[digits].append(each)
    rivals = Counter((row.size, row.mtime_ns) for row in gone)
    moves: list[tuple[MarkRow, Present]] = []
    taken: set[str] = set()
    for row in gone:
        stamp = row.size, row.mtime_ns
        alike = [each for each in by_stamp[stamp] if each.path not in taken]
        named = [each for each in alike if os.path.basename(each.path) == os.path.basename(row.path)]
        renamed = [each for each in alike if each.is_new]
        hashed = [each for each in by_hash[row.sha256] if each.path not in taken] if row.sha256 else []
        found = hashed or named or (renamed if len(renamed) == rivals[stamp] == 1 else [])
        if found:
            moves.append((row, found[0]))
            taken.add(found[0].path)
    return moves
