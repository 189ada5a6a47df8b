"""Store: a folder in which a comparison lies: `cells/` with one PNG for each cell, and `cells.json`.

A picture's name ends with the digest of all that decided it, so that what is there is never drawn again, and what was
drawn otherwise gives way. A PNG also holds how long it took and what there is to know of it: a run that was killed
loses no finished cell.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from lib_lora.compare.grid import Cell
from lib_lora.formats.write import write_file

CELLS, LIST = "cells", "cells.json"
CHUNK = "compare"  # the PNG's text that is ours
FIRST_CHUNK = 33  # bytes up to its end: the signature and the header
DIGITS = 20  # of a digest, in a name
NAME = re.compile(r".+-([0-9a-f]{10})-([0-9a-f]{20})\.png")
ODD = re.compile(r"[^\w.@+-]+")


@dataclass(frozen=True)
class Result:
    """What became of a cell."""

    cell: Cell
    file: str | None = None  # below the folder; None: there is no picture
    seconds: float | None = None  # that drawing took; None: it was not drawn
    problem: str | None = None

    def told(self) -> dict[str, Any]:
        """As it stands in `cells.json`."""
        cell = self.cell
        on = {"checkpoint": cell.checkpoint} if cell.checkpoint else {}
        return {**on, "adapter": cell.subject.name, "weight": cell.value, "prompt": cell.prompt, "seed": cell.seed,
                "file": self.file, "seconds": self.seconds, "problem": self.problem}  # fmt: skip


class Store:
    """The cells in `folder`, which is made if it is missing. What lies in folders `beside` it is not drawn again."""

    def __init__(self, folder: Path, beside: Iterable[Path] = ()) -> None:
        """Raises OSError."""
        self.folder = folder
        (folder / CELLS).mkdir(parents=True, exist_ok=True)
        self._by_digest: dict[str, Path] = {}
        self._by_place: dict[str, set[Path]] = {}
        for other in beside:
            for path in (other / CELLS).glob("*.png"):
                if found := NAME.fullmatch(path.name):
                    self._by_digest[found[2]] = path
        for path in sorted((folder / CELLS).glob("*.png")):
            self._note(path)

    def find(self, cell: Cell, digest: str) -> Result | None:
        """The cell, if its picture is there, whatever adapter it was drawn for."""
        own, any_ = self._path(cell, digest), self._by_digest.get(digest[:DIGITS])
        path = own if own.exists() else any_
        if path is None:
            return None
        try:
            with Image.open(path) as image:
                image.load()  # all of it: it may be cut off
                told = json.loads(image.info.get(CHUNK, "{}"))
            if path != own:
                write_file(own, path.read_bytes())
        except (OSError, ValueError, SyntaxError):  # SyntaxError: what Pillow raises for a broken PNG
            self._forget(path)
            return None
        self._settle(own)
        return self._result(cell, own, told.get("seconds"), told.get("problem"))

    def keep(self, cell: Cell, digest: str, png: bytes, seconds: float, problem: str) -> Result:
        """Write the picture; what this cell was before is removed. Raises OSError."""
        path = self._path(cell, digest)
        told = {"seconds": round(seconds, 3), "problem": problem or None, "digest": digest}
        write_file(path, _with_text(png, json.dumps(told)))
        self._settle(path)
        return self._result(cell, path, told["seconds"], told["problem"])

    def write_list(self, results: Iterable[Result]) -> None:
        """`cells.json`. Raises OSError."""
        rows = ",\n".join(json.dumps(result.told(), ensure_ascii=False) for result in results)
        write_file(self.folder / LIST, f"[\n{rows}\n]\n".encode("utf-8", "replace"))

    def _path(self, cell: Cell, digest: str) -> Path:
        on = [cell.checkpoint] if cell.checkpoint else []
        place = hashlib.sha256(json.dumps([cell.subject.name, cell.weight, cell.prompt, cell.seed, *on]).encode())
        shown = ODD.sub("_", f"{cell.subject.name}_{cell.weight}_{cell.seed}").strip("._")[:40]
        return self.folder / CELLS / f"{shown}-{place.hexdigest()[:10]}-{digest[:DIGITS]}.png"

    def _result(self, cell: Cell, path: Path, seconds: Any, problem: Any) -> Result:
        return Result(cell, path.relative_to(self.folder).as_posix(), seconds, problem)

    def _settle(self, path: Path) -> None:
        """The cell is at `path` now: earlier pictures of the same one go."""
        self._note(path)
        place = NAME.fullmatch(path.name)
        assert place
        for other in self._by_place[place[1]] - {path}:
            self._forget(other)

    def _note(self, path: Path) -> None:
        if found := NAME.fullmatch(path.name):
            self._by_digest[found[2]] = path
            self._by_place.setdefault(found[1], set()).add(path)

    def _forget(self, path: Path) -> None:
        found = NAME.fullmatch(path.name)
        assert found
        self._by_place.get(found[1], set()).discard(path)
        if self._by_digest.get(found[2]) == path:
            del self._by_digest[found[2]]
        if path.parent == self.folder / CELLS:  # those of others are theirs
            path.unlink(missing_ok=True)


def _with_text(png: bytes, told: str) -> bytes:
    """The PNG with our text besides its own, put in behind its first chunk: no pixel is packed again."""
    chunk = b"tEXt" + CHUNK.encode() + b"\0" + told.encode("ascii")
    framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:FIRST_CHUNK] + framed + png[FIRST_CHUNK:]
