"""One state of the library, ready to be searched: what is looked through is prepared once, and what was found is kept.

Ten thousand entries of some 4 kB of text each are in memory only once somebody searches.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from lib_lora.library import Entry

KEPT = 24  # answers, and searches to start from
HASH = re.compile(r"[0-9a-f]{4,64}")
Pairs = tuple[tuple[str, str], ...]  # (value, label)
Haystacks = MutableMapping[int, tuple[Entry, tuple[str, ...], bytes]]  # {id: (of which entry and tags, UTF-8)}
T = TypeVar("T")


@dataclass(frozen=True)
class Shown:
    """An entry as the listing needs it before it is sent."""

    entry: Entry
    is_shared: bool  # another file has the same name
    facets: Mapping[str, Pairs]  # {family, flavour, algorithm: what it has}
    user_tags: tuple[str, ...]
    favorite: bool


class Stock:
    """All entries by name, and the memory of one state."""

    def __init__(
        self,
        shown: Sequence[Shown],
        texts: Callable[[], Mapping[int, str]],
        with_hash: Callable[[str], set[int]],
        haystacks: Haystacks | None = None,
    ) -> None:
        """`texts`: {id: notes, description, trained tags}, `haystacks`: those of the state before, which are reused."""
        self.shown = shown
        self.haystacks: Haystacks = dict(haystacks or {})
        self._texts, self._with_hash = texts, with_hash
        self._found: OrderedDict[tuple[str, ...], list[Shown]] = OrderedDict()  # {words: entries that hold them}
        self._answers: OrderedDict[Hashable, Any] = OrderedDict()
        self._orders: dict[Hashable, Any] = {}

    @cached_property
    def by_id(self) -> dict[int, Shown]:
        return {each.entry.id: each for each in self.shown}

    def holding(self, words: Sequence[str]) -> Sequence[Shown]:
        """Entries that hold all `words`, which are in lower case. Starts from an earlier search that was wider."""
        wanted = tuple(dict.fromkeys(words))
        if not wanted:
            return self.shown
        if any(HASH.fullmatch(word) for word in wanted):
            return self._matching(self.shown, wanted)  # hashes become known at any time: nothing is remembered
        known = self._found.get(wanted)
        if known is None:
            wider = [found for before, found in tuple(self._found.items()) if _narrows(wanted, before)]
            known = self._matching(min(wider, key=len, default=self.shown), wanted)
            _keep(self._found, wanted, known)
        return known

    def answer(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` returned for the same question before, else now."""
        known: T | None = self._answers.get(key)
        if known is None:
            known = make()
            _keep(self._answers, key, known)
        return known

    def ordered(self, key: Callable[[Entry], Any], reverse: bool) -> list[Shown]:
        """All entries in this order."""
        asked = key, reverse
        if asked not in self._orders:
            found = sorted(self.shown, key=lambda each: key(each.entry), reverse=reverse)
            self._orders[asked] = found
        return self._orders[asked]

    def _matching(self, shown: Sequence[Shown], words: Sequence[str]) -> list[Shown]:
        self._prepare()
        found, hay = list(shown), self.haystacks
        for word in sorted(words, key=len, reverse=True):
            needle = word.encode("utf-8", "replace")
            hashed = self._with_hash(word) if HASH.fullmatch(word) else ()
            found = [each for each in found if needle in hay[each.entry.id][2] or each.entry.id in hashed]
        return found

    @cached_property
    def _prepared(self) -> bool:
        """What is searched, of every entry; only what is new is read."""
        new = [each for each in self.shown if not self._has_haystack(each)]
        texts = self._texts() if new else {}
        for each in new:
            hay = haystack(each.entry, each.user_tags, texts.get(each.entry.id, ""))
            self.haystacks[each.entry.id] = each.entry, each.user_tags, hay
        for number in self.haystacks.keys() - self.by_id.keys():
            del self.haystacks[number]
        return True

    def _prepare(self) -> None:
        assert self._prepared

    def _has_haystack(self, each: Shown) -> bool:
        known = self.haystacks.get(each.entry.id)
        return known is not None and known[0] is each.entry and known[1] == each.user_tags


def haystack(entry: Entry, user_tags: Sequence[str], text: str) -> bytes:
    """Everything of an entry that is searched, in lower case; as bytes, which need the least memory."""
    names = (f"{entry.name}{entry.path.suffix}", entry.title, entry.alias, entry.activation_text,
             *user_tags, *entry.trigger_words, entry.family.label, *entry.algorithms, *entry.stated_hashes)  # fmt: skip
    return f"{chr(10).join(names).casefold()}\n{text}".encode("utf-8", "replace")


def _narrows(words: Sequence[str], before: Sequence[str]) -> bool:
    """Whatever holds `words` holds `before` too."""
    return all(any(old in new for new in words) for old in before)


def _keep(kept: OrderedDict[Any, Any], key: Hashable, value: Any) -> None:
    kept[key] = value
    while len(kept) > KEPT:
        kept.popitem(last=False)
