"""Merged: the parameters of one model that hold a sum, base weight and deltas. The only code that writes to a weight.

Memory that may be shared with others (a checkpoint cache) is never written to. Where the original is meanwhile is one
of three policies (`originals.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from lib_lora.engine.books import books_of
from lib_lora.engine.fold import fold
from lib_lora.engine.keeping import Keep, Places
from lib_lora.engine.originals import Borrowed, CheckpointFile, Original, Reread, is_shared
from lib_lora.engine.plan import Term
from lib_lora.engine.records import NewBias, Patched, sample
from lib_lora.model.slots import Slot


@dataclass(frozen=True)
class Carried:
    """A parameter that adapters are in."""

    key: str
    found: Tensor  # what it is
    base: Tensor  # what the terms are added to
    terms: tuple[Term, ...]
    is_where_written: bool  # else somebody moved or cast it meanwhile

    def made_anew(self) -> Tensor:
        """What it should be, but for rounding."""
        out = torch.empty_like(self.found, memory_format=torch.contiguous_format)
        fold(self.base, self.terms, out)
        return out


class Merged:
    """What holds a sum now; of each there is a record that knows its way back."""

    def __init__(
        self,
        patched: MutableMapping[str, Patched],
        new_biases: MutableMapping[str, NewBias],
        undo: Callable[[list[str]], None],
    ) -> None:
        self._patched, self._new_biases = patched, new_biases
        self._undo = undo  # records, by their names
        self._places = Places()

    @property
    def keys(self) -> frozenset[str]:
        """The parameters that are not their base weight."""
        return frozenset(self._patched) | frozenset(self._new_biases)

    @property
    def modules_with_new_bias(self) -> set[nn.Module]:
        """Those that have a bias for an adapter's sake."""
        return {record.slot.module for record in self._new_biases.values()}

    def base(self, key: str, slot: Slot) -> Tensor | None:
        """The base weight of a parameter, whatever it carries now; not to be written to. None: nobody has it."""
        current = slot.elsewhere if slot.is_away else slot.parameter.data
        known = None if current is None else self._carried(key, slot, current)
        return current if known is None or current is None else known.original.base(current)

    def carried(self, slots: Mapping[str, Slot]) -> Iterator[Carried]:
        """Every parameter that adapters are in, one after the other."""
        for key, slot in slots.items():
            known = None if slot.is_away else self._carried(key, slot, slot.parameter.data)
            if known is not None and known.terms is not None:
                current = slot.parameter.data
                base = slot.base(known.original.base(current))
                yield Carried(key, current, base, known.terms, known.is_same_memory(current))
        for key, record in self._new_biases.items():
            bias = record.slot.module._parameters.get("bias")
            if bias is not None and record.terms is not None and not bias.is_meta:
                yield Carried(key, bias.data, torch.zeros_like(bias.data), record.terms, bias is record.bias)

    def _carried(self, key: str, slot: Slot, current: Tensor) -> Patched | None:
        """The record of what is `current` in `slot`."""
        known = self._patched.get(key)
        return known if known is not None and known.slot == slot and known.is_here(current) else None

    def hold(
        self,
        wanted: Mapping[str, tuple[Term, ...]],
        slots: Mapping[str, Slot],
        keep: Keep,
        find_checkpoint: Callable[[], CheckpointFile | None],
    ) -> None:
        """Make each of these parameters its base weight and just these terms; what it is already is left alone.

        `keep`, `find_checkpoint`: see `Patcher`; of originals that are put aside now.
        """
        new = [key for key in wanted if key in slots and key not in self._patched]
        place = self._places.choose(keep, find_checkpoint, [slots[key] for key in new])
        tied = _tied(slots.values(), self._patched.values()) if new else frozenset()

        def put_aside(key: str, slot: Slot) -> Original:
            if id(slot.parameter) in tied:
                return Borrowed(slot.module, slot.attribute, slot.parameter)
            return place.put(key, slot.parameter.data)

        for key, terms in wanted.items():
            if terms[0].target.new_bias_of is not None:
                self._make_bias(key, terms, slots[terms[0].target.new_bias_of])
            else:
                self._patch(key, terms, slots[key], put_aside)

    def _patch(
        self, key: str, terms: tuple[Term, ...], slot: Slot, put_aside: Callable[[str, Slot], Original]
    ) -> None:
        current, books = slot.parameter.data, books_of(slot.root_module)
        known = self._patched.get(key)
        if known is not None and not (known.slot == slot and known.is_here(current)):
            self._undo([key])  # another layer has its name now, or somebody has put another weight there
            known = None
        if known is None:
            original = put_aside(key, slot)
            known = Patched(slot, original, None, StorageWeakRef(current.untyped_storage()), sample(current))
            is_written_over = isinstance(original, Reread) and not is_shared(slot.parameter)
            base, out = current, current if is_written_over else books.memory.like(current)
        else:
            is_right = known.terms == terms and known.is_exact(current)
            known.memory = StorageWeakRef(current.untyped_storage())  # the host may have moved it
            if is_right:
                return
            known.terms = None
            base, out = known.original.base(current), current
        # Entered before anything is written: from here on it can be undone.
        self._patched[key] = known
        books.watch(key, slot.module)
        fold(slot.base(base), terms, out)
        written = sample(out)
        if out is not current:
            known.memory, known.sample = StorageWeakRef(out.untyped_storage()), written
            if isinstance(known.original, Borrowed):
                slot.module._parameters[slot.attribute] = nn.Parameter(out, requires_grad=False)
            else:
                slot.parameter.data = out
        known.terms, known.sample = terms, written

    def _make_bias(self, key: str, terms: tuple[Term, ...], weight: Slot) -> None:
        """Give the module of `weight` a bias, which starts from zero."""
        module, current = weight.module, weight.parameter
        slot = Slot(module, "bias", root=weight.root)
        known = self._new_biases.get(key)
        if known is not None:
            is_there = known.slot == slot and module.bias is not None
            if is_there and known.terms == terms and known.like == current.dtype:
                return
            self._undo([key])  # before the next one is entered: a record knows its own bias only
        base = torch.zeros(terms[0].target.shape, dtype=current.dtype, device=current.device)
        out = torch.empty_like(base)
        fold(base, terms, out)
        bias = nn.Parameter(out, requires_grad=False)
        record = self._new_biases[key] = NewBias(slot, None, current.dtype, bias)
        books_of(slot.root_module).watch(key, module)
        module.bias = bias
        record.terms = terms


def _tied(slots: Iterable[Slot], patched: Iterable[Patched]) -> frozenset[int]:
    """The ids of the Parameters that are those of several layers."""
    lent = {record.slot: id(record.original.shared) for record in patched if isinstance(record.original, Borrowed)}
    owners = Counter(lent.get(slot) or id(slot.parameter) for slot in slots)
    return frozenset(parameter for parameter, count in owners.items() if count > 1)
