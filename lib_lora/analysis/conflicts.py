"""Several adapters at once: where they pull the same way, where against each other, and what they are together.

    cosine(a, b) = <A, B> / (||A|| ||B||)       together = ||sum of m_i A_i||

over all layers, or over those of a block. What one of them does not change counts as zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from lib_lora.adapters.adapter import Adapter
from lib_lora.analysis.gram import Grams, Layers, Member, Spot
from lib_lora.analysis.measure import Base, Measured, Progress
from lib_lora.keys.blocks import block_of
from lib_lora.model.targets import TargetIndex

Matrix = tuple[tuple[float, ...], ...]
Weigh = Callable[[Spot], float]  # what a tag weighs in a layer


@dataclass(frozen=True)
class Conflicts:
    """Inner products of weighted deltas, by block: all else follows from them."""

    products: dict[str, Matrix] = field(repr=False)  # block -> (n, n)

    @property
    def whole(self) -> Matrix:
        """Over all blocks."""
        return self.over(list(self.products))

    def over(self, blocks: Sequence[str]) -> Matrix:
        """Over some blocks together."""
        matrices = [self.products[block] for block in blocks]
        count = len(matrices[0]) if matrices else 0
        return tuple(tuple(sum(each[a][b] for each in matrices) for b in range(count)) for a in range(count))

    def cosine(self, block: str | None = None) -> Matrix:
        """(n, n): 1 pulls the same way, 0 minds its own, -1 undoes it."""
        return cosine(self.whole if block is None else self.products[block])

    @property
    def together(self) -> float:
        """The norm of the sum."""
        return norm(self.whole)

    @property
    def shares(self) -> tuple[float, ...]:
        """Of each in the squared norm of the sum; they add up to 1, and one that works against it is negative."""
        return shares(self.whole)


def cosine(products: Matrix) -> Matrix:
    """Of vectors with these inner products."""
    norms = [math.sqrt(max(products[each][each], 0.0)) for each in range(len(products))]
    return tuple(
        tuple(products[a][b] / (norms[a] * norms[b]) if norms[a] and norms[b] else 0.0 for b in range(len(norms)))
        for a in range(len(norms))
    )


def norm(products: Matrix) -> float:
    """Of the sum of such vectors."""
    return math.sqrt(max(sum(map(sum, products)), 0.0))


def shares(products: Matrix) -> tuple[float, ...]:
    """Of each in the squared norm of their sum."""
    total = sum(map(sum, products))
    return tuple(sum(row) / total if total else 0.0 for row in products)


def weighed(layers: Layers, weights: Sequence[Weigh]) -> Conflicts:
    """What adapters are at these weights; looks at no tensor of theirs."""
    numbers = torch.tensor([[weigh(spot) for weigh in weights] for spot in layers.spots], dtype=torch.float64)
    by_block: dict[str, list[int]] = {}
    for row, spot in enumerate(layers.spots):
        by_block.setdefault(block_of(spot.path, spot.component) if spot.component else "", []).append(row)
    if not layers.spots:
        return Conflicts({})
    products = layers.products * numbers[:, :, None] * numbers[:, None, :]
    return Conflicts({block: tuple(map(tuple, products[rows].sum(0).tolist())) for block, rows in by_block.items()})


def alone(measured: Measured) -> Conflicts:
    """Of one adapter at weight 1, which was measured: nothing is left to be computed."""
    squared: dict[str, float] = {}
    for layer in measured.layers:
        squared[layer.block] = squared.get(layer.block, 0.0) + (layer.delta or 0.0) ** 2
    return Conflicts({block: ((value,),) for block, value in squared.items()})


def conflicts(
    adapters: Sequence[tuple[Adapter, float]], index: TargetIndex | None, base: Base | None = None, *,
    progress: Progress | None = None,
) -> Conflicts:
    """Of adapters with their multipliers. Deltas that ask for a weight that is not there count as zero."""
    members = [Member(number, partial(_itself, adapter)) for number, (adapter, _) in enumerate(adapters)]
    layers = Grams(index, base).of(members, progress)
    return weighed(layers, [partial(_constant, weight) for _, weight in adapters])


def _itself(adapter: Adapter) -> Adapter:
    return adapter


def _constant(weight: float, _: Spot) -> float:
    return weight
