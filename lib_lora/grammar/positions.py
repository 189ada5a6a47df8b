"""Text to curves and windows: `0@0,1@0.5`, `0@s14.6,1@s2`, `start=0.2`; and what of it is read otherwise than typed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lib_lora.grammar.curve import ALWAYS, ENDS, SIGMA, Curve, Weight, Window, simple
from lib_lora.grammar.moment import Unit
from lib_lora.grammar.number import narrow, read_number, write_number
from lib_lora.grammar.scan import shortened

AT = re.compile("[@~]")
NEXT = re.compile("[,;]")
TO = re.compile(r"(?<![eE])-")  # between the steps of `step=5-10`; 1e-05 is a number
MOST_POINTS = 64
END: dict[Unit, float] = {"share": 1.0, "step": 1.0, "sigma": 0.0}  # where a later point without a position stands


class CurveError(ValueError):
    """A text is no curve, or no position; it says what is wrong, as the end of a sentence."""


def is_curve(text: str) -> bool:
    """True if `text` has positions. `0,8` has none: that is a slip of the finger."""
    return bool(AT.search(narrow(text)))


def read_curve(text: str) -> tuple[Weight, tuple[str, ...]]:
    """`(the weight, what of it was taken otherwise than typed, in words)`. Raises CurveError for what cannot be read.

    A later point without a position stands at 1; a first one without makes the whole a constant.
    """
    typed = [point.strip() for point in NEXT.split(narrow(text).rstrip(",; "))]
    if len(typed) > MOST_POINTS:
        raise CurveError(f"has {len(typed)} points; {MOST_POINTS} are allowed")
    points: list[tuple[float | None, float]] = []
    positions: list[str] = []
    for point in typed:
        weight, *places = [part.strip() for part in AT.split(point)]
        number = read_number(weight)
        if number is None or len(places) > 1:
            raise CurveError(f"has the point '{shortened(point)}', which is no weight@position")
        positions += places
        points.append((read_position(places[0]) if places else None, number))
    if points[0][0] is None:
        first = points[0][1]
        always = f"the weight is {write_number(first)} all the time"
        return first, (f"the first point of '{shortened(text)}' has no position: {always}",)
    unit, notes = unit_of(positions)
    loose = [point for point, (place, _) in zip(typed, points, strict=True) if place is None]
    if loose and unit != "share":
        notes += (f"{_listed(loose)} of '{shortened(text)}' has no position and stands at {_write(END[unit], unit)}",)
    placed = tuple((END[unit] if place is None else place, weight) for place, weight in points)
    return simple(Curve(placed, unit)), notes


def read_window(start: str | None, stop: str | None) -> tuple[Window, tuple[str, ...]]:
    """`(active while start <= position < stop, what is odd about it)`; either may be missing. Raises CurveError."""
    given = [each for each in (start, stop) if each]
    if not given:
        return ALWAYS, ()
    unit, notes = unit_of(given)
    ends = (read_position(start) if start else ENDS[unit][0], read_position(stop) if stop else ENDS[unit][1])
    window = Window((ends,), unit)
    if unit == "share" and len(given) == 1 and read_position(given[0]) == 1:
        notes += ("stop=1 is a share, the end: it acts in all steps; for the first step alone write stop=0.001" if stop
                  else "start=1 is a share, the end: it acts in the last step only; from the second step on it is "
                  "start=0.001",)  # fmt: skip
    elif window.is_never:
        notes += (f"from {given[0]} to {given[-1]} there is no step: it never acts",)
    return (ALWAYS if window.is_always else window), notes


def read_range(text: str) -> tuple[str | None, str | None]:
    """`5-10`, `5-` and `-10` as start and stop. Raises CurveError."""
    parts = [part.strip() or None for part in TO.split(text)]
    if len(parts) != 2 or not any(parts):
        raise CurveError("is no range; write step=5-10, from 5 steps made until 10 steps made")
    for part in parts:
        if part:
            read_position(part)
    return parts[0], parts[1]


def read_position(text: str) -> float:
    """0.5, 12, s14.6. Raises CurveError."""
    number = read_number(text[len(SIGMA) :] if text[:1].lower() == SIGMA else text)
    if number is None or number < 0:
        raise CurveError(f"has the position '{shortened(text)}'; write a share such as 0.5, a step such as 12, or "
                         "s14.6 for sigma")  # fmt: skip
    return number


def unit_of(positions: Sequence[str]) -> tuple[Unit, tuple[str, ...]]:
    """The unit of positions as typed, and a sentence part if they are not all of one kind."""
    sigmas = [text[:1].lower() == SIGMA for text in positions]
    if any(sigmas):
        return "sigma", () if all(sigmas) else (f"{_listed(positions)} are all taken as sigma",)
    numbers = [read_position(text) for text in positions]
    if max(numbers, default=0) <= 1:
        return "share", ()
    fractions = [number for number in numbers if 0 < number < 1]
    return "step", (f"{_listed(positions)} are all taken as step numbers",) if fractions else ()


def write_window(window: Window) -> list[str]:
    """The arguments of a tag that read back as `window`."""
    if window == ALWAYS:
        return []
    ((start, stop),) = window.ranges
    first, last = ENDS[window.unit]
    told = (("start", start, first), ("stop", stop, last))
    return [f"{key}={_write(position, window.unit)}" for key, position, usual in told if position != usual]


def _write(position: float, unit: Unit) -> str:
    return (SIGMA if unit == "sigma" else "") + write_number(position)


def _listed(positions: Iterable[str]) -> str:
    return shortened(", ".join(dict.fromkeys(positions)))
