"""What the index keeps of each entry besides what lists need, and what the user and time add: hashes and marks."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lib_lora.errors import AdapterFileError, LoraError
from lib_lora.formats.hashes import Hashes, hash_file, stored_hash
from lib_lora.library.database import Database
from lib_lora.library.entry import Details, Entry
from lib_lora.library.files import look_again, mtime_of
from lib_lora.library.mark import Change, Mark
from lib_lora.library.marks import Marks, Present
from lib_lora.library.readable import original
from lib_lora.library.reading import Learnt, Texts, fetch, read_texts

Key = tuple[str, int, int]  # path, size, mtime
NOTHING = Texts("", "", "{}", "{}", None)  # of a file that is gone
DAMAGED = (ValueError, TypeError, LookupError, AttributeError, RecursionError)  # what texts raise that are not ours


class Keeper:
    """Answers what entries ask of their library."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.changes = 0  # of marks and of what was measured, counted
        self.on_hash: list[Callable[[Entry], None]] = []  # called when the hashes of a file have become known
        self._hashes: dict[Key, Hashes] = {}
        self._measured: dict[tuple[str, str], float] = {}
        self._marks = Marks(database)

    def load(self) -> None:
        """Read hashes, marks, and how much adapters change."""
        self._hashes = self.database.hashes()
        self._measured = self.database.changes()
        self.changes += self._marks.load()

    def catch_up(self) -> None:
        """Read them again if another program wrote into the index."""
        if self.database.is_changed_by_others():
            self.load()

    # what stands in the header and in sidecars

    def readable_json(self, entry: Entry) -> str:
        return self.database.metadata(entry.id) or _read_again(entry).metadata

    def metadata(self, entry: Entry) -> dict[str, str]:
        text, header = self.database.metadata(entry.id), self.database.header(entry.id)
        with contextlib.suppress(*DAMAGED):
            if text and isinstance(found := json.loads(header) if header else original(text), dict):
                return found
        again = _read_again(entry)
        return json.loads(again.header) if again.header else original(again.metadata)

    def details(self, entry: Entry) -> Details:
        with contextlib.suppress(*DAMAGED):
            if text := self.database.details(entry.id):
                return Details.from_json(text)
        return Details.from_json(_read_again(entry).details)

    # hashes

    def known_hashes(self, entry: Entry) -> Hashes | None:
        return self._hashes.get(_key(entry))

    def hashes(self, entry: Entry) -> Hashes:
        """Computed if need be and stored. Raises AdapterFileError."""
        known = self.known_hashes(entry)
        if known is None:
            known = hash_file(entry.path)
            if is_current(entry):
                self._hashes[_key(entry)] = known
                self.database.put_hashes(_key(entry), known)
                with contextlib.suppress(LoraError):  # it is learnt again with the next scan that can
                    self._marks.learn(entry.location, known.sha256)
                for tell in self.on_hash:
                    tell(entry)
        return known

    def shorthash(self, entry: Entry) -> str:
        """As stored in the header where it can be believed, else computed."""
        if stored := stored_hash(entry.metadata):
            return stored[:12]
        try:
            hashes = self.hashes(entry)
        except AdapterFileError:
            return ""
        return (hashes.tensors or hashes.sha256)[:12]

    def hash_count(self) -> int:
        """How many files' hashes are known, of whatever library; another number means that something was learnt."""
        return len(self._hashes)

    def paths_with_hash(self, start: str) -> set[str]:
        """Paths of files with a computed hash that begins like this."""
        known = list(self._hashes.items())
        return {key[0] for key, each in known if each.sha256.startswith(start) or each.tensors.startswith(start)
                or each.autov1.startswith(start)}  # fmt: skip

    # what was measured

    def change(self, entry: Entry) -> float | None:
        """How much it changes in all; None as long as nobody has measured it, or its hashes are not known."""
        key = self._measure_key(entry)
        return self._measured.get(key) if key else None

    def measured(self, entry: Entry, layout: str) -> dict[str, Any] | None:
        """The figures that were kept of a file with these tensors, by the names of this layout's blocks."""
        key = self._measure_key(entry, layout)
        if key is None or key not in self._measured:
            return None
        with contextlib.suppress(*DAMAGED):
            if isinstance(found := json.loads(self.database.measure(key)), dict):
                return found
        return None

    def keep_measured(self, entry: Entry, layout: str, told: Mapping[str, Any], change: float) -> None:
        """Keep figures, which JSON can tell."""
        key = self._measure_key(entry, layout)
        if key is not None and is_current(entry):
            self._measured[key] = change
            self.database.put_measure(key, change, json.dumps(told))
            self.changes += 1

    def _measure_key(self, entry: Entry, layout: str = "") -> tuple[str, str] | None:
        known = self.known_hashes(entry)
        return (known.tensors or known.sha256, layout or entry.family.id) if known else None

    # marks

    def mark(self, entry: Entry) -> Mark:
        return self._marks.of(entry.location)

    def change_marks(self, entries: Iterable[Entry], change: Change) -> int:
        """How many marks are different now. Raises LoraError if they cannot be saved."""
        chosen = list(entries)
        known = {entry.id: hashes.sha256 for entry in chosen if (hashes := self.known_hashes(entry))}
        changed = self._marks.change(chosen, change, known)
        self.changes += changed
        return changed

    def follow(self, entries: Sequence[Entry], is_new: Callable[[Entry], bool], tops: Mapping[str, bool]) -> None:
        """Move marks of files that were moved or renamed; `tops`: {folder: whether it is there}."""
        if not len(self._marks):
            return
        paths = {entry.location: entry for entry in entries}
        with contextlib.suppress(LoraError):  # marks stay what they are, and are tried again with the next scan
            self._follow(paths, is_new, tops)

    def _follow(
        self, paths: Mapping[str, Entry], is_new: Callable[[Entry], bool], tops: Mapping[str, bool]
    ) -> None:
        self._marks.keep_up(paths)
        if not (gone := self._marks.gone(paths, tops)):
            return
        present = [
            Present(path, entry.size, entry.mtime_ns, is_new(entry), self._full_hashes(entry))
            for path, entry in paths.items()
            if not self._marks.has(path)
        ]
        self.changes += self._marks.move(gone, present)

    def _full_hashes(self, entry: Entry) -> list[str]:
        known = self.known_hashes(entry)
        stated = [text for text in entry.stated_hashes if re.fullmatch(r"[0-9a-f]{64}", text)]
        return [known.sha256] if known else stated


def _read_again(entry: Entry) -> Texts:
    """What the index has lost, from the file itself."""
    found = look_again(entry.path, entry.folder, entry.name)
    if found is None:
        return NOTHING
    return read_texts(found, fetch(found), Learnt())


def is_current(entry: Entry) -> bool:
    """The file is still the one that was indexed."""
    try:
        stat = os.stat(entry.location)
    except OSError:
        return False
    return (stat.st_size, mtime_of(stat)) == (entry.size, entry.mtime_ns)


def _key(entry: Entry) -> Key:
    return entry.location, entry.size, entry.mtime_ns
