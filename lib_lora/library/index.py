"""The library: every adapter in the user's folders, kept in an index and found by whatever the user calls it.

Making one does nothing; the first question scans the folders. A scan stats every file and reads the headers of new and
changed ones. Each scan ends in a new, immutable list of entries: readers never wait for one that is under way, unless
they ask for something that is not there yet.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lib_lora.errors import NotFoundError
from lib_lora.files import Found, Walked, look_again, walk
from lib_lora.hashes import Hashes
from lib_lora.library.ahead import behind
from lib_lora.library.database import Database, Row, Stamp
from lib_lora.library.entry import Entry
from lib_lora.library.keeper import Keeper, is_current
from lib_lora.library.lookup import Lookup
from lib_lora.library.marks import Change, clean_tags
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


class Library:
    """Adapters below `folders`; of two files of one name, the folder that stands first wins."""

    def __init__(self, folders: Sequence[Path | str], *, database: Path | None = None, patience: float = 2.0) -> None:
        """`database` None keeps the index in memory.

        A name that is not found is looked for in a new scan if a folder has changed, else every `patience` seconds.
        """
        self.folders = tuple(Path(os.path.abspath(folder)) for folder in folders)
        self.patience = patience
        self.closed = False
        self._database = Database(database)
        self._scanning = threading.RLock()
        self._known: dict[str, tuple[Row, Entry | None]] | None = None  # by path; None: the database was not read yet
        self.on_change: list[Callable[[], None]] = []  # called after each scan that found something else than the last
        self._keeper = Keeper(self._database)
        self._lookup: Lookup | None = None
        self._shown = 0  # lookups so far
        self._walked = Walked()
        self._scanned = 0.0  # time.monotonic() of the last scan's beginning

    def close(self) -> None:
        """Close the index; nothing can be asked afterwards."""
        self.closed = True
        self._database.close()

    # asking

    def entries(self) -> list[Entry]:
        """All entries by name."""
        return list(self._state().by_name)

    @property
    def version(self) -> tuple[int, int]:
        """Another one as soon as an entry or a mark is."""
        return self._shown, self._keeper.changes

    def entry(self, number: int) -> Entry:
        """The entry with this id. Raises NotFoundError."""
        found = self._state().by_id.get(number)
        if found is None:
            raise NotFoundError(f"#{number}")
        return found

    def find(self, name: str) -> Entry:
        """The entry that `name` means: path below the folder, file name, alias or hash (8 digits or more).

        Scans again if the file has changed or vanished, or if nothing fits and there may be something new.
        Raises NotFoundError with the nearest names.
        """
        asked = time.monotonic()
        state = self._state()
        fits = state.fits(name, self.known_hashes)
        if (not is_current(fits[0])) if fits else self._may_be_new(asked):
            state = self._newer(asked)
            fits = state.fits(name, self.known_hashes)
        if not fits:
            raise NotFoundError(name, state.nearest(name))
        return fits[0]

    def means(self, name: str, entry: Entry) -> bool:
        """Whether `find` takes `entry` for this name, as far as is known without looking at the disk."""
        fits = self._state().fits(name, self.known_hashes)
        return bool(fits) and fits[0].id == entry.id

    def ambiguous(self, name: str) -> list[Entry]:
        """All entries that fit `name` equally well if there are several, the one that `find` takes first; else none."""
        fits = self._state().fits(name, self.known_hashes)
        return list(fits) if len(fits) > 1 else []

    # scanning

    def refresh(self, progress: Progress | None = None) -> RefreshResult:
        """Bring the index up to date with the folders."""
        with self._scanning:
            known, walked, started = self._load(), Walked(), time.monotonic()
            with _no_collection():
                found = {each.location: (each, _stamp(each)) for each in walk(self.folders, walked)}
            stale = [path for path, (_, stamp) in found.items() if path not in known or known[path][0].stamp != stamp]
            added = sum(1 for path in stale if path not in known)
            gone = self._forget(found.keys())
            self._read([found[path][0] for path in stale], progress)
            with _no_collection():
                entries = [self._entry(each) for each, _ in found.values()]
            new = set(stale)
            self._keeper.follow(entries, lambda entry: entry.location in new, self._tops())
            self._walked, self._scanned = walked, started
            if self._lookup is None or not self._lookup.holds(entries):
                self._show(Lookup(entries, self.folders))
            broken = sum(1 for entry in entries if entry.broken)
            return RefreshResult(added, len(stale) - added, gone, broken, tuple(walked.problems))

    def _state(self) -> Lookup:
        return self._lookup or self._newer(0.0)

    def _newer(self, moment: float) -> Lookup:
        """The state of a scan that began after `moment`, made now if there is none."""
        with self._scanning:
            if self._lookup is None or self._scanned < moment:
                self.refresh()
            assert self._lookup is not None
            return self._lookup

    def _may_be_new(self, now: float) -> bool:
        return now - self._scanned > self.patience or not self._walked.is_current()

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
        tops = tuple(os.path.join(folder, "") for folder in self.folders if folder.is_dir())
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

    # what is known of entries

    def readable_parts(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
        """Each entry with its `readable_json` as bytes, for an answer that holds them all."""
        waiting = iter(entries)
        while batch := list(islice(waiting, BATCH)):
            texts = self._database.metadata_of([entry.id for entry in batch])
            yield from ((entry, texts.get(entry.id, b"{}")) for entry in batch)

    def search_texts(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, str]]:
        """Each entry with its notes, description and trained tags in lower case."""
        waiting = iter(entries)
        while batch := list(islice(waiting, BATCH)):
            texts = self._database.search_texts([entry.id for entry in batch])
            yield from ((entry, texts.get(entry.id) or "") for entry in batch)

    def known_hashes(self, entry: Entry) -> Hashes | None:
        """The hashes of `entry` if they were computed before."""
        return self._keeper.known_hashes(entry)

    def hash_count(self) -> int:
        """Another number means that hashes were learnt."""
        return self._keeper.hash_count()

    def with_hash(self, start: str) -> set[int]:
        """Ids of the entries with a computed hash that begins like this."""
        paths = self._keeper.paths_with_hash(start)
        return {entry.id for entry in self._state().entries if entry.location in paths} if paths else set()

    # what the user changes

    def mark(
        self, entries: Iterable[Entry], *, favorite: bool | None = None, add: Iterable[str] = (),
        remove: Iterable[str] = (),
    ) -> int:  # fmt: skip
        """Set or take the favourite mark, add and remove the user's tags; how many entries are different now."""
        return self._keeper.change_marks(entries, Change(favorite, clean_tags(add), clean_tags(remove)))

    def follow_marks(self) -> None:
        """Move marks of vanished files to files with the same hash, now that more hashes are known."""
        self._keeper.follow(self._state().entries, lambda _: False, self._tops())

    def reread(self, entry: Entry) -> Entry:
        """Read one file and its sidecars again, without a scan. Raises NotFoundError if it has vanished."""
        with self._scanning:
            known, state = self._load(), self._state()
            alike = [each for each in state.entries if (each.name, each.folder) == (entry.name, entry.folder)]
            found = [look_again(each.path, each.folder, each.name) for each in alike]
            present = [each for each in found if each is not None]
            self._read(present, None)
            for each in present:
                row, _ = known[each.location]
                new = make_entry(row.id, each, row.entry, self._keeper)
                known[row.path] = (row, new)
                state = state.replaced(new)
            self._show(state)
        return self.entry(entry.id)

    def _tops(self) -> dict[str, bool]:
        return {str(folder): folder.is_dir() for folder in self.folders}

    def _show(self, state: Lookup) -> None:
        self._lookup = state
        self._shown += 1
        for tell in self.on_change:
            tell()


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
