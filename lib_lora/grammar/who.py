"""For whom and where: rows of a call of the UNet, pictures of a batch, sides of the guidance, passes, areas."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from lib_lora.grammar.number import write_number

Side = Literal["cond", "uncond"]


@dataclass(frozen=True)
class Row:
    """One row of a call of the UNet, or one text that is encoded."""

    image: int  # of the batch, from 0
    side: Side = "cond"


@dataclass(frozen=True)
class Who:
    """The rows that something acts on."""

    images: frozenset[int] | None = None  # None: all
    side: Side | None = None  # None: both

    def includes(self, row: Row) -> bool:
        """True if it acts on `row`."""
        return (self.images is None or row.image in self.images) and self.side in (None, row.side)

    @property
    def is_everyone(self) -> bool:
        """True if there is no row that it does not act on."""
        return self.images is None and self.side is None


EVERYONE = Who()


@dataclass(frozen=True)
class Stage:
    """Which pass of a picture is made, with which model."""

    hires: bool = False
    refiner: bool = False


FIRST_PASS = Stage()


@dataclass(frozen=True)
class Area:
    """A rectangle in shares of the picture: from its left, from its top, its width, its height."""

    x: float
    y: float
    w: float
    h: float
    feather: float = 0.0  # how wide its edge is, in shares of the picture's shorter side

    def __str__(self) -> str:
        numbers: Iterable[float] = (self.x, self.y, self.w, self.h, *([self.feather] if self.feather else []))
        return ",".join(write_number(number) for number in numbers)
