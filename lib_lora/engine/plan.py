"""Term and Plan: what every weight shall be at one moment, decided without touching a weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lib_lora.algorithms.base import Delta
from lib_lora.engine.report import AdapterReport
from lib_lora.grammar.who import EVERYONE, Area, Who
from lib_lora.model.targets import Target, TargetIndex

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Term:
    """One delta onto one target. Equal terms give equal weights, so plans can be compared."""

    target: Target
    delta: Delta
    multiplier: float
    dyn: int | None  # ranks to use
    source: str  # the adapter's name, for errors
    who: Who = EVERYONE  # the rows of a call that it acts on
    region: Area | None = None  # the part of the picture that it acts on; None: all of it
    changes: int = field(default=0, compare=False)  # how often the multiplier changes in this pass

    @property
    def meant(self) -> Delta:
        """The delta as far as it is for this target: with the ranks to use, and of its rows those that are meant."""
        delta = self.delta if self.dyn is None else self.delta.truncated(self.dyn)
        part = delta if self.target.piece is None else delta.part(*self.target.piece)
        assert part is not None  # a schedule makes no term that needs the rows that are not there
        return part

    @property
    def is_restricted(self) -> bool:
        """True if it does not act on every row and everywhere: no weight can hold it."""
        return self.region is not None or not self.who.is_everyone

    def weighing(self, multiplier: float) -> Term:
        """The same with another weight."""
        return replace(self, multiplier=multiplier)

    def is_same_but_weight(self, other: Term) -> bool:
        """True if the two differ in nothing but their weights."""
        return (self.delta is other.delta and self.target == other.target and self.dyn == other.dyn
                and self.who == other.who and self.region == other.region)  # fmt: skip

    def for_everyone(self) -> Term:
        """The same without restriction: as one row sees it, or a text encoder, which knows no place."""
        return replace(self, who=EVERYONE, region=None) if self.is_restricted else self


@dataclass(frozen=True)
class Plan:
    """Terms by parameter, in prompt order. A parameter that is not named here shall be its base weight."""

    terms: Mapping[str, tuple[Term, ...]] = field(default_factory=dict, repr=False)
    reports: tuple[AdapterReport, ...] = ()
    # Textual-inversion embeddings that the adapters bring: the word -> {"clip_l", "clip_g" or "text": (vectors, width)}
    embeddings: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict, repr=False)
    index: TargetIndex | None = field(default=None, compare=False, repr=False)  # what it was made for; None: any model
    steps: int = field(default=1, compare=False)  # of the pass: about as often is the UNet called
    # Whose it is, one moment of several: plans of one schedule share the terms that do not change. None: nobody's.
    schedule: object = field(default=None, compare=False, repr=False)
