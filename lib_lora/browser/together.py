"""What the adapters of a prompt do together: which pull against each other, and how far they move the model.

Tensors are looked at once for each pair of files; when a weight moves, or a block is silenced, numbers are multiplied.
A weight that changes over the steps counts at its strongest, an adapter for a part of the picture as if for all of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lib_lora.browser.listing import Shelf
from lib_lora.browser.loaded import LoadedModel
from lib_lora.errors import AdapterFileError, NotFoundError, TagError
from lib_lora.grammar.blocks import Place
from lib_lora.grammar.curve import Product
from lib_lora.grammar.tag import LoraTag, typed_tags
from lib_lora.keys.blocks import block_of
from lib_lora.library import Entry

if TYPE_CHECKING:
    from lib_lora.analysis.conflicts import Conflicts, Matrix
    from lib_lora.analysis.gram import Grams, Member, Spot
    from lib_lora.model.targets import TargetIndex

MOST = 12  # adapters that are compared
LIMIT = 1.5  # times what one does: from there on a mixture is worth a warning; analysis/load.py says why
GROUPS = ("BASE", "IN", "M", "OUT")  # text encoders, and the blocks of the UNet on its way down, in the middle, up
AGAINST, ALIKE = -0.1, 0.5  # cosines from which on it is worth a word
WORTH = 0.01  # of all that is done: a pull that is less is not worth a word
KEPT = 2  # models whose figures stay in memory


@dataclass
class One:
    """An adapter file in the prompt, with its tags."""

    entry: Entry
    dyn: int | None
    tags: list[LoraTag] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # of the tags in the prompt

    @property
    def key(self) -> tuple[str, int, int]:
        """Another one as soon as the file is another."""
        return self.entry.location, self.entry.size, self.entry.mtime_ns


class Together:
    """Answers for one page."""

    def __init__(self, shelf: Shelf, model: LoadedModel, limit: Callable[[], float]) -> None:
        """`limit`: how often what one does is worth a warning."""
        self._shelf, self._model, self._limit = shelf, model, limit
        self._grams: list[tuple[TargetIndex | None, Grams]] = []
        self._lock = threading.Lock()

    def of(self, prompt: str) -> dict[str, Any]:
        """Figures of a prompt with two adapters or more; of others `{"adapters": []}`."""
        found = self._active(prompt)
        if len(found) < 2:
            return {"adapters": []}
        if len(found) > MOST:
            return {"adapters": [], "note": f"more than {MOST} adapters are not compared"}
        with self._lock:  # of two questions the second finds what the first has multiplied
            return self._compared(found)

    def _compared(self, found: list[One]) -> dict[str, Any]:
        from lib_lora.analysis.conflicts import weighed  # torch: not before somebody asks
        from lib_lora.analysis.load import load_of, usual_scale

        index = self._index(found)
        grams = self._grams_on(index)
        found, members, notes = self._readable(found, grams)
        if len(found) < 2:
            return {"adapters": [], "note": "; ".join(notes)}
        layers = grams.of(members)
        is_xl = index is not None and index.family.is_xl
        mixed = weighed(layers, [TagWeights(each.tags, is_xl) for each in found])
        plain = weighed(layers, [lambda _: 1.0] * len(found))
        known = self._model.scale() if index is self._model.index() else None
        load = load_of(mixed, plain, known or usual_scale(index))
        for each, untold in zip(found, layers.untold, strict=True):
            if untold:
                notes.append(f"{each.entry.stem}: {untold} layers depend on the checkpoint and are not counted")
        told = [{"name": each.entry.stem, "tags": each.places, "alone": alone}
                for each, alone in zip(found, load.alone, strict=True)]  # fmt: skip
        return {
            "adapters": told, "times": load.times, "limit": self._limit(), "is_measured": known is not None,
            "cosine": mixed.cosine(), "shares": mixed.shares, "pulls": _pulls(mixed), "note": "; ".join(notes),
            "blocks": [{"block": block, "load": load.blocks[block], "cosine": mixed.cosine(block)}
                       for block in sorted(mixed.products, key=_order)],
        }  # fmt: skip

    def _active(self, prompt: str) -> list[One]:
        """Those that would be applied, and are not muted."""
        found: dict[tuple[str, int | None], One] = {}
        checkpoint = self._shelf.checkpoint()
        for place, typed in enumerate(typed_tags(prompt)):
            if typed.tag is None or (typed.tag.te == 0 and typed.tag.unet == 0):
                continue
            try:
                tag = typed.tag.settled(self._shelf.presets())
                entry = self._shelf.library.look_up(tag.name, with_help=False).entry
            except (TagError, NotFoundError):
                continue
            fits = entry.family.fits(checkpoint) if checkpoint else None
            if entry.broken or (fits is False and not tag.force):
                continue
            one = found.setdefault((entry.location, tag.dyn), One(entry, tag.dyn))
            one.tags.append(tag)
            one.places.append(place)
        return list(found.values())

    def _index(self, found: Sequence[One]) -> TargetIndex | None:
        """The loaded model's, else of the usual checkpoint of what the first is for."""
        from lib_lora.model.usual import usual_index

        index = self._model.index()
        return index if index is not None else usual_index(found[0].entry.family.id)

    def _grams_on(self, index: TargetIndex | None) -> Grams:
        from lib_lora.analysis.gram import Grams

        known = next((grams for of, grams in self._grams if of is index), None)
        if known is None:
            known = Grams(index)
            self._grams = [(index, known), *self._grams][:KEPT]
        return known

    def _readable(self, found: Sequence[One], grams: Grams) -> tuple[list[One], list[Member], list[str]]:
        """`(those whose files can be read, the same as members, sentences about the others)`."""
        from lib_lora.adapters.cache import AdapterCache
        from lib_lora.analysis.gram import Member

        cache, notes, kept, members = AdapterCache(limit=len(found)), [], [], []
        for each in found:
            path = each.entry.path
            member = Member(each.key, lambda path=path: cache.read(path), each.dyn)  # type: ignore[misc]
            try:
                if not grams.knows(member):
                    cache.read(path)
            except AdapterFileError as error:
                notes.append(str(error))
            else:
                kept.append(each)
                members.append(member)
        return kept, members, notes


