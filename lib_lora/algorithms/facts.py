"""What one line of the table of algorithms says: a form to fill in, and the measures that can be taken of a module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]  # {part: shape} of one module
Measure = Callable[[Shapes], "int | None"]  # None where the parts do not tell
When = Callable[[str, Shapes], bool]


def nothing(shapes: Shapes) -> None:
    """Of an algorithm that has no such number, or whose files do not tell it."""


def always(module: str, shapes: Shapes) -> bool:
    return True


@dataclass(frozen=True, eq=False)
class Algorithm:
    """What is known of an algorithm without torch, and where its class is.

    Part names are the canonical ones. An algorithm reads `parts` and the COMMON ones; it is one if all parts of one of
    the sets in `needs` are there, and `when` agrees.

    >>> Algorithm("Spread", "spread.Spread", needs=(("spread",),), parts=same("spread"), products=(("spread",),))
    """

    label: str  # what users see; empty for what adds nothing to the name of a module
    home: str  # "loha.Loha": the file in this room and the class in it
    needs: tuple[tuple[str, ...], ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)  # {as files spell it, without the module: canonical name}
    when: When = always  # of the module's name and shapes, which have all parts of one set; asked of weights only
    named: frozenset[str] = frozenset()  # beginnings of spellings behind which PEFT may put the adapter's name
    rank: Measure = nothing
    inputs: Measure = nothing  # input features of the module's weight
    whole: frozenset[str] = frozenset()  # parts that may hold whole numbers
    products: tuple[tuple[str, ...], ...] = ()  # what is added is their sum: each is nothing if one of its parts is 0
    acting: frozenset[str] = frozenset()  # parts that change a weight whatever the others are
    covers: str = ""  # a label that need not be told beside this one


@dataclass(frozen=True)
class Refused:
    """Parts of an algorithm that is known by name only: their module is refused, not misread."""

    why: str
    parts: tuple[str, ...]
    is_ending: bool = True  # a key that ends like this is such a part; False: it is found by what stands beside it
    is_peft: bool = False  # PEFT may put its adapter's name behind them


def same(*parts: str) -> dict[str, str]:
    """Parts that files spell as we do."""
    return {part: part for part in parts}


def size(*parts: str, axis: int) -> Measure:
    """The length of the first of `parts` that is a matrix or more."""

    def measure(shapes: Shapes) -> int | None:
        for part in parts:
            if len(shape := shapes.get(part, ())) > 1:
                return shape[axis]
        return None

    return measure


def shorter(part: str) -> Measure:
    """Of the first two axes."""
    return lambda shapes: min(shapes[part][:2]) if len(shapes.get(part, ())) > 1 else None


def longer(part: str) -> Measure:
    """Of the first two axes."""
    return lambda shapes: max(shapes[part][:2]) if len(shapes.get(part, ())) > 1 else None


def product(one: Measure, other: Measure) -> Measure:
    """Of two numbers that are both told."""

    def measure(shapes: Shapes) -> int | None:
        left, right = one(shapes), other(shapes)
        return None if left is None or right is None else left * right

    return measure
