"""Several adapters at once: where they pull the same way, where against each other, and what they are together.

    cosine(a, b) = <A, B> / (||A|| ||B||)       together = ||sum of m_i A_i||

over all layers, or over those of a block. What one of them does not change counts as zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lib_lora.adapters.adapter import Adapter
from lib_lora.algorithms.forms import Form, inner
from lib_lora.analysis.measure import Base, Progress, forms
from lib_lora.keys.blocks import block_of
from lib_lora.model.targets import TargetIndex

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Conflicts:
    """Inner products of weighted deltas, by block: all else follows from them."""

    products: dict[str, Matrix] = field(repr=False)  # block -> (n, n)

    @property
    def whole(self) -> Matrix:
        """Over all blocks."""
        matrices = list(self.products.values())
        count = len(matrices[0]) if matrices else 0
        return tuple(tuple(sum(each[a][b] for each in matrices) for b in range(count)) for a in range(count))

    def cosine(self, block: str | None = None) -> Matrix:
        """(n, n): 1 pulls the same way, 0 minds its own, -1 undoes it."""
        products = self.whole if block is None else self.products[block]
        norms = [math.sqrt(max(products[each][each], 0.0)) for each in range(len(products))]
        return tuple(
            tuple(products[a][b] / (norms[a] * norms[b]) if norms[a] and norms[b] else 0.0 for b in range(len(norms)))
            for a in range(len(norms))
        )

    @property
    def together(self) -> float:
        """The norm of the sum."""
        return math.sqrt(max(sum(map(sum, self.whole)), 0.0))

    @property
    def shares(self) -> tuple[float, ...]:
        """Of each in the squared norm of the sum; they add up to 1, and one that works against it is negative."""
        whole = self.whole
        total = sum(map(sum, whole))
        return tuple(sum(row) / total if total else 0.0 for row in whole)


def conflicts(
    adapters: Sequence[tuple[Adapter, float]], index: TargetIndex | None, base: Base | None = None, *,
    progress: Progress | None = None,
) -> Conflicts:
    """Of adapters with their multipliers. Deltas that ask for a weight that is not there count as zero."""
    modules = [(number, name) for number, (adapter, _) in enumerate(adapters) for name in adapter.modules]
    products: dict[str, list[list[float]]] = {}
    by_place: dict[object, dict[int, list[str]]] = {}
    for number, name in modules:
        choice = index.find_each(name) if index is not None else ()
        target = next(iter(choice[0][0].values()), None) if choice and choice[0] else None
        by_place.setdefault(target.path if target is not None else name, {}).setdefault(number, []).append(name)
    for done, (path, names) in enumerate(by_place.items()):
        found: dict[tuple[str, object], dict[int, list[Form]]] = {}
        block = ""
        for number, of_adapter in names.items():
            for name in of_adapter:
                for part, target, form, _ in forms(name, adapters[number][0].modules[name], index, base):
                    if target is not None:
                        block = block_of(target.path, target.component)
                    if form is not None:
                        key = (part, (target.key, target.rows) if target is not None else path)
                        found.setdefault(key, {}).setdefault(number, []).append(form)
        _add(products.setdefault(block, _zeros(len(adapters))), found, [weight for _, weight in adapters])
        if progress is not None:
            progress(done + 1, len(by_place))
    return Conflicts({block: tuple(map(tuple, rows)) for block, rows in products.items()})


def _add(products: list[list[float]], found: dict[tuple[str, object], dict[int, list[Form]]],
         weights: Sequence[float]) -> None:  # fmt: skip
    for of_place in found.values():
        for a, its in of_place.items():
            for b, others in of_place.items():
                if b < a:
                    continue
                value = sum(inner(one, other) for one in its for other in others) * weights[a] * weights[b]
                products[a][b] += value
                if a != b:
                    products[b][a] += value


def _zeros(count: int) -> list[list[float]]:
    return [[0.0] * count for _ in range(count)]
