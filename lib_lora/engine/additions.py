"""What one layer adds to its output: the terms of one of its parameters, each form as cheap as its algorithm allows.

    Factored   all low-rank terms, concatenated once: y += up @ (S * (down @ x)). S has a number for each rank, and all
               that may change while a picture is made (weights, sides, pictures, places) is in it
    Formed     a term whose algorithm has a form on activations (LoKr)
    Whole      any others: the difference that they make to the weight, built for each set of weights
    Vector     the same of a bias

A term that depends on the weight (DoRA, OFT, ...) makes all of its parameter Whole, folded in prompt order.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib_lora.algorithms.base import Form, Product
from lib_lora.engine.fold import fold
from lib_lora.engine.keeping import ROOM, free_memory
from lib_lora.engine.layers import channels_first, convolve, is_convolution, multiplies_channels, through
from lib_lora.engine.plan import Term
from lib_lora.errors import PatchError
from lib_lora.grammar.who import Area
from lib_lora.model.slots import Slot, is_plain

MOST = 1 << 30  # bytes of differences that are kept for the next call, on all layers of a model

Mask = Callable[[Area, Tensor], Tensor]  # (area, output) -> how much of it each place of the output has


@dataclass(frozen=True)
class Part:
    """One term as it counts now for some rows."""

    number: int  # among the terms that its layer knows
    multiplier: float
    area: Area | None  # whose mask it has; None: all places alike

    @property
    def weighed(self) -> tuple[int, float]:
        """What makes another difference of a weight."""
        return self.number, self.multiplier


class Addition(ABC):
    """Adds terms to outputs of one layer. `parts` are some of its terms, in prompt order."""

    @abstractmethod
    def add(self, layer: Any, x: Tensor, out: Tensor, parts: Sequence[Part], mask: Mask) -> None:
        """`out += ...` for those rows of the layer's input that are in `x`, as their output has them."""

    def forget(self) -> None:
        """Other weights count from now on: what was built for those before is not needed."""
        return


class Sum(Addition):
    """Several of them, each for some of the terms."""

    def __init__(self, additions: Sequence[tuple[frozenset[int], Addition]]) -> None:
        self.additions = additions

    def add(self, layer: Any, x: Tensor, out: Tensor, parts: Sequence[Part], mask: Mask) -> None:
        for numbers, addition in self.additions:
            if some := [part for part in parts if part.number in numbers]:
                addition.add(layer, x, out, some, mask)

    def forget(self) -> None:
        for _, addition in self.additions:
            addition.forget()


