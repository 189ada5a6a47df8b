"""A sparse residual beside LoRA factors, as older LyCORIS extraction writes it: delta = s * (up @ down + S).

`bias_indices` (2, n), `bias_values` (n,), `bias_size`: the name says bias, but it is some entries of the weight's
difference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lib_lora.algorithms.base import Delta, Parts, Shape, Wrapper, like, require, wrong_shape

NAMES = ("bias_indices", "bias_values", "bias_size")


@dataclass(frozen=True, eq=False)
class Residual(Wrapper):
    """The wrapped delta, and single entries."""

    indices: Tensor  # (dimensions, n)
    values: Tensor  # (n,)
    size: Shape  # (o, i*kh*kw)
    scale: float

    @classmethod
    def wrap(cls, inner: Delta, parts: Parts) -> Delta:
        """All three parts; `inner` where the file has them beside what has no scale."""
        if parts.scale is None:
            return inner
        indices, values, size = (parts.take(name) for name in NAMES)
        shape = tuple(int(number) for number in size.flatten()[:8])
        indices = indices.long()
        fits = indices.dim() == 2 and indices.shape == (len(shape), values.numel()) and min(shape, default=0) > 0
        require(fits, "its sparse residual contradicts itself")
        limits = torch.tensor(shape, device="cpu")[:, None]
        require(
            bool(((indices >= 0) & (indices < limits)).all()), "its sparse residual has entries outside of the weight"
        )
        return cls(inner, indices, values.flatten(), shape, parts.scale)

    def misfit(self, shape: Shape) -> str | None:
        if torch.Size(self.size).numel() != torch.Size(shape).numel():
            return wrong_shape(self.size, shape)
        return self.inner.misfit(shape)

    def value(self, weight: Tensor) -> Tensor:
        entries = torch.zeros(self.size, dtype=weight.dtype, device=weight.device)
        entries[tuple(self.indices.to(weight.device))] = like(self.values, weight) * self.scale
        return self.inner.value(weight) + entries.reshape(weight.shape)

    def truncated(self, rank: int) -> Residual:
        return replace(self, inner=self.inner.truncated(rank))
