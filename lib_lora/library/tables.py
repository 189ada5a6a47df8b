"""The tables of the index: opened or created, emptied by a new version, copied into memory, made anew when damaged."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lib_lora.library import rescue
from lib_lora.library.reading import Texts
from lib_lora.library.rescue import FAULTS, MarkRow

VERSION = 6  # of the texts in `files` and `texts`: another one means reading the files again
MEASURE = 1  # of the figures in `measures`: another one means measuring again
TIMEOUT = 10  # seconds that another program may hold the index
TABLES = """
CREATE TABLE IF NOT EXISTS files (id INTEGER PRIMARY KEY AUTOINCREMENT, path BLOB UNIQUE NOT NULL,
    size INTEGER, mtime INTEGER, beside TEXT, entry TEXT);
CREATE TABLE IF NOT EXISTS texts (id INTEGER PRIMARY KEY, search TEXT, details TEXT, metadata TEXT, header TEXT);
CREATE TABLE IF NOT EXISTS hashes (path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER,
    sha256 TEXT, tensors TEXT, autov1 TEXT);
CREATE TABLE IF NOT EXISTS marks (path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, sha256 TEXT,
    favorite INTEGER, tags TEXT);
CREATE TABLE IF NOT EXISTS measures (hash TEXT, family TEXT, made INTEGER, change REAL, told TEXT,
    PRIMARY KEY (hash, family));
"""
MARKS = "path, size, mtime, sha256, favorite, tags"


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


class Connection(sqlite3.Connection):
    """Knows which file it was opened on."""

    identity: tuple[int, int] | None = None


def is_there(db: Connection, path: Path) -> bool:
    """Whether `path` still is the file that `db` has open: another program may have made it anew."""
    return db.identity is None or db.identity == _identity(path)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def put(db: sqlite3.Connection, path: str, stamp: Stamp, texts: Texts) -> Row:
    key = os.fsencode(path)
    db.execute("INSERT OR IGNORE INTO files (path) VALUES (?)", (key,))
    number: int = db.execute("SELECT id FROM files WHERE path = ?", (key,)).fetchone()[0]
    db.execute(
        "UPDATE files SET size = ?, mtime = ?, beside = ?, entry = ? WHERE id = ?", (*stamp, texts.entry, number)
    )
    row = (number, texts.search, texts.details, texts.metadata, texts.header)
    db.execute("REPLACE INTO texts VALUES (?, ?, ?, ?, ?)", row)
    return Row(number, path, stamp, texts.entry)


def marks_of(db: sqlite3.Connection, query: str, values: Sequence[Any] = ()) -> list[MarkRow]:
    return [mark for row in db.execute(query, values) if (mark := _mark(row)) is not None]


def _mark(row: Sequence[Any]) -> MarkRow | None:
    """The row of a mark; None if it is none: damage need not show in any other way."""
    path, size, mtime, sha256, favorite, tags = row
    try:
        read = json.loads(tags)
        is_right = isinstance(path, bytes) and isinstance(read, list) and type(size) is type(mtime) is int
    except (ValueError, TypeError, RecursionError):
        return None
    if not is_right or not path:
        return None
    own = None if favorite is None else bool(favorite)
    return MarkRow(os.fsdecode(path), size, mtime, str(sha256 or ""), own, tuple(map(str, read)))


def put_marks(db: sqlite3.Connection, rows: Iterable[MarkRow]) -> None:
    values = [(os.fsencode(row.path), *row[1:5], json.dumps(row.tags)) for row in rows]
    db.executemany("REPLACE INTO marks VALUES (?, ?, ?, ?, ?, ?)", values)


def is_hashes(row: Sequence[Any]) -> bool:
    return [type(value) for value in row] == [bytes, int, int, str, str, str]


def is_measure(row: Sequence[Any]) -> bool:
    return [type(value) for value in row] == [str, str, float] and row[2] >= 0


def places(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def open_index(path: Path) -> Connection:
    """Open or create; marks that are kept beside it and that it has not, as a new one, it gets. Raises FAULTS, OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    db = prepared(str(path))
    try:
        db.identity = _identity(path)
        known = {row.path for row in marks_of(db, f"SELECT {MARKS} FROM marks")}
        if missing := [row for row in rescue.read_backup(path) if row.path not in known]:
            with db:
                put_marks(db, missing)
    except FAULTS:
        db.close()
        raise
    return db


