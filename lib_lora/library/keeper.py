"""What the index keeps of each entry besides what lists need, and what the user and time add: hashes and marks."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from lib_lora.errors import AdapterFileError
from lib_lora.hashes import Hashes, hash_file, stored_hash
from lib_lora.library.database import Database
from lib_lora.library.entry import Details, Entry
from lib_lora.library.marks import Change, Mark, Marks, Present
from lib_lora.library.readable import original

Key = tuple[str, int, int]  # path, size, mtime


class Keeper:
    """Answers what entries ask of their library."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.changes = 0  # of marks, counted
        self.on_hash: list[Callable[[Entry], None]] = []  # called when the hashes of a file have become known
        self._hashes: dict[Key, Hashes] = {}
        self._marks = Marks(database)

    def load(self) -> None:
        """Read hashes and marks."""
        self._hashes = self.database.hashes()
        self._marks.load()

    # what stands in the header and in sidecars

    def readable_json(self, entry: Entry) -> str:
        return self.database.metadata(entry.id)

    def metadata(self, entry: Entry) -> dict[str, str]:
        header = self.database.header(entry.id)
        return json.loads(header) if header else original(self.database.metadata(entry.id))

    def details(self, entry: Entry) -> Details:
        return Details.from_json(self.database.details(entry.id))

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

    # marks

    def mark(self, entry: Entry) -> Mark:
        return self._marks.of(entry.location)

    def change_marks(self, entries: Iterable[Entry], change: Change) -> int:
        """How many marks are different now."""
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


def is_current(entry: Entry) -> bool:
    """The file is still the one that was indexed."""
    try:
        stat = os.stat(entry.location)
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (entry.size, entry.mtime_ns)


def _key(entry: Entry) -> Key:
    return entry.location, entry.size, entry.mtime_ns
