"""leading(): the largest eigenvalues of a large matrix of squares and their vectors, without all the others.

A block Krylov space (Musco and Musco 2015, arXiv:1504.05477): the span of X, G X, G² X, ... for a random X. In it the
largest values settle first. It grows until what they can still miss is known to be nothing beside what no product of
that rank could hold; where that takes too long, there is no answer.

For a Ritz pair (t, v) with the residual r = G v - t v some eigenvalue of G lies within ||r|| of t. So the first k are
at most the sum of t + ||r||; and where the next one is known to lie a gap below, at most the sum of t + ||r||² / gap
(Kato and Temple). What that leaves of the whole is the least error that any product of rank k can have.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 32  # columns of X
SETTLED = 1e-9  # of the squared error: what is missed of the best approximation, at most
NOTHING = 1e-13  # of the whole square
SMALLEST, SHARE = 768, 8  # rows, and times the rank: below that all values are had in about the same time
LARGEST = 0.5  # of the rows: how far the space may grow


def leading(squares: Tensor, rank: int) -> tuple[Tensor, Tensor] | None:
    """`(the first values, in falling order, their vectors)` of A A' in float64, or None."""
    count = len(squares)
    if count < max(SHARE * rank, SMALLEST):
        return None
    whole = float(squares.trace())
    start = torch.randn(count, BLOCK, generator=torch.Generator().manual_seed(0), dtype=squares.dtype)
    block = torch.linalg.qr(start).Q
    space, images = block, squares @ block
    while True:
        if space.shape[1] >= rank + BLOCK:
            values, inner = (each.flip(-1) for each in torch.linalg.eigh(space.T @ images))
            values, inner = values[: rank + 1], inner[:, : rank + 1]
            vectors = space @ inner
            residuals = (images @ inner - vectors * values).norm(dim=0)
            error = whole - float(values[:rank].sum())
            if _missed(values, residuals) <= max(SETTLED * error, NOTHING * whole):
                return values[:rank].clamp(min=0), vectors[:, :rank]
        if space.shape[1] + BLOCK > LARGEST * count:
            return None
        block = images[:, -BLOCK:]
        for _ in range(2):  # once leaves what rounding brings back
            block = torch.linalg.qr(block - space @ (space.T @ block)).Q
        space = torch.cat([space, block], 1)
        images = torch.cat([images, squares @ block], 1)


def _missed(values: Tensor, residuals: Tensor) -> float:
    """By how much the first values are too small at most, all together; the last of them is the one after these."""
    gap = float(values[-2] - values[-1] - residuals[-1])
    first = residuals[:-1]
    return float(first.sum()) if gap <= 0 else min(float(first.sum()), float(first.square().sum()) / gap)
