"""Headers are read by a second thread a little before their turn, so that a scan does not wait for the disk."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

AHEAD = 64  # files
ENOUGH = 32  # fewer are not worth a thread
MOST = 4 * 1024 * 1024  # bytes of one header
T = TypeVar("T")


def ahead(files: Sequence[tuple[Path, T]]) -> Iterator[tuple[Path, T]]:
    """The same `files`, while those that come next are read into the system's cache."""
    if len(files) < ENOUGH:
        yield from files
        return
    free, ended = threading.Semaphore(AHEAD), threading.Event()

    def read() -> None:
        for path, _ in files:
            free.acquire()
            if ended.is_set():
                return
            _touch(path)

    thread = threading.Thread(target=read, name="lib_lora headers", daemon=True)
    thread.start()
    try:
        for each in files:
            yield each
            free.release()
    finally:
        ended.set()
        free.release()
        thread.join()


def _touch(path: Path) -> None:
    with contextlib.suppress(OSError), open(path, "rb", buffering=0) as file:  # whose turn it is will tell
        file.read(min(int.from_bytes(file.read(8), "little"), MOST))
