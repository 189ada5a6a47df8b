"""LoHa: delta = s * (w1a @ w1b) ⊙ (w2a @ w2b), or with Tucker cores. FedPara, arXiv:2108.06098, as LyCORIS has it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lib_lora.algorithms.base import (
    Delta,
    Parts,
    Shape,
    like,
    require,
    require_core,
    require_rank,
    row_slices,
    tucker,
    wrong_shape,
)


@dataclass(frozen=True, eq=False)
class Loha(Delta):
    """An elementwise product of two low-rank products. With cores the `a` factors are stored transposed: (r, o)."""

    w1_a: Tensor  # (o, r); (r, o) with cores
    w1_b: Tensor  # (r, i*kh*kw); (r, i) with cores
    w2_a: Tensor
    w2_b: Tensor
    cores: tuple[Tensor, Tensor] | None  # (r, r, kh, kw) each
    scale: float

    @classmethod
    def from_parts(cls, parts: Parts) -> Loha:
        """`hada_w1_a … hada_w2_b`, both of `hada_t1`, `hada_t2` or none, `alpha`."""
        w1_a, w1_b, w2_a, w2_b = map(parts.take_matrix, ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"))
        require(w1_a.shape == w2_a.shape and w1_b.shape == w2_b.shape, "its two products have different shapes")
        cores = None
        if "hada_t1" in parts or "hada_t2" in parts:
            require(parts.has("hada_t1", "hada_t2"), "incomplete: one of its two cores is missing")
            cores = parts.take("hada_t1"), parts.take("hada_t2")
            for core in cores:
                require_core(core, w1_a.shape[0], w1_b.shape[0])
            require(cores[0].shape == cores[1].shape, "its two cores have different shapes")
        else:
            require_rank(w1_a, w1_b)
        return cls(w1_a, w1_b, w2_a, w2_b, cores, parts.take_scale(w1_b.shape[0]))

    @property
    def rank(self) -> int:  # type: ignore[override]
        return self.w1_b.shape[0]

    def misfit(self, shape: Shape) -> str | None:
        if self.cores is None:
            given: Shape = (self.w1_a.shape[0], self.w1_b.shape[1])
            wanted: Shape = (shape[0], torch.Size(shape[1:]).numel())
        else:
            given, wanted = (self.w1_a.shape[1], self.w1_b.shape[1], *self.cores[0].shape[2:]), shape
        return None if given == wanted else wrong_shape(given, wanted)

    def value(self, weight: Tensor) -> Tensor:
        left, right = self._factors(weight)
        return left.mul_(self.scale).mul_(right)

    def add_to(self, weight: Tensor, multiplier: float) -> None:
        self.write(weight, multiplier, weight)

    def write(self, base: Tensor, multiplier: float, out: Tensor) -> None:
        """In slices of some rows, whose products are still in the cache when they are multiplied."""
        if base.dtype != out.dtype:
            out.copy_(base)
            base = out
        if self.cores is not None:
            left, right = self._factors(out)
            torch.addcmul(base, left, right, value=self.scale * multiplier, out=out)
            return
        w1_a, w1_b, w2_a, w2_b = (like(factor, out) for factor in (self.w1_a, self.w1_b, self.w2_a, self.w2_b))
        slices = row_slices(out)
        size = (2, slices[0].stop, w1_b.shape[1])
        products = out.new_empty(size)  # had once: memory new in every slice takes as long again
        for some in slices:
            left, right = products[:, : some.stop - some.start]
            torch.mm(w1_a[some], w1_b, out=left)
            torch.mm(w2_a[some], w2_b, out=right)
            shape = out[some].shape
            scale = self.scale * multiplier
            torch.addcmul(base[some], left.reshape(shape), right.reshape(shape), value=scale, out=out[some])

    def _factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        w1_a, w1_b, w2_a, w2_b = (like(factor, weight) for factor in (self.w1_a, self.w1_b, self.w2_a, self.w2_b))
        if self.cores is None:
            return (w1_a @ w1_b).reshape(weight.shape), (w2_a @ w2_b).reshape(weight.shape)
        return tucker(like(self.cores[0], weight), w1_a, w1_b), tucker(like(self.cores[1], weight), w2_a, w2_b)
