"""The index on disk: SQLite. Safe with several threads and several programs.

    files   one row a file: stamp (size, mtime, sidecars) and the texts of `reading.py`
    texts   the heavy ones, in a table of their own so that a start does not read past them
    hashes  by path and stamp; they outlive the row of a file whose drive is not plugged in
    marks   the user's favourites and tags, by path

All but `marks` is a cache: it can be read again from the files, and another version throws `files` and `texts` away.

A place that is locked, full or cannot be written is no reason not to find an adapter: the index goes on in memory, and
comes back once the place can be used. A damaged one is made anew with all that can still be read of it (`rescue.py`).
Only marks are never kept in memory alone: where they cannot be saved, that is an error.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lib_lora.errors import LoraError
from lib_lora.formats.hashes import Hashes
from lib_lora.library import rescue
from lib_lora.library.reading import Texts
from lib_lora.library.rescue import FAULTS, MarkRow

VERSION = 5  # of the texts in `files` and `texts`: another one means reading the files again
TIMEOUT = 10  # seconds that another program may hold the index
AGAIN = 60  # seconds until a place that could not be used is tried again
SOME = 500  # values in one question
TABLES = """
CREATE TABLE IF NOT EXISTS files (id INTEGER PRIMARY KEY AUTOINCREMENT, path BLOB UNIQUE NOT NULL,
    size INTEGER, mtime INTEGER, beside TEXT, entry TEXT);
CREATE TABLE IF NOT EXISTS texts (id INTEGER PRIMARY KEY, search TEXT, details TEXT, metadata TEXT, header TEXT);
CREATE TABLE IF NOT EXISTS hashes (path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER,
    sha256 TEXT, tensors TEXT, autov1 TEXT);
CREATE TABLE IF NOT EXISTS marks (path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, sha256 TEXT,
    favorite INTEGER, tags TEXT);
