"""Moment: where a picture is while it is made; and the three ways in which a text can name a place on that way.

    share    of the steps that this pass really makes: step i of n, counted from 0, is at i / (n - 1)
    step     how many steps were made before
    sigma    how much noise there is: it falls, and means the same for every sampler, schedule and number of steps

Steps are the sampler's, not calls of the UNet: a second-order sampler calls it twice in one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Unit = Literal["share", "step", "sigma"]
USUAL_STEPS = 20  # of a pass, where nobody has told how many it makes


@dataclass(frozen=True)
class Moment:
    """Said by the host before each call of the UNet."""

    step: int  # of this pass, from 0
    steps: int  # that this pass makes
    sigma: float = math.nan  # not a number where nobody knows it: then what counts by sigma is at its beginning
    part: float = 0.0  # of the step, that is made: a second call of the UNet within it is at 0.5; for prompt editing

    def position(self, unit: Unit) -> float:
        """Where this is, in `unit`; it grows as time goes on for share and step, and falls for sigma."""
        if unit == "sigma":
            return math.inf if math.isnan(self.sigma) else self.sigma
        if unit == "step":
            return float(self.step)
        return min(self.step / (self.steps - 1), 1.0) if self.steps > 1 else 0.0


START = Moment(0, 1)


@dataclass(frozen=True)
class Calls:
    """How calls of the UNet make up the steps of a sampler."""

    each: int = 1  # in a step: 2 of a second-order sampler, whose last step may have one
    extra: int = 0  # in the first step, beside those: PLMS makes it twice

    def place(self, call: int) -> tuple[int, float]:
        """`(the step, how much of it is made)` before the call of that number, from 0."""
        first = self.each + self.extra
        if call < first:
            return 0, call / first
        step, part = divmod(call - self.extra, self.each)
        return step, part / self.each

    def count(self, steps: int) -> int:
        """In so many steps, at most."""
        return steps * self.each + self.extra


ONE_A_STEP = Calls()
