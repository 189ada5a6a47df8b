"""The cells of one checkpoint: those that are not there yet are shared among the runners, each in a thread of its own.

A runner that is lost hands its cell to the others; one that lacks a file draws the cells that it can.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lib_lora.compare.grid import Cell, Grid
from lib_lora.compare.runner import Drawn, Ground, Needed, Runner, Task
from lib_lora.compare.store import Result, Store
from lib_lora.errors import LoraError, RunnerError

LOSSES = 2  # runners that may be lost over one cell
REST = 1.0  # seconds between two lists, or
SHARE = 20  # times as long as the last one took: a long one is not written for each cell


@dataclass(frozen=True)
class Progress:
    """After each cell: `left` seconds are guessed; None: too early to tell."""

    done: int
    total: int
    left: float | None
    result: Result


@dataclass(frozen=True)
class Around:
    """What the cells of one checkpoint stand among."""

    on_cell: Callable[[Progress], object] | None
    is_cancelled: Callable[[], bool]
    before: tuple[Result, ...]  # what has become of the cells of earlier checkpoints
    after: int  # cells of later ones

    def tell(self, done: int, total: int, left: float | None, result: Result) -> None:
        """One of them is done: the `done`-th of `total`."""
        if self.on_cell is not None:
            before = len(self.before)
            self.on_cell(Progress(before + done, before + total + self.after, left, result))

    def give_up(self, grid: Grid, reason: str) -> list[Result]:
        """None of them can be drawn."""
        results = [Result(cell, problem=cell.subject.problem or reason) for cell in grid.cells]
        for number, result in enumerate(results, 1):
            self.tell(number, len(results), None, result)
        return results


def draw_part(grid: Grid, store: Store, runners: Sequence[Runner], around: Around) -> tuple[
    tuple[Result, ...], list[str], Ground]:  # fmt: skip
    """`(what became of its cells, sentences about runners, what it was drawn on)`; the runners are closed at the end.

    Raises RunnerError if none of them can begin.
    """
    try:
        ready, ground, sentences = _open(runners)
        work = _Work(grid, store, ground, around, sentences)
        work.find()
        work.draw(ready)
        return work.listed(), work.sentences, ground
    finally:
        for runner in runners:
            runner.close()


@dataclass
class _Job:
    """One picture and the cells that show it."""

    task: Task
    digest: str
    cells: list[Cell] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)


class _Work:
    """What is still to be drawn, and what has been."""

    def __init__(self, grid: Grid, store: Store, ground: Ground, around: Around, sentences: list[str]) -> None:
        self.grid, self.store, self.ground, self.around, self.sentences = grid, store, ground, around, sentences
        self.results: dict[Cell, Result] = {}
        self.waiting: deque[_Job] = deque()
        self.changed = threading.Condition()
        self.busy = 0  # jobs that are being drawn
        self.stopped = False
        self.failure: BaseException | None = None  # of a thread: the disk is full, a fault of ours
        self._begun, self._drawn = time.monotonic(), 0
        self._next_list = 0.0

    def find(self) -> None:
        """Take over what is there; the rest becomes jobs, equal pictures one."""
        jobs: dict[str, _Job] = {}
        for cell in self.grid.cells:
            if cell.subject.problem:
                self._done(Result(cell, problem=cell.subject.problem))
                continue
            task = self.grid.task(cell, self.ground)
            digest = task.digest(self.ground)
            found = None if digest in jobs else self.store.find(cell, digest)
            if found:
                self._done(found)
            else:
                jobs.setdefault(digest, _Job(task, digest)).cells.append(cell)
        self.waiting = deque(jobs.values())
        self._begun = time.monotonic()

    def draw(self, runners: Sequence[Runner]) -> None:
        """Until nothing is left that one of `runners` can do. One alone draws in this thread."""
        lacks = self._ask(runners)
        able = [runner for runner in runners if runner.name in lacks]
        try:
            if len(able) == 1:
                self._work(able[0], lacks[able[0].name])
            else:
                self._share(able, lacks)
            self._give_up(lacks)
        finally:
            self._write_list()

    def listed(self) -> tuple[Result, ...]:
        """What has become of the cells so far, in the grid's order."""
        with self.changed:
            return tuple(self.results[cell] for cell in self.grid.cells if cell in self.results)

    def _write_list(self) -> None:
        self.store.write_list((*self.around.before, *self.listed()))

    # which runner does what

    def _ask(self, runners: Sequence[Runner]) -> dict[str, dict[str, str]]:
        """{runner: {key of a file that it lacks: a sentence}}"""
        needed: dict[str, Needed] = {each.key: each for job in self.waiting for each in job.task.files}
        found = {}
        for runner in runners if self.waiting else ():
            try:
                found[runner.name] = runner.lacks(list(needed.values()))
            except RunnerError as error:
                self.sentences.append(f"{runner.name}: {error}; it was left out")
            else:
                self.sentences += found[runner.name].values()
        return found

    def _share(self, runners: Sequence[Runner], lacks: dict[str, dict[str, str]]) -> None:
        threads = [
            threading.Thread(target=self._guarded, args=(runner, lacks[runner.name]), name=runner.name, daemon=True)
            for runner in runners
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)  # so that Ctrl-C is heard
        except BaseException:
            with self.changed:
                self.stopped = True
                self.changed.notify_all()
            for runner in runners:
                runner.close()
            raise
        if self.failure is not None:
            raise self.failure

    def _guarded(self, runner: Runner, lacks: dict[str, str]) -> None:
        try:
            self._work(runner, lacks)
        except BaseException as error:
            with self.changed:
                self.failure, self.stopped = error, True
                self.changed.notify_all()

    def _work(self, runner: Runner, lacks: dict[str, str]) -> None:
        while (job := self._take(lacks)) is not None:
            try:
                if not self._one(runner, job):
                    return
            finally:
                with self.changed:
                    self.busy -= 1
                    self.changed.notify_all()

    def _one(self, runner: Runner, job: _Job) -> bool:
        """Draw one picture; False if the runner is lost."""
        begun = time.monotonic()
        try:
            drawn = runner.draw(job.task)
        except RunnerError as error:
            with self.changed:
                if self.stopped:
                    return False
                job.losses.append(f"{runner.name}: {error}")
                self.sentences.append(job.losses[-1])
                if len(job.losses) < LOSSES:
                    self.waiting.appendleft(job)
                    return False
            self._keep(job, Drawn(None, f"{len(job.losses)} workers were lost over it; {job.losses[-1]}"), 0.0)
            return False
        except LoraError as error:
            drawn = Drawn(None, str(error))
        self._keep(job, drawn, time.monotonic() - begun)
        return True

    def _take(self, lacks: dict[str, str]) -> _Job | None:
        """The next that this runner can do; waits while one may come back from another that is lost."""
        with self.changed:
            while True:
                if self.stopped or self.around.is_cancelled():
                    return None
                for job in self.waiting:
                    if not any(each.key in lacks for each in job.task.files):
                        self.waiting.remove(job)
                        self.busy += 1
                        return job
                if not self.busy:
                    return None
                self.changed.wait(1)

    # what becomes of cells

    def _keep(self, job: _Job, drawn: Drawn, seconds: float) -> None:
        for cell in job.cells:
            if drawn.png is None:
                self._done(Result(cell, None, round(seconds, 3), drawn.problem), drawn=cell is job.cells[0])
            else:
                kept = self.store.keep(cell, job.digest, drawn.png, seconds, drawn.problem)
                self._done(kept, drawn=cell is job.cells[0])

    def _done(self, result: Result, *, drawn: bool = False) -> None:
        with self.changed:
            self.results[result.cell] = result
            self._drawn += drawn
            now = time.monotonic()
            if drawn and now > self._next_list:
                self._write_list()
                self._next_list = now + max(REST, SHARE * (time.monotonic() - now))
            rest = len(self.waiting) + max(self.busy - 1, 0) + self.around.after
            left = (now - self._begun) / self._drawn * rest if self._drawn else None
            self.around.tell(len(self.results), len(self.grid.cells), left, result)

    def _give_up(self, lacks: dict[str, dict[str, str]]) -> None:
        """What nobody could draw has the reason as its problem; the next call tries it again."""
        cancelled = self.around.is_cancelled()
        for job in self.waiting:
            told = [sentence for each in job.task.files for missing in lacks.values()
                    for key, sentence in missing.items() if key == each.key]  # fmt: skip
            why = told or job.losses or ["there was no worker left to draw it"]
            reason = "cancelled" if cancelled else "; ".join(why)
            for cell in job.cells:
                self._done(Result(cell, problem=reason))
        self.waiting.clear()


def _open(runners: Sequence[Runner]) -> tuple[list[Runner], Ground, list[str]]:
    """`(those that draw on the same, on what, a sentence for each of the others)`. Raises RunnerError for none."""
    ready: list[Runner] = []
    sentences: list[str] = []
    ground: Ground | None = None
    for runner in runners:
        try:
            own = runner.open()
        except LoraError as error:
            sentences.append(f"{runner.name}: {error}; it was left out")
            continue
        if ground is not None and own.identity != ground.identity:
            sentences.append(f"{runner.name}: {_difference(own, ground)}; it was left out")
            continue
        ground = ground or own
        ready.append(runner)
    if ground is None:
        raise RunnerError("\n".join(sentences) or "there is nobody to draw")
    return ready, ground, sentences


def _difference(own: Ground, other: Ground) -> str:
    if own.checkpoint != other.checkpoint:
        return f"its checkpoint is another one ({own.model}, not {other.model})"
    return f"it draws with {own.engine}, the others with {other.engine}"
