"""LoRA, LoCon and everything stored like them (LoRA-FA, DyLoRA, LCM): delta = s * up @ down.

Hu et al. 2021, arXiv:2106.09685; convolutions and the Tucker core `mid` as LyCORIS and kohya sd-scripts store them; the
bias as PEFT's `lora_bias` trains it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from lib_lora.algorithms.base import Delta, Parts, Product, Shape, like, matrix, require_core, require_rank, wrong_shape
from lib_lora.algorithms.full import Full


@dataclass(frozen=True, eq=False)
class Lora(Delta):
    """A product of two thin matrices; a Tucker core counts as part of the second."""

    up: Tensor  # (o, r)
    down: Tensor  # (r, i*kh*kw); (q, i) with a core
    scale: float
    core: Tensor | None = None  # (r, q, kh, kw)

    @classmethod
    def from_parts(cls, parts: Parts) -> Lora:
        """`up`, `down`, optional `mid`, `alpha`."""
        up, down, core = parts.take_matrix("up"), parts.take_matrix("down"), parts.take_optional("mid")
        if core is None:
            require_rank(up, down)
        else:
            require_core(core, up.shape[1], down.shape[0])
        return cls(up, down, parts.take_scale(down.shape[0]), core)

    @property
    def rank(self) -> int:  # type: ignore[override]
        """Ranks in use: all of the file's, or fewer after `truncated`."""
        return self.down.shape[0]

    def misfit(self, shape: Shape) -> str | None:
        if self.core is not None:
            given: Shape = (self.up.shape[0], self.down.shape[1], *self.core.shape[2:])
            return None if given == shape else wrong_shape(given, shape)
        given = (self.up.shape[0], self.down.shape[1])
        wanted = (shape[0], torch.Size(shape[1:]).numel())
        return None if given == wanted and len(shape) > 1 else wrong_shape(given, wanted)

    def value(self, weight: Tensor) -> Tensor:
        return (like(self.up, weight) * self.scale @ like(self._inner, weight)).reshape(weight.shape)

    def low_rank(self) -> Product:
        return Product(self.up, self._inner, self.scale)

    def truncated(self, rank: int) -> Lora:
        """A core mixes the ranks, so that the first of them mean nothing alone: it is left as it is."""
        return self if self.core is not None else replace(self, up=self.up[:, :rank], down=self.down[:rank])

    def part(self, begin: int, end: int, total: int) -> Lora:
        return replace(self, up=self.up[begin:end])

    @cached_property  # not when the file is read: only a layer that fits says how large the product may be
    def _inner(self) -> Tensor:  # (r, i*kh*kw)
        if self.core is None:
            return self.down
        return matrix(torch.einsum("pqhw,qi->pihw", self.core.double(), self.down.double()).float())


@dataclass(frozen=True, eq=False)
class Locon(Lora):
    """The same of a convolution larger than 1 x 1."""


@dataclass(frozen=True, eq=False)
class LoraBias(Full):
    """What PEFT's `lora_bias` adds to the module's bias: s * lora_B.bias."""

    @classmethod
    def from_parts(cls, parts: Parts) -> LoraBias:
        """`lora_bias`; comes after the factors, whose scale it has."""
        assert parts.scale is not None
        return cls(parts.take("lora_bias"), parts.scale)
