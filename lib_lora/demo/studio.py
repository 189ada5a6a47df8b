"""Studio: the loaded model with its adapters. One drawing at a time, a way to stop it, and the pictures on the disk."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
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


class Studio:
    """Draws for the page."""

    def __init__(self, pipe: Any, folders: Sequence[Path], *, outputs: Path, database: Path | None = None) -> None:
        """`database` keeps the index of `folders`; None keeps it in memory."""
        self.attached = Attached(pipe, Library(folders, database=database))
        self.outputs = outputs
        self.family = self.attached.session.host.targets().family
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def draw(self, prompt: str, on_step: Callable[[int, int], object], **options: Any) -> Drawn:
        """Draw and save. Options are those of `drawing.draw`. Raises Cancelled, and LoraError as `drawing.draw` does.

        After any exception every weight is the base weight.
        """

        def step(done: int, total: int) -> None:
            if self._stop.is_set():
                raise Cancelled(f"Stopped after {done} of {total} steps.")
            on_step(done, total)

        with self._lock:
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

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nothing is drawn meanwhile."""
        with self._lock:
            yield

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
