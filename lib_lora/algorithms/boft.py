"""BOFT: block rotations of the outputs with butterflies between them. arXiv:2311.06243, as LyCORIS stores it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lib_lora.algorithms.base import Delta, Parts, Shape, precise, require, show
from lib_lora.algorithms.oft import (
    Turns,
    cayley,
    misfit_outputs,
    rescaled,
    skew,
    take_constraint,
    take_rescale,
    turn_once,
)

MAX_STAGES = 24  # more would need layers of more outputs than exist


@dataclass(frozen=True, eq=False)
class Boft(Delta):
    """delta = rescale ⊙ (stage after stage of W) - W. Interpolated as a whole by the multiplier, not stage by stage."""

    additive = False

    blocks: Tensor  # (stages, k, b, b), b even, k * b = o
    constraint: float | None
    rescale: Tensor | None  # (o,)
    turns: Turns = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_parts(cls, parts: Parts) -> Boft:
        """`oft_blocks` of four dimensions, `alpha`, `rescale`."""
        blocks = parts.take("oft_blocks")
        stages, count, size, width = blocks.shape
        require(
            size == width and size % 2 == 0 and blocks.numel() > 0, f"its blocks have the shape {show(blocks.shape)}"
        )
        require(
            stages <= MAX_STAGES and count * size % (size << (stages - 1)) == 0,
            f"{stages} stages are too many for {count * size} outputs",
        )
        return cls(blocks, take_constraint(parts, count * size), take_rescale(parts))

    def misfit(self, shape: Shape) -> str | None:
        return misfit_outputs(self.blocks.shape[1] * self.blocks.shape[2], self.rescale, shape)

    def value(self, weight: Tensor) -> Tensor:
        stages, count, size, _ = self.blocks.shape
        turns = turn_once(self.turns, self._turns, weight)
        start = weight.reshape(weight.shape[0], -1)
        delta = torch.zeros_like(start)
        for stage in range(stages):
            wing = (size // 2) << stage
            rows = (start + delta).reshape(-1, 2, wing, start.shape[1]).transpose(1, 2)
            added = torch.bmm(turns[stage], rows.reshape(count, size, -1))
            delta += added.reshape(-1, wing, 2, start.shape[1]).transpose(1, 2).reshape(delta.shape)
        delta = delta.reshape(weight.shape)
        return delta if self.rescale is None else rescaled(delta, weight, self.rescale)

    def _turns(self, weight: Tensor) -> Tensor:
        """R - I of every stage."""
        return cayley(skew(precise(self.blocks, weight), self.constraint))
