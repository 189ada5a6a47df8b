"""What can still be had of an index that is damaged, and the second place in which marks are kept.

All but the user's marks can be read again from the adapter files. So every change of a mark is written to
`<index>.marks.json` too, and of a damaged index each row is asked for by itself.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lib_lora.formats.opening import open_file, read_file
from lib_lora.formats.write import write_file

FAULTS = (sqlite3.Error, UnicodeDecodeError)  # what sqlite3 raises; the second for messages with damaged names in them
MAGIC = b"SQLite format 3\0"
MOST_PROBES = 50_000  # rows that are asked for one by one
MAX_BACKUP = 256 << 20  # bytes
WORDS = (  # in messages about damage that come as another class of error
    "no such table", "no such column", "no column named", " columns but ", "malformed", "unsupported file format",
)  # fmt: skip


class MarkRow(NamedTuple):
    path: str
    size: int
    mtime_ns: int
    sha256: str  # empty where it was not known
    favorite: bool | None
    tags: tuple[str, ...]


class Saved(NamedTuple):
    """What was saved of an index."""

    ids: list[tuple[Any, ...]]  # (id, path)
    hashes: list[tuple[Any, ...]]
    marks: list[tuple[Any, ...]]  # as they stand in the table
    is_whole: bool  # all marks


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says that the file's content is wrong, and not that the place cannot be used just now."""
    if isinstance(error, sqlite3.OperationalError):
        return any(word in str(error) for word in WORDS)
    return isinstance(error, (sqlite3.DatabaseError, UnicodeDecodeError))


def is_odd(index: Path) -> bool:
    """Whether the file begins as no index of ours does: SQLite then says many things, such as that it is read-only."""
    try:
        with open_file(index) as file:
            start = file.read(20)
    except OSError:
        return False
    return len(start) == 20 and (start[:16] != MAGIC or not {start[18], start[19]} <= {1, 2})


def backup_path(index: Path) -> Path:
    return index.with_name(f"{index.name}.marks.json")


def write_backup(index: Path, rows: Iterable[MarkRow]) -> None:
    """Keep the marks beside the index. Raises OSError."""
    told = [row._asdict() for row in rows]
    write_file(backup_path(index), json.dumps({"marks": told}, indent=0).encode())


def read_backup(index: Path) -> list[MarkRow]:
    """What `write_backup` wrote; empty if it is not there or cannot be read."""
    try:
        told = json.loads(read_file(backup_path(index), MAX_BACKUP) or b"{}")
        return [_mark(each) for each in told.get("marks", ())]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []


def _mark(told: dict[str, Any]) -> MarkRow:
    favorite = told["favorite"]
    tags = tuple(str(tag) for tag in told["tags"])
    return MarkRow(str(told["path"]), int(told["size"]), int(told["mtime_ns"]), str(told["sha256"]),
                   None if favorite is None else bool(favorite), tags)  # fmt: skip


def saved_from(db: sqlite3.Connection) -> Saved:
    """What can be read of the tables of `db`."""
    ids, _ = _rows(db, "files", "id, path")
    hashes, _ = _rows(db, "hashes", "path, size, mtime, sha256, tensors, autov1")
    marks, is_whole = _rows(db, "marks", "path, size, mtime, sha256, favorite, tags")
    return Saved(ids, hashes, marks, is_whole)


def saved_from_file(path: Path) -> Saved:
    """The same of a file that SQLite does not take for its own: with its first bytes as they must be."""
    nothing = Saved([], [], [], False)
    with tempfile.TemporaryDirectory(prefix="lib_lora-") as folder, contextlib.suppress(OSError, *FAULTS):
        copy = Path(folder, "index")
        shutil.copyfile(path, copy)
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(f"{path}-wal", f"{copy}-wal")
        with open(copy, "r+b") as file:
            file.write(MAGIC)
        db = sqlite3.connect(str(copy))
        db.text_factory = as_text
        try:
            return saved_from(db)
        finally:
            db.close()
    return nothing


def put_aside(path: Path) -> Path:
    """Give a file that is no database, and what SQLite keeps beside it, another name. Raises OSError."""
    aside = _free(path)
    for ending in ("-wal", "-shm"):  # else they would be taken for those of the next index
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).replace(aside.with_name(aside.name + ending))
    path.replace(aside)
    return aside


def copy_aside(path: Path) -> Path | None:
    """A copy of a damaged index, for those who know how to get more out of it; None if there is no room for it."""
    aside = _free(path)
    try:
        shutil.copyfile(path, aside)
    except OSError:
        aside.unlink(missing_ok=True)
        return None
    return aside


def as_text(content: bytes) -> str:
    """What a damaged page holds need not be text."""
    return content.decode("utf-8", "replace")


def _free(path: Path) -> Path:
    names = (f"{path.name}.broken", *(f"{path.name}.broken.{number}" for number in range(2, 100)))
    return next((path.with_name(name) for name in names if not path.with_name(name).exists()), path.with_name(names[0]))


def _rows(db: sqlite3.Connection, table: str, columns: str) -> tuple[list[tuple[Any, ...]], bool]:
    """`(rows, whether these are all)`: from the beginning, from the end, and one by one what lies between."""
    found: dict[int, tuple[Any, ...]] = {}

    def read(rest: str, values: Sequence[Any] = ()) -> bool:
        with contextlib.suppress(*FAULTS, OverflowError, ValueError):
            for number, *row in db.execute(f"SELECT rowid, {columns} FROM {table} {rest}", values):
                found[number] = tuple(row)
            return True
        return False

    if read("ORDER BY rowid"):
        return list(found.values()), True
    lowest = max(found, default=0)
    read("ORDER BY rowid DESC")
    highest = min((number for number in found if number > lowest), default=lowest + MOST_PROBES // 50)
    for number in range(lowest + 1, min(highest, lowest + MOST_PROBES)):
        read("WHERE rowid = ?", (number,))
    return [found[number] for number in sorted(found)], False

