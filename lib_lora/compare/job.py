"""Job: one comparison of a page: drawn in a thread, told to whoever asks, found again in its folder.

The folder is named after what is compared: asking for the same again goes on with it.
"""

from __future__ import annotations

import json
import re
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lib_lora.browser.jobs import FAULT
from lib_lora.compare.effect import effects, mean_effects
from lib_lora.compare.grid import Cell, Grid, checkpoint_names, is_untouched, weight_value
from lib_lora.compare.report import write_report
from lib_lora.compare.run import Comparison, compare_each
from lib_lora.compare.runner import Runner
from lib_lora.compare.sheet import write_sheet
from lib_lora.compare.store import LIST, Result
from lib_lora.compare.subject import Subject, sketch_of, subject_of
from lib_lora.compare.wanted import Wanted, read_wanted
from lib_lora.compare.work import Progress
from lib_lora.errors import LoraError
from lib_lora.formats.write import write_file
from lib_lora.library import Entry, Library

NOTE = "comparison.json"  # what is compared, in its folder
REPORT, SHEET = "report.html", "sheet.png"
ID = re.compile(r"[0-9a-f]{12}")
CANCELLED = "cancelled"
ENDS = ("done", "cancelled", "failed")  # states; besides them: running, and stopped with the program that drew
LATEST = 20  # pictures by which the time of the next ones is guessed


@dataclass(frozen=True)
class Usual:
    """What a picture is drawn with if nobody says otherwise."""

    model: str
    steps: int
    size: tuple[int, int]


@dataclass(frozen=True)
class Host:
    """The page that compares: its adapters, its folder, and who draws there."""

    library: Library
    folder: Callable[[], Path]  # comparisons lie below it
    runner: Callable[[str, threading.Event], Runner]  # (checkpoint, set when all is over) -> who draws on it
    usual: Callable[[], Usual]
    together: str  # how it gets along with whatever else draws there
    checkpoints: Callable[[], Sequence[str]] = tuple  # to choose from
    name: Callable[[Entry], str] = lambda entry: entry.name  # what tags say
    font: Callable[[int], Any] | None = None  # of the sheet


