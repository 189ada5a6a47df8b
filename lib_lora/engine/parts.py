"""Parts of an addition: the terms of one layer as they count now for some rows, and what adds them to its output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lib_lora.grammar.who import Area

Mask = Callable[[Area, Tensor], Tensor]  # (area, output) -> how much of it each place of the output has


@dataclass(frozen=True)
class Part:
    """One term as it counts now for some rows."""

    number: int  # among the terms that its layer knows
    multiplier: float
    area: Area | None  # whose mask it has; None: all places alike

    @property
    def weighed(self) -> tuple[int, float]:
        """What makes another difference of a weight."""
        return self.number, self.multiplier


class Addition(ABC):
    """Adds terms to outputs of one layer. `parts` are some of its terms, in prompt order."""

    @abstractmethod
    def add(self, layer: Any, x: Tensor, out: Tensor, parts: Sequence[Part], mask: Mask) -> None:
        """`out += ...` for those rows of the layer's input that are in `x`, as their output has them."""

    def forget(self) -> None:
        """Other weights count from now on: what was built for those before is not needed."""
        return


class Sum(Addition):
    """Several of them, each for some of the terms."""

    def __init__(self, additions: Sequence[tuple[frozenset[int], Addition]]) -> None:
        self.additions = additions

    def add(self, layer: Any, x: Tensor, out: Tensor, parts: Sequence[Part], mask: Mask) -> None:
        for numbers, addition in self.additions:
            if some := [part for part in parts if part.number in numbers]:
                addition.add(layer, x, out, some, mask)

    def forget(self) -> None:
        for _, addition in self.additions:
            addition.forget()
