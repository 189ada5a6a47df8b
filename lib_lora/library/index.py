"""The library: every adapter in the user's folders, kept in an index and found by whatever the user calls it.

Making one does nothing; the first question scans the folders. A scan stats every file and reads the headers of new and
changed ones. Each scan ends in a new, immutable list of entries: readers never wait for one that is under way, unless
they ask for something that is not there yet.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lib_lora.errors import AdapterFileError, NotFoundError
from lib_lora.files import Found, Walked, walk
from lib_lora.hashes import Hashes, hash_file, stored_hash
from lib_lora.library.database import Database, Row, Stamp
from lib_lora.library.entry import Details, Entry
from lib_lora.library.lookup import Lookup
from lib_lora.library.reading import Layouts, make_entry, read_texts

BATCH = 250  # files a transaction
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
        self._database = Database(database)
        self._scanning = threading.RLock()
        self._known: dict[str, tuple[Row, Entry | None]] | None = None  # by path; None: the database was not read yet
        self._hashes: dict[tuple[str, int, int], Hashes] = {}
        self._lookup: Lookup | None = None
        self._walked = Walked()
        self._scanned = 0.0  # time.monotonic() of the last scan's beginning

    def close(self) -> None:
        """Close the index; nothing can be asked afterwards."""
        self._database.close()

    # asking

    def entries(self) -> list[Entry]:
        """All entries by name."""
        return sorted(self._state().entries, key=lambda entry: (entry.name.casefold(), entry.name, entry.id))

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
        if (not _is_current(fits[0])) if fits else self._may_be_new(asked):
            state = self._newer(asked)
            fits = state.fits(name, self.known_hashes)
        if not fits:
            raise NotFoundError(name, state.nearest(name))
        return fits[0]

    def ambiguous(self, name: str) -> list[Entry]:
        """All entries that fit `name` equally well if there are several, the one that `find` takes first; else none."""
        fits = self._state().fits(name, self.known_hashes)
        return list(fits) if len(fits) > 1 else []

    # scanning

    def refresh(self, progress: Progress | None = None) -> RefreshResult:
        """Bring the index up to date with the folders."""
        with self._scanning:
            known, walked, started = self._load(), Walked(), time.monotonic()
            found = {str(each.path): (each, _stamp(each)) for each in walk(self.folders, walked)}
            stale = [path for path, (_, stamp) in found.items() if path not in known or known[path][0].stamp != stamp]
            added = sum(1 for path in stale if path not in known)
            gone = self._forget(found.keys())
            self._read([found[path] for path in stale], progress)
            entries = [self._entry(each) for each, _ in found.values()]
            self._lookup, self._walked, self._scanned = Lookup(entries, self.folders), walked, started
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
            self._hashes = self._database.hashes()
        return self._known

    def _read(self, files: Sequence[tuple[Found, Stamp]], progress: Progress | None) -> None:
        known, layouts, waiting, done = self._load(), Layouts(), iter(files), 0
        while batch := list(islice(waiting, BATCH)):
            rows = self._database.put([(str(each.path), stamp, read_texts(each, layouts)) for each, stamp in batch])
            known.update((row.path, (row, None)) for row in rows)
            done += len(batch)
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
        row, entry = known[str(found.path)]
        if entry is None or (entry.folder, entry.name) != (found.folder, found.name):
            entry = make_entry(row.id, found, row.entry, self)
            known[row.path] = (row, entry)
        return entry

    # what entries ask

    def metadata_json(self, entry: Entry) -> str:
        """The header's metadata of `entry` as JSON text."""
        return self._database.metadata(entry.id)

    def all_metadata_json(self) -> dict[int, str]:
        """{id: metadata as JSON text} of all entries, in one go."""
        return self._database.all_metadata()

    def details(self, entry: Entry) -> Details:
        """The description, notes and training facts of `entry`."""
        return Details.from_json(self._database.details(entry.id))

    def known_hashes(self, entry: Entry) -> Hashes | None:
        """The hashes of `entry` if they were computed before."""
        return self._hashes.get((str(entry.path), entry.size, entry.mtime_ns))

    def hashes(self, entry: Entry) -> Hashes:
        """The hashes of `entry`, computed if need be and stored. Raises AdapterFileError."""
        known = self.known_hashes(entry)
        if known is None:
            known = hash_file(entry.path)
            if _is_current(entry):
                key = (str(entry.path), entry.size, entry.mtime_ns)
                self._hashes[key] = known
                self._database.put_hashes(key, known)
        return known

    def shorthash(self, entry: Entry) -> str:
        """The WebUI's short hash of `entry`: as stored in the header where it can be believed, else computed."""
        if stored := stored_hash(entry.metadata):
            return stored[:12]
        try:
            hashes = self.hashes(entry)
        except AdapterFileError:
            return ""
        return (hashes.tensors or hashes.sha256)[:12]


def _stamp(found: Found) -> Stamp:
    return Stamp(found.size, found.mtime_ns, ascii(found.beside) if found.beside else "")


def _is_current(entry: Entry) -> bool:
    try:
        stat = os.stat(entry.path)
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (entry.size, entry.mtime_ns)
