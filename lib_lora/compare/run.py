"""compare(): draw the cells of a grid that are not there yet, with one runner or many.

What is drawn is kept at once, so that whatever ends this program, the next call goes on where it stood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_lora.compare.grid import Grid, Settings
from lib_lora.compare.runner import Ground, Runner
from lib_lora.compare.store import Result, Store
from lib_lora.compare.work import Around, Progress, draw_part
from lib_lora.errors import LoraError, RunnerError


@dataclass(frozen=True)
class Comparison:
    """A grid, drawn. `sentences`: what went wrong beside the cells: runners that were left out or lost."""

    grid: Grid
    ground: Ground  # of the first checkpoint that could be drawn on
    folder: Path
    results: tuple[Result, ...]  # of all cells, in the grid's order
    sentences: tuple[str, ...]

    @property
    def settings(self) -> Settings:
        """What the pictures have in common."""
        return self.grid.settings.on(self.ground)

    def told(self) -> list[dict[str, Any]]:
        """As `cells.json` has it."""
        return [result.told() for result in self.results]

    @property
    def problems(self) -> list[str]:
        """Every sentence once: of cells, then of runners."""
        cells = (line for result in self.results for line in (result.problem or "").splitlines())
        return list(dict.fromkeys([*cells, *self.sentences]))


def compare(
    grid: Grid,
    folder: Path,
    runners: Sequence[Runner],
    *,
    on_cell: Callable[[Progress], object] | None = None,
    is_cancelled: Callable[[], bool] = lambda: False,
    beside: Iterable[Path] = (),
) -> Comparison:
    """All cells of `grid` in `folder`. The runners are closed at the end, whatever that is.

    `on_cell` is called after each cell, one at a time; `is_cancelled` is asked before each: what is not drawn then has
    that as its problem. Pictures that lie in folders `beside` are taken from there. Raises RunnerError if no runner can
    begin, OSError if the folder cannot be written.
    """
    try:
        return compare_each(grid, folder, lambda _: runners, on_cell=on_cell, is_cancelled=is_cancelled, beside=beside)
    finally:
        for runner in runners:
            runner.close()


def compare_each(
    grid: Grid,
    folder: Path,
    runners: Callable[[str], Sequence[Runner]],
    *,
    on_cell: Callable[[Progress], object] | None = None,
    is_cancelled: Callable[[], bool] = lambda: False,
    beside: Iterable[Path] = (),
) -> Comparison:
    """The same with the checkpoints of `grid` one after the other: `runners(checkpoint)` draw on that one.

    A checkpoint on which nobody can draw is the problem of its cells; RunnerError only if that is so for all.
    """
    store, grounds, sentences = Store(folder, beside), list[Ground](), list[str]()
    results: list[Result] = []
    for number, checkpoint in enumerate(grid.checkpoints):
        part = grid.on(checkpoint)
        around = Around(on_cell, is_cancelled, tuple(results), (len(grid.checkpoints) - number - 1) * len(part.cells))
        if number and is_cancelled():
            results += around.give_up(part, "cancelled")
            continue
        try:
            found, told, ground = draw_part(part, store, runners(checkpoint), around)
        except LoraError as error:
            results += around.give_up(part, "cancelled" if is_cancelled() else str(error))
            sentences += str(error).splitlines()
        else:
            results += found
            grounds.append(ground)
            sentences += told
    store.write_list(results)
    if not grounds:
        raise RunnerError("\n".join(dict.fromkeys(sentences)))
    return Comparison(grid, grounds[0], folder, tuple(results), tuple(dict.fromkeys(sentences)))