"""
MARKS = "path, size, mtime, sha256, favorite, tags"
T = TypeVar("T")
log = logging.getLogger(__name__)


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


class Database:
    """`path` None: for as long as the program runs."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.generation = 0  # another one: the rows are not those that were told before
        self.damage = ""  # a sentence: what became of an index that was damaged
        self.trouble = ""  # a sentence: why the index is in memory now, against what was asked for
        self._lock = threading.RLock()
        self._closed = False
        self._tried = 0.0  # time.monotonic() of the last attempt to use `path`
        self._seen: Any = None  # what tells whether other programs wrote into it
        try:
            self._db = _prepared("") if path is None else _open(path)
        except (*FAULTS, OSError) as error:
            self._db = self._rescued(error, None)

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences about the index for the user."""
        return tuple(text for text in (self.damage, self.trouble) if text)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._db.close()

    # the files

    def rows(self, below: Iterable[Path] = ()) -> Iterator[Row]:
        """Every file that was ever indexed and not removed; only those in the folders `below`, if there are any."""
        tops = [os.fsencode(os.path.join(folder, "")) for folder in below]
        where = " OR ".join(["(path >= ? AND path < ?)"] * len(tops)) or "1"
        ends = [end for top in tops for end in (top, top[:-1] + bytes([top[-1] + 1]))]
        self._come_back()
        query = f"SELECT id, path, size, mtime, beside, entry FROM files WHERE {where}"
        for number, path, size, mtime, beside, entry in self._do(lambda db: db.execute(query, ends).fetchall()):
            if isinstance(path, bytes):  # else it is damage that SQLite does not notice
                yield Row(number, os.fsdecode(path), Stamp(size, mtime, beside), entry)

    def put(self, files: Iterable[tuple[str, Stamp, Texts]]) -> list[Row]:
        """Store a batch in one transaction."""
        batch = list(files)
        return self._do(lambda db: [_put(db, *file) for file in batch])

    def remove(self, numbers: Iterable[int]) -> None:
        rows = [(number,) for number in numbers]

        def work(db: sqlite3.Connection) -> None:
            db.executemany("DELETE FROM files WHERE id = ?", rows)
            db.executemany("DELETE FROM texts WHERE id = ?", rows)

        if rows:
            self._do(work)

    def details(self, number: int) -> str:
        """Empty where it is not there, as after damage, until the next scan."""
        return self._text("SELECT details FROM texts WHERE id = ?", number)

    def metadata(self, number: int) -> str:
        """Empty where it is not there."""
        return self._text("SELECT metadata FROM texts WHERE id = ?", number)

    def header(self, number: int) -> str:
        """Empty where `metadata` tell the same."""
        return self._text("SELECT coalesce(header, '') FROM texts WHERE id = ?", number)

    def _text(self, query: str, number: int) -> str:
        row = self._do(lambda db: db.execute(query, (number,)).fetchone())
        return row[0] if row and row[0] is not None else ""

    def metadata_of(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """{id: metadata as JSON} of a few hundred files, for an answer that holds them all."""
        return self._some("CAST(metadata AS BLOB)", numbers)

    def _some(self, column: str, numbers: Sequence[int]) -> dict[int, Any]:
        query = f"SELECT id, {column} FROM texts WHERE id IN ({_places(numbers)})"
        return self._do(lambda db: dict(db.execute(query, tuple(numbers)).fetchall()))

    def search_texts(self, numbers: Sequence[int]) -> dict[int, str]:
        """{id: what is searched besides names} of a few hundred files."""
        return self._some("search", numbers)

    # hashes

    def hashes(self) -> dict[tuple[str, int, int], Hashes]:
        """{(path, size, mtime): hashes}"""
        query = "SELECT path, size, mtime, sha256, tensors, autov1 FROM hashes"
        rows = self._do(lambda db: db.execute(query).fetchall())
        return {(os.fsdecode(row[0]), *row[1:3]): Hashes(*row[3:]) for row in rows if _is_hashes(row)}

    def put_hashes(self, key: tuple[str, int, int], hashes: Hashes) -> None:
        path, size, mtime = key
        row = (os.fsencode(path), size, mtime, hashes.sha256, hashes.tensors, hashes.autov1)
        self._do(lambda db: db.execute("REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)", row))

    # marks

    def marks(self) -> list[MarkRow]:
        rows = self._do(lambda db: _marks(db, f"SELECT {MARKS} FROM marks"))
        if not rows and self.trouble and self.path is not None:
            return rescue.read_backup(self.path)  # they may be shown, though not changed
        return rows

    def change_marks(
        self, paths: Sequence[str], change: Callable[[dict[str, MarkRow]], list[MarkRow]]
    ) -> list[MarkRow]:
        """Give `change` the marks of `paths` as they are now, of whichever program, and store what it returns.

        One transaction, so that nobody's mark is written over unread. Raises LoraError where nothing can be saved.
        """
        with self._lock:
            try:
                try:
                    return self._change_marks(paths, change)
                except FAULTS as error:
                    if self._closed or self.trouble or not rescue.is_damage(error):
                        raise
                    self._db = self._rescued(error, self._db)
                    self.generation += 1
                    return self._change_marks(paths, change)
            except (*FAULTS, OSError) as error:
                if self._closed:
                    raise
                raise LoraError(f"the favourites and tags cannot be saved ({_said(self.path, error)})") from error

    def _change_marks(
        self, paths: Sequence[str], change: Callable[[dict[str, MarkRow]], list[MarkRow]]
    ) -> list[MarkRow]:
        with self._marking() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                known: dict[str, MarkRow] = {}
                for start in range(0, len(paths), SOME):
                    keys = [os.fsencode(path) for path in paths[start : start + SOME]]
                    query = f"SELECT {MARKS} FROM marks WHERE path IN ({_places(keys)})"
                    known.update((row.path, row) for row in _marks(db, query, keys))
                rows = change(known)
                _put_marks(db, rows)
                if rows and self.path is not None:
                    rescue.write_backup(self.path, _marks(db, f"SELECT {MARKS} FROM marks"))
                db.commit()
            except BaseException:
                db.rollback()
                raise
            return rows

    @contextlib.contextmanager
    def _marking(self) -> Iterator[sqlite3.Connection]:
        """A connection to what is on the disk, also if the index is in memory meanwhile."""
        if self.path is not None and not self.trouble:
            self._come_back(at_once=True)  # only if another program put another file there
        if self.path is None or not self.trouble:
            yield self._db
            return
        with contextlib.closing(_open(self.path)) as own:
            yield own

    def is_changed_by_others(self) -> bool:
        """Whether another program wrote into the index since this was asked last."""
        version = self.generation, self._do(lambda db: db.execute("PRAGMA data_version").fetchone()[0])
        changed, self._seen = version != self._seen, version
        return changed

    # when something is wrong

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, in one transaction; again with another connection if this one fails."""
        with self._lock:
            for _ in range(3):
                db = self._db
                try:
                    with db:
                        return work(db)
                except sqlite3.ProgrammingError:  # it was closed
                    raise
                except FAULTS as error:
                    if self._closed:
                        raise
                    self._db = self._rescued(error, db)
                    self.generation += 1
            with self._db:
                return work(self._db)

    def _rescued(self, error: Exception, db: _Connection | None) -> _Connection:
        """Another connection in the place of `db`, which failed (None: it could not even be opened)."""
        is_damage = self.path is not None and (rescue.is_damage(error) or rescue.is_odd(self.path))
        if self.path is not None and not self.trouble and is_damage:
            try:
                made, self.damage = _made_anew(self.path, db)
                log.warning(self.damage)
                return made
            except (*FAULTS, OSError) as second:
                error = second
        if self.path is not None:
            self.trouble = (
                f"the index cannot be used ({_said(self.path, error)}): adapters are found all the same, "
                "but favourites and tags cannot be saved"
            )
            log.warning(self.trouble)
        self._tried = time.monotonic()
        return _in_memory(self.path, db)

    def _come_back(self, *, at_once: bool = False) -> None:
        """Use the place on the disk again if it could not be used, or if the file there is another one by now."""
        with self._lock:
            if self.path is None or self._closed:
                return
            if self.trouble:
                if not at_once and time.monotonic() - self._tried < AGAIN:
                    return
            elif _is_there(self._db, self.path):
                return
            try:
                db = _open(self.path)
            except (*FAULTS, OSError):
                self._tried = time.monotonic()
                return
            with contextlib.suppress(*FAULTS):
                self._db.close()
            self._db, self.trouble = db, ""
            self.generation += 1


