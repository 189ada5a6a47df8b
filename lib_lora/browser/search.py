"""Search, facets, order and pages of the listing: a pure function of the cards and a Query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lib_lora.browser.listing import Shown

MAX_PAGE = 500  # cards
Card = Mapping[str, Any]

FACETS: dict[str, Callable[[Card], Iterable[tuple[str, str]]]] = {  # facet -> the (value, label) pairs of a card
    "family": lambda card: [(card["family"]["id"], card["family"]["label"].rpartition("(")[2].rstrip(")"))],
    "flavour": lambda card: [(card["family"]["flavour"], card["family"]["label"])] if card["family"]["flavour"] else [],
    "algorithm": lambda card: [(name, name) for name in card["algorithms"]],
    "folder": lambda card: [(card["folder"], card["folder"] or "(top)")],
    "state": lambda card: _states(card),
}
SORTS: dict[str, tuple[Callable[[Card], Any], bool]] = {  # sort -> (key, descending)
    "name": (lambda card: card["name"].rpartition("/")[2].casefold(), False),
    "path": (lambda card: card["name"].casefold(), False),
    "newest": (lambda card: card["modified"], True),
    "size": (lambda card: card["size"], True),
    "rank": (lambda card: (card["rank"] or [0, 0])[1], True),
    "family": (lambda card: (card["family"]["label"], card["name"].casefold()), False),
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


def search(shown: Sequence[Shown], query: Query, judge: Callable[[Shown], dict[str, Any]]) -> dict[str, Any]:
    """One page, the number of all that fit, and for each facet how many would fit. `judge` completes the cards sent."""
    words = query.text.casefold().split()
    found = [each for each in shown if all(word in each.haystack for word in words)]
    wanted = {name: set(values) for name, values in query.chosen.items() if values}
    fits = {name: [_has(each.card, name, values) for each in found] for name, values in wanted.items()}
    facets = {
        name: _count(name, (each.card for place, each in enumerate(found)
                            if all(fits[other][place] for other in fits if other != name)))
        for name in FACETS
    }  # fmt: skip
    kept = [each for place, each in enumerate(found) if all(of_facet[place] for of_facet in fits.values())]
    key, descending = SORTS.get(query.sort, SORTS["name"])
    kept.sort(key=lambda each: key(each.card), reverse=descending != query.reverse)
    if not query.reverse:
        kept.sort(key=lambda each: not each.card["favorite"])
    page = kept[query.offset : query.offset + min(query.limit, MAX_PAGE)]
    return {
        "total": len(kept),
        "installed": len(shown),
        "offset": query.offset,
        "items": [judge(each) for each in page],
        "facets": {
            name: [{"value": value, "label": text, "count": count} for (value, text), count in counted.most_common()]
            for name, counted in facets.items()
        },
    }


def _has(card: Card, facet: str, values: set[str]) -> bool:
    return facet not in FACETS or any(value in values for value, _ in FACETS[facet](card))


def _count(facet: str, cards: Iterable[Card]) -> Counter[tuple[str, str]]:
    return Counter(pair for card in cards for pair in FACETS[facet](card))


def _states(card: Card) -> Iterable[tuple[str, str]]:
    if card["favorite"]:
        yield "favorite", "Favourites"
    if card["trigger_words"] or card["activation_text"]:
        yield "words", "Has trigger words"
    if card["broken"]:
        yield "broken", "Broken files"
