"""How much an adapter changes a picture: the mean absolute difference to weight 0 at equal prompt and seed.

In percent: 100 is black against white. Where it no longer grows with the weight the adapter is saturated; where it
jumps, it breaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from lib_lora.compare.grid import Cell, is_untouched
from lib_lora.compare.store import Result
from lib_lora.grammar.number import read_number

NEARLY_ALL = 0.9  # of the largest effect


def effects(results: Iterable[Result], folder: Path) -> dict[Cell, float]:
    """Of every cell that has a picture and one at weight 0 beside it."""
    drawn = [result for result in results if result.file is not None]
    zero = {_place(result.cell): result for result in drawn if is_untouched(result.cell.weight)}
    found: dict[Cell, float] = {}
    pictures: dict[str, np.ndarray] = {}  # of weight 0: each is looked at once
    for result in drawn:
        base = zero.get(_place(result.cell))
        if base is None or base.file is None or result.file is None:
            continue
        if base.file not in pictures:
            pictures[base.file] = _picture(folder / base.file)
        own, other = _picture(folder / result.file), pictures[base.file]
        if own.shape == other.shape:
            found[result.cell] = float(np.abs(own - other).mean() / 2.55)
    return found


def mean_effects(found: Mapping[Cell, float]) -> dict[tuple[str, str, str], float]:
    """{(checkpoint, adapter, weight): the mean over prompts and seeds}"""
    sums: dict[tuple[str, str, str], list[float]] = {}
    for cell, effect in found.items():
        sums.setdefault((cell.checkpoint, cell.subject.name, cell.weight), []).append(effect)
    return {key: sum(values) / len(values) for key, values in sums.items()}


def saturation(points: Mapping[str, float]) -> float | None:
    """The smallest positive weight that has nearly all of the effect, if there are stronger ones; {weight: effect}."""
    by_weight = sorted((number, effect) for weight, effect in points.items()
                       if (number := read_number(weight)) is not None and number > 0)  # fmt: skip
    if len(by_weight) < 2:
        return None
    enough = NEARLY_ALL * max(effect for _, effect in by_weight)
    first = next(weight for weight, effect in by_weight if effect >= enough)
    return first if enough and first < by_weight[-1][0] else None


def _place(cell: Cell) -> tuple[str, str, str, int]:
    return cell.checkpoint, cell.subject.name, cell.prompt, cell.seed


def _picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.float32)
