"""Delta: what an adapter adds to one weight. Every algorithm is one subclass in a file of its own.

Letters, here and in the algorithms: W base weight (o, i[, kh, kw]), r rank, s = alpha / r the scale, m the multiplier that the
user typed. Every delta is linear in m (where libraries disagree, interpolation is the answer that leaves m = 0 untouched):

    W_new = W + m * value(W)

All arithmetic is in float32 or wider whatever the dtype of file and model; the caller casts once, at the end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

Shape = tuple[int, ...]


class Parts:
    """The stored tensors of one module by canonical part name; algorithms *take* what they read, the rest is unknown."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = dict(tensors)
        self.notes: list[str] = []  # decisions that a user should know of

    def __contains__(self, part: str) -> bool:
        return part in self.tensors

    def has(self, *parts: str) -> bool:
        """True if all of `parts` are there."""
        return all(part in self.tensors for part in parts)

    def take(self, part: str) -> Tensor:
        """Remove and return a part that must be there."""
        return self.tensors.pop(part)

    def take_optional(self, part: str) -> Tensor | None:
        """Remove and return a part, or None."""
        return self.tensors.pop(part, None)

    def take_scale(self, rank: int) -> float:
        """s: `scale` if stored, else alpha / rank, else 1; times `scalar` if stored.

        A stored alpha of 0 means alpha = rank, as in the loaders of kohya and LyCORIS.
        """
        alpha, scale, scalar = (self.take_optional(name) for name in ("alpha", "scale", "scalar"))
        factor = 1.0 if scalar is None else number(scalar)
        if scale is not None:
            return number(scale) * factor
        if alpha is None:
            return factor
        if number(alpha) == 0:
            self.notes.append("alpha is 0; taken as alpha = rank, as the trainers do")
            return factor
        return number(alpha) / rank * factor


class Delta(ABC):
    """What one module of an adapter adds to one weight or bias. Immutable; compared by identity."""

    algorithm: ClassVar[str]  # "LoRA", "LoHa", ... as shown to users
    rank: int | None = None
    additive: ClassVar[bool] = True  # value(W) does not depend on W

    @abstractmethod
    def misfit(self, shape: Shape) -> str | None:
        """Why this cannot be added to a weight of `shape` ("320x1024 given"), or None if it can."""

    @abstractmethod
    def value(self, weight: Tensor) -> Tensor:
        """The delta at multiplier 1 for `weight` (float32, any strides), in the weight's shape, dtype and device."""

    def add_to(self, weight: Tensor, multiplier: float) -> None:
        """`weight += multiplier * value(weight)` in place; `weight` is float32, of any strides."""
        weight.add_(self.value(weight), alpha=multiplier)

    def low_rank(self) -> tuple[Tensor, Tensor, float] | None:
        """(up (o, r), down (r, i*k*k), scale) if the delta at multiplier 1 is `scale * up @ down`, else None.

        The tensors are as stored (dtype, device of the file): deltas that can say this are summed over all adapters in
        one matrix product.
        """
        return None

    def truncated(self, rank: int) -> Delta:
        """The same with only the first `rank` ranks (DyLoRA); self where the algorithm does not define it."""
        return self


def number(tensor: Tensor) -> float:
    """A stored scalar, 0-d or of one element, of any dtype."""
    return float(tensor.reshape(-1)[0])


def matrix(tensor: Tensor) -> Tensor:
    """(a, b, ...) -> (a, b*...)."""
    return tensor.reshape(tensor.shape[0], -1)


def like(tensor: Tensor, weight: Tensor) -> Tensor:
    """A stored tensor in the dtype and on the device of the weight that it is for."""
    return tensor.to(device=weight.device, dtype=weight.dtype)


def wrong_shape(given: Shape, shape: Shape) -> str:
    """The sentence part used for a misfit."""
    return f"made for {'x'.join(map(str, given))}, the model has {'x'.join(map(str, shape))}"


def tucker(core: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """(p, q, kh, kw), (p, o), (q, i) -> (o, i, kh, kw)."""
    return torch.einsum("pqhw,po,qi->oihw", core, left, right)
