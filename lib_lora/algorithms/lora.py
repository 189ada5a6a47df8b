"""LoRA, LoCon and everything stored like them (LoRA-FA, DyLoRA, LCM): delta = s * up @ down.

Hu et al. 2021, arXiv:2106.09685; convolutions and the Tucker core `mid` as LyCORIS and kohya sd-scripts store them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lib_lora.algorithms.base import Delta, Parts, Shape, like, matrix, wrong_shape


@dataclass(frozen=True, eq=False)
class Lora(Delta):
    """A product of two thin matrices; a Tucker core is folded into `down` when the file is read."""

    algorithm = "LoRA"

    up: Tensor  # (o, r)
    down: Tensor  # (r, i*kh*kw)
    scale: float
    full_rank: int
    is_conv: bool = False

    @classmethod
    def from_parts(cls, parts: Parts) -> Lora | None:
        """`up`, `down`, optional `mid`, `alpha`; None if this module is not one."""
        if not parts.has("up", "down"):
            return None
        up, down, mid = parts.take("up"), parts.take("down"), parts.take_optional("mid")
        rank = down.shape[0]
        scale = parts.take_scale(rank)
        is_conv = mid is not None or (down.dim() == 4 and down.shape[-1] > 1)
        if mid is not None:
            core = torch.einsum("pqhw,qi->pihw", mid.float(), matrix(down).float())
            return cls(matrix(up), matrix(core), scale, rank, is_conv)
        return cls(matrix(up), matrix(down), scale, rank, is_conv)

    @property
    def rank(self) -> int:  # type: ignore[override]
        """Ranks in use: all of the file's, or fewer after `truncated`."""
        return self.down.shape[0]

    def misfit(self, shape: Shape) -> str | None:
        given = (self.up.shape[0], self.down.shape[1])
        wanted = (shape[0], torch.Size(shape[1:]).numel())
        if self.up.shape[1] != self.down.shape[0]:
            return f"up has rank {self.up.shape[1]}, down has {self.down.shape[0]}"
        return None if given == wanted else wrong_shape(given, wanted)

    def value(self, weight: Tensor) -> Tensor:
        return (like(self.up, weight) * self.scale @ like(self.down, weight)).reshape(weight.shape)

    def low_rank(self) -> tuple[Tensor, Tensor, float]:
        return self.up, self.down, self.scale

    def truncated(self, rank: int) -> Lora:
        return replace(self, up=self.up[:, :rank], down=self.down[:rank])
