"""From what a user types to the entries that fit: path, file name, alias, hash; exactly, then whatever the case.

Typed names are compared in Unicode's composed form, "/" and "\\" are the same, and an adapter's extension may stand
there or not. Of several files that fit, working ones come first, then those nearest to the top, then those in the
folder that was named first.
"""

from __future__ import annotations

import difflib
import heapq
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from lib_lora.files import EXTENSIONS, stem_of
from lib_lora.hashes import Hashes
from lib_lora.library.entry import Entry
from lib_lora.words import unescaped

HASH = re.compile(r"[0-9a-f]{8,64}")
KINDS: tuple[Callable[[Entry], str], ...] = (  # how a file can be named, the surest first
    lambda entry: f"{entry.name}{entry.extension}",
    lambda entry: entry.name,
    lambda entry: entry.stem,
    lambda entry: entry.alias,
)
CANDIDATES = 60  # names that are compared letter by letter
LONGEST = 120  # letters of a typed name that are compared


class Lookup:
    """Names of one state of the library."""

    def __init__(self, entries: Iterable[Entry], folders: Sequence[Path]) -> None:
        self._folders = folders
        places = {folder: place for place, folder in enumerate(folders)}

        def order(entry: Entry) -> tuple[bool, int, int, str, str, int]:
            extension = EXTENSIONS.index(entry.extension.lower())
            place = places.get(entry.folder, len(places))
            name = entry.name
            return bool(entry.broken), name.count("/"), place, name.casefold(), name, extension

        self.entries = sorted(entries, key=order)
        self.by_id = {entry.id: entry for entry in self.entries}
        self._by_name: dict[tuple[Callable[..., str], Callable[[str], str]], dict[str, list[Entry]]] = {}

    def holds(self, entries: Sequence[Entry]) -> bool:
        """Whether it was made of exactly these."""
        return len(entries) == len(self.entries) and all(self.by_id.get(each.id) is each for each in entries)

    def replaced(self, entry: Entry) -> Lookup:
        """The same with another entry for one file."""
        return Lookup((entry if each.id == entry.id else each for each in self.entries), self._folders)

    @cached_property
    def by_name(self) -> list[Entry]:
        """All entries in the order of their names."""
        return sorted(self.entries, key=lambda entry: (entry.name.casefold(), entry.name, entry.id))

    def fits(self, name: str, hashes: Callable[[Entry], Hashes | None]) -> list[Entry]:
        """Every entry that `name` may mean, in the surest sense in which any does; the best first."""
        typed = _normal(name)
        for spell, wanted in ((_normal, typed), (_folded, typed.casefold())):
            for kind in KINDS:
                names = self._names(kind, spell)
                if found := names.get(wanted) or names.get(stem_of(wanted)):
                    return found
        plain = unescaped(name)  # brackets as prompts need them: "ink \\(v2\\)"
        return self.fits(plain, hashes) if plain != name else self._by_hash(typed.lower().removeprefix("0x"), hashes)

    def nearest(self, name: str, count: int = 3) -> list[str]:
        """Names that look like `name`: the file's name where it is the only one, else its path."""
        typed = _normal(stem_of(unescaped(name[:LONGEST]))).casefold()
        shared = Counter(place for pair in _pairs(typed) for place in self._by_pair.get(pair, ()))
        keys = list(self._shown)
        most = heapq.nsmallest(CANDIDATES, shared, key=lambda place: (-shared[place], place))
        likely = [keys[place] for place in most]
        close = difflib.get_close_matches(typed, likely, n=2 * count, cutoff=0.5)
        inside = [key for key in likely if typed in key] if len(typed) > 2 else []
        return list(dict.fromkeys(self._shown[key] for key in [*close, *inside]))[:count]

    def _by_hash(self, start: str, hashes: Callable[[Entry], Hashes | None]) -> list[Entry]:
        if not HASH.fullmatch(start):
            return []
        found = []
        for entry in self.entries:
            known = hashes(entry)
            values = (known.sha256, known.tensors, known.autov1, *entry.stated_hashes) if known else entry.stated_hashes
            if any(value.startswith(start) for value in values):
                found.append(entry)
        return found

    def _names(self, kind: Callable[[Entry], str], spell: Callable[[str], str]) -> Mapping[str, list[Entry]]:
        """{name of that kind, so spelt: its entries}, made when somebody asks."""
        known = self._by_name.get((kind, spell))
        if known is None:
            known = {}
            for entry in self.entries:
                known.setdefault(spell(kind(entry)), []).append(entry)
            self._by_name[kind, spell] = known
        return known

    @cached_property
    def _by_pair(self) -> Mapping[str, Sequence[int]]:
        """{two letters: places in `_shown` of the names that have them side by side}; many names may be asked for."""
        places: dict[str, list[int]] = {}
        for place, key in enumerate(self._shown):
            for pair in _pairs(key):
                places.setdefault(pair, []).append(place)
        return places

    @cached_property
    def _shown(self) -> dict[str, str]:
        """{a name in lower case: what to type for that file}"""
        shown: dict[str, str] = {}
        stems = Counter(entry.stem for entry in self.entries)
        for entry in self.entries:
            typed = entry.stem if stems[entry.stem] == 1 else entry.name
            for kind in KINDS[1:]:
                shown.setdefault(_normal(kind(entry)).casefold(), typed)
        return shown


def _normal(name: str) -> str:
    composed = name if name.isascii() else unicodedata.normalize("NFC", name)
    return composed.strip().replace("\\", "/").removeprefix("./").strip("/")


def _folded(name: str) -> str:
    return _normal(name).casefold()


def _pairs(text: str) -> set[str]:
    return {text[place : place + 2] for place in range(max(len(text) - 1, 1))}
