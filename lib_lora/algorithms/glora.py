"""GLoRA: delta = s * (W @ a1 @ a2 + b1 @ b2). arXiv:2306.07967, as LyCORIS 3 stores it; before, 1 and 2 swapped."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lib_lora.algorithms.base import Delta, Parts, Shape, like, matrix, require, require_core, tucker, wrong_shape


@dataclass(frozen=True, eq=False)
class Glora(Delta):
    """Some of what the weight does, and a low-rank product. `W @ a` contracts the input channels."""

    additive = False

    a1: Tensor  # (i, r)
    a2: Tensor  # (r, i)
    b1: Tensor  # (o, r)
    b2: Tensor  # (r, i*kh*kw); (r, i) with a core
    scale: float
    core: Tensor | None = None  # (r, r, kh, kw)

    @classmethod
    def from_parts(cls, parts: Parts) -> Glora:
        """`a1`, `a2`, `b1`, `b2`, `alpha`; which generation it is, the shapes tell."""
        a1, a2, b1, b2 = (parts.take_matrix(name) for name in ("a1", "a2", "b1", "b2"))
        core = parts.take_optional("bm")
        is_new = a1.shape[1] == a2.shape[0] == b1.shape[1] == b2.shape[0] and a1.shape[0] == a2.shape[1]
        is_old = a1.shape[0] == a2.shape[1] == b1.shape[0] == b2.shape[1] and a1.shape[1] == a2.shape[0]
        require(is_new or is_old, "its factors a1, a2, b1, b2 do not fit each other")
        if is_old and not (
            is_new and a1.shape[1] <= a1.shape[0]
        ):  # both only for square layers: the rank is the smaller side
            a1, a2, b1, b2 = a2, a1, b2, b1
        rank = a1.shape[1]
        if core is not None:
            require_core(core, rank, rank)
        scale = parts.take_scale(rank, root=parts.origin.rs_lora)
        return cls(a1, a2, b1, b2, scale, core)

    @property
    def rank(self) -> int:  # type: ignore[override]
        return self.a1.shape[1]

    def misfit(self, shape: Shape) -> str | None:
        kernel = () if self.core is None else tuple(self.core.shape[2:])
        given = (self.b1.shape[0], self.a1.shape[0], self.b2.shape[1] * torch.Size(kernel).numel())
        wanted = (*(*shape, 0)[:2], torch.Size(shape[1:]).numel())
        return None if given == wanted else wrong_shape(given[:2], shape)

    def value(self, weight: Tensor) -> Tensor:
        a1, a2, b1, b2 = (like(factor, weight) for factor in (self.a1, self.a2, self.b1, self.b2))
        through = (weight.movedim(1, -1) @ a1 @ a2).movedim(-1, 1)
        if self.core is not None:
            return (through + tucker(like(self.core, weight), b1.T, b2).reshape(weight.shape)) * self.scale
        return torch.addmm(matrix(through), b1, b2).reshape(weight.shape) * self.scale

    def part(self, begin: int, end: int, total: int) -> Glora:
        return replace(self, b1=self.b1[begin:end])