class Factored(Addition):
    """All low-rank terms of a linear layer or a convolution as one pair of small layers."""

    def __init__(self, slot: Slot, products: dict[int, Product]) -> None:
        self.shape = slot.shape
        self.products = products
        self.scales = {number: product.scale for number, product in products.items()}
        self.spans: dict[int, slice] = {}
        begin = 0
        for number, product in products.items():
            self.spans[number] = slice(begin, begin + product.down.shape[0])
            begin += product.down.shape[0]
        self._made: tuple[Tensor, Tensor] | None = None  # up (o, sum of ranks), down (sum of ranks, i[, kh, kw])
        self._chosen: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._scaled: dict[tuple[tuple[int, float], ...], Tensor] = {}
        self._factors(torch.empty(0, dtype=torch.float32, device=slot.device))  # raises now what it would raise later

    def add(self, layer: Any, x: Tensor, out: Tensor, parts: Sequence[Part], mask: Mask) -> None:
        up, down, alpha = self._weighed(x, parts)
        inner = through(layer)(layer, x, down).to(out.dtype)
        self._mask(layer, inner, out, parts, mask)
        if is_convolution(layer):
            add_through_pixels(layer, out, inner, up, alpha)
        elif out.is_contiguous():
            out.view(-1, up.shape[0]).addmm_(inner.reshape(-1, up.shape[1]), up.t(), alpha=alpha)
        else:
            out.add_(F.linear(inner, up), alpha=alpha)

    def forget(self) -> None:
        self._scaled.clear()

    def _mask(self, layer: Any, inner: Tensor, out: Tensor, parts: Sequence[Part], mask: Mask) -> None:
        """Between the two: there the ranks of each term are apart still, and each place has its own already."""
        begin = 0
        for part in parts:
            end = begin + self.products[part.number].down.shape[0]
            if part.area is not None:
                ranks = inner[:, begin:end] if is_convolution(layer) else inner[..., begin:end]
                ranks.mul_(mask(part.area, out))
            begin = end

    def _weighed(self, x: Tensor, parts: Sequence[Part]) -> tuple[Tensor, Tensor, float]:
        """The factors of `parts`, and a number that both together are multiplied with."""
        up, down = self._choose(tuple(part.number for part in parts), x)
        scales = [self.scales[part.number] * part.multiplier for part in parts]
        if all(scale == scales[0] for scale in scales):
            return up, down, scales[0]
        weighed = tuple(part.weighed for part in parts)
        scaled = self._scaled.get(weighed)
        if scaled is None or scaled.dtype != up.dtype or scaled.device != up.device:
            counts = [self.products[part.number].down.shape[0] for part in parts]
            each = [scale for scale, count in zip(scales, counts, strict=True) for _ in range(count)]
            with torch.inference_mode(False), torch.no_grad():
                numbers = torch.tensor(each, dtype=torch.float32, device="cpu").to(up.device, non_blocking=True)
                scaled = self._scaled[weighed] = (up * numbers).to(up.dtype)
        return scaled, down, 1.0

    def _choose(self, numbers: tuple[int, ...], x: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of some of the terms; where those stand in a row, a part of those of all."""
        up, down = self._factors(x)
        if len(numbers) == len(self.products):
            return up, down
        if (chosen := self._chosen.get(numbers)) is None:
            spans = [self.spans[number] for number in numbers]
            if all(one.stop == other.start for one, other in itertools.pairwise(spans)):
                whole = slice(spans[0].start, spans[-1].stop)
                chosen = up[:, whole], down[whole]
            else:
                with torch.inference_mode(False), torch.no_grad():
                    chosen = torch.cat([up[:, span] for span in spans], 1), torch.cat([down[span] for span in spans])
            self._chosen[numbers] = chosen
        return chosen

    def _factors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """All of them, where `x` is and in its dtype; cast from what the files have, whatever it was last."""
        made = self._made
        if made is None or made[0].device != x.device or made[0].dtype != x.dtype:
            products = list(self.products.values())
            with torch.inference_mode(False), torch.no_grad():
                up = _joined([product.up for product in products], x, 1)
                down = _joined([product.down for product in products], x, 0).reshape(-1, *self.shape[1:])
            made = self._made = up, down
            self._chosen.clear()
            self._scaled.clear()
        return made


def _joined(tensors: Sequence[Tensor], x: Tensor, axis: int) -> Tensor:
    moved = [tensor.to(x.device).to(x.dtype) for tensor in tensors]
    return moved[0] if len(moved) == 1 else torch.cat(moved, axis)


def add_through_pixels(layer: nn.Module, out: Tensor, inner: Tensor, up: Tensor, alpha: float) -> None:
    """`out += alpha * up @ inner` at each pixel."""
    if out.is_contiguous():
        whole = out.view(out.shape[0], out.shape[1], -1)
        whole.baddbmm_(up.expand(len(out), *up.shape), inner.reshape(*inner.shape[:2], -1), alpha=alpha)
    else:
        out.add_(convolve(layer, inner, up.reshape(*up.shape, *[1] * (inner.dim() - 2))), alpha=alpha)


class Formed(Addition):
    """Terms whose algorithm has a form on activations."""

    def __init__(self, slot: Slot, terms: dict[int, Term]) -> None:
        self.shape = slot.shape
        self.terms = terms
        self._forms: dict[int, Form] = {}
        self._near: tuple[torch.device, torch.dtype] | None = None
        self._make(torch.empty(0, dtype=torch.float32, device=slot.device))

    def add(self, layer: Any, x: Tensor, out: Tensor, parts: Sequence[Part], mask: Mask) -> None:
        self._make(x)
        apply = through(layer)
        for part in parts:
            added = self._forms[part.number](x, lambda some, weight: apply(layer, some, weight)).to(out.dtype)
            if part.area is not None:
                added = added * mask(part.area, out)
            out.add_(added, alpha=part.multiplier)

    def _make(self, x: Tensor) -> None:
        if self._near != (x.device, x.dtype):
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(x.device.type, enabled=False):
                for number, term in self.terms.items():
                    form = term.meant.form(self.shape, x)
                    assert form is not None  # it was asked before
                    self._forms[number] = form
            self._near = x.device, x.dtype


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


def addition(slot: Slot, terms: Sequence[Term], room: Room) -> Addition:
    """What adds any of `terms`, which are all of one parameter. Raises PatchError if the numbers are missing for it."""
    numbered = dict(enumerate(terms))
    if slot.attribute == "bias" or terms[0].target.new_bias_of is not None:
        return Vector(slot, numbered)
    if not all(term.delta.additive for term in terms):
        return Whole(slot, numbered, room)
    products: dict[int, Product] = {}
    formed: dict[int, Term] = {}
    whole: dict[int, Term] = {}
    is_simple = multiplies_channels(slot.module)
    for number, term in numbered.items():
        product = term.meant.low_rank() if is_simple and term.target.is_whole else None
        if product is not None:
            products[number] = product
        elif is_simple and term.target.is_whole and has_form(term, slot):
            formed[number] = term
        else:
            whole[number] = term
    additions = [
        (frozenset(some), make())
        for some, make in (
            (products, lambda: Factored(slot, products)),
            (formed, lambda: Formed(slot, formed)),
            (whole, lambda: Whole(slot, whole, room)),
        )
        if some
    ]
    return additions[0][1] if len(additions) == 1 else Sum(additions)


def has_form(term: Term, slot: Slot) -> bool:
    """True if its algorithm has a form on activations."""
    nothing = torch.empty(0, dtype=torch.float32, device=slot.device)
    return term.meant.form(slot.shape, nothing) is not None


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