class _Connection(sqlite3.Connection):
    """Knows which file it was opened on."""

    identity: tuple[int, int] | None = None


def _is_there(db: _Connection, path: Path) -> bool:
    """Whether `path` still is the file that `db` has open: another program may have made it anew."""
    return db.identity is None or db.identity == _identity(path)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _said(path: Path | None, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return f"{path}: {reason}" if path else reason


def _put(db: sqlite3.Connection, path: str, stamp: Stamp, texts: Texts) -> Row:
    key = os.fsencode(path)
    db.execute("INSERT OR IGNORE INTO files (path) VALUES (?)", (key,))
    number: int = db.execute("SELECT id FROM files WHERE path = ?", (key,)).fetchone()[0]
    db.execute(
        "UPDATE files SET size = ?, mtime = ?, beside = ?, entry = ? WHERE id = ?", (*stamp, texts.entry, number)
    )
    row = (number, texts.search, texts.details, texts.metadata, texts.header)
    db.execute("REPLACE INTO texts VALUES (?, ?, ?, ?, ?)", row)
    return Row(number, path, stamp, texts.entry)


def _marks(db: sqlite3.Connection, query: str, values: Sequence[Any] = ()) -> list[MarkRow]:
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


def _put_marks(db: sqlite3.Connection, rows: Iterable[MarkRow]) -> None:
    values = [(os.fsencode(row.path), *row[1:5], json.dumps(row.tags)) for row in rows]
    db.executemany("REPLACE INTO marks VALUES (?, ?, ?, ?, ?, ?)", values)


def _is_hashes(row: Sequence[Any]) -> bool:
    return [type(value) for value in row] == [bytes, int, int, str, str, str]


def _places(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def _open(path: Path) -> _Connection:
    """Open or create; marks that are kept beside it and that it has not, as a new one, it gets. Raises FAULTS, OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    db = _prepared(str(path))
    try:
        db.identity = _identity(path)
        known = {row.path for row in _marks(db, f"SELECT {MARKS} FROM marks")}
        if missing := [row for row in rescue.read_backup(path) if row.path not in known]:
            with db:
                _put_marks(db, missing)
    except FAULTS:
        db.close()
        raise
    return db


def _prepared(name: str) -> _Connection:
    db: _Connection = sqlite3.connect(name, timeout=TIMEOUT, check_same_thread=False, factory=_Connection)
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
    return {"files", "texts", "hashes", "marks"} <= names


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


def _in_memory(path: Path | None, db: sqlite3.Connection | None) -> _Connection:
    """An index in memory with all that can be read of the one on the disk."""
    made = _prepared(":memory:")
    source = db or (_read_only(path) if path is not None else None)
    if source is None:
        return made
    try:
        source.backup(made)
        if made.execute("PRAGMA user_version").fetchone()[0] != VERSION or not _has_tables(made):
            _make_tables(made)
    except FAULTS:
        made.close()
        made = _prepared(":memory:")
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


def _made_anew(path: Path, db: _Connection | None) -> tuple[_Connection, str]:
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
        made = _prepared(str(path))
        made.identity = _identity(path)
    kept = {row.path: row for row in rescue.read_backup(path)}
    kept |= {mark.path: mark for row in saved.marks if (mark := _mark(row)) is not None}
    with made:
        _put_marks(made, kept.values())
        for number, name in saved.ids:
            if isinstance(name, bytes) and type(number) is int:
                made.execute("INSERT OR IGNORE INTO files VALUES (?, ?, -1, 0, '', '')", (number, name))
        rows = [row for row in saved.hashes if _is_hashes(row)]
        made.executemany("INSERT OR IGNORE INTO hashes VALUES (?, ?, ?, ?, ?, ?)", rows)
    count = f"{len(kept)} favourites and tags were saved"
    all_of_them = saved.is_whole or rescue.backup_path(path).exists()
    lost = "" if all_of_them else ", others may be lost"
    where = f"; the damaged one is kept as {aside.name}" if aside else ""
    return made, f"the index {path} was damaged and was made anew: {count}{lost}{where}"


def _written_over(db: _Connection) -> _Connection | None:
    """`db` with nothing in it but empty tables; None, and it is closed, if SQLite does not take it for a database."""
    with contextlib.closing(_prepared(":memory:")) as empty:
        try:
            empty.backup(db)
            db.execute("SELECT count(*) FROM marks").fetchone()
            return db
        except FAULTS as error:
            db.close()
            if not rescue.is_damage(error):
                raise
            return None
