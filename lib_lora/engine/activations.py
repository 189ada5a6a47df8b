"""Terms that act on what goes through a layer: no weight is built for them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib_lora.algorithms.base import Form, Product
from lib_lora.engine.layers import convolve, is_convolution, through
from lib_lora.engine.parts import Addition, Mask, Part
from lib_lora.engine.plan import Term
from lib_lora.model.slots import Slot


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


def has_form(term: Term, slot: Slot) -> bool:
    """True if its algorithm has a form on activations."""
    nothing = torch.empty(0, dtype=torch.float32, device=slot.device)
    return term.meant.form(slot.shape, nothing) is not None
