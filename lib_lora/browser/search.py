"""Search, facets, order and pages of the listing: a function of a Stock and a Query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lib_lora.browser.stock import Pairs, Shown, Stock
from lib_lora.families import Family
from lib_lora.library import Entry

MAX_PAGE = 500  # cards
STATES = {  # in the order in which they are told
    "favorite": "Favourites",
    "tagged": "Has own tags",
    "words": "Has trigger words",
    "compatible": "Fits the checkpoint",
    "incompatible": "Made for another base model",
    "duplicate": "Duplicates",
    "broken": "Broken files",
}
FACETS: dict[str, Callable[[Shown, Scene], Pairs]] = {  # facet -> the (value, label) pairs of an entry
    "family": lambda each, scene: each.facets["family"],
    "flavour": lambda each, scene: each.facets["flavour"],
    "algorithm": lambda each, scene: each.facets["algorithm"],
    "folder": lambda each, scene: _folder(each.entry),
    "tag": lambda each, scene: tuple((tag, tag) for tag in each.user_tags),
    "state": lambda each, scene: tuple(_states(each, scene)),
}
SORTS: dict[str, tuple[Callable[[Entry], Any], bool]] = {  # sort -> (key, descending)
    "name": (lambda entry: entry.name.rpartition("/")[2].casefold(), False),
    "path": (lambda entry: entry.name.casefold(), False),
    "newest": (lambda entry: entry.mtime_ns // 10**9, True),
    "size": (lambda entry: entry.size, True),
    "rank": (lambda entry: (entry.rank or (0, 0))[1], True),
    "family": (lambda entry: (entry.family.label, entry.name.casefold()), False),
}


@dataclass(frozen=True)
class Query:
    """What the user wants to see."""

    text: str = ""  # words that all must occur
    sort: str = "name"
    reverse: bool = False
    chosen: Mapping[str, Sequence[str]] = field(default_factory=dict)  # {facet: values, of which one must fit}
    offset: int = 0
    limit: int = 100


@dataclass
class Scene:
    """What an entry's states depend on besides itself."""

    checkpoint: Family | None = None
    duplicates: Mapping[int, str] = field(default_factory=dict)
    _fits: dict[int, bool | None] = field(default_factory=dict)  # by the family's identity: few, and alive

    def fits(self, family: Family) -> bool | None:
        if self.checkpoint is None:
            return None
        if id(family) not in self._fits:
            self._fits[id(family)] = family.fits(self.checkpoint)
        return self._fits[id(family)]


@dataclass(frozen=True)
class Answer:
    """All that fit, in order, and for each facet how many would fit."""

    kept: list[Shown]
    facets: dict[str, list[dict[str, Any]]]


def search(stock: Stock, query: Query, judge: Callable[[Shown], dict[str, Any]], scene: Scene) -> dict[str, Any]:
    """One page, the number of all that fit, and for each facet how many would fit. `judge` makes the cards sent."""
    answer = find(stock, query, scene)
    page = answer.kept[query.offset : query.offset + min(query.limit, MAX_PAGE)]
    return {
        "total": len(answer.kept),
        "installed": len(stock.shown),
        "offset": query.offset,
        "items": [judge(each) for each in page],
        "facets": answer.facets,
    }


def ids(stock: Stock, query: Query, scene: Scene) -> dict[str, Any]:
    """The ids of all that fit, in order."""
    kept = find(stock, query, scene).kept
    return {"ids": [each.entry.id for each in kept], "total": len(kept)}


def find(stock: Stock, query: Query, scene: Scene) -> Answer:
    """The answer without its cards; the same question about another page is answered from memory."""
    words = query.text.casefold().split()
    found = stock.holding(words)
    wanted = {name: frozenset(values) for name, values in query.chosen.items() if values and name in FACETS}
    key = (id(found), tuple(sorted(wanted.items(), key=lambda item: item[0])), query.sort, query.reverse,
           scene.checkpoint, id(scene.duplicates))  # fmt: skip
    # the answer holds `found` and `duplicates`, so that their identities stay theirs
    return stock.answer(key, lambda: (_find(stock, query, found, wanted, scene), found, scene.duplicates))[0]


def _find(
    stock: Stock, query: Query, found: Sequence[Shown], wanted: Mapping[str, frozenset[str]], scene: Scene
) -> Answer:
    pairs = {name: [of(each, scene) for each in found] for name, of in FACETS.items()}
    fits = {name: [any(value in values for value, _ in each) for each in pairs[name]]
            for name, values in wanted.items()}  # fmt: skip
    facets = {name: _told(name, _counted(pairs[name], [fits[other] for other in fits if other != name]))
              for name in FACETS}  # fmt: skip
    kept = {each.entry.id for each, *all_fit in zip(found, *fits.values(), strict=True) if all(all_fit)}
    key, descending = SORTS.get(query.sort, SORTS["name"])
    ordered = stock.ordered(key, descending != query.reverse)
    ordered = ordered if len(kept) == len(ordered) else [each for each in ordered if each.entry.id in kept]
    if not query.reverse:
        ordered = [each for each in ordered if each.favorite] + [each for each in ordered if not each.favorite]
    return Answer(ordered, facets)


def _counted(pairs: Sequence[Pairs], fits: Sequence[Sequence[bool]]) -> Counter[tuple[str, str]]:
    if fits:
        pairs = [each for each, *all_fit in zip(pairs, *fits, strict=True) if all(all_fit)]
    counted: Counter[tuple[str, str]] = Counter()
    for several, count in Counter(pairs).items():  # most entries have the same as others
        for pair in several:
            counted[pair] += count
    return counted


def _told(name: str, counted: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    if name == "state":
        order = [(value, label) for value, label in STATES.items() if (value, label) in counted]
        return [{"value": value, "label": text, "count": counted[value, text]} for value, text in order]
    return [{"value": value, "label": text, "count": count} for (value, text), count in counted.most_common()]


def _folder(entry: Entry) -> Pairs:
    folder = entry.name.rpartition("/")[0]
    return ((folder, folder or "(top)"),)


def _states(each: Shown, scene: Scene) -> Iterable[tuple[str, str]]:
    entry, fits = each.entry, scene.fits(each.entry.family)
    holds = (
        ("favorite", each.favorite),
        ("tagged", bool(each.user_tags)),
        ("words", bool(entry.trigger_words or entry.activation_text)),
        ("compatible", fits is True),
        ("incompatible", fits is False),
        ("duplicate", entry.id in scene.duplicates),
        ("broken", bool(entry.broken)),
    )
    return ((name, STATES[name]) for name, is_so in holds if is_so)
