"""Process: a runner that is a Python of its own on this machine, with its own pipeline. It may be killed at any time.

It is asked over its standard input, one JSON object a line, and answers so; it ends with the program that started it.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lib_lora.compare.runner import Drawn, Ground, Needed, Task
from lib_lora.drawing.demo_files import model_at
from lib_lora.errors import LoraError, RunnerError
from lib_lora.garbage import all_stays

ROOT = Path(__file__).parents[3]
PROGRAM = f"from {__name__} import serve; serve()"


@dataclass(frozen=True)
class Loading:
    """What a worker draws with."""

    model: str | None  # None: the demo model
    folders: tuple[str, ...]
    tokenizer: str | None = None
    index: str | None = None  # where the library's index is kept; None: nowhere


class Process:
    """Starts at once; `open` waits until its model is loaded. `device`: the number of the GPU it sees alone."""

    def __init__(self, name: str, loading: Loading, *, threads: int | None = None, device: int | None = None) -> None:
        self.name = name
        self._ground: Ground | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        if threads is not None:
            environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = str(device)
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            cwd=ROOT,  # Python looks for modules where it starts, and the user's folder may hold one called like ours
            env=environment, creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )  # fmt: skip
        self._say(asdict(loading))

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def open(self) -> Ground:
        """See Runner."""
        if self._ground is None:
            told = self._answer()
            self._ground = Ground(**{**told, "size": tuple(told["size"])})
        return self._ground

    def lacks(self, needed: Sequence[Needed]) -> dict[str, str]:
        """See Runner: it reads the folders that we read."""
        return {}

    def draw(self, task: Task) -> Drawn:
        """See Runner."""
        self._say(json.loads(task.to_json()))
        told = self._answer()
        return Drawn(None if told["png"] is None else base64.b64decode(told["png"]), told["problem"])

    def close(self) -> None:
        """See Runner."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):  # what was not sent yet
                stream.close()  # type: ignore[union-attr]

    def _say(self, value: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):  # it is gone, which `_answer` will tell
            pass

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            line = self._process.stdout.readline()
            told = json.loads(line)
        except (OSError, ValueError) as error:
            raise RunnerError(self._why()) from error
        if "error" in told:
            raise RunnerError(told["error"])
        return dict(told)

    def _why(self) -> str:
        """How it ended, with the last thing it said."""
        code = self._process.wait()
        if self._errors.closed:
            return "it was closed"
        self._errors.seek(max(self._errors.seek(0, os.SEEK_END) - 2000, 0))
        said = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        last = f": {said[-1][:200]}" if said and code > 0 else ""
        return f"the process was ended by signal {-code}" if code < 0 else f"the process ended with status {code}{last}"


def start(loading: Loading, count: int) -> list[Process]:
    """`count` processes that share this machine's cores and GPUs."""
    import torch

    threads, devices = max((os.cpu_count() or 1) // count, 1), torch.cuda.device_count()
    return [Process(f"process {number + 1}", loading, threads=threads,
                    device=number % devices if devices else None) for number in range(count)]  # fmt: skip


def serve() -> None:
    """Load, then draw until nobody asks any more."""
    answers = io.FileIO(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever prints, it is no answer

    def answer(value: dict[str, Any]) -> None:
        left = memoryview(json.dumps(value).encode() + b"\n")
        while left:
            left = left[answers.write(left) or 0 :]

    loading = Loading(**json.loads(sys.stdin.buffer.readline()))
    try:
        local = load(loading)
        answer(asdict(local.open()))
    except LoraError as error:
        answer({"error": str(error)})
        return
    for line in sys.stdin.buffer:
        try:
            drawn = local.draw(Task.from_json(line.decode()))
        except RunnerError as error:
            answer({"error": str(error)})
            return
        answer({"png": None if drawn.png is None else base64.b64encode(drawn.png).decode(), "problem": drawn.problem})


def load(loading: Loading) -> Any:
    """The runner that a process, or an actor, is. Raises CheckpointError, at once if there is no such model."""
    model_at(loading.model)
    with all_stays():
        from lib_lora.compare.local import Local

    return Local.load(
        None if loading.model is None else Path(loading.model), [Path(each) for each in loading.folders],
        tokenizer=None if loading.tokenizer is None else Path(loading.tokenizer),
        index=None if loading.index is None else Path(loading.index),
    )  # fmt: skip