def prepared(name: str) -> Connection:
    db: Connection = sqlite3.connect(name, timeout=TIMEOUT, check_same_thread=False, factory=Connection)
    try:
        db.text_factory = rescue.as_text
        db.execute("PRAGMA synchronous = NORMAL")
        with contextlib.suppress(sqlite3.OperationalError):  # a drive that cannot do it: slower, as good
            db.execute("PRAGMA journal_mode = WAL").fetchone()
        if db.execute("PRAGMA user_version").fetchone()[0] != VERSION or not _has_tables(db):
            _make_tables(db)
    except FAULTS:
        db.close()
        raise
    return db


def _has_tables(db: sqlite3.Connection) -> bool:
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return {"files", "texts", "hashes", "marks", "measures"} <= names


def _make_tables(db: sqlite3.Connection) -> None:
    """In one transaction; ids of entries are never given twice, whichever version gave them."""
    db.execute("BEGIN IMMEDIATE")
    with db:
        used = 0
        if db.execute("PRAGMA user_version").fetchone()[0] not in (0, VERSION):
            if _has_tables(db):
                query = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'files'"
                used = db.execute(query).fetchone()[0]
            db.execute("DROP TABLE IF EXISTS files")
            db.execute("DROP TABLE IF EXISTS texts")
        for statement in filter(str.strip, TABLES.split(";")):
            db.execute(statement)
        if used:
            db.execute("INSERT INTO sqlite_sequence VALUES ('files', ?)", (used,))
        db.execute(f"PRAGMA user_version = {VERSION}")


def in_memory(path: Path | None, db: sqlite3.Connection | None) -> Connection:
    """An index in memory with all that can be read of the one on the disk."""
    made = prepared(":memory:")
    source = db or (_read_only(path) if path is not None else None)
    if source is None:
        return made
    try:
        source.backup(made)
        if made.execute("PRAGMA user_version").fetchone()[0] != VERSION or not _has_tables(made):
            _make_tables(made)
    except FAULTS:
        made.close()
        made = prepared(":memory:")
    with contextlib.suppress(*FAULTS):
        source.close()
    return made


def _read_only(path: Path) -> sqlite3.Connection | None:
    """The index at `path` where nothing can be written, not even beside it."""
    if not path.is_file():
        return None
    for how in ("mode=ro", "immutable=1"):
        with contextlib.suppress(*FAULTS):
            db = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=1, check_same_thread=False)
            db.text_factory = rescue.as_text
            try:
                db.execute("SELECT count(*) FROM sqlite_master").fetchone()
                return db
            except FAULTS:
                db.close()
    return None


def made_anew(path: Path, db: Connection | None) -> tuple[Connection, str]:
    """`(the index, with what was saved of the damaged one, a sentence)`. Raises sqlite3.Error and OSError.

    Where SQLite still takes it for a database, it is written over as one, with its locks: other programs may have it
    open. Else the file is put aside.
    """
    saved = rescue.Saved([], [], [], False)
    aside = made = None
    if db is not None:
        saved = rescue.saved_from(db)
        aside = rescue.copy_aside(path)
        made = _written_over(db)
    if made is None:
        if aside is not None:
            aside.unlink(missing_ok=True)
        aside = rescue.put_aside(path)
        saved = saved if saved.marks else rescue.saved_from_file(aside)
        made = prepared(str(path))
        made.identity = _identity(path)
    kept = {row.path: row for row in rescue.read_backup(path)}
    kept |= {mark.path: mark for row in saved.marks if (mark := _mark(row)) is not None}
    with made:
        put_marks(made, kept.values())
        for number, name in saved.ids:
            if isinstance(name, bytes) and type(number) is int:
                made.execute("INSERT OR IGNORE INTO files VALUES (?, ?, -1, 0, '', '')", (number, name))
        rows = [row for row in saved.hashes if is_hashes(row)]
        made.executemany("INSERT OR IGNORE INTO hashes VALUES (?, ?, ?, ?, ?, ?)", rows)
    count = f"{len(kept)} favourites and tags were saved"
    all_of_them = saved.is_whole or rescue.backup_path(path).exists()
    lost = "" if all_of_them else ", others may be lost"
    where = f"; the damaged one is kept as {aside.name}" if aside else ""
    return made, f"the index {path} was damaged and was made anew: {count}{lost}{where}"


def _written_over(db: Connection) -> Connection | None:
    """`db` with nothing in it but empty tables; None, and it is closed, if SQLite does not take it for a database."""
    with contextlib.closing(prepared(":memory:")) as empty:
        try:
            empty.backup(db)
            db.execute("SELECT count(*) FROM marks").fetchone()
            return db
        except FAULTS as error:
            db.close()
            if not rescue.is_damage(error):
                raise
            return None
