"""One state of the library, ready to be searched: what is looked through is prepared once, and what was found is kept.

Entries go by their place in the order of names. Their texts, some 3 kB each, are in memory only once somebody searches.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from lib_lora.grammar.trigger_words import unescaped
from lib_lora.library import Entry

MAX_WORDS = 40  # of one search; each looks through everything
KEPT = 24  # answers, and searches to start from
HASH = re.compile(r"[0-9a-f]{4,64}")
Pairs = tuple[tuple[str, str], ...]  # (value, label) of an entry in one facet
Haystacks = MutableMapping[int, tuple[Entry, bytes]]  # {id: (of which entry, UTF-8)}
T = TypeVar("T")


@dataclass(frozen=True)
class Shown:
    """An entry as the listing needs it before it is sent."""

    entry: Entry
    is_shared: bool  # another file has the same name
    facets: Mapping[str, Pairs]  # {family, flavour, algorithm: what it has}
    user_tags: tuple[str, ...]
    favorite: bool


class Column:
    """One facet of all entries: thousands have one of a few `kinds`, which are counted and compared as numbers."""

    def __init__(self, pairs: Iterable[Pairs]) -> None:
        numbers: dict[Pairs, int] = {}
        self.of = [numbers.setdefault(each, len(numbers)) for each in pairs]  # place -> kind
        self.kinds = list(numbers)

    def having(self, values: frozenset[str]) -> frozenset[int]:
        """The kinds with one of these values."""
        return frozenset(n for n, pairs in enumerate(self.kinds) if any(value in values for value, _ in pairs))

    def counted(self, places: Iterable[int]) -> Counter[tuple[str, str]]:
        """{(value, label): how many of these have it}"""
        found: Counter[tuple[str, str]] = Counter()
        for kind, count in Counter(map(self.of.__getitem__, places)).items():
            for pair in self.kinds[kind]:
                found[pair] += count
        return found


class Stock:
    """All entries by name, and the memory of one state."""

    def __init__(
        self,
        shown: Sequence[Shown],
        texts: Callable[[Iterable[Entry]], Iterable[tuple[Entry, str]]],
        with_hash: Callable[[str], set[int]],
        haystacks: Haystacks | None = None,
    ) -> None:
        """`texts`: notes, description and trained tags; `haystacks`: those of the state before, to be used again."""
        self.shown = shown
        self.haystacks: Haystacks = dict(haystacks or {})
        self._texts, self._with_hash = texts, with_hash
        self._all = list(range(len(shown)))
        self._found: OrderedDict[tuple[str, ...], list[int]] = OrderedDict()  # {words: places}
        self._remembered: OrderedDict[Hashable, Any] = OrderedDict()

    @cached_property
    def by_id(self) -> dict[int, Shown]:
        return {each.entry.id: each for each in self.shown}

    @cached_property
    def favorites(self) -> frozenset[int]:
        return frozenset(place for place, each in enumerate(self.shown) if each.favorite)

    def remembered(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` returned for the same `key` before, else now."""
        known: T | None = self._remembered.get(key)
        if known is None:
            known = make()
            _keep(self._remembered, key, known)
        return known

    def holding(self, words: Sequence[str]) -> list[int]:
        """Places of entries that hold all `words`, which are in lower case; starts from an earlier, wider search."""
        wanted = tuple(dict.fromkeys(words))[:MAX_WORDS]
        if not wanted:
            return self._all
        if any(HASH.fullmatch(word) for word in wanted):
            return self._matching(self._all, wanted)  # hashes become known at any time: nothing is remembered
        known = self._found.get(wanted)
        if known is None:
            wider = [found for before, found in tuple(self._found.items()) if _narrows(wanted, before)]
            known = self._matching(min(wider, key=len, default=self._all), wanted)
            _keep(self._found, wanted, known)
        return known

    def _matching(self, places: list[int], words: Sequence[str]) -> list[int]:
        texts = self._haystacks_by_place
        for word in sorted(words, key=len, reverse=True):
            needle = word.encode("utf-8", "replace")
            others = {place for place, tags in self._tagged if word in tags}
            if HASH.fullmatch(word) and (hashed := self._with_hash(word)):
                others |= {place for place, each in enumerate(self.shown) if each.entry.id in hashed}
            if others:
                places = [place for place in places if place in others or needle in texts[place]]
            else:
                places = [place for place in places if needle in texts[place]]
        return places

    @cached_property
    def _tagged(self) -> list[tuple[int, str]]:
        """(place, the user's tags in lower case) of those that have any."""
        return [(place, "\n".join(each.user_tags).casefold())
                for place, each in enumerate(self.shown) if each.user_tags]  # fmt: skip

    @cached_property
    def _haystacks_by_place(self) -> list[bytes]:
        """What is searched; only of new entries is it read."""
        new = [each.entry for each in self.shown if not self._has_haystack(each.entry)]
        for entry, text in self._texts(new):
            self.haystacks[entry.id] = entry, haystack(entry, text)
        for number in self.haystacks.keys() - self.by_id.keys():
            del self.haystacks[number]
        return [self.haystacks[each.entry.id][1] for each in self.shown]

    def _has_haystack(self, entry: Entry) -> bool:
        known = self.haystacks.get(entry.id)
        return known is not None and known[0] is entry


def haystack(entry: Entry, text: str) -> bytes:
    """Everything of an entry that is searched, in lower case; as bytes, which need the least memory."""
    names = (f"{entry.name}{entry.extension}", entry.title, entry.alias, entry.activation_text,
             *map(unescaped, entry.trigger_words), entry.family.label, *entry.algorithms,
             *entry.stated_hashes)  # fmt: skip
    return f"{chr(10).join(names).casefold()}\n{text}".encode("utf-8", "replace")


def _narrows(words: Sequence[str], before: Sequence[str]) -> bool:
    """Whatever holds `words` holds `before` too."""
    return all(any(old in new for new in words) for old in before)


def _keep(kept: OrderedDict[Any, Any], key: Hashable, value: Any) -> None:
    kept[key] = value
    while len(kept) > KEPT:
        kept.popitem(last=False)
