"""Hashes of the whole library, computed in the background: one thread that leaves the disk to others in between."""

from __future__ import annotations

import sqlite3
import threading
import time

from lib_lora.errors import AdapterFileError
from lib_lora.library.entry import Entry
from lib_lora.library.index import Library

REST = 0.5  # seconds of rest for each second of work


class Hasher:
    """Computes what is missing, once `start` is called."""

    def __init__(self, library: Library) -> None:
        self._library = library
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
                self._thread = threading.Thread(target=self._run, name="lib_lora hashes", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        try:
            while missing := self._missing():  # also files that came meanwhile
                self._total = self._done + len(missing)
                for entry in missing:
                    if self._library.closed:
                        return
                    time.sleep(REST * self._hash(entry))
                    self._done += 1
            self._library.follow_marks()
        except sqlite3.ProgrammingError:  # the index was closed in this very moment
            if not self._library.closed:
                raise
        finally:
            self._thread = None

    def _missing(self) -> list[Entry]:
        entries = self._library.entries()
        return [entry for entry in entries if entry not in self._failed and not self._library.known_hashes(entry)]

    def _hash(self, entry: Entry) -> float:
        """Seconds that it took."""
        started = time.monotonic()
        try:
            _ = entry.hashes
        except AdapterFileError:
            self._failed.add(entry)
        if not self._library.known_hashes(entry):  # it changed while it was read
            self._failed.add(entry)
        return time.monotonic() - started
