"""Axes of the X/Y/Z plot: another name, weight, curve, window or block weights in a tag of the prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

from modules import scripts

from lib_lora.webui.names.protocols import Axis, Plot, Processing
from lib_lora.webui.retyped import CHANGES, changed, values

PLOT = "xyz_grid.py"  # the file of the WebUI's script
PREFIX = "[LoRA] "


class Axes:
    """The lines of ours in the plot's list. `names`: of the installed adapters, to choose from."""

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        self._names = names

    def install(self) -> None:
        """Before the WebUI makes the plot's page, which is when its list counts; scripts are loaded then."""
        self.remove()
        if (plot := _plot()) is not None:
            plot.axis_options.extend(self._options(plot))

    def remove(self) -> None:
        """No line of ours is left."""
        if (plot := _plot()) is not None:
            plot.axis_options[:] = [each for each in plot.axis_options if not each.label.startswith(PREFIX)]

    def _options(self, plot: Plot) -> list[Axis]:
        made = [plot.AxisOption(f"{PREFIX}name", str, _apply("name"), confirm=_confirm("name"),
                                choices=lambda: list(self._names()))]  # fmt: skip
        return made + [plot.AxisOption(f"{PREFIX}{axis}", str, _apply(axis), confirm=_confirm(axis), prepare=values)
                       for axis in CHANGES]  # fmt: skip


def _apply(axis: str) -> Callable[..., None]:
    def apply(p: Processing, value: str, _all: Sequence[str]) -> None:
        p.prompt = _in_prompt(p, axis, value)

    return apply


def _confirm(axis: str) -> Callable[..., None]:
    """A value that cannot be is told before anything is drawn."""

    def confirm(p: Processing, all_values: Sequence[str]) -> None:
        for value in all_values:
            _in_prompt(p, axis, value)

    return confirm


def _in_prompt(p: Processing, axis: str, value: str) -> str:
    try:
        return changed(p.prompt, axis, value)
    except ValueError as error:
        raise RuntimeError(f"{PREFIX}{axis}: {error}") from error


def _plot() -> Plot | None:
    """The WebUI's script, if it is there."""
    return next((cast(Plot, each.module) for each in scripts.scripts_data if each.path.endswith(PLOT)), None)
