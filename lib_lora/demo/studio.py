"""Studio: the loaded model with its adapters. One drawing at a time, a way to stop it, and the pictures on the disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lib_lora.drawing.draw import Picture, draw, save_png
from lib_lora.grammar.curve import write_weight
from lib_lora.hosts.diffusers import Attached
from lib_lora.library import Library


class Cancelled(Exception):
    """The user stopped the drawing; the text says where."""


@dataclass(frozen=True)
class Drawn:
    """What one drawing brought."""

    pictures: tuple[tuple[str, str], ...]  # (file, caption)
    seed: int  # of the first
    sentences: tuple[str, ...]  # what the user should know of the adapters
    seconds: float


class Turns:
    """One draws at a time. What somebody waits for comes before what goes on by itself."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_taken = False
        self._first = 0  # that wait to be drawn before all others

    @contextmanager
    def first(self) -> Iterator[None]:
        """The turn of somebody who waits."""
        with self._changed:
            self._first += 1
            self._changed.wait_for(lambda: not self._is_taken)
            self._first -= 1
            self._is_taken = True
        yield from self._until_over()

    @contextmanager
    def between(self) -> Iterator[None]:
        """The turn of one that can wait."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_taken and not self._first)
            self._is_taken = True
        yield from self._until_over()

    def _until_over(self) -> Iterator[None]:
        try:
            yield
        finally:
            with self._changed:
                self._is_taken = False
                self._changed.notify_all()


class Studio:
    """Draws for the page."""

    def __init__(self, pipe: Any, folders: Sequence[Path], *, outputs: Path, database: Path | None = None) -> None:
        """`database` keeps the index of `folders`; None keeps it in memory."""
        self.attached = Attached(pipe, Library(folders, database=database))
        self.outputs = outputs
        self.family = self.attached.session.host.targets().family
        self.turns = Turns()
        self._stop = threading.Event()

    def draw(self, prompt: str, on_step: Callable[[int, int], object], **options: Any) -> Drawn:
        """Draw and save. Options are those of `drawing.draw`. Raises Cancelled, and LoraError as `drawing.draw` does.

        After any exception every weight is the base weight.
        """

        def step(done: int, total: int) -> None:
            if self._stop.is_set():
                raise Cancelled(f"Stopped after {done} of {total} steps.")
            on_step(done, total)

        with self.turns.first():
            self._stop.clear()
            started = time.perf_counter()
            try:
                drawing = draw(self.attached, prompt, on_step=step, **options)
            except BaseException:
                self.attached.clear()
                raise
            seconds = time.perf_counter() - started
            pictures = tuple((str(self._save(picture)), caption(picture)) for picture in drawing.pictures)
            return Drawn(pictures, drawing.pictures[0].seed, tuple(drawing.report.sentences()), seconds)

    @property
    def place(self) -> Path:
        """Of the model: a folder or a file."""
        return Path(self.attached.pipe.name_or_path or "unknown")

    def cancel(self) -> None:
        """Stop at the end of the present step; nothing, if nothing is drawn."""
        self._stop.set()

    def _save(self, picture: Picture) -> Path:
        now = datetime.now()
        folder = self.outputs / now.strftime("%Y-%m-%d")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{now.strftime('%H%M%S-%f')[:-3]}-{picture.seed}.png"
        save_png(picture, path)
        return path


def caption(picture: Picture) -> str:
    """ "seed 7 · outline 0.8 · night 0.5/1" """
    tags = [report.tag for report in picture.report.applied if report.tag.te or report.tag.unet]
    weights = [write_weight(tag.te) + ("" if tag.te == tag.unet else f"/{write_weight(tag.unet)}") for tag in tags]
    named = [f"{tag.name} {weight}" for tag, weight in zip(tags, weights, strict=True)]
    return " · ".join([f"seed {picture.seed}", *named])
