"""Curve, Window and Strength: what a weight is at each moment of a picture.

    0@0,1@0.5,0@1      a curve: weight@position, linear between, flat outside
    start=0.2 stop=0.8  a window: active while start <= position < stop; a stop of 1 includes the last step

The unit of the positions belongs to the whole curve or window: sigma if one of them is written `s14.6`, else shares if
the largest is at most 1, else step numbers.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lib_lora.grammar.moment import Moment, Unit
from lib_lora.grammar.number import narrow, read_number, write_number

AT = re.compile("[@~]")
NEXT = re.compile("[,;]")
SIGMA = "s"  # before a position
MOST_POINTS = 64


@dataclass(frozen=True)
class Curve:
    """A weight over time. One point is a constant."""

    points: tuple[tuple[float, float], ...]  # (position, weight), by position
    unit: Unit = "share"

    def at(self, moment: Moment) -> float:
        """The weight then."""
        return self.at_position(moment.position(self.unit))

    def at_position(self, position: float) -> float:
        """The weight there; of two points at one place the later counts from there on."""
        before = self.points[0]
        if position < before[0]:
            return before[1]
        for after in self.points[1:]:
            if position < after[0]:
                share = (position - before[0]) / (after[0] - before[0])
                return before[1] + share * (after[1] - before[1])
            before = after
        return before[1]

    @property
    def first(self) -> float:
        """What it begins with: text encoders run before there is any step."""
        return self.points[-1 if self.unit == "sigma" else 0][1]

    @property
    def constant(self) -> float | None:
        """Its weight if that never changes, else None."""
        return self.points[0][1] if all(weight == self.points[0][1] for _, weight in self.points) else None

    def __str__(self) -> str:
        sign = SIGMA if self.unit == "sigma" else ""
        text = ",".join(f"{write_number(weight)}@{sign}{write_number(position)}" for position, weight in self.points)
        return text

    def __neg__(self) -> Curve:
        return Curve(tuple((position, -weight) for position, weight in self.points), self.unit)


Weight = float | Curve  # a curve that never changes is written as its number


@dataclass(frozen=True)
class Window:
    """When something is active. Several ranges: in any of them; none: never."""

    ranges: tuple[tuple[float, float], ...]  # (start, stop): start <= position < stop
    unit: Unit = "share"

    def holds(self, moment: Moment) -> bool:
        """True if it is active then."""
        position = moment.position(self.unit)
        if self.unit == "step":
            position += moment.part
        if self.unit == "sigma":  # which falls: from the start's noise down to the stop's
            return any(start >= position > stop for start, stop in self.ranges)
        end = math.inf if self.unit == "share" and position == 1 else None  # the last step is within a stop of 1
        return any(start <= position and (position < stop or (end is not None and stop >= 1))
                   for start, stop in self.ranges)  # fmt: skip

    @property
    def is_always(self) -> bool:
        """True if there is no moment at which it is not active."""
        first, last = (math.inf, 0.0) if self.unit == "sigma" else (0.0, 1.0 if self.unit == "share" else math.inf)
        if self.unit == "sigma":
            return any(start == first and stop <= last for start, stop in self.ranges)
        return any(start <= first and stop >= last for start, stop in self.ranges)


ALWAYS = Window(((0.0, 1.0),))


@dataclass(frozen=True)
class Product:
    """Curves that are multiplied, while all of the windows hold."""

    curves: tuple[Curve, ...] = ()
    windows: tuple[Window, ...] = ()
    factor: float = 1.0

    def at(self, moment: Moment) -> float:
        """The weight then."""
        if not all(window.holds(moment) for window in self.windows):
            return 0.0
        return math.prod((curve.at(moment) for curve in self.curves), start=self.factor)

    @property
    def constant(self) -> float | None:
        """Its weight if that never changes, else None."""
        if self.factor == 0 or any(curve.constant == 0 for curve in self.curves):
            return 0.0
        constants = [curve.constant for curve in self.curves]
        if not all(window.is_always for window in self.windows) or None in constants:
            return None
        return math.prod((each for each in constants if each is not None), start=self.factor)

    @property
    def beginning(self) -> Product:
        """The same with the first value of each curve for all time; the windows stay."""
        return Product((), self.windows, math.prod((curve.first for curve in self.curves), start=self.factor))


@dataclass(frozen=True)
class Strength:
    """A sum of products: one file named twice adds up, each time with its own curve and window."""

    products: tuple[Product, ...]

    def at(self, moment: Moment) -> float:
        """The weight then."""
        return sum(product.at(moment) for product in self.products)

    @property
    def constant(self) -> float | None:
        """Its weight if that never changes, else None."""
        constants = [product.constant for product in self.products]
        return None if None in constants else sum(each for each in constants if each is not None)

    def __add__(self, other: Strength) -> Strength:
        return Strength((*self.products, *other.products))

    def changes(self, steps: int) -> int:
        """How often another weight is needed within a pass of so many steps; by sigma, at most."""
        if self.constant is not None:
            return 0
        values = [self.at(Moment(step, steps)) for step in range(steps)]
        if self._counts_sigma:
            is_curved = any(curve.unit == "sigma" for product in self.products for curve in product.curves)
            return steps if is_curved else 2 * len(self.products)
        return sum(before != after for before, after in itertools.pairwise(values))

    @property
    def _counts_sigma(self) -> bool:
        units = {curve.unit for product in self.products for curve in product.curves}
        return "sigma" in units | {window.unit for product in self.products for window in product.windows}


def as_curve(weight: Weight) -> Curve:
    """A number as the curve that it is."""
    return weight if isinstance(weight, Curve) else Curve(((0.0, weight),))


def simple(curve: Curve) -> Weight:
    """A number, if the curve never changes."""
    constant = curve.constant
    return curve if constant is None else constant


def first(weight: Weight) -> float:
    """What a weight begins with."""
    return weight.first if isinstance(weight, Curve) else weight


def write_weight(weight: Weight) -> str:
    """As it stands in a tag."""
    return str(weight) if isinstance(weight, Curve) else write_number(weight)


class CurveError(ValueError):
    """A text is no curve; it says which part of it is what is wrong."""


def is_curve(text: str) -> bool:
    """True if `text` has positions. `0,8` has none: that is a slip of the finger."""
    return bool(AT.search(narrow(text)))


def read_curve(text: str) -> tuple[Weight, tuple[str, ...]]:
    """`(the weight, what of it was taken otherwise than typed, in words)`. Raises CurveError for what cannot be read.

    A later point without a position stands at the end; a first one without makes the whole a constant.
    """
    typed = [point.strip() for point in NEXT.split(narrow(text).rstrip(",;"))]
    if len(typed) > MOST_POINTS:
        raise CurveError(f"has {len(typed)} points; {MOST_POINTS} are allowed")
    points: list[tuple[float | None, float]] = []
    positions: list[str] = []
    for point in typed:
        weight, *places = [part.strip() for part in AT.split(point)]
        number = read_number(weight)
        if number is None or len(places) > 1:
            raise CurveError(f"has the point '{point}', which is no weight@position")
        positions += places
        points.append((read_position(places[0]) if places else None, number))
    if points[0][0] is None:
        first = points[0][1]
        told = f"the first point of '{text}' has no position, so that the weight is {write_number(first)} all the time"
        return first, (told,) if len(points) > 1 else ()
    unit, notes = unit_of(positions)
    end = 0.0 if unit == "sigma" else max(1.0, *(place for place, _ in points if place is not None))
    placed = [(end if place is None else place, weight) for place, weight in points]
    return simple(Curve(tuple(sorted(placed, key=lambda point: point[0])), unit)), notes


def read_position(text: str) -> float:
    """0.5, 12, s14.6. Raises CurveError."""
    number = read_number(text[len(SIGMA) :] if text[:1].lower() == SIGMA else text)
    if number is None or number < 0:
        raise CurveError(f"has the position '{text}'; write a share such as 0.5, a step such as 12, or s14.6 for sigma")
    return number


def unit_of(positions: Sequence[str]) -> tuple[Unit, tuple[str, ...]]:
    """The unit of positions as typed, and a sentence part if they are not all of one kind."""
    sigmas = [text[:1].lower() == SIGMA for text in positions]
    if any(sigmas):
        return "sigma", () if all(sigmas) else (f"{_listed(positions)} are all taken as sigma",)
    numbers = [read_position(text) for text in positions]
    if max(numbers, default=0) <= 1:
        return "share", ()
    fractions = [text for text, number in zip(positions, numbers, strict=True) if 0 < number < 1]
    return "step", (f"{_listed(positions)} are all taken as step numbers",) if fractions else ()


def _listed(positions: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(positions))
