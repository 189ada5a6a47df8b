"""A delta as two factors, cut to a rank, to a share of its energy, or to an error of the whole file.

The best approximation of a rank keeps the largest singular values (Eckart and Young). Of a product they are had from
its factors alone: the triangles of a QR of both, then a matrix of r x r; of a Kronecker product from those of its two
factors; of all others from the squares of the shorter side, where what is below 1e-7 of the largest is noise. All in
float64; nothing is estimated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib_lora.algorithms.base import matrix
from lib_lora.algorithms.forms import Factors, Form, Kronecker, wide
from lib_lora.tools.leading import leading

FINEST = 1e-12  # of the largest singular value of a product: less is rounding
FINEST_SQUARED = 1e-14  # of the largest of a matrix's squares


@dataclass(frozen=True)
class Singular:
    """Singular values, and what their vectors are made of: value j times vector j is a column of `left @ own_left`,
    and a row of `own_right @ right`. An outer matrix that is None is the identity."""

    values: Tensor  # (n,) float64, the largest first
    left: Tensor | None  # (o, a)
    own_left: Tensor  # (a, n)
    own_right: Tensor  # (n, b)
    right: Tensor | None  # (b, i)

    @classmethod
    def of(cls, form: Form, rank: int | None = None) -> Singular:
        """All singular values that are not rounding, or the first `rank` of them at least."""
        if isinstance(form, Factors):
            up, down = wide(form.up) * form.scale, wide(form.down)
            tall, broad = torch.linalg.qr(up, mode="r").R, torch.linalg.qr(down.T, mode="r").R
            left, values, right = torch.linalg.svd(tall @ broad.T, full_matrices=False)
            product = cls(values, up, broad.T @ right.T, left.T @ tall, down)
            return product.cut(int((values > values[:1] * FINEST).sum()))
        if isinstance(form, Kronecker):
            return cls._of_kronecker(form, rank)
        whole = form.dense()
        is_tall = whole.shape[0] > whole.shape[1]
        short = whole.T if is_tall else whole
        gram = short @ short.T
        found = leading(gram, rank) if rank else None
        squares, vectors = found or (each.flip(-1) for each in torch.linalg.eigh(gram))
        kept = int((squares > squares[:1] * FINEST_SQUARED).sum())
        values, vectors = squares[:kept].sqrt(), vectors[:, :kept]
        if is_tall:
            return cls(values, whole, vectors, (vectors * values).T, None)
        return cls(values, None, vectors * values, vectors.T, whole)

    @classmethod
    def _of_kronecker(cls, form: Kronecker, rank: int | None) -> Singular:
        """Every value is one of the left times one of the right, and so are the vectors."""
        left, ours, its_right = torch.linalg.svd(form.left, full_matrices=False)
        right, theirs, its_left = torch.linalg.svd(matrix(form.right), full_matrices=False)
        values, order = (torch.outer(ours, theirs).flatten() * abs(form.scale)).sort(descending=True)
        count = int((values > values[:1] * FINEST).sum())
        values, order = values[:count][:rank], order[:count][:rank]
        a, b = order // len(theirs), order % len(theirs)
        columns = torch.einsum("in,jn->ijn", left[:, a], right[:, b]).flatten(0, 1) * math.copysign(1.0, form.scale)
        rows = torch.einsum("ni,nj->nij", its_right[a], its_left[b]).flatten(1)
        return cls(values, None, columns * values, rows * values[:, None], None)

    @staticmethod
    def values_of(form: Form) -> Tensor:
        """The values alone, in less time."""
        if isinstance(form, Factors | Kronecker):
            return Singular.of(form).values
        whole = form.dense()
        short = whole.T if whole.shape[0] > whole.shape[1] else whole
        squares = torch.linalg.eigvalsh(short @ short.T).flip(0)
        return squares[squares > squares[:1] * FINEST_SQUARED].sqrt()

    def cut(self, rank: int) -> Singular:
        """The first `rank` of them."""
        return Singular(self.values[:rank], self.left, self.own_left[:, :rank], self.own_right[:rank], self.right)

    def factors(self) -> tuple[Tensor, Tensor]:
        """`(up, down)`, both of the same size of numbers, so that neither leaves the range of float16."""
        root = self.values.sqrt()
        up, down = self.own_left / root, self.own_right / root[:, None]
        return up if self.left is None else self.left @ up, down if self.right is None else down @ self.right


def completed(form: Form, up: Tensor, down: Tensor) -> Tensor:
    """The second factor that comes nearest to `form` beside a first that was rounded; `down` if that cannot be told."""
    lengths = up.norm(dim=0).clamp(min=torch.finfo(up.dtype).tiny)
    even = up / lengths  # nearly at right angles: solved without loss
    solver, fault = torch.linalg.cholesky_ex(even.T @ even)
    if int(fault):
        return down
    if isinstance(form, Factors):
        beside = (even.T @ wide(form.up) * form.scale) @ wide(form.down)
    else:
        beside = even.T @ form.dense()
    return torch.cholesky_solve(beside, solver) / lengths[:, None]


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
