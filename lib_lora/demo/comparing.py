"""Comparisons on the page: its own pipeline as a runner, which takes turns with Generate, picture by picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from lib_lora.compare.job import Host, Usual
from lib_lora.compare.local import Local
from lib_lora.compare.runner import Drawn, Ground, Needed, Task
from lib_lora.demo.studio import Studio
from lib_lora.drawing.draw import defaults
from lib_lora.drawing.pipelines import model_name

TOGETHER = "One picture is drawn at a time: what you draw meanwhile with Generate comes in between."


def host_of(studio: Studio) -> Host:
    """What `studio` brings for comparisons; they lie beside its pictures."""
    pipe = studio.attached.pipe

    @cache
    def ground() -> Ground:  # a hash of the whole checkpoint, which stays as it is while the page is there
        return Local(studio.attached).open()

    def usual() -> Usual:
        told = defaults(pipe)
        return Usual(model_name(pipe), told.steps, told.size)

    return Host(studio.attached.library, lambda: studio.outputs / "comparisons",
                lambda _, over: Shared(studio, ground, over.is_set), usual, TOGETHER)  # fmt: skip


class Shared:
    """A runner that is the page's pipeline."""

    name = "this page"

    def __init__(self, studio: Studio, ground: Callable[[], Ground], is_over: Callable[[], bool]) -> None:
        self._turns, self._ground = studio.turns, ground
        self._local = Local(studio.attached, is_over=is_over)

    def open(self) -> Ground:
        """See Runner."""
        with self._turns.between():
            return self._ground()

    def lacks(self, needed: Sequence[Needed]) -> dict[str, str]:
        """See Runner."""
        return self._local.lacks(needed)

    def draw(self, task: Task) -> Drawn:
        """See Runner."""
        with self._turns.between():
            return self._local.draw(task)

    def close(self) -> None:
        """See Runner. It ends within a step of the picture that is being drawn."""
        with self._turns.between():
            self._local.close()
