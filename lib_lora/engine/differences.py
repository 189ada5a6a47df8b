"""Terms as the difference that they make to a weight or to a bias, built for each set of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lib_lora.engine.fold import fold
from lib_lora.engine.keeping import ROOM, free_memory
from lib_lora.engine.layers import channels_first, through
from lib_lora.engine.parts import Addition, Mask, Part
from lib_lora.engine.plan import Term
from lib_lora.errors import PatchError
from lib_lora.model.slots import Slot, is_plain

MOST = 1 << 30  # bytes of differences that are kept for the next call, on all layers of a model


class Room:
    """How much memory differences of weights may take that are kept for the next call."""

    def __init__(self) -> None:
        self._left: int | None = None

    def take(self, size: int, device: torch.device) -> bool:
        """True if there is so much left."""
        if self._left is None:
            free = free_memory(device)
            self._left = MOST if free is None else min(MOST, (free - ROOM) // 2)
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        """What was taken."""
        if self._left is not None:
            self._left += size

    def __deepcopy__(self, memo: dict[int, Any]) -> Room:
        copied = memo[id(self)] = Room()
        return copied


@dataclass(eq=False)
class Whole(Addition):
    """Deltas of any kind: the difference that they make to the weight."""

    slot: Slot
    terms: dict[int, Term]
    room: Room
    _kept: dict[tuple[tuple[int, float], ...], Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.is_sum = all(term.delta.additive for term in self.terms.values())
        for term in self.terms.values():
            if not term.delta.additive:
                numbers(self.slot, term.source)  # raises now what it would raise in the middle of a picture

    def add(self, layer: Any, x: Tensor, out: Tensor, parts: Sequence[Part], mask: Mask) -> None:
        everywhere = [part for part in parts if part.area is None]
        if everywhere:
            out.add_(self._of(layer, x, everywhere).to(out.dtype))
        for area in dict.fromkeys(part.area for part in parts if part.area is not None):
            # One that needs the weight needs it as those left it that act everywhere.
            some = [part for part in parts if part.area == area or (part.area is None and not self.is_sum)]
            added = self._of(layer, x, some, without=[] if self.is_sum else everywhere)
            out.add_(added.to(out.dtype) * mask(area, out))

    def _of(self, layer: Any, x: Tensor, parts: Sequence[Part], without: Sequence[Part] = ()) -> Tensor:
        difference = self._difference(parts, x.device)
        if without:
            difference = difference - self._difference(without, x.device)
        return through(layer)(layer, x, difference.to(x.dtype) if x.is_floating_point() else difference)

    def forget(self) -> None:
        for difference in self._kept.values():
            self.room.give_back(difference.nbytes)
        self._kept.clear()

    def _difference(self, parts: Sequence[Part], device: torch.device) -> Tensor:
        weighed = tuple(part.weighed for part in parts)
        known = self._kept.get(weighed)
        if known is not None and known.device == device:
            return known
        terms = [_weighed(self.terms[part.number], part.multiplier) for part in parts]
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
            difference = self._build(terms, device)
        if known is None and self.room.take(difference.nbytes, device):
            self._kept[weighed] = difference
        return difference

    def _build(self, terms: Sequence[Term], device: torch.device) -> Tensor:
        if self.is_sum:
            nothing = torch.zeros(self.slot.shape, dtype=torch.float32, device=device)
            fold(nothing, terms, nothing)
            return nothing
        base = numbers(self.slot, terms[0].source).to(device)
        changed = torch.empty_like(base)
        fold(base, terms, changed)
        return changed.sub_(base)


@dataclass(eq=False)
class Vector(Addition):
    """What is added to a bias, the layer's own or none."""

    slot: Slot
    terms: dict[int, Term]
    _kept: dict[tuple[tuple[int, float], ...], Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        first = next(iter(self.terms.values()))
        self.is_own = self.slot.attribute == "bias"
        self.is_sum = not self.is_own or all(term.delta.additive for term in self.terms.values())
        self.shape = first.target.shape
        self._vector([Part(number, term.multiplier, None) for number, term in self.terms.items()], self.slot.device)

    def add(self, layer: Any, x: Tensor, out: Tensor, parts: Sequence[Part], mask: Mask) -> None:
        shape = [-1, *[1] * (out.dim() - 2)] if channels_first(layer) else [-1]
        everywhere = [part for part in parts if part.area is None]
        if everywhere:
            out.add_(self._vector(everywhere, out.device).reshape(shape).to(out.dtype))
        for area in dict.fromkeys(part.area for part in parts if part.area is not None):
            some = [part for part in parts if part.area == area or (part.area is None and not self.is_sum)]
            vector = self._vector(some, out.device)
            if everywhere and not self.is_sum:
                vector = vector - self._vector(everywhere, out.device)
            out.add_(vector.reshape(shape).to(out.dtype) * mask(area, out))

    def forget(self) -> None:
        self._kept.clear()

    def _vector(self, parts: Sequence[Part], device: torch.device) -> Tensor:
        weighed = tuple(part.weighed for part in parts)
        known = self._kept.get(weighed)
        if known is None:
            terms = [_weighed(self.terms[part.number], part.multiplier) for part in parts]
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
                known = self._kept[weighed] = self._build(terms)
        if known.device != device:
            known = self._kept[weighed] = known.to(device)
        return known

    def _build(self, terms: Sequence[Term]) -> Tensor:
        nothing = torch.zeros(self.shape, dtype=torch.float32, device=self.slot.device)
        base = nothing if self.is_sum else numbers(self.slot, terms[0].source)
        changed = torch.empty_like(base)
        fold(base, terms, changed)
        return changed - base


def numbers(slot: Slot, source: str) -> Tensor:
    """The base weight in float32, whatever it is stored as. Raises PatchError on behalf of the adapter `source`."""
    parameter = slot.elsewhere if slot.parameter.is_meta else slot.parameter
    if parameter is None:
        raise PatchError(
            f"{source}: needs the numbers of the base weights, and those are offloaded; use an adapter that is plain "
            "LoRA, or load the model without offloading", source)  # fmt: skip
    if is_plain(parameter):
        return slot.base(parameter.detach()).float()
    try:
        return parameter.dequantize().detach().float().reshape(slot.shape)
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        kind = type(parameter).__name__
        needs = f"{source}: needs the numbers of the base weights, and those are quantised ({kind})"
        raise PatchError(f"{needs}; use an adapter that is plain LoRA, or a checkpoint that is not", source) from error


def _weighed(term: Term, multiplier: float) -> Term:
    return term if term.multiplier == multiplier else term.weighing(multiplier)
