"""Form: one layer's delta as its norm, its singular values and its inner product with another are had cheapest.

A product is asked through the Gram matrices of its factors, r x r each, and never multiplied out:

    ||B A||^2 = tr((B'B) (A A'))        <B1 A1, B2 A2> = tr((B1'B2) (A2 A1'))

a Kronecker product through its factors; everything else is built whole, one layer at a time. All in float64. Singular
values come from squares, so that those below 1e-7 of the largest are noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from lib_lora.algorithms.base import Delta, matrix
from lib_lora.algorithms.lokr import Lokr


class Form(Protocol):
    """A delta at multiplier 1, (o, i*kh*kw)."""

    def squared_norm(self) -> float:
        """Of Frobenius."""
        ...

    def squared_values(self) -> Tensor:
        """The squares of the singular values, float64, the largest first; zeros may be missing."""
        ...

    def dense(self) -> Tensor:
        """All of it, float64 (o, i*kh*kw)."""
        ...


Grams = tuple[Tensor, Tensor]  # (r, r) each, of the two factors of a product


@dataclass(frozen=True)
class Factors:
    """scale * up @ down."""

    up: Tensor  # (o, r), as stored
    down: Tensor  # (r, i)
    scale: float

    @cached_property
    def _wide(self) -> tuple[Tensor, Tensor]:
        return wide(self.up), wide(self.down)

    @cached_property
    def grams(self) -> Grams:
        """Of both factors, the scale in the first."""
        up, down = self._wide
        return up.T @ up * self.scale**2, down @ down.T

    def squared_norm(self) -> float:
        """See Form."""
        left, right = self.grams
        return max(float((left * right).sum()), 0.0)

    def squared_values(self) -> Tensor:
        """See Form."""
        return squared_values(*self.grams)

    def inner(self, other: Factors) -> float:
        """<self, other>, without either of them multiplied out."""
        (up, down), (its_up, its_down) = self._wide, other._wide
        return float(((up.T @ its_up) * (down @ its_down.T)).sum()) * self.scale * other.scale

    def dense(self) -> Tensor:
        """See Form."""
        up, down = self._wide
        return up @ down * self.scale


@dataclass(frozen=True)
class Kronecker:
    """scale * left ⊗ right."""

    left: Tensor  # (o1, i1), float64
    right: Tensor  # (o2, i2[, kh, kw])
    scale: float

    def squared_norm(self) -> float:
        """See Form."""
        return square(self.left) * square(self.right) * self.scale**2

    def squared_values(self) -> Tensor:
        """See Form. Exact where there is no kernel; with one, the axes stand in another order and nothing changes."""
        left, right = _squared_values(self.left), _squared_values(matrix(self.right))
        return (torch.outer(left, right).flatten() * self.scale**2).sort(descending=True).values

    def dense(self) -> Tensor:
        """See Form."""
        o1, i1 = self.left.shape
        o2, i2, *kernel = self.right.shape
        blocks = torch.einsum("ab,cdk->acbdk", self.left, self.right.reshape(o2, i2, -1)) * self.scale
        return blocks.reshape(o1 * o2, i1 * i2 * math.prod(kernel))


@dataclass(frozen=True)
class Whole:
    """Every value."""

    tensor: Tensor  # float64 (o, i)

    def squared_norm(self) -> float:
        """See Form."""
        return square(self.tensor)

    def squared_values(self) -> Tensor:
        """See Form."""
        return _squared_values(self.tensor)

    def dense(self) -> Tensor:
        """See Form."""
        return self.tensor


def form_of(delta: Delta, shape: tuple[int, ...] | None, base: Tensor | None = None) -> Form | None:
    """Of `delta` on a weight of `shape`; None if it asks for the weight and `base` is missing, or for its shape."""
    if (product := delta.low_rank()) is not None:
        return Factors(product.up, matrix(product.down), product.scale)
    if isinstance(delta, Lokr):
        finest = torch.empty(0, dtype=torch.float64)
        return Kronecker(matrix(delta.w1.value(finest)), delta.w2.value(finest), delta.scale)
    if shape is None or delta.misfit(shape) is not None or (base is None and not delta.additive):
        return None
    weight = torch.zeros((), dtype=torch.float64).expand(shape) if base is None else wide(base).reshape(shape)
    return Whole(delta.value(weight).reshape(shape[0], -1))


def squared_values(left: Tensor, right: Tensor) -> Tensor:
    """Of products, by the Gram matrices of their factors: one pair, or many of one rank, (n, r, r) each, at once."""
    root = _roots(left)
    return torch.linalg.eigvalsh(root.mT @ right @ root).clamp(min=0).flip(-1)


def inner(one: Form, other: Form) -> float:
    """<one, other>."""
    if isinstance(one, Factors) and isinstance(other, Factors):
        return one.inner(other)
    return float(one.dense().reshape(-1) @ other.dense().reshape(-1))


def wide(tensor: Tensor) -> Tensor:
    """float64; from float16 by way of float32, which is six times faster."""
    return tensor.float().double() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.double()


def square(tensor: Tensor) -> float:
    """The squared norm of Frobenius, without a second tensor as large."""
    flat = tensor.reshape(-1)
    return float(flat @ flat)


def _roots(squares: Tensor) -> Tensor:
    """Matrices whose products with their own transposes these are: by Cholesky, a fifth of the work, where it goes."""
    found, faults = torch.linalg.cholesky_ex(squares)
    odd = faults > 0  # a factor that is not of its full rank, perhaps
    if bool(odd.any()):
        lengths, directions = torch.linalg.eigh(squares[odd])
        found[odd] = directions * lengths.clamp(min=0).sqrt().unsqueeze(-2)
    return found


def _squared_values(tensor: Tensor) -> Tensor:
    short = tensor if tensor.shape[0] <= tensor.shape[1] else tensor.T
    return torch.linalg.eigvalsh(short @ short.T).clamp(min=0).flip(0)