class TagWeights:
    """What all tags of one file weigh together in a layer, at their strongest."""

    def __init__(self, tags: Sequence[LoraTag], is_xl: bool) -> None:
        self._tags, self._is_xl = tags, is_xl
        self._by_path = any(tag.blocks.elements for tag in tags)
        self._known: dict[tuple[str, str], float] = {}

    def __call__(self, spot: Spot) -> float:
        component = spot.component or "unet"
        block = block_of(spot.path, component)
        asked = component, spot.path if self._by_path else block
        if asked not in self._known:
            place = Place(component, block, spot.path, self._is_xl)
            self._known[asked] = sum(strongest(tag.strength(place)) for tag in self._tags)
        return self._known[asked]


def strongest(weight: Product) -> float:
    """The largest that a weight can be over the steps, with its sign: curves are largest at one of their points."""
    if weight.constant is not None:
        return weight.constant
    found = weight.factor
    for curve in weight.curves:
        found *= max((value for _, value in curve.points), key=abs)
    return found


def _pulls(mixed: Conflicts) -> list[dict[str, Any]]:
    """The pair that pulls apart most, else the one that pulls the same way most, and where; none if each minds its own.
    """
    groups = {group: mixed.over(blocks) for group in GROUPS
              if (blocks := [block for block in mixed.products if _group(block) == group])}  # fmt: skip
    found = _strongest_pull(groups, mixed.whole, -1, -AGAINST) or _strongest_pull(groups, mixed.whole, 1, ALIKE)
    return [found] if found else []


def _strongest_pull(groups: Mapping[str, Matrix], whole: Matrix, sign: int, least: float) -> dict[str, Any] | None:
    """Of the pairs whose cosine is beyond `least` in some group: the one that matters most beside all that is done."""
    from lib_lora.analysis.conflicts import cosine

    cosines = {group: cosine(products) for group, products in groups.items()}
    all_done = sum(whole[each][each] for each in range(len(whole)))
    strongest_yet, found = WORTH * all_done, None
    for a in range(len(whole)):
        for b in range(a + 1, len(whole)):
            where = [group for group in groups if sign * cosines[group][a][b] > least]
            pull = max((sign * groups[group][a][b] for group in where), default=0.0)
            if pull > strongest_yet:
                shared = [group for group, products in groups.items() if products[a][a] and products[b][b]]
                strongest_yet = pull
                found = {"a": a, "b": b, "cosine": cosine(whole)[a][b], "apart": sign < 0,
                         "groups": [] if where == shared and len(shared) > 1 else where}  # fmt: skip
    return found


def _group(block: str) -> str:
    return next((group for group in GROUPS if block.startswith(group)), "")


def _order(block: str) -> tuple[int, str]:
    return next((place for place, group in enumerate(GROUPS) if block.startswith(group)), len(GROUPS)), block
