"""The index on disk: SQLite. Safe with several threads and several programs.

    files   one row a file: stamp (size, mtime, sidecars) and the texts of `reading.py`
    texts   the heavy ones, in a table of their own so that a start does not read past them
    hashes  by path and stamp; they outlive the row of a file whose drive is not plugged in
    marks   the user's favourites and tags, by path

All but `marks` is a cache: it can be read again from the files, and another version throws `files` and `texts` away.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lib_lora.errors import LoraError
from lib_lora.hashes import Hashes
from lib_lora.library.reading import Texts

VERSION = 4  # of the texts in `files` and `texts`: another one means reading the files again
TABLES = """
CREATE TABLE IF NOT EXISTS files (id INTEGER PRIMARY KEY AUTOINCREMENT, path BLOB UNIQUE NOT NULL,
    size INTEGER, mtime INTEGER, beside TEXT, entry TEXT);
CREATE TABLE IF NOT EXISTS texts (id INTEGER PRIMARY KEY, search TEXT, details TEXT, metadata TEXT, header TEXT);
CREATE TABLE IF NOT EXISTS hashes (path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER,
    sha256 TEXT, tensors TEXT, autov1 TEXT);
CREATE TABLE IF NOT EXISTS marks (path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, sha256 TEXT,
    favorite INTEGER, tags TEXT);
"""


class Stamp(NamedTuple):
    """Equal as long as neither the file nor anything beside it changed."""

    size: int
    mtime_ns: int
    beside: str


class Row(NamedTuple):
    id: int
    path: str
    stamp: Stamp
    entry: str


class MarkRow(NamedTuple):
    path: str
    size: int
    mtime_ns: int
    sha256: str  # empty where it was not known
    favorite: bool | None
    tags: tuple[str, ...]


class Database:
    """`path` None: for as long as the program runs."""

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.RLock()
        try:
            self._db = _open(path)
        except (sqlite3.Error, OSError) as error:
            raise LoraError(f"the index {path} cannot be opened ({error}): delete it, or check its folder") from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def rows(self) -> Iterator[Row]:
        """Every file that was ever indexed and not removed."""
        with self._lock:
            found = self._db.execute("SELECT id, path, size, mtime, beside, entry FROM files").fetchall()
        for number, path, size, mtime, beside, entry in found:
            yield Row(number, os.fsdecode(path), Stamp(size, mtime, beside), entry)

    def put(self, files: Iterable[tuple[str, Stamp, Texts]]) -> list[Row]:
        """Store a batch in one transaction."""
        with self._lock, self._db:
            return [self._put(*file) for file in files]

    def _put(self, path: str, stamp: Stamp, texts: Texts) -> Row:
        key = os.fsencode(path)
        self._db.execute("INSERT OR IGNORE INTO files (path) VALUES (?)", (key,))
        number: int = self._db.execute("SELECT id FROM files WHERE path = ?", (key,)).fetchone()[0]
        self._db.execute(
            "UPDATE files SET size = ?, mtime = ?, beside = ?, entry = ? WHERE id = ?", (*stamp, texts.entry, number)
        )
        self._db.execute("REPLACE INTO texts VALUES (?, ?, ?, ?, ?)", (number, *texts[1:]))
        return Row(number, path, stamp, texts.entry)

    def remove(self, numbers: Iterable[int]) -> None:
        rows = [(number,) for number in numbers]
        with self._lock, self._db:
            self._db.executemany("DELETE FROM files WHERE id = ?", rows)
            self._db.executemany("DELETE FROM texts WHERE id = ?", rows)

    def details(self, number: int) -> str:
        return self._text("SELECT details FROM texts WHERE id = ?", number)

    def metadata(self, number: int) -> str:
        return self._text("SELECT metadata FROM texts WHERE id = ?", number)

    def header(self, number: int) -> str:
        """Empty where `metadata` tell the same."""
        return self._text("SELECT coalesce(header, '') FROM texts WHERE id = ?", number)

    def _text(self, query: str, number: int) -> str:
        with self._lock:
            row = self._db.execute(query, (number,)).fetchone()
        return row[0] if row else "{}"

    def metadata_of(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """{id: metadata as JSON} of a few hundred files, for an answer that holds them all."""
        return self._some("CAST(metadata AS BLOB)", numbers)

    def _some(self, column: str, numbers: Sequence[int]) -> dict[int, Any]:
        places = ",".join("?" * len(numbers))
        with self._lock:
            return dict(self._db.execute(f"SELECT id, {column} FROM texts WHERE id IN ({places})", tuple(numbers)))

    def search_texts(self, numbers: Sequence[int]) -> dict[int, str]:
        """{id: what is searched besides names} of a few hundred files."""
        return self._some("search", numbers)

    def marks(self) -> list[MarkRow]:
        with self._lock:
            rows = self._db.execute("SELECT path, size, mtime, sha256, favorite, tags FROM marks").fetchall()
        return [
            MarkRow(os.fsdecode(path), size, mtime, sha256, None if favorite is None else bool(favorite),
                    tuple(json.loads(tags)))
            for path, size, mtime, sha256, favorite, tags in rows
        ]  # fmt: skip

    def put_marks(self, rows: Iterable[MarkRow]) -> None:
        """Store a batch in one transaction."""
        values = [(os.fsencode(row.path), *row[1:5], json.dumps(row.tags)) for row in rows]
        with self._lock, self._db:
            self._db.executemany("REPLACE INTO marks VALUES (?, ?, ?, ?, ?, ?)", values)

    def remove_mark(self, path: str) -> None:
        with self._lock, self._db:
            self._db.execute("DELETE FROM marks WHERE path = ?", (os.fsencode(path),))

    def hashes(self) -> dict[tuple[str, int, int], Hashes]:
        """{(path, size, mtime): hashes}"""
        with self._lock:
            rows = self._db.execute("SELECT path, size, mtime, sha256, tensors, autov1 FROM hashes").fetchall()
        return {(os.fsdecode(path), size, mtime): Hashes(*values) for path, size, mtime, *values in rows}

    def put_hashes(self, key: tuple[str, int, int], hashes: Hashes) -> None:
        path, size, mtime = key
        row = (os.fsencode(path), size, mtime, hashes.sha256, hashes.tensors, hashes.autov1)
        with self._lock, self._db:
            self._db.execute("REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)", row)


def _open(path: Path | None) -> sqlite3.Connection:
    """Open or create. What is no database is put aside as `<name>.broken`: everything in it can be read again."""
    if path is None:
        return _prepared("")  # SQLite's own temporary file: large libraries need not fit into memory
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _prepared(str(path))
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        os.replace(path, path.with_name(f"{path.name}.broken"))
        return _prepared(str(path))


def _prepared(name: str) -> sqlite3.Connection:
    db = sqlite3.connect(name, timeout=30, check_same_thread=False)
    try:
        db.execute("PRAGMA synchronous = NORMAL")
        with contextlib.suppress(sqlite3.OperationalError):  # a drive that cannot do it: slower, as good
            db.execute("PRAGMA journal_mode = WAL").fetchone()
        with db:
            if db.execute("PRAGMA user_version").fetchone()[0] not in (0, VERSION):
                db.executescript("DROP TABLE IF EXISTS files; DROP TABLE IF EXISTS texts;")
            db.executescript(f"{TABLES} PRAGMA user_version = {VERSION};")
    except sqlite3.Error:
        db.close()
        raise
    return db
