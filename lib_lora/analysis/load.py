"""How far adapters move a model: the change of each block beside the size of the block's own weights.

    load = sqrt(sum over blocks of (||delta|| / ||W||)^2)

so that a large block counts no more than a small one. What an adapter does alone at weight 1 is what it was trained to
do; `times` is the load of a mixture in loads of the strongest of its adapters. Two that have nothing in common reach
1.4 at full weight, three 1.7, and two that do the same 2.0. With the demo model the first shapes are lost at 1.5, and
half of them at 2.5, however many adapters it is (benchmarks/together.py).

Where the model's weights are not known, each output of a layer counts as if it were of length 1, which is what layers
start from; only the proportions between blocks come from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from lib_lora.analysis.conflicts import Conflicts, Matrix, norm
from lib_lora.keys.blocks import block_of
from lib_lora.model.targets import Target, TargetIndex

WORDS = "embedding"  # matrices of words and positions are no layers
Scale = Mapping[str, float]  # block -> the norm of its weights


@dataclass(frozen=True)
class Load:
    """A mixture beside the strongest of its adapters at weight 1."""

    now: float
    strongest: float
    blocks: Mapping[str, float]  # block -> ||delta|| / ||W||
    alone: tuple[float, ...]  # the load of each by itself, as the prompt has it

    @property
    def times(self) -> float:
        """What the mixture does in what one does; 0 where none does anything."""
        return self.now / self.strongest if self.strongest else 0.0


def load_of(mixed: Conflicts, plain: Conflicts, scale: Scale) -> Load:
    """`mixed`: as the prompt weighs them; `plain`: each at weight 1."""
    blocks = {block: norm(products) / _size(scale, block) for block, products in mixed.products.items()}
    ones, alone = _loads(plain.products, scale), _loads(mixed.products, scale)
    return Load(math.hypot(*blocks.values()), max(ones, default=0.0), blocks, alone)


def scale_of(index: TargetIndex, base: Callable[[Target], Tensor | None]) -> dict[str, float]:
    """Of the model whose weights `base` gives, one after the other."""
    squares: dict[str, float] = {}
    for target in layers_of(index):
        weight = base(target)
        if weight is not None:
            block = block_of(target.path, target.component)
            squares[block] = squares.get(block, 0.0) + float(weight.detach().float().square().sum())
    return {block: math.sqrt(square) for block, square in squares.items()}


def usual_scale(index: TargetIndex | None) -> dict[str, float]:
    """Of a model whose weights nobody has."""
    squares: dict[str, float] = {}
    for target in layers_of(index) if index is not None else ():
        block = block_of(target.path, target.component)
        squares[block] = squares.get(block, 0.0) + target.shape[0]
    return {block: math.sqrt(square) for block, square in squares.items()}


def layers_of(index: TargetIndex) -> Iterator[Target]:
    """The weight of every layer once, matrices and convolutions; of packed ones the parts."""
    by_key: dict[str, dict[object, Target]] = {}
    for targets in index.modules.values():
        target = targets.get("weight")
        if target is not None and len(target.shape) > 1 and WORDS not in target.key:
            by_key.setdefault(target.key, {})[target.rows] = target
    for found in by_key.values():
        yield from [target for target in found.values() if target.rows is not None] or found.values()


def _loads(products: Mapping[str, Matrix], scale: Scale) -> tuple[float, ...]:
    count = len(next(iter(products.values()), ()))
    return tuple(math.hypot(*(_root(of[each][each]) / _size(scale, block) for block, of in products.items()))
                 for each in range(count))  # fmt: skip


def _size(scale: Scale, block: str) -> float:
    """Of a block that the model does not have: as large as its largest."""
    return scale.get(block) or max(scale.values(), default=1.0) or 1.0


def _root(square: float) -> float:
    return math.sqrt(max(square, 0.0))
