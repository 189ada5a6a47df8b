"""What the commands show: one-line messages, tables, a progress bar. Foreign text cannot steer the terminal."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

from lib_lora.formats.text import printable

PROGRAM = "lib_lora"
GAP = "  "
BAR = 30  # characters


def complain(text: str) -> None:
    """Each line of `text` on stderr, as `lib_lora: line`."""
    with contextlib.suppress(OSError):  # nobody listens, or there is no room: the exit status still tells
        for line in text.splitlines():
            print(f"{PROGRAM}: {printable(line)}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def warnings_told() -> Iterator[None]:
    """What the library logs is told as all other sentences are."""
    log, handler = logging.getLogger(PROGRAM), _Told()
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


class _Told(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None = None) -> list[str]:
    """Lines with aligned columns; the last column is cut where the line would get wider than `width`."""
    cells = [tuple(head), *(tuple(map(printable, row)) for row in rows)]
    widths = [max(columns(cell) for cell in column) for column in zip(*cells, strict=True)]
    lines = (GAP.join(_padded(cell, wide) for cell, wide in zip(row, widths, strict=True)).rstrip() for row in cells)
    return [line if width is None else cut(line, width) for line in lines]


def columns(text: str) -> int:
    """The places that `text` takes on a terminal: two for a Chinese letter, none for an accent."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )


def cut(text: str, width: int) -> str:
    """`text` in at most `width` places."""
    if columns(text) <= width:
        return text
    kept = ""
    while columns(kept + text[len(kept)]) < width:
        kept += text[len(kept)]
    return f"{kept}…"


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Places in a line if standard output is a terminal, else None: pipes get everything."""
    return shutil.get_terminal_size().columns if (stream or sys.stdout).isatty() else None


class Bar:
    """A progress bar on stderr if that is a terminal, else nothing. Use in a `with`; call it with (done, total)."""

    def __init__(self, title: str, unit: str = "", *, scale: float = 1) -> None:
        self.title, self.unit, self.scale = title, unit, scale
        self.is_shown = sys.stderr.isatty()
        self.started = time.monotonic()
        self.drawn = 0.0

    def __call__(self, done: int, total: int, left: float | None = None) -> None:
        """`left`: seconds that it will still take, if that can be told."""
        now = time.monotonic()
        if not self.is_shown or (now - self.drawn < 0.1 and done < total):
            return
        self.drawn = now
        share = done / total if total else 1.0
        numbers = f"{done / self.scale:.4g}/{total / self.scale:.4g}{self.unit}"
        times = f"{now - self.started:.0f} s" + ("" if left is None else f", {_lasting(left)} left")
        line = f"{self.title} {'━' * round(share * BAR):{BAR}} {numbers}  {times}"
        print(f"\r\033[K{cut(line, shutil.get_terminal_size().columns - 1)}", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.is_shown and self.drawn:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _lasting(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - columns(text))
