"""Norm: differences of a norm's weight and bias, as LyCORIS stores them: `w_norm`, `b_norm`."""

from __future__ import annotations

from dataclasses import dataclass

from lib_lora.algorithms.base import Parts
from lib_lora.algorithms.full import Full


@dataclass(frozen=True, eq=False)
class Norm(Full):
    """Of the weight of a LayerNorm or GroupNorm, (c,)."""

    @classmethod
    def from_parts(cls, parts: Parts) -> Norm:
        """`w_norm`."""
        return cls(parts.take("w_norm"))


@dataclass(frozen=True, eq=False)
class NormBias(Norm):
    """Of its bias, (c,)."""

    @classmethod
    def from_parts(cls, parts: Parts) -> NormBias:
        """`b_norm`."""
        return cls(parts.take("b_norm"))
