"""Search, facets, order and pages of the listing: a function of a Stock and a Query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lib_lora.browser.stock import Column, Pairs, Shown, Stock
from lib_lora.describe.families import Family
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
FACETS: dict[str, Callable[[Shown], Pairs] | None] = {  # facet -> the (value, label) pairs of an entry
    "family": lambda each: each.facets["family"],
    "flavour": lambda each: each.facets["flavour"],
    "algorithm": lambda each: each.facets["algorithm"],
    "folder": lambda each: _folder(each),
    "tag": lambda each: tuple((tag, tag) for tag in each.user_tags),
    "state": None,  # depends on the scene
}
SORTS: dict[str, tuple[Callable[[Entry], Any], bool]] = {  # sort -> (key, descending)
    "name": (lambda entry: entry.name.rpartition("/")[2].casefold(), False),
    "path": (lambda entry: entry.name.casefold(), False),
    "newest": (lambda entry: entry.mtime_ns // 10**9, True),
    "size": (lambda entry: entry.size, True),
    "rank": (lambda entry: (entry.rank or (0, 0))[1], True),
    "change": (lambda entry: -1.0 if entry.change is None else entry.change, True),
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


@dataclass(frozen=True)
class Scene:
    """What an entry's states depend on besides itself."""

    checkpoint: Family | None = None
    duplicates: Mapping[int, str] = field(default_factory=dict)

    @property
    def key(self) -> Hashable:
        return self.checkpoint, id(self.duplicates)


@dataclass(frozen=True)
class Answer:
    """Places of all that fit, in order, and for each facet how many would fit."""

    kept: list[int]
    facets: dict[str, list[dict[str, Any]]]


def search(stock: Stock, query: Query, judge: Callable[[Shown], dict[str, Any]], scene: Scene) -> dict[str, Any]:
    """One page, the number of all that fit, and for each facet how many would fit. `judge` makes the cards sent."""
    answer = find(stock, query, scene)
    page = answer.kept[query.offset : query.offset + min(query.limit, MAX_PAGE)]
    return {
        "total": len(answer.kept),
        "installed": len(stock.shown),
        "offset": query.offset,
        "items": [judge(stock.shown[place]) for place in page],
        "facets": answer.facets,
    }


def ids(stock: Stock, query: Query, scene: Scene) -> dict[str, Any]:
    """The ids of all that fit, in order."""
    kept = find(stock, query, scene).kept
    return {"ids": [stock.shown[place].entry.id for place in kept], "total": len(kept)}


def find(stock: Stock, query: Query, scene: Scene) -> Answer:
    """The answer without its cards; the same question about another page is answered from memory."""
    found = stock.holding(query.text.casefold().split())
    wanted = {name: frozenset(values) for name, values in query.chosen.items() if values and name in FACETS}
    key = id(found), tuple(sorted(wanted.items(), key=lambda item: item[0])), query.sort, query.reverse, scene.key
    # what is remembered holds `found` and `scene`, so that their identities stay theirs
    return stock.remembered(key, lambda: (_find(stock, query, found, wanted, scene), found, scene))[0]


def _find(
    stock: Stock, query: Query, found: Sequence[int], wanted: Mapping[str, frozenset[str]], scene: Scene
) -> Answer:
    columns = _columns(stock, scene)
    fits = {name: columns[name].having(values) for name, values in wanted.items()}
    facets = {}
    for name, column in columns.items():
        others = _fitting(found, columns, {other: kinds for other, kinds in fits.items() if other != name})
        facets[name] = _told(name, column.counted(others))
    kept = _fitting(found, columns, fits)
    ordered = _ordered(stock, query)
    if len(kept) < len(ordered):
        wanted_places = frozenset(kept)
        ordered = [place for place in ordered if place in wanted_places]
    if stock.favorites:
        favorites = stock.favorites
        ordered = [n for n in ordered if n in favorites] + [n for n in ordered if n not in favorites]
    return Answer(ordered, facets)


def _columns(stock: Stock, scene: Scene) -> dict[str, Column]:
    fixed: dict[str, Column] = stock.remembered(
        "columns", lambda: {name: Column(map(of, stock.shown)) for name, of in FACETS.items() if of}
    )
    states = stock.remembered(("states", scene.key), lambda: (Column(_states(stock.shown, scene)), scene))[0]
    return {**fixed, "state": states}


def _fitting(found: Sequence[int], columns: Mapping[str, Column], fits: Mapping[str, frozenset[int]]) -> Sequence[int]:
    for name, kinds in fits.items():
        of = columns[name].of
        found = [place for place in found if of[place] in kinds]
    return found


def _ordered(stock: Stock, query: Query) -> list[int]:
    key, descending = SORTS.get(query.sort, SORTS["name"])
    reverse = descending != query.reverse

    def make() -> list[int]:
        keys = [key(each.entry) for each in stock.shown]
        return sorted(range(len(keys)), key=keys.__getitem__, reverse=reverse)

    return stock.remembered(("order", key, reverse), make)


def _told(name: str, counted: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    if name == "state":
        order = [(value, label) for value, label in STATES.items() if (value, label) in counted]
        return [{"value": value, "label": text, "count": counted[value, text]} for value, text in order]
    return [{"value": value, "label": text, "count": count} for (value, text), count in counted.most_common()]


def _folder(each: Shown) -> Pairs:
    folder = each.entry.name.rpartition("/")[0]
    return ((folder, folder or "(top)"),)


def _states(shown: Iterable[Shown], scene: Scene) -> Iterator[Pairs]:
    fits: dict[int, bool | None] = {}  # by the family's identity: few, and alive as long as the entries
    for each in shown:
        entry, family = each.entry, each.entry.family
        if id(family) not in fits:
            fits[id(family)] = family.fits(scene.checkpoint) if scene.checkpoint else None
        holds = {
            "favorite": each.favorite,
            "tagged": bool(each.user_tags),
            "words": bool(entry.trigger_words or entry.activation_text),
            "compatible": fits[id(family)] is True,
            "incompatible": fits[id(family)] is False,
            "duplicate": entry.id in scene.duplicates,
            "broken": bool(entry.broken),
        }
        yield tuple((name, STATES[name]) for name, is_so in holds.items() if is_so)
