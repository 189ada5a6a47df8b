"""Full: the difference itself, as LyCORIS' `full` and extraction tools store it: delta = diff, bias delta = diff_b."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lib_lora.algorithms.base import Delta, Parts, Shape, like, require, wrong_shape


@dataclass(frozen=True, eq=False)
class Full(Delta):
    """A stored difference of a weight or a bias."""

    tensor: Tensor  # as many values as the weight has; (o, ...)
    scale: float = 1.0

    @classmethod
    def from_parts(cls, parts: Parts) -> Full:
        """`diff`. No alpha: one that is stored all the same does not count."""
        parts.take_optional("alpha")
        return cls(parts.take("diff"))

    def __post_init__(self) -> None:
        require(self.tensor.dim() > 0, "its difference is a single number")

    def misfit(self, shape: Shape) -> str | None:
        given = tuple(self.tensor.shape)
        same = self.tensor.numel() == _count(shape) and given[0] == shape[0]
        return None if same else wrong_shape(given, shape)

    def value(self, weight: Tensor) -> Tensor:
        return like(self.tensor, weight).reshape(weight.shape) * self.scale


@dataclass(frozen=True, eq=False)
class FullBias(Full):
    """A stored difference of a bias."""

    @classmethod
    def from_parts(cls, parts: Parts) -> FullBias:
        """`diff_b`, alone or beside any algorithm for the weight."""
        return cls(parts.take("diff_b"))


def _count(shape: Shape) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
