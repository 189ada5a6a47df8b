"""Wanted: what a page asks to be compared: read from what it sent, written down beside the pictures, made a grid."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lib_lora.compare.grid import Grid, Settings, make_grid
from lib_lora.compare.subject import Subject
from lib_lora.errors import LoraError
from lib_lora.library import Library

MOST_CELLS = 2000
MOST_LETTERS = 50_000  # of all prompts together
LONGEST = 400  # letters of a weight
STEPS, SIDES, MULTIPLE = range(1, 151), range(64, 2049), 8


@dataclass(frozen=True)
class Wanted:
    """A grid in words. None and empty: what suits the model."""

    adapters: tuple[str, ...]  # what tags call them
    weights: tuple[str, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    negative: str = ""
    steps: int | None = None
    size: tuple[int, int] | None = None  # width, height
    checkpoints: tuple[str, ...] = ()  # empty: the one that is loaded

    @property
    def id(self) -> str:
        """The same for the same: a comparison that was ended is found again, and goes on."""
        return hashlib.sha256(self.to_json().encode("utf-8", "replace")).hexdigest()[:12]

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    def grid(self, library: Library, subjects: Sequence[Subject], *, is_plan: bool = False) -> Grid:
        """Raises LoraError for what cannot be compared, and for more than a page should draw."""
        settings = Settings(self.negative, steps=self.steps, size=self.size)
        made = make_grid(library, subjects=subjects, weights=self.weights, prompts=self.prompts, seeds=self.seeds,
                         settings=settings, checkpoints=self.checkpoints, is_plan=is_plan)  # fmt: skip
        count = len(made.subjects) * len(made.weights) * len(made.prompts) * len(made.seeds) * len(made.checkpoints)
        if count > MOST_CELLS:
            raise LoraError(f"{count:,} cells are more than {MOST_CELLS:,}, which a page shows at a time; the command "
                            "'compare' draws as many as you like")  # fmt: skip
        return made


def read_wanted(given: Mapping[str, Any], adapters: Sequence[str]) -> Wanted:
    """What a page sent, or what was written down; of these adapters. Raises LoraError."""
    prompts = tuple(filter(None, (each.strip() for each in _texts(given, "prompts"))))
    if sum(map(len, prompts)) > MOST_LETTERS:
        raise LoraError(f"the prompts are longer than {MOST_LETTERS:,} letters together")
    weights = tuple(_texts(given, "weights"))
    if too_long := next((each for each in weights if len(each) > LONGEST), None):
        raise LoraError(f"'{too_long[:20]}…' is too long for a weight")
    seeds = given.get("seeds")
    if not isinstance(seeds, list) or not all(type(each) is int for each in seeds):
        raise LoraError("seeds are whole numbers")
    if len(seeds) > MOST_CELLS or len(weights) > MOST_CELLS:
        raise LoraError(f"more than {MOST_CELLS:,} seeds or weights cannot be compared at a time")
    negative = given.get("negative", "")
    if not isinstance(negative, str) or len(negative) > MOST_LETTERS:
        raise LoraError("the negative prompt is a text")
    return Wanted(tuple(adapters), weights, prompts, tuple(seeds), negative, _steps(given.get("steps")),
                  _size(given.get("size")), tuple(_texts(given, "checkpoints", [])))  # fmt: skip


def _texts(given: Mapping[str, Any], name: str, otherwise: Any = None) -> list[str]:
    value = given.get(name, otherwise)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise LoraError(f"{name} are a list of texts")
    return value


def _steps(value: Any) -> int | None:
    if value is not None and (type(value) is not int or value not in STEPS):
        raise LoraError(f"{value} steps cannot be drawn here; write {STEPS[0]} to {STEPS[-1]}")
    return value


def _size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    sides = [side for side in value if type(side) is int and side in SIDES and side % MULTIPLE == 0] \
        if isinstance(value, list) else []  # fmt: skip
    if len(sides) != 2 or len(value) != 2:
        raise LoraError(f"a size is two multiples of {MULTIPLE} from {SIDES[0]} to {SIDES[-1]}, such as 512x768")
    return sides[0], sides[1]