class Job:
    """One comparison. `told` may be asked from any thread."""

    def __init__(self, host: Host, wanted: Wanted, entries: Mapping[str, Entry], folder: Path) -> None:
        """Raises LoraError for what cannot be compared."""
        self.wanted, self.folder, self._host, self._entries = wanted, folder, host, entries
        self.id = wanted.id
        self.grid = wanted.grid(host.library, [sketch(name, entries) for name in wanted.adapters], is_plan=True)
        self.state, self.problem = "running", ""
        self.left: float | None = None  # seconds, guessed
        self.effects: list[Any] = []  # in percent, by checkpoint, adapter, weight; empty: not yet
        self._numbers = {_place(cell): number for number, cell in enumerate(self.grid.cells)}
        self._results: dict[int, Result] = {}
        self._told: list[int] = []  # numbers of cells, as they were done
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._runner: Runner | None = None
        self._thread = threading.Thread(target=self._work, name="lib_lora compare", daemon=True)

    # begin and end

    def start(self) -> None:
        """Draw what is not there. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._note()
        self._thread.start()

    def cancel(self) -> None:
        """Let the picture that is being drawn be the last; it may be left unfinished."""
        self._over.set()
        if (runner := self._runner) is not None and self.state == "running":
            runner.close()

    def wait(self, seconds: float) -> None:
        """For its end."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    # what it tells

    @property
    def seconds(self) -> list[float]:
        """How long its latest pictures took, each by steps and pixels."""
        chosen = self.grid.settings
        usual = self._host.usual()
        width, height = chosen.size or usual.size
        with self._lock:
            took = [result.seconds for number in self._told if (result := self._results[number]).seconds]
        return [each / ((chosen.steps or usual.steps) * width * height) for each in took[-LATEST:]]

    def result(self, number: int) -> Result | None:
        """Of the cell with this number in the grid's order, if there is one."""
        with self._lock:
            return self._results.get(number)

    def told(self, since: int = 0) -> dict[str, Any]:
        """The state, and the cells that were done after the first `since`."""
        with self._lock:
            cells = [self._cell(number) for number in self._told[since:]]
            next_ = len(self._told)
        return {
            "id": self.id, "state": self.state, "problem": self.problem, "total": len(self.grid.cells), "done": next_,
            "left": self.left, "cells": cells, "effects": self.effects,
            "report": self.has(REPORT), "sheet": self.has(SHEET),
            **(self._axes() if since == 0 else {}),
        }  # fmt: skip

    def has(self, name: str) -> bool:
        """Whether the report, or the sheet, is written."""
        return self.state != "running" and (self.folder / name).exists()

    def _axes(self) -> dict[str, Any]:
        grid = self.grid
        return {
            "wanted": asdict(self.wanted) | {"ids": [None if (entry := self._entries.get(name)) is None else entry.id
                                                     for name in self.wanted.adapters]},
            "adapters": [{"name": each.name, "title": each.title, "rung": each.rung} for each in grid.subjects],
            "weights": [{"text": text, "value": weight_value(text), "zero": is_untouched(text)}
                        for text in grid.weights],
            "prompts": list(grid.prompts), "seeds": list(grid.seeds),
            "checkpoints": list(checkpoint_names(grid.checkpoints).values()),
            "size": list(grid.settings.size or self._host.usual().size),
        }  # fmt: skip

    def _cell(self, number: int) -> dict[str, Any]:
        result = self._results[number]
        version = "" if result.file is None else Path(result.file).stem[-8:]  # of its digest
        return {"n": number, "version": version, "problem": result.problem or "", "seconds": result.seconds}

    # drawing

    def _work(self) -> None:
        try:
            self._draw()
        except LoraError as error:
            self._end("cancelled" if self._over.is_set() else "failed", str(error))
        except OSError as error:
            self._end("failed", f"{self.folder} cannot be written ({error.strerror or error})")
        except Exception as error:  # the rim: nobody else would hear of it
            traceback.print_exc()
            self._end("failed", FAULT.format(f"{type(error).__name__}: {error}"))

    def _draw(self) -> None:
        subjects = [_subject(name, self._entries) for name in self.wanted.adapters]
        grid = self.wanted.grid(self._host.library, subjects)
        beside = [path.parent for path in notes(self.folder.parent) if path.parent != self.folder]
        done = compare_each(grid, self.folder, self._runners, on_cell=self._one, is_cancelled=self._over.is_set,
                            beside=beside)  # fmt: skip
        self.left = None
        self.effects = _effects(done)
        write_sheet(done, self.folder / SHEET, font=self._host.font)
        write_report(done, self.folder / REPORT)
        self._end("cancelled" if self._over.is_set() else "done", "\n".join(done.sentences))

    def _runners(self, checkpoint: str) -> list[Runner]:
        self._runner = self._host.runner(checkpoint, self._over)
        return [self._runner]

    def _one(self, now: Progress) -> None:
        self.left = now.left
        self._add(self._numbers[_place(now.result.cell)], now.result)

    def _add(self, number: int, result: Result) -> None:
        with self._lock:
            self._results[number] = result
            self._told.append(number)

    def _end(self, state: str, problem: str) -> None:
        self.problem, self.left = problem, None
        self.state = state
        try:
            self._note()
        except OSError:  # the next start of the program asks to go on, which does no harm
            traceback.print_exc()

    def _note(self) -> None:
        told = {"wanted": asdict(self.wanted), "state": self.state, "problem": self.problem, "effects": self.effects}
        write_file(self.folder / NOTE, json.dumps(told, indent=1).encode("utf-8", "replace"))

    @classmethod
    def found(cls, host: Host, folder: Path) -> Job:
        """The one that lies there, as far as it is drawn. Raises OSError, ValueError, LoraError for what is none."""
        note = json.loads((folder / NOTE).read_text("utf-8"))
        asked = note["wanted"]
        wanted = read_wanted(asked, list(map(str, asked["adapters"])))
        job = cls(host, wanted, _entries(host, wanted.adapters), folder)
        job.state = note["state"] if note["state"] in ENDS else "stopped"
        job.problem, job.effects = str(note["problem"]), note["effects"]
        by_place = {(cell.checkpoint, cell.subject.name, cell.value, cell.prompt, cell.seed): number
                    for number, cell in enumerate(job.grid.cells)}  # fmt: skip
        rows = json.loads((folder / LIST).read_text("utf-8")) if (folder / LIST).exists() else []
        for row in rows:
            place = (row.get("checkpoint", ""), *(row[key] for key in ("adapter", "weight", "prompt", "seed")))
            number = by_place.get(place)
            is_there = row["file"] is None or (folder / row["file"]).is_file()
            if number is not None and is_there and row["problem"] != CANCELLED:
                cell = job.grid.cells[number]
                job._add(number, Result(cell, row["file"], row["seconds"], row["problem"]))
        return job


def notes(root: Path) -> list[Path]:
    """Of all comparisons below `root`."""
    return [path for path in root.glob(f"*/{NOTE}") if ID.fullmatch(path.parent.name)]


def _entries(host: Host, names: Sequence[str]) -> dict[str, Entry]:
    by_name = {host.name(entry): entry for entry in host.library.entries()}
    return {name: by_name[name] for name in names if name in by_name}


def sketch(name: str, entries: Mapping[str, Entry]) -> Subject:
    """The row of what is called so, without a look at its file."""
    return sketch_of(entries[name], name) if name in entries else Subject(name, name, problem=f"Lora not found: {name}")


def _subject(name: str, entries: Mapping[str, Entry]) -> Subject:
    return subject_of(entries[name], name) if name in entries else sketch(name, entries)


def _place(cell: Cell) -> tuple[str, str, str, str, int]:
    return cell.checkpoint, cell.subject.name, cell.weight, cell.prompt, cell.seed


def _effects(done: Comparison) -> list[list[list[float | None]]]:
    means = mean_effects(effects(done.results, done.folder))
    grid: Grid = done.grid
    return [[[None if (mean := means.get((checkpoint, subject.name, weight))) is None else round(mean, 3)
              for weight in grid.weights] for subject in grid.subjects] for checkpoint in grid.checkpoints]  # fmt: skip
