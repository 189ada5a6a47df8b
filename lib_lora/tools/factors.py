"""A delta as two factors, cut to a rank, to a share of its energy, or to an error of the whole file.

The best approximation of a rank keeps the largest singular values (Eckart and Young). Of a product they are had from
its factors alone: QR of both, then the singular values of a matrix of r x r. Of all others from the squares of the
shorter side. All in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib_lora.algorithms.forms import Factors, Form

FINEST = 1e-12  # of the largest singular value: less is rounding


@dataclass(frozen=True)
class Singular:
    """left @ diag(values) @ right, the largest first; float64."""

    left: Tensor  # (o, n)
    values: Tensor  # (n,)
    right: Tensor  # (n, i)

    @classmethod
    def of(cls, form: Form) -> Singular:
        """All singular values that are not rounding."""
        if isinstance(form, Factors):
            left, up = torch.linalg.qr(form.up.double())
            right, down = torch.linalg.qr(form.down.double().T)
            inner_left, values, inner_right = torch.linalg.svd(up @ down.T * form.scale, full_matrices=False)
            found = cls(left @ inner_left, values, inner_right @ right.T)
        else:
            found = cls._of_matrix(form.dense())
        return found.cut(int((found.values > found.values[:1] * FINEST).sum()))

    @classmethod
    def _of_matrix(cls, matrix: Tensor) -> Singular:
        if matrix.shape[0] > matrix.shape[1]:
            turned = cls._of_matrix(matrix.T)
            return cls(turned.right.T, turned.values, turned.left.T)
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        return cls(left, values, right)

    def cut(self, rank: int) -> Singular:
        """The first `rank` of them."""
        return Singular(self.left[:, :rank], self.values[:rank], self.right[:rank])

    def factors(self) -> tuple[Tensor, Tensor]:
        """`(up, down)`, both of the same size of numbers, so that neither leaves the range of float16."""
        root = self.values.sqrt()
        return self.left * root, root[:, None] * self.right


@dataclass(frozen=True)
class Limit:
    """How much is kept: exactly one of the three."""

    rank: int | None = None  # of each layer, at most
    energy: float | None = None  # share of each layer's squared norm, at least
    error: float | None = None  # ||made - meant|| / ||meant|| over the whole file, at most

    def ranks(self, spectra: Sequence[Tensor]) -> list[int]:
        """The ranks of layers with these singular values; at least 1 where there is anything."""
        if self.rank is not None:
            return [min(self.rank, len(values)) for values in spectra]
        if self.energy is not None:
            return [_for_energy(values, self.energy) for values in spectra]
        assert self.error is not None
        return _for_error(spectra, self.error)


def _for_energy(values: Tensor, share: float) -> int:
    squares = values.square()
    kept = squares.cumsum(0)
    return int((kept < share * squares.sum()).sum()) + 1 if len(values) else 0


def _for_error(spectra: Sequence[Tensor], error: float) -> list[int]:
    """The fewest values in all: the smallest of the whole file go first, as far as the error allows."""
    squares = torch.cat([values.square() for values in spectra]) if spectra else torch.empty(0)
    if not len(squares):
        return [0 for _ in spectra]
    smallest_first = squares.sort().values
    allowed = error**2 * squares.sum()
    dropped = int((smallest_first.cumsum(0) <= allowed).sum())
    threshold = smallest_first[dropped - 1] if dropped else -1.0
    return [max(int((values.square() > threshold).sum()), min(1, len(values))) for values in spectra]
