"""Many files are read by several processes: what Python does with a header, it does on one core a process.

A worker is a Python that runs `serve`. It is asked over its standard input for some files at a time and answers with
their texts, and it ends with the program that started it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from queue import SimpleQueue

from lib_lora.library.ahead import ahead
from lib_lora.library.files import Found
from lib_lora.library.reading import Learnt, Texts, announce, fetch, read_texts

ROOT = Path(__file__).parents[2]
ENOUGH = 1000  # files; fewer are read before the workers have started
MOST = 4  # processes; then the disk and the database are what takes time
CHUNK = 16  # files
PROGRAM = f"from {__name__} import serve; serve()"
LOST = (OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, LookupError, ValueError)  # no answer


class Workers:
    """`count` processes that read files, each for one thread at a time."""

    def __init__(self, count: int) -> None:
        self._all = [_start() for _ in range(count)]
        self._idle: SimpleQueue[subprocess.Popen[bytes] | None] = SimpleQueue()
        for worker in self._all:
            self._idle.put(worker)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            if worker is not None:
                worker.kill()
                worker.communicate()

    def read(self, files: Sequence[Found]) -> list[Texts]:
        """What `read_texts` says of each. Read here if the worker cannot be started, or dies."""
        worker = self._idle.get()
        try:
            if worker is not None:
                return _ask(worker, files)
        except LOST:
            worker = None
        finally:
            self._idle.put(worker)
        return list(_read_here(files))


def read_all(files: Sequence[Found]) -> Iterator[tuple[Found, Texts]]:
    """Each file with its texts, in order."""
    count = min(MOST, os.cpu_count() or 1)
    if len(files) < ENOUGH or count < 2:
        yield from zip(files, _read_here(files), strict=True)
        return
    with Workers(count) as workers:
        waiting = iter(files)
        chunks = iter(lambda: list(islice(waiting, CHUNK)), [])
        for chunk, texts in ahead(chunks, workers.read, threads=count):
            yield from zip(chunk, texts, strict=True)


def _read_here(files: Iterable[Found]) -> Iterator[Texts]:
    learnt = Learnt()
    return (read_texts(each, raw, learnt) for each, raw in ahead(files, fetch))


def _start() -> subprocess.Popen[bytes] | None:
    """None where a Python cannot be started: in a program that only has one inside, for instance."""
    if getattr(sys, "frozen", False) or "python" not in Path(sys.executable or "").name.lower():
        return None
    try:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,  # Python looks for modules where it starts, and the user's folder may hold one called like ours
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError:
        return None


def _ask(worker: subprocess.Popen[bytes], files: Sequence[Found]) -> list[Texts]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    pickle.dump(files, worker.stdin)
    worker.stdin.flush()
    answer: list[Texts] = pickle.load(worker.stdout)
    return answer


def serve() -> None:
    """Answer until nobody asks any more."""
    learnt = Learnt()
    while True:
        try:
            files = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        for each in files:
            announce(each)
        pickle.dump([read_texts(each, fetch(each), learnt) for each in files], sys.stdout.buffer)
        sys.stdout.buffer.flush()
