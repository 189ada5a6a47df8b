"""Scanner: brings the index up to date with the folders.

A scan stats every file and reads the headers of new and changed ones; an entry whose file is the same stays the same
object.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lib_lora.garbage import all_stays
from lib_lora.library.ahead import behind
from lib_lora.library.database import Database
from lib_lora.library.entry import Entry
from lib_lora.library.files import Found, Walked, look_again, walk
from lib_lora.library.keeper import DAMAGED, Keeper
from lib_lora.library.reading import Texts, broken_texts, make_entry
from lib_lora.library.tables import Row, Stamp
from lib_lora.library.workers import read_all

BATCH = 125  # files a transaction
MOST_ROUNDS = 3
NOT_READ = "?"
Progress = Callable[[int, int], None]  # (files read, files to read)


@dataclass(frozen=True)
class RefreshResult:
    """What a scan found, in numbers of files."""

    added: int
    changed: int
    removed: int
    broken: int  # in the library now
    problems: tuple[str, ...] = ()  # sentences: folders that cannot be read


class Scanner:
    """For one thread at a time."""

    def __init__(self, folders: Sequence[Path], database: Database, keeper: Keeper) -> None:
        self._folders = folders
        self._database = database
        self._keeper = keeper
        self._known: dict[str, tuple[Row, Entry | None]] | None = None  # by path; None: the database was not read yet
        self._generation = 0
        self._walked = Walked()
        self.started = 0.0  # time.monotonic() of the last scan's beginning

    def scan(self, progress: Progress | None = None) -> tuple[list[Entry], RefreshResult]:
        """All that is there now."""
        for _ in range(MOST_ROUNDS):  # another round where the index was damaged, or became another one, meanwhile
            self._load()
            self._keeper.catch_up()
            entries, found = self._scan(progress)
            if not self.is_behind:
                break
        return entries, found

    def _scan(self, progress: Progress | None) -> tuple[list[Entry], RefreshResult]:
        known, walked, started = self._load(), Walked(), time.monotonic()
        with all_stays():
            found = {each.location: (each, _stamp(each)) for each in walk(self._folders, walked)}
        stale = [path for path, (_, stamp) in found.items() if path not in known or known[path][0].stamp != stamp]
        added = sum(1 for path in stale if path not in known)
        gone = self._forget(found.keys())
        self._read([found[path][0] for path in stale], progress)
        with all_stays():
            entries = self._entries([each for each, _ in found.values()])
        new = set(stale)
        self._keeper.follow(entries, lambda entry: entry.location in new, self.tops())
        self._walked, self.started = walked, started
        broken = sum(1 for entry in entries if entry.broken)
        problems = (*walked.problems, *self._database.problems)
        return entries, RefreshResult(added, len(stale) - added, gone, broken, problems)

    def reread(self, entries: Iterable[Entry]) -> list[Entry]:
        """The files of `entries` as they are now, sidecars too; those that have vanished are left out."""
        found = [look_again(each.path, each.folder, each.name) for each in entries]
        present = [each for each in found if each is not None]
        self._read(present, None)
        return self._entries(present)

    @property
    def is_behind(self) -> bool:
        """The index was made anew, or came back, since the last scan."""
        return self._generation != self._database.generation

    def is_current(self) -> bool:
        """No file was added, renamed or removed since the last scan."""
        return self._walked.is_current()

    def tops(self) -> dict[str, bool]:
        """{folder: whether it is there}"""
        return {str(folder): folder.is_dir() for folder in self._folders}

    def _load(self) -> dict[str, tuple[Row, Entry | None]]:
        if self._known is None or self._generation != self._database.generation:
            rows = list(self._database.rows(self._folders))
            before = self._known or {}
            self._known = {row.path: (row, _same(before.get(row.path), row)) for row in rows}
            self._keeper.load()
            self._generation = self._database.generation
        return self._known

    def _read(self, files: Sequence[Found], progress: Progress | None) -> None:
        known, done = self._load(), 0
        read = ((each.location, _stamp(each, texts), texts) for each, texts in read_all(files))
        batches = iter(lambda: list(islice(read, BATCH)), [])
        for rows in behind(batches, self._database.put):
            known.update((row.path, (row, _same(known.get(row.path), row))) for row in rows)
            done += len(rows)
            if progress:
                progress(done, len(files))

    def _forget(self, present: Container[str]) -> int:
        """Remove what is gone. Folders that are not there (an unplugged drive) and other libraries' are left alone."""
        known = self._load()
        tops = tuple(os.path.join(folder, "") for folder in self._folders if folder.is_dir())
        gone = [path for path in known if path not in present and path.startswith(tops)]
        self._database.remove([known.pop(path)[0].id for path in gone])
        return len(gone)

    def _entries(self, files: Sequence[Found]) -> list[Entry]:
        """Those of whose texts none can be made (a damaged page of the index) are read again."""
        entries, wrong = [], []
        for each in files:
            try:
                entries.append(self._entry(each))
            except DAMAGED:
                wrong.append(each)
        if wrong:
            self._read(wrong, None)
        for each in wrong:
            try:
                entries.append(self._entry(each))
            except DAMAGED as error:
                told = broken_texts(each, f"{each.path.name} cannot be listed ({type(error).__name__}: {error})")
                entries.append(make_entry(self._rows()[each.location][0].id, each, told.entry, self._keeper))
        return entries

    def _entry(self, found: Found) -> Entry:
        """Raises one of DAMAGED."""
        known = self._rows()
        row, entry = known[found.location]
        if entry is None or (entry.folder, entry.name) != (found.folder, found.name):
            entry = make_entry(row.id, found, row.entry, self._keeper)
            known[row.path] = (row, entry)
        return entry

    def _rows(self) -> dict[str, tuple[Row, Entry | None]]:
        return self._known if self._known is not None else self._load()


def _same(before: tuple[Row, Entry | None] | None, row: Row) -> Entry | None:
    """The entry from before, if it would be made of the very same row."""
    return before[1] if before is not None and before[0] == row else None


def _stamp(found: Found, texts: Texts | None = None) -> Stamp:
    """Of a file that the disk refused to read, one that no look gives: it is tried again each time."""
    odd = (found.strange, found.problem) if found.strange or found.problem else ()
    beside = ascii((found.beside, *odd) if odd else found.beside) if found.beside or odd else ""
    return Stamp(found.size, found.mtime_ns, beside if texts is None or texts.is_lasting else f"{beside}{NOT_READ}")
