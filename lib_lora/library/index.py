"""The library: every adapter in the user's folders, kept in an index and found by whatever the user calls it.

Making one does nothing; the first question scans the folders. A scan stats every file and reads the headers of new and
changed ones. Each scan ends in a new, immutable list of entries: readers never wait for one that is under way, unless
they ask for something that is not there yet.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lib_lora.errors import AmbiguousNameError, NotFoundError
from lib_lora.formats.hashes import Hashes
from lib_lora.library.database import Database
from lib_lora.library.duplicates import is_same_content
from lib_lora.library.entry import Entry
from lib_lora.library.keeper import Keeper, is_current
from lib_lora.library.lookup import Lookup, Meaning
from lib_lora.library.mark import Change, clean_tags
from lib_lora.library.scan import Progress, RefreshResult, Scanner

BATCH = 125  # entries whose texts are read at once
MOST_NAMED = 3  # other files, in a sentence


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
        self.on_change: list[Callable[[], None]] = []  # called after each scan that found something else than the last
        self._keeper = Keeper(self._database)
        self.on_hash = self._keeper.on_hash  # called with an entry whose hashes have become known
        self._scanner = Scanner(self.folders, self._database, self._keeper)
        self._lookup: Lookup | None = None
        self._shown = 0  # lookups so far

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

    def find(self, name: str, *, with_help: bool = True) -> Entry:
        """The entry that `name` means: path below the folder, file name, alias or hash (8 digits or more).

        Scans again if the file has changed or vanished, or if nothing fits and there may be something new.
        Raises NotFoundError with the nearest names (not without `with_help`). Of several files of one name it is the
        first: see `look_up`.
        """
        return self._fitting(name, with_help)[1][0]

    def look_up(self, name: str, *, with_help: bool = True) -> Meaning:
        """`find`, with what else the name could mean: one answer from one state of the folders.

        Files with the same content are no choice. Looks at some kilobytes of files of equal size.
        """
        state, fits = self._fitting(name, with_help)
        return Meaning(fits[0], tuple(fits[1:]), self._ambiguity(name, state, fits))

    def means(self, name: str, entry: Entry) -> bool:
        """Whether `find` takes `entry` for this name, as far as is known without looking at the disk."""
        fits = self._state().fits(name, self.known_hashes)
        return bool(fits) and fits[0].id == entry.id

    def meanings(self, name: str) -> list[Entry]:
        """All entries that fit `name` equally well, as far as is known without looking at the disk."""
        return list(self._state().fits(name, self.known_hashes))

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences about the index: that it was damaged, or cannot be used. `refresh` tells them too."""
        return self._database.problems

    def _fitting(self, name: str, with_help: bool) -> tuple[Lookup, list[Entry]]:
        """`(a state of the library, the entries that `name` means there, the best first)`. Raises NotFoundError."""
        asked = time.monotonic()
        state = self._state()
        fits = state.fits(name, self.known_hashes)
        if (not is_current(fits[0])) if fits else self._may_be_new(asked):
            state = self._newer(asked)
            fits = state.fits(name, self.known_hashes)
        if fits:
            return state, fits
        if rivals := state.rivals(name):
            raise AmbiguousNameError(name, [state.path_of(entry) for entry in rivals])
        raise NotFoundError(name, state.nearest(name) if with_help else ())

    def _ambiguity(self, name: str, state: Lookup, fits: Sequence[Entry]) -> str | None:
        alike = state.alike(name, fits)
        others = [each for each in alike if not is_same_content(fits[0], each, self.known_hashes)]
        if not others:
            return None
        named = [f"<lora:{state.path_of(each)}:1>" for each in (fits[0], *others[:MOST_NAMED])]
        more = f" (and {len(others) - MOST_NAMED} more)" if len(others) > MOST_NAMED else ""
        taken = f"{fits[0].name}{fits[0].extension}"
        found = f"{name}: {len(others) + 1} different files have this name, and {taken} was taken"
        return f"{found}; write {' or '.join(named)}{more} to choose"

    # scanning

    def refresh(self, progress: Progress | None = None) -> RefreshResult:
        """Bring the index up to date with the folders."""
        with self._scanning:
            entries, found = self._scanner.scan(progress)
            if self._lookup is None or not self._lookup.holds(entries):
                self._show(Lookup(entries, self.folders))
            return found

    def _state(self) -> Lookup:
        if self._lookup is None or self._scanner.is_behind:
            return self._newer(time.monotonic() if self._lookup else 0.0)
        return self._lookup

    def _newer(self, moment: float) -> Lookup:
        """The state of a scan that began after `moment`, made now if there is none."""
        with self._scanning:
            if self._lookup is None or self._scanner.started < moment:
                self.refresh()
            assert self._lookup is not None
            return self._lookup

    def _may_be_new(self, now: float) -> bool:
        return now - self._scanner.started > self.patience or not self._scanner.is_current()

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

    def change(self, entry: Entry) -> float | None:
        """How much it changes in all, if it was measured."""
        return self._keeper.change(entry)

    def measured(self, entry: Entry, layout: str = "") -> dict[str, Any] | None:
        """The figures that were kept of a file with these tensors; None where its hashes are not known.

        `layout`: of the model that they are for; empty: the usual one of the entry's family.
        """
        return self._keeper.measured(entry, layout)

    def keep_measured(self, entry: Entry, told: Mapping[str, Any], change: float, layout: str = "") -> None:
        """Keep figures of it, for all files with these tensors."""
        self._keeper.keep_measured(entry, layout, told, change)

    # what the user changes

    def mark(
        self, entries: Iterable[Entry], *, favorite: bool | None = None, add: Iterable[str] = (),
        remove: Iterable[str] = (),
    ) -> int:  # fmt: skip
        """Set or take the favourite mark, add and remove the user's tags; how many entries are different now."""
        return self._keeper.change_marks(entries, Change(favorite, clean_tags(add), clean_tags(remove)))

    def follow_marks(self) -> None:
        """Move marks of vanished files to files with the same hash, now that more hashes are known."""
        self._keeper.follow(self._state().entries, lambda _: False, self._scanner.tops())

    def reread(self, entry: Entry) -> Entry:
        """Read one file and its sidecars again, without a scan. Raises NotFoundError if it has vanished."""
        with self._scanning:
            state = self._state()
            alike = [each for each in state.entries if (each.name, each.folder) == (entry.name, entry.folder)]
            for new in self._scanner.reread(alike):
                state = state.replaced(new)
            self._show(state)
        return self.entry(entry.id)

    def _show(self, state: Lookup) -> None:
        self._lookup = state
        self._shown += 1
        for tell in self.on_change:
            tell()
