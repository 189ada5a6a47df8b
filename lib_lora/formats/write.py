"""The one writer of files: whole or not at all, durable, and never through a name that somebody could foresee.

What is written lies beside the target under a random name that did not exist, `.<name>.<16 digits>.tmp`, until it is
complete and on the disk; then it takes the target's name in one step. Whatever goes wrong, an interrupt too, it is
removed and the target is what it was.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
FLAGS |= getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)


@contextlib.contextmanager
def writing(target: Path, *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """A file to write into that becomes `target` when the block ends, with the rights that `target` had.

    Without `overwrite` it becomes `target` only if nothing has that name by then, else FileExistsError is raised.
    Raises OSError.

    >>> with writing(Path("notes.json")) as file:
    ...     file.write(b"{}")
    """
    unfinished = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.tmp")
    is_ours = True
    try:
        try:
            number = os.open(unfinished, FLAGS, 0o666)
        except FileExistsError:
            is_ours = False
            raise
        with os.fdopen(number, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            _keep_rights(target, unfinished)
            os.replace(unfinished, target)
        else:
            _name(unfinished, target)
        _settle(target.parent)
    finally:
        if is_ours:
            unfinished.unlink(missing_ok=True)


def write_file(target: Path, content: bytes, *, overwrite: bool = True) -> None:
    """`content` as the file `target`; see `writing`."""
    with writing(target, overwrite=overwrite) as file:
        file.write(content)


def _keep_rights(target: Path, unfinished: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISREG(os.stat(target).st_mode):
            shutil.copymode(target, unfinished)


def _name(unfinished: Path, target: Path) -> None:
    """Give `unfinished` the name `target` unless something has it. Raises FileExistsError."""
    if os.name == "nt":
        os.rename(unfinished, target)
        return
    try:
        os.link(unfinished, target)  # a second name for the same file; `writing` takes the first away
    except FileExistsError:
        raise
    except OSError:  # a drive that cannot do it (FAT): take the name first, then fill it
        os.close(os.open(target, FLAGS, 0o666))
        os.replace(unfinished, target)


def _settle(folder: Path) -> None:
    """Have the system write the folder too: after a power cut the new name is there, or the old file."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):  # some drives cannot
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
