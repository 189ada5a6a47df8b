"""Call: what the next call of the UNet holds, as its host has told. It lies on the UNet, for all who add to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lib_lora.grammar.who import Row

if TYPE_CHECKING:
    from torch import Tensor

Size = tuple[int, int]  # height, width


@dataclass
class Call:
    """Changed in place before each call."""

    rows: tuple[Row, ...] = ()  # in order; none: not told
    size: Size | None = None  # of the latent that is denoised, in its own pixels; None: not told
    masks: dict[Any, Tensor] = field(default_factory=dict, compare=False, repr=False)  # of areas, in that size

    def tell(self, rows: Sequence[Row], size: Size | None) -> None:
        """What the next one holds. What is the same as before stays the same object."""
        if tuple(rows) != self.rows:
            self.rows = tuple(rows)
        if size != self.size:
            self.size = size
            self.masks.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> Call:
        copied = memo[id(self)] = Call(self.rows, self.size)
        return copied
