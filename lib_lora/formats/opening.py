"""Opening what lies in the user's folders: real files only, and no more of them than was agreed.

A pipe would wait for a writer that never comes, a device never ends, and a file may become either between a look at it
and its opening: so it is opened without waiting, and looked at through what was opened.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)
FLAGS |= getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
KINDS = (  # what something is that is no file
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_file(path: str | os.PathLike[str], *, buffering: int = 0) -> BinaryIO:
    """The file `path`, to be read. Raises OSError, also for what is there and is no file."""
    return open(path, "rb", buffering=buffering, opener=_opener)


def read_file(path: str | os.PathLike[str], most: int) -> bytes | None:
    """The whole file, or None if it has more than `most` bytes; no more than that is ever read. Raises OSError."""
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            return None
        parts, size = [], 0
        while part := file.read(min(most + 1 - size, 1 << 20)):  # it may grow, or not know its size (/proc)
            parts.append(part)
            size += len(part)
            if size > most:
                return None
    return b"".join(parts)


def strange(mode: int) -> str:
    """What something with this `st_mode` is, if it is no file: "a pipe"; else an empty text."""
    return "" if stat.S_ISREG(mode) else next((name for test, name in KINDS if test(mode)), "no file")


def _opener(path: str, _flags: int) -> int:
    number = os.open(path, FLAGS)
    try:
        if kind := strange(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, f"it is {kind}, not a file", path)
    except BaseException:
        os.close(number)
        raise
    return number
