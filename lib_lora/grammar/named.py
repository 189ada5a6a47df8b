"""named_moment(): a moment as somebody names it, for what has no steps of its own: `0.5`, `12`, `s7.2`.

A share alone says nothing of steps, and a step alone nothing of shares: with the number of steps each says both, as
it is a step that is really made. Noise says nothing of the two, and they nothing of noise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from lib_lora.grammar.curve import SIGMA
from lib_lora.grammar.moment import Moment, Unit
from lib_lora.grammar.number import write_number
from lib_lora.grammar.positions import CurveError, read_position

FINE = 1_000_000  # the steps of a way that is known by its shares only, at most
ASKS: dict[Unit, str] = {  # what a name must have for those who count in it
    "share": "shares of the steps: name a share such as 0.5, or say how many steps there are",
    "step": "steps: name one such as 12, or say how many steps there are",
    "sigma": "sigma: name the noise, such as s7.2",
}


@dataclass(frozen=True)
class Named:
    """A moment, and in which units it says where it is."""

    moment: Moment
    units: frozenset[Unit]
    text: str
    steps: int | None = None  # of the picture, if it was said

    def require(self, units: Iterable[Unit]) -> None:
        """Raises CurveError if one of `units` is none that it says anything of."""
        for unit in ASKS:
            if unit in set(units) - self.units:
                raise CurveError(f"counts in {ASKS[unit]}; {self.text} says nothing of it")


def named_moment(text: str, steps: int | None = None) -> Named:
    """`text` as a position is typed in a curve; `steps`: of the pass. Raises CurveError."""
    position = read_position(text)
    if text[:1].lower() == SIGMA:
        return Named(Moment(0, 1, position), frozenset({"sigma"}), text)
    if position <= 1:
        if steps is None:
            share = Fraction(position).limit_denominator(FINE)  # a half is a step of two, which are soon gone through
            return Named(Moment(share.numerator, share.denominator + 1), frozenset({"share"}), text)
        return Named(Moment(round(position * (steps - 1)), steps), frozenset({"share", "step"}), text, steps)
    step = int(position)
    if step != position:
        raise CurveError(f"is no step: {write_number(position)} is no whole number")
    if steps is None:
        return Named(Moment(step, step + 1), frozenset({"step"}), text)
    if step >= steps:
        raise CurveError(f"is no step: of {steps} the last is {steps - 1}")
    return Named(Moment(step, steps), frozenset({"share", "step"}), text, steps)
