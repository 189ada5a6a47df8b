"""T-LoRA: delta = s * (P diag(λ) Q - what it started from). arXiv:2507.05964, as LyCORIS 4 stores it.

It starts from singular vectors of the weight that it was trained on, and the file does not hold them. They are taken
from the weight at hand: exact on the checkpoint that it was trained on, near it on a close relative.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lib_lora.algorithms.base import Delta, Parts, Shape, like, matrix, precise, require, require_rank, wrong_shape
from lib_lora.algorithms.started import singular_part

NOTE = "T-LoRA is exact only on the checkpoint that it was trained on: its file leaves out where it started from"
STARTS = ("principal", "last", "middle")  # singular values: the largest, the smallest, those in the middle


@dataclass(frozen=True, eq=False)
class Tlora(Delta):
    """A low-rank product minus the low-rank product that training started from."""

    additive = False

    up: Tensor  # (o, r)
    values: Tensor  # (r,)
    down: Tensor  # (r, i)
    scale: float
    start: str

    @classmethod
    def from_parts(cls, parts: Parts) -> Tlora:
        """`p_layer`, `lambda_layer`, `q_layer`, `alpha`."""
        up, down, values = (
            parts.take_matrix("p_layer"),
            parts.take_matrix("q_layer"),
            parts.take("lambda_layer").flatten(),
        )
        require_rank(up, down)
        require(values.shape[0] == down.shape[0], f"has {values.shape[0]} singular values for rank {down.shape[0]}")
        require(parts.origin.singular in STARTS, "T-LoRA that started from random values, which its file leaves out")
        parts.notes.append(NOTE)
        return cls(up, values, down, parts.take_scale(down.shape[0]), parts.origin.singular)

    @property
    def rank(self) -> int:  # type: ignore[override]
        return self.down.shape[0]

    def misfit(self, shape: Shape) -> str | None:
        given, wanted = (self.up.shape[0], self.down.shape[1]), (shape[0], torch.Size(shape[1:]).numel())
        return None if given == wanted and len(shape) > 1 else wrong_shape(given, wanted)

    def value(self, weight: Tensor) -> Tensor:
        trained = like(self.up, weight) * like(self.values, weight) @ like(self.down, weight)
        started = singular_part(precise(matrix(weight), weight), self.rank, self.start)
        return (trained - like(started, weight)).reshape(weight.shape) * self.scale
