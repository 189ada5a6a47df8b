"""Norm: differences of a norm's weight and bias, as LyCORIS stores them: `w_norm`, `b_norm`."""

from __future__ import annotations

from dataclasses import dataclass

from lib_lora.algorithms.base import Parts
from lib_lora.algorithms.full import Full


@dataclass(frozen=True, eq=False)
class Norm(Full):
    """Of the weight of a LayerNorm or GroupNorm, (c,)."""

    algorithm = "Norm"

    @classmethod
    def from_parts(cls, parts: Parts) -> Norm | None:
        """`w_norm`."""
        return cls(parts.take("w_norm")) if "w_norm" in parts else None


@dataclass(frozen=True, eq=False)
class NormBias(Norm):
    """Of its bias, (c,)."""

    @classmethod
    def from_parts(cls, parts: Parts) -> NormBias | None:
        """`b_norm`."""
        return cls(parts.take("b_norm")) if "b_norm" in parts else None
