"""leading(): the largest singular values of a large matrix and their vectors, without all the others.

A block Krylov space (Musco and Musco 2015, arXiv:1504.05477): the span of X, G X, G² X, ... for a random X, where G
holds the squares of the shorter side. In it the largest values settle first. It grows until what they can still miss
is known to be nothing beside what no product of that rank could hold; where that takes too long, there is no answer.

For a Ritz pair (t, v) with the residual r = G v - t v some eigenvalue of G lies within ||r|| of t. So the first k are
at most the sum of t + ||r||, and the error of the best approximation is at least what that leaves.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 32  # columns of X
SETTLED = 1e-6  # of the squared error: what is missed of the best approximation, at most
NOTHING = 1e-13  # of the whole square
SHARE = 8  # times the rank the shorter side is at least; else all values are had in about the same time
LARGEST = 0.5  # of the shorter side: how far the space may grow


def leading(short: Tensor, rank: int) -> tuple[Tensor, Tensor] | None:
    """`(the first values, squared, in falling order, their left vectors)` of (n, m) with n <= m, float64; or None."""
    count = short.shape[0]
    if count < max(SHARE * rank, 4 * BLOCK):
        return None
    whole = float(short.square().sum())
    start = torch.randn(count, BLOCK, generator=torch.Generator().manual_seed(0), dtype=short.dtype)
    block = torch.linalg.qr(start).Q
    space, images = block, short @ (short.T @ block)
    while True:
        if space.shape[1] >= rank + BLOCK:
            values, inner = torch.linalg.eigh(space.T @ images)
            values, inner = values[-rank:].flip(0), inner[:, -rank:].flip(1)
            vectors = space @ inner
            missed = float((images @ inner - vectors * values).norm(dim=0).sum())
            if missed <= max(SETTLED * (whole - float(values.sum())), NOTHING * whole):
                return values.clamp(min=0), vectors
        if space.shape[1] + BLOCK > LARGEST * count:
            return None
        block = images[:, -BLOCK:]
        for _ in range(2):  # once leaves what rounding brings back
            block = torch.linalg.qr(block - space @ (space.T @ block)).Q
        space = torch.cat([space, block], 1)
        images = torch.cat([images, short @ (short.T @ block)], 1)
