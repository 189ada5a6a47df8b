"""LoKr: delta = s * w1 ⊗ w2, each factor full or low-rank. KronA, arXiv:2212.10650, as LyCORIS (2309.14859) has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lib_lora.algorithms.base import (
    Delta,
    Form,
    Parts,
    Shape,
    like,
    matrix,
    require,
    require_core,
    require_rank,
    show,
    tucker,
    wrong_shape,
)


@dataclass(frozen=True, eq=False)
class Factor:
    """One side of the Kronecker product: a full tensor, a product a @ b, or a Tucker product."""

    full: Tensor | None  # (o, i[, kh, kw])
    a: Tensor | None = None  # (o, r); (r, o) with a core
    b: Tensor | None = None  # (r, i[*kh*kw]); (r, i) with a core
    core: Tensor | None = None  # (r, r, kh, kw)

    @classmethod
    def from_parts(cls, parts: Parts, name: str) -> Factor:
        """`lokr_w1` or `lokr_w1_a` + `lokr_w1_b` [+ `lokr_t1`], and the same for `w2`."""
        if name in parts:
            full = parts.take(name)
            require(full.dim() >= 2 and full.numel() > 0, f"{name} has the shape {show(full.shape)}")
            return cls(full)
        core = parts.take_optional(name.replace("w", "t"))
        a, b = parts.take_matrix(f"{name}_a"), parts.take_matrix(f"{name}_b")
        if core is None:
            require_rank(a, b)
        else:
            require_core(core, a.shape[0], b.shape[0])
        return cls(None, a, b, core)

    @property
    def rank(self) -> int | None:
        """None for a full factor."""
        return None if self.b is None else self.b.shape[0]

    def matrix_shape(self) -> tuple[int, int]:
        """(o, i*kh*kw)."""
        if self.full is not None:
            return self.full.shape[0], matrix(self.full).shape[1]
        assert self.a is not None and self.b is not None
        if self.core is None:
            return self.a.shape[0], self.b.shape[1]
        return self.a.shape[1], self.b.shape[1] * self.core[0, 0].numel()

    def value(self, weight: Tensor) -> Tensor:
        """The factor in float32 on the device of `weight`, at least 2-D."""
        if self.full is not None:
            return like(self.full, weight)
        assert self.a is not None and self.b is not None
        if self.core is None:
            return like(self.a, weight) @ like(self.b, weight)
        return tucker(like(self.core, weight), like(self.a, weight), like(self.b, weight))


@dataclass(frozen=True, eq=False)
class Lokr(Delta):
    """A Kronecker product: entry (a*o2 + c, b*i2 + d, h, w) is w1[a, b] * w2[c, d, h, w]; w1 is the outer factor."""

    w1: Factor  # (o1, i1)
    w2: Factor  # (o2, i2[, kh, kw])
    scale: float

    @classmethod
    def from_parts(cls, parts: Parts) -> Lokr:
        """With both factors stored whole, alpha is only what was configured and does not count (s = 1)."""
        w1, w2 = Factor.from_parts(parts, "lokr_w1"), Factor.from_parts(parts, "lokr_w2")
        require(w1.core is None or w1.core[0, 0].numel() == 1, "its outer factor has a kernel")
        return cls(w1, w2, parts.take_scale(w1.rank or w2.rank))

    @property
    def rank(self) -> int | None:  # type: ignore[override]
        return self.w1.rank or self.w2.rank

    def misfit(self, shape: Shape) -> str | None:
        (o1, i1), (o2, i2) = self.w1.matrix_shape(), self.w2.matrix_shape()
        given, wanted = (o1 * o2, i1 * i2), (shape[0], torch.Size(shape[1:]).numel())
        kernel = self.w2.core.shape[2:] if self.w2.core is not None else shape[2:]
        same = given == wanted and len(shape) > 1 and shape[1] % i1 == 0 and tuple(kernel) == tuple(shape[2:])
        return None if same else wrong_shape(given, wanted)

    def value(self, weight: Tensor) -> Tensor:
        delta = torch.zeros(weight.shape, dtype=weight.dtype, device=weight.device)
        self.add_to(delta, 1.0)
        return delta

    def add_to(self, weight: Tensor, multiplier: float) -> None:
        (o1, i1), (o2, _) = self.w1.matrix_shape(), self.w2.matrix_shape()
        w1, w2 = self.w1.value(weight), self.w2.value(weight)
        kernel = weight.shape[2:]
        blocks = weight.unflatten(0, (o1, o2)).unflatten(2, (i1, -1))  # a view: (o1, o2, i1, i2, kh, kw)
        tail = (1,) * len(kernel)
        blocks.addcmul_(
            w1.reshape(o1, 1, i1, 1, *tail), w2.reshape(1, o2, 1, -1, *kernel), value=self.scale * multiplier
        )

    def form(self, shape: Shape, near: Tensor) -> Form:
        """(w1 ⊗ w2) x: w2 on each of i1 pieces of x, then w1 on the pieces."""
        (o1, i1), (o2, _) = self.w1.matrix_shape(), self.w2.matrix_shape()
        wide = near.new_empty((), dtype=torch.float32)
        outer = (self.w1.value(wide).reshape(o1, i1) * self.scale).to(near.dtype)
        inner = self.w2.value(wide).reshape(o2, -1, *shape[2:]).to(near.dtype)

        def of_linear(x: Tensor, apply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
            return (outer @ apply(x.unflatten(-1, (i1, -1)), inner)).flatten(-2)

        def of_convolution(x: Tensor, apply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
            pieces = apply(x.unflatten(1, (i1, -1)).flatten(0, 1), inner)  # (batch * i1, o2, height, width)
            mixed = outer @ pieces.reshape(-1, i1, pieces[0].numel())
            return mixed.reshape(-1, o1 * o2, *pieces.shape[2:])

        return of_convolution if len(shape) > 2 else of_linear
