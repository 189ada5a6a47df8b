"""The index on disk: SQLite. Safe with several threads and several programs.

    files   one row a file: stamp (size, mtime, sidecars) and the texts of `reading.py`
    texts   the heavy ones, in a table of their own so that a start does not read past them
    hashes  by path and stamp; they outlive the row of a file whose drive is not plugged in
    marks   the user's favourites and tags, by path
    measures  what adapters change, by the hash of their tensors and the family that they were measured as

All but `marks` is a cache: it can be read again from the files, and another version throws `files` and `texts` away.

A place that is locked, full or cannot be written is no reason not to find an adapter: the index goes on in memory, and
comes back once the place can be used. A damaged one is made anew with all that can still be read of it (`tables.py`,
`rescue.py`). Only marks are never kept in memory alone: where they cannot be saved, that is an error.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lib_lora.errors import LoraError
from lib_lora.formats.hashes import Hashes
from lib_lora.library import rescue, tables
from lib_lora.library.reading import Texts
from lib_lora.library.rescue import FAULTS, MarkRow
from lib_lora.library.tables import Connection, Row, Stamp

AGAIN = 60  # seconds until a place that could not be used is tried again
SOME = 500  # values in one question
T = TypeVar("T")
log = logging.getLogger(__name__)


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
            self._db = tables.prepared("") if path is None else tables.open_index(path)
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
        return self._do(lambda db: [tables.put(db, *file) for file in batch])

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
        query = f"SELECT id, {column} FROM texts WHERE id IN ({tables.places(numbers)})"
        return self._do(lambda db: dict(db.execute(query, tuple(numbers)).fetchall()))

    def search_texts(self, numbers: Sequence[int]) -> dict[int, str]:
        """{id: what is searched besides names} of a few hundred files."""
        return self._some("search", numbers)

    # hashes

    def hashes(self) -> dict[tuple[str, int, int], Hashes]:
        """{(path, size, mtime): hashes}"""
        query = "SELECT path, size, mtime, sha256, tensors, autov1 FROM hashes"
        rows = self._do(lambda db: db.execute(query).fetchall())
        return {(os.fsdecode(row[0]), *row[1:3]): Hashes(*row[3:]) for row in rows if tables.is_hashes(row)}

    def put_hashes(self, key: tuple[str, int, int], hashes: Hashes) -> None:
        path, size, mtime = key
        row = (os.fsencode(path), size, mtime, hashes.sha256, hashes.tensors, hashes.autov1)
        self._do(lambda db: db.execute("REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)", row))

    # measures

    def changes(self) -> dict[tuple[str, str], float]:
        """{(hash of the tensors, family): how much it changes in all}"""
        query = "SELECT hash, family, change FROM measures WHERE made = ?"
        rows = self._do(lambda db: db.execute(query, (tables.MEASURE,)).fetchall())
        return {(row[0], row[1]): row[2] for row in rows if tables.is_measure(row)}

    def measure(self, key: tuple[str, str]) -> str:
        """The figures as JSON; empty where there are none."""
        query = "SELECT told FROM measures WHERE hash = ? AND family = ? AND made = ?"
        row = self._do(lambda db: db.execute(query, (*key, tables.MEASURE)).fetchone())
        return row[0] if row and isinstance(row[0], str) else ""

    def put_measure(self, key: tuple[str, str], change: float, told: str) -> None:
        row = (*key, tables.MEASURE, change, told)
        self._do(lambda db: db.execute("REPLACE INTO measures VALUES (?, ?, ?, ?, ?)", row))

    # marks

    def marks(self) -> list[MarkRow]:
        rows = self._do(lambda db: tables.marks_of(db, f"SELECT {tables.MARKS} FROM marks"))
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
                    query = f"SELECT {tables.MARKS} FROM marks WHERE path IN ({tables.places(keys)})"
                    known.update((row.path, row) for row in tables.marks_of(db, query, keys))
                rows = change(known)
                tables.put_marks(db, rows)
                if rows and self.path is not None:
                    rescue.write_backup(self.path, tables.marks_of(db, f"SELECT {tables.MARKS} FROM marks"))
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
        with contextlib.closing(tables.open_index(self.path)) as own:
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

    def _rescued(self, error: Exception, db: Connection | None) -> Connection:
        """Another connection in the place of `db`, which failed (None: it could not even be opened)."""
        is_damage = self.path is not None and (rescue.is_damage(error) or rescue.is_odd(self.path))
        if self.path is not None and not self.trouble and is_damage:
            try:
                made, self.damage = tables.made_anew(self.path, db)
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
        return tables.in_memory(self.path, db)

    def _come_back(self, *, at_once: bool = False) -> None:
        """Use the place on the disk again if it could not be used, or if the file there is another one by now."""
        with self._lock:
            if self.path is None or self._closed:
                return
            if self.trouble:
                if not at_once and time.monotonic() - self._tried < AGAIN:
                    return
            elif tables.is_there(self._db, self.path):
                return
            try:
                db = tables.open_index(self.path)
            except (*FAULTS, OSError):
                self._tried = time.monotonic()
                return
            with contextlib.suppress(*FAULTS):
                self._db.close()
            self._db, self.trouble = db, ""
            self.generation += 1


def _said(path: Path | None, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return f"{path}: {reason}" if path else reason
