"""Curve, Window and Strength: what a weight is at each moment of a picture.

    0@0,1@0.5,0@1      a curve: weight@position, linear between, flat outside
    start=0.2 stop=0.8  a window: active while start <= position < stop; a stop of 1 includes the last step

The unit of the positions belongs to the whole curve or window: sigma if one of them is written `s14.6`, else shares if
the largest is at most 1, else step numbers.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from lib_lora.grammar.moment import Moment, Unit
from lib_lora.grammar.number import write_number

SIGMA = "s"  # before a position


@dataclass(frozen=True)
class Curve:
    """A weight over time. One point is a constant."""

    points: tuple[tuple[float, float], ...]  # (position, weight), as time goes on: sigma falls
    unit: Unit = "share"

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(sorted(self.points, key=lambda point: self._time(point[0]))))

    def at(self, moment: Moment) -> float:
        """The weight then."""
        return self.at_position(moment.position(self.unit))

    def at_position(self, position: float) -> float:
        """The weight there; of two points at one place the later counts from there on."""
        time, before = self._time(position), self.points[0]
        if time < self._time(before[0]):
            return before[1]
        for after in self.points[1:]:
            if time < self._time(after[0]):
                share = (position - before[0]) / (after[0] - before[0])
                return before[1] + share * (after[1] - before[1])
            before = after
        return before[1]

    def _time(self, position: float) -> float:
        return -position if self.unit == "sigma" else position

    @property
    def first(self) -> float:
        """What it begins with: text encoders run before there is any step."""
        return self.points[0][1]

    @property
    def constant(self) -> float | None:
        """Its weight if that never changes, else None."""
        return self.points[0][1] if all(weight == self.points[0][1] for _, weight in self.points) else None

    def __str__(self) -> str:
        sign = SIGMA if self.unit == "sigma" else ""
        return ",".join(f"{write_number(weight)}@{sign}{write_number(position)}" for position, weight in self.points)


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
        is_end = self.unit == "share" and position == 1  # the last step is within a stop of 1
        return any(start <= position and (position < stop or (is_end and stop >= 1)) for start, stop in self.ranges)

    @property
    def is_always(self) -> bool:
        """True if there is no moment at which it is not active."""
        first, last = ENDS[self.unit]
        if self.unit == "sigma":
            return any(start == first and stop <= last for start, stop in self.ranges)
        return any(start <= first and stop >= last for start, stop in self.ranges)

    @property
    def is_never(self) -> bool:
        """True if there is no moment at which it is active."""
        if self.unit == "sigma":
            return all(start <= stop for start, stop in self.ranges)
        is_end = self.unit == "share"
        return all(start >= stop and not (is_end and start <= 1 <= stop) for start, stop in self.ranges)


ALWAYS = Window(((0.0, 1.0),))
ENDS: dict[Unit, tuple[float, float]] = {  # where time starts and ends
    "share": (0.0, 1.0), "step": (0.0, math.inf), "sigma": (math.inf, 0.0),
}  # fmt: skip


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
        if (self.factor == 0 or any(curve.constant == 0 for curve in self.curves)
                or any(window.is_never for window in self.windows)):  # fmt: skip
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
        if self._counts_sigma:
            is_curved = any(curve.unit == "sigma" for product in self.products for curve in product.curves)
            return steps if is_curved else 2 * len(self.products)
        values = [self.at(Moment(step, steps)) for step in range(steps)]
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
