"""Scanner: brings the index up to date with the folders.

A scan stats every file and reads the headers of new and changed ones; an entry whose file is the same stays the same
object.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lib_lora.files import Found, Walked, look_again, walk
from lib_lora.library.ahead import behind
from lib_lora.library.database import Database, Row, Stamp
from lib_lora.library.entry import Entry
from lib_lora.library.keeper import Keeper
from lib_lora.library.reading import make_entry
from lib_lora.library.workers import read_all

BATCH = 125  # files a transaction
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
        self._walked = Walked()
        self.started = 0.0  # time.monotonic() of the last scan's beginning

    def scan(self, progress: Progress | None = None) -> tuple[list[Entry], RefreshResult]:
        """All that is there now."""
        known, walked, started = self._load(), Walked(), time.monotonic()
        with _no_collection():
            found = {each.location: (each, _stamp(each)) for each in walk(self._folders, walked)}
        stale = [path for path, (_, stamp) in found.items() if path not in known or known[path][0].stamp != stamp]
        added = sum(1 for path in stale if path not in known)
        gone = self._forget(found.keys())
        self._read([found[path][0] for path in stale], progress)
        with _no_collection():
            entries = [self._entry(each) for each, _ in found.values()]
        new = set(stale)
        self._keeper.follow(entries, lambda entry: entry.location in new, self.tops())
        self._walked, self.started = walked, started
        broken = sum(1 for entry in entries if entry.broken)
        return entries, RefreshResult(added, len(stale) - added, gone, broken, tuple(walked.problems))

    def reread(self, entries: Iterable[Entry]) -> list[Entry]:
        """The files of `entries` as they are now, sidecars too; those that have vanished are left out."""
        found = [look_again(each.path, each.folder, each.name) for each in entries]
        present = [each for each in found if each is not None]
        self._read(present, None)
        return [self._entry(each) for each in present]

    def is_current(self) -> bool:
        """No file was added, renamed or removed since the last scan."""
        return self._walked.is_current()

    def tops(self) -> dict[str, bool]:
        """{folder: whether it is there}"""
        return {str(folder): folder.is_dir() for folder in self._folders}

    def _load(self) -> dict[str, tuple[Row, Entry | None]]:
        if self._known is None:
            self._known = {row.path: (row, None) for row in self._database.rows()}
            self._keeper.load()
        return self._known

    def _read(self, files: Sequence[Found], progress: Progress | None) -> None:
        known, done = self._load(), 0
        read = ((each.location, _stamp(each), texts) for each, texts in read_all(files))
        batches = iter(lambda: list(islice(read, BATCH)), [])
        for rows in behind(batches, self._database.put):
            known.update((row.path, (row, None)) for row in rows)
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

    def _entry(self, found: Found) -> Entry:
        known = self._load()
        row, entry = known[found.location]
        if entry is None or (entry.folder, entry.name) != (found.folder, found.name):
            entry = make_entry(row.id, found, row.entry, self._keeper)
            known[row.path] = (row, entry)
        return entry


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """For a loop that makes tens of thousands of objects which all stay: looking for garbage is a fifth of its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _stamp(found: Found) -> Stamp:
    return Stamp(found.size, found.mtime_ns, ascii(found.beside) if found.beside else "")
