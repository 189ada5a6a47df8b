"""From what a user types to the entries that fit: path, file name, alias, hash; exactly, then whatever the case.

Typed names are compared in Unicode's composed form, "/" and "\\" are the same, and an adapter's extension may stand
there or not. Of several files that fit, working ones come first, then those nearest to the top, then those in the
folder that was named first. Of those that differ only in case, none is meant by a third spelling.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from lib_lora.formats.hashes import Hashes
from lib_lora.grammar.trigger_words import unescaped
from lib_lora.library.entry import Entry
from lib_lora.library.files import EXTENSIONS, stem_of

HASH = re.compile(r"[0-9a-f]{8,64}")
KINDS: tuple[Callable[[Entry], str], ...] = (  # how a file can be named, the surest first
    lambda entry: f"{entry.name}{entry.extension}",
    lambda entry: entry.name,
    lambda entry: entry.stem,
    lambda entry: entry.alias,
    lambda entry: f"{entry.folder.name}/{entry.name}",  # where two folders of adapters hold one name
)
PLAIN = KINDS[1:4]
MOST = 200  # letters of a name that are compared
CANDIDATES = 20  # names that are compared letter by letter


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
        """Every entry that `name` may mean, in the surest sense in which any does; the best first.

        None where it may mean several that differ only in case: see `rivals`.
        """
        found = self._by_spelling(name)
        if found is None:
            return self._by_hash(_normal(name).lower().removeprefix("0x"), hashes)
        return [] if _only_case_tells(*found) else found[0]

    def rivals(self, name: str) -> list[Entry]:
        """The entries that `name` may mean and that differ only in case, if no exact one is there."""
        found = self._by_spelling(name)
        return found[0] if found is not None and _only_case_tells(*found) else []

    def alike(self, name: str, fits: Sequence[Entry]) -> list[Entry]:
        """What else `name` may mean, of which the first of `fits` was taken: broken files aside.

        A file's name alone means files in all folders, also where the one at the top is the surest.
        """
        if not fits or fits[0].broken:
            return []
        typed = _normal(name)
        same = self._names(KINDS[2], _normal).get(typed, ()) if "/" not in typed else ()
        return [entry for entry in dict.fromkeys((*fits, *same)) if entry is not fits[0] and not entry.broken]

    def path_of(self, entry: Entry) -> str:
        """The shortest of its names that can mean no other file: a path, with extension or top folder if need be."""
        is_only = len(self._names(KINDS[2], _normal).get(_normal(entry.stem), ())) == 1
        for kind in (KINDS[1], KINDS[0], KINDS[4]):
            name = kind(entry)
            if (is_only or name != entry.stem) and len(self._names(kind, _normal).get(_normal(name), ())) == 1:
                return name
        return entry.name

    def _by_spelling(self, name: str) -> tuple[list[Entry], Callable[[Entry], str] | None] | None:
        """`(entries, None)` as it is spelt, else `(entries, the kind of name)` whatever the case."""
        typed = _normal(name)
        for kind in KINDS:
            names = self._names(kind, _normal)
            if found := names.get(typed) or names.get(stem_of(typed)):
                return found, None
        for kind in KINDS:
            names = self._names(kind, _folded)
            if found := names.get(typed.casefold()) or names.get(stem_of(typed.casefold())):
                return found, kind
        plain = unescaped(name)  # brackets as prompts need them: "ink \\(v2\\)"
        return self._by_spelling(plain) if plain != name else None

    def nearest(self, name: str, count: int = 3) -> list[str]:
        """Names that look like `name`: the file's name where it is the only one, else its path."""
        typed = _normal(stem_of(unescaped(name[:MOST]))).casefold()
        shared: Counter[int] = Counter()
        for pair in _pairs(typed):
            shared.update(self._having.get(pair, ()))
        keys = list(self._shown)
        likely = [keys[place] for place, _ in shared.most_common(CANDIDATES)]
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
    def _shown(self) -> dict[str, str]:
        """{a name in lower case: what to type for that file}"""
        shown: dict[str, str] = {}
        stems = Counter(entry.stem for entry in self.entries)
        for entry in self.entries:
            typed = entry.stem if stems[entry.stem] == 1 else entry.name
            for kind in PLAIN:
                shown.setdefault(_normal(kind(entry)).casefold(), typed)
        return shown

    @cached_property
    def _having(self) -> Mapping[str, list[int]]:
        """{two letters: places in `_shown` of the names that hold them}"""
        having: dict[str, list[int]] = {}
        for place, key in enumerate(self._shown):
            for pair in _pairs(key[:MOST]):
                having.setdefault(pair, []).append(place)
        return having


def _only_case_tells(entries: Sequence[Entry], kind: Callable[[Entry], str] | None) -> bool:
    """Whether working ones among `entries`, which were found whatever the case, are spelt in several ways."""
    if kind is None or len(entries) < 2:
        return False
    working = [entry for entry in entries if not entry.broken] or entries
    return len({_normal(kind(entry)) for entry in working}) > 1


def _normal(name: str) -> str:
    composed = name if name.isascii() else unicodedata.normalize("NFC", name)
    return composed.strip().replace("\\", "/").removeprefix("./").strip("/")


def _folded(name: str) -> str:
    return _normal(name).casefold()


def _pairs(text: str) -> set[str]:
    return {text[place : place + 2] for place in range(max(len(text) - 1, 1))}
