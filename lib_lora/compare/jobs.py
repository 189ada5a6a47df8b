"""Jobs: the comparisons of a page: one at a time is drawn, and the last one is found again, also tomorrow."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lib_lora.compare.job import ID, Host, Job, notes, sketch
from lib_lora.compare.wanted import Wanted, read_wanted
from lib_lora.errors import LoraError, NotFoundError
from lib_lora.library import Entry


class BusyError(LoraError):
    """One comparison is drawn at a time."""


class Jobs:
    """All of a page's."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._lock = threading.Lock()
        self._last: Job | None = None

    @property
    def last(self) -> Job | None:
        """The one that is drawn; else the one that was begun last."""
        with self._lock:
            if self._last is None:
                newest = sorted(notes(self.host.folder()), key=lambda path: path.stat().st_mtime, reverse=True)
                self._last = next((job for path in newest if (job := _found(self.host, path.parent))), None)
            return self._last

    def find(self, number: str) -> Job:
        """Raises NotFoundError."""
        last = self.last
        if last is not None and last.id == number:
            return last
        folder = self.host.folder() / number if ID.fullmatch(number) else None
        job = None if folder is None or not folder.is_dir() else _found(self.host, folder)
        if job is None:
            raise NotFoundError(number)
        return job

    def plan(self, ids: Sequence[int], given: Mapping[str, Any]) -> dict[str, Any]:
        """What would be drawn. Raises LoraError."""
        wanted, entries = self._read(ids, given)
        grid = wanted.grid(self.host.library, [sketch(name, entries) for name in wanted.adapters], is_plan=True)
        usual = self.host.usual()
        width, height = wanted.size or usual.size
        pace = self.last.seconds if self.last else []
        each = sum(pace) / len(pace) * (wanted.steps or usual.steps) * width * height if pace else None
        return {
            "cells": len(grid.cells), "pictures": grid.pictures, "weights": list(grid.weights),
            "seconds": None if each is None else each * grid.pictures, "id": wanted.id,
            "problems": [subject.problem for subject in grid.subjects if subject.problem],
        }  # fmt: skip

    def start(self, ids: Sequence[int], given: Mapping[str, Any]) -> Job:
        """Begin, or go on. Raises LoraError; BusyError while another is drawn."""
        wanted, entries = self._read(ids, given)
        job = Job(self.host, wanted, entries, self.host.folder() / wanted.id)
        with self._lock:
            if self._last is not None and self._last.state == "running":
                raise BusyError("a comparison is being drawn; wait for its end, or cancel it")
            try:
                job.start()
            except OSError as error:
                raise LoraError(f"{job.folder} cannot be written ({error.strerror or error})") from error
            self._last = job
        return job

    def end(self, seconds: float = 10) -> None:
        """Nothing is drawn any more: the program ends, or its page does."""
        if self._last is not None:
            self._last.cancel()
            self._last.wait(seconds)

    def _read(self, ids: Sequence[int], given: Mapping[str, Any]) -> tuple[Wanted, dict[str, Entry]]:
        entries = {self.host.name(entry): entry for entry in map(self.host.library.entry, dict.fromkeys(ids))}
        wanted = read_wanted(given, list(entries))
        known = set(self.host.checkpoints())
        if strange := next((each for each in wanted.checkpoints if each not in known), None):
            raise LoraError(f"{strange}: no such checkpoint here")
        return wanted, entries


def _found(host: Host, folder: Path) -> Job | None:
    try:
        return Job.found(host, folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, LoraError):  # somebody wrote into it
        return None
