"""Bypass: the layers and attentions of one model that add something to what they put out, beside their weights.

For weights that cannot hold a sum, for what acts on some rows of a call only or on a part of the picture, and for what
changes so often that this is cheaper (`route.py`). `layer(x) + delta(x)` is the same number as with the delta merged,
and costs a little in every step. Hooks on those very modules do it, as long as the adapters are active.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence

from torch import nn

from lib_lora.engine.books import books_of
from lib_lora.engine.hooks import BESIDE, Adding, Hooked, forget_compiled, is_compiled
from lib_lora.engine.layers import can_bypass
from lib_lora.engine.plan import Term
from lib_lora.engine.regions import Blended, Blending, attention_of
from lib_lora.errors import PatchError
from lib_lora.keys.places import about
from lib_lora.model.slots import Slot

BLENDED = " (blended)"  # after an attention's name: the name of its record


class Bypass:
    """What hooks there are, and what they add."""

    def __init__(
        self,
        hooked: MutableMapping[str, Hooked],
        blended: MutableMapping[str, Blended],
        undo: Callable[[list[str]], None],
    ) -> None:
        self._hooked, self._blended = hooked, blended
        self._undo = undo  # records, by their names

    @property
    def keys(self) -> frozenset[str]:
        """The parameters whose layers add something now."""
        return frozenset(record.key for record in self._hooked.values() if record.planned)

    def hooks(self) -> set[int]:
        """Which hooks there are, to see whether some came or went."""
        records: list[Hooked | Blended] = [*self._hooked.values(), *self._blended.values()]
        return {id(record.registered) for record in records}

    def show(self, key: str, terms: tuple[Term, ...], slot: Slot, *, is_other_moment: bool = False) -> bool:
        """Make the layer of `slot` (a bias that it lacks: the layer of the weight) add just `terms` from now on.

        A hook that is there is told, if it knows them: at another moment of a picture also where it knows more, which
        may count again. Raises PatchError if it is no layer for that. False if it did so already.
        """
        known = self._of(key, slot)
        if known is not None and known.planned == terms:
            return False
        is_enough = known is not None and (is_other_moment or len(known.hook.known) == len(terms))
        if known is None or not is_enough or not known.hook.tell(terms):
            self._undo([key + BESIDE])
            self._hook(key, terms, slot)
        return True

    def quieten(self, key: str, slot: Slot) -> None:
        """What the layer adds to `key` is nothing at this moment of a picture; its hook stays for another."""
        if (known := self._of(key, slot)) is not None:
            known.hook.tell(())

    def hide(self) -> None:
        """From what was compiled meanwhile: hooks that are told something new before each call."""
        if is_compiled():
            hidden = [record.hide() for record in self._hooked.values()]
            if any(hidden):
                forget_compiled()

    def blend(self) -> None:
        """Have attentions to the prompt blended if their keys or values are others in some areas, and only those."""
        wanted: dict[str, tuple[Slot, list[Adding]]] = {}
        names: dict[nn.Module, str] = {}
        for record in self._hooked.values():
            if any(_is_of_words(term) for term in record.hook.known):
                if not names:
                    names = {module: name for name, module in record.slot.root_module.named_modules()}
                attention = attention_of(record.slot, names)
                place = Slot(attention, "", root=record.slot.root_module)
                wanted.setdefault(names[attention] + BLENDED, (place, []))[1].append(record.hook)
        for name, known in list(self._blended.items()):
            if wanted.get(name) != (known.slot, known.hook.hooks) or known.handle is None:
                self._undo([name])
        for name, (place, hooks) in wanted.items():
            if name not in self._blended:
                self._blended[name] = made = Blended(place, Blending(books_of(place.root_module).call, hooks))
                made.handle = place.module.register_forward_hook(made.hook, with_kwargs=True)

    def _of(self, key: str, slot: Slot) -> Hooked | None:
        """The record of a hook that really is on that layer, and hears of calls."""
        books = books_of(slot.root_module)
        known = books.records.get(key + BESIDE)
        is_there = isinstance(known, Hooked) and known.handle is not None and known.slot == slot
        return known if is_there and isinstance(known, Hooked) and known.hook.call is books.call else None

    def _hook(self, key: str, terms: tuple[Term, ...], slot: Slot) -> None:
        if not can_bypass(slot):
            raise PatchError(_why_not(key, terms, slot))
        books = books_of(slot.root_module)
        adding = Adding(slot, terms, books.call, books.room)
        adding.build()
        adding.tell(terms)
        record = self._hooked[key + BESIDE] = Hooked(key, slot, adding)
        record.register()


def _is_of_words(term: Term) -> bool:
    """True for keys and values of words that are others in an area."""
    return term.region is not None and about(term.target.path) == "words"


def _why_not(key: str, terms: Sequence[Term], slot: Slot) -> str:
    kind = type(slot.module).__name__
    if any(term.is_restricted for term in terms):
        return f"{key} cannot be another one for each picture of a batch, in a {kind}"
    if slot.is_away:
        return f"{key} is offloaded, and nothing can be added to a {kind} that is; load the model without offloading"
    return f"{key} is quantised, and nothing can be added to a {kind} that is; use another checkpoint"
