"""Work on every file of the library, in the background: one thread that leaves the disk to others in between."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable

from lib_lora.errors import LoraError
from lib_lora.library.entry import Entry
from lib_lora.library.index import Library

REST = 0.5  # seconds of rest for each second of work


class Gently:
    """Does what is missing, once `start` is called.

    is_missing  whether it is to be done for that file; asked again afterwards
    do          does it; raises LoraError for a file that cannot be read
    after       called when nothing is left
    """

    def __init__(
        self, library: Library, name: str, is_missing: Callable[[Entry], bool], do: Callable[[Entry], object],
        after: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        self._library, self._name = library, name
        self._is_missing, self._do, self._after = is_missing, do, after
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._done = self._total = 0
        self._failed: set[Entry] = set()  # files that cannot be read, until they change

    @property
    def progress(self) -> tuple[bool, int, int]:
        """(running, files done, files to do)"""
        return self._thread is not None, self._done, self._total

    def start(self) -> None:
        """Begin, if it is not under way and something is missing."""
        with self._lock:
            if self._thread is None and (missing := self._missing()):
                self._done, self._total = 0, len(missing)
                self._thread = threading.Thread(target=self._run, name=f"lib_lora {self._name}", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        try:
            while missing := self._missing():  # also files that came meanwhile
                self._total = self._done + len(missing)
                for entry in missing:
                    if self._library.closed:
                        return
                    time.sleep(REST * self._work(entry))
                    self._done += 1
            self._after()
        except sqlite3.ProgrammingError:  # the index was closed in this very moment
            if not self._library.closed:
                raise
        finally:
            self._thread = None

    def _missing(self) -> list[Entry]:
        return [entry for entry in self._library.entries() if entry not in self._failed and self._is_missing(entry)]

    def _work(self, entry: Entry) -> float:
        """Seconds that it took."""
        started = time.monotonic()
        try:
            self._do(entry)
        except LoraError:
            self._failed.add(entry)
        if self._is_missing(entry):  # it changed while it was read
            self._failed.add(entry)
        return time.monotonic() - started
