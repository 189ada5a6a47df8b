"""Job: work that takes a while, in a thread of its own; whoever asks is told how far it is and what became of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from lib_lora.errors import LoraError

Progress = Callable[[int, int], object]  # (done, of how much)
Work = Callable[[Progress], dict[str, Any]]
FAULT = "an error in lib_lora: {}; the console says more"

log = logging.getLogger("lib_lora")


class Job:
    """One kind of work, of which one is under way at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._done = self._total = 0
        self._result: dict[str, Any] | None = None
        self._problem: str | None = None

    def told(self) -> dict[str, Any]:
        """{"running", "done", "total", "result": of the last one, "problem": why there is none}"""
        with self._lock:
            return {"running": self._thread is not None, "done": self._done, "total": self._total,
                    "result": self._result, "problem": self._problem}  # fmt: skip

    def start(self, work: Work) -> None:
        """Begin. Raises LoraError if one is under way."""
        with self._lock:
            if self._thread is not None:
                raise LoraError("this is being done already; wait until it is ready")
            self._done = self._total = 0
            self._result = self._problem = None
            self._thread = threading.Thread(target=self._run, args=(work,), name=f"lib_lora {self._name}", daemon=True)
            self._thread.start()

    def _run(self, work: Work) -> None:
        result, problem = None, None
        try:
            result = work(self._progress)
        except LoraError as error:
            problem = str(error)
        except Exception as error:  # the rim: nobody waits for this thread, and who asked must be told
            log.warning("Lora: %s failed", self._name, exc_info=error)
            problem = FAULT.format(f"{type(error).__name__}: {error}")
        with self._lock:
            self._result, self._problem, self._thread = result, problem, None

    def _progress(self, done: int, total: int) -> None:
        self._done, self._total = done, total
