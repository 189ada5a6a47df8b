"""OFT v2: the inputs of a layer turned by a block-diagonal rotation, W_new = W Rᵀ. arXiv:2506.19847.

As PEFT and OneTrainer store it. Stored is the upper triangle of each block's generator Q. R is the Cayley transform
of Q by some terms of a Neumann series: I + 2Q + 2Q² + 2Q³ + Q⁴ for the usual five.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isqrt

import torch
from torch import Tensor

from lib_lora.algorithms.base import Delta, Parts, Shape, precise, require, show
from lib_lora.algorithms.oft import Turns, cayley, turn_once


@dataclass(frozen=True, eq=False)
class Oft2(Delta):
    """delta = W (R - I)ᵀ, block by block; of OneTrainer's convolutions W (R - I)."""

    additive = False

    triangles: Tensor  # (k, n*(n-1)/2), row by row; k = 1 may mean: the same block everywhere
    size: int  # n
    is_scaled: bool  # OneTrainer's "scaled OFT"
    turns_back: bool  # OneTrainer's orientation in convolutions
    terms: int  # of the Neumann series; 0: the whole Cayley transform
    turns: Turns = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_parts(cls, parts: Parts) -> Oft2:
        """`oft_r`, `scaled_oft`. An alpha means nothing here."""
        triangles = parts.take("oft_r")
        require(triangles.dim() == 2 and triangles.numel() > 0, f"its blocks have the shape {show(triangles.shape)}")
        size = (1 + isqrt(1 + 8 * triangles.shape[1])) // 2
        require(size * (size - 1) // 2 == triangles.shape[1], f"{triangles.shape[1]} values are no triangle of a block")
        is_scaled = "scaled_oft" in parts
        parts.take_optional("scaled_oft")
        parts.take_optional("alpha")
        return cls(triangles, size, is_scaled, parts.origin.onetrainer or is_scaled, parts.origin.terms)

    def misfit(self, shape: Shape) -> str | None:
        inputs = torch.Size(shape[1:]).numel() if len(shape) > 1 else 0
        count = self.triangles.shape[0]
        if count * self.size == inputs or (count == 1 and inputs and inputs % self.size == 0):
            return None
        return f"made for {count * self.size} inputs, the model has {show(shape)}"

    def value(self, weight: Tensor) -> Tensor:
        turn = turn_once(self.turns, self._turn, weight)  # (k, n, n)
        columns = weight.reshape(weight.shape[0], -1, self.size).transpose(0, 1)  # (blocks, o, n)
        turned = columns @ (turn if self.turns_back and weight.dim() == 4 else turn.mT)
        return turned.transpose(0, 1).reshape(weight.shape)

    def part(self, begin: int, end: int, total: int) -> Oft2:
        return self

    def _turn(self, weight: Tensor) -> Tensor:
        """R - I."""
        values = precise(self.triangles, weight)
        if self.is_scaled:
            values = values / (2 * (self.size - 1) ** 0.5)
        generator = values.new_zeros(values.shape[0], self.size, self.size)
        row, column = torch.triu_indices(self.size, self.size, 1, device=values.device)
        generator[:, row, column] = values
        generator = generator - generator.mT
        if self.terms == 0:
            return cayley(-generator)  # PEFT's exact one turns the other way than its series
        turn, power = 2 * generator, generator
        for _ in range(max(self.terms - 3, 1)):
            power = power @ generator
            turn = turn + 2 * power
        return turn + power @ generator
