"""Adapter files in the user's folders: one walk, one stat a file, and what lies beside each is noted on the way."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from lib_lora.sidecar import PREVIEWS, SIDECARS

EXTENSIONS = (".safetensors", ".pt", ".ckpt", ".bin")  # in the order of preference between files of one name
PLAUSIBLE_BIN = re.compile(r"lora|lyco|adapter|loha|lokr|locon", re.IGNORECASE)
PICKLE_STARTS = (b"PK\x03\x04", b"\x80")


@dataclass(frozen=True)
class Found:
    """A file that may be an adapter."""

    location: str  # its path as text, of which there are thousands
    folder: Path  # the configured folder below which it was found
    name: str  # path below `folder` with "/" and without the extension: "styles/ink"
    size: int
    mtime_ns: int
    beside: tuple[tuple[str, int], ...] = ()  # (name, mtime_ns) of its sidecars and previews

    @cached_property
    def path(self) -> Path:
        return Path(self.location)


@dataclass
class Walked:
    """What a walk saw of the folders themselves."""

    mtimes: dict[str, int] = field(default_factory=dict)  # {folder: mtime_ns, 0 if it is not there}
    problems: list[str] = field(default_factory=list)  # sentences: folders that cannot be read

    def is_current(self) -> bool:
        """No file was added, renamed or removed since."""
        return all(_mtime(path) == mtime for path, mtime in self.mtimes.items())


def walk(folders: Sequence[Path], walked: Walked | None = None) -> Iterator[Found]:
    """Every adapter file below `folders`. Real folders come before linked ones, and none is visited twice.

    Hidden files and folders are left out. What happens to the folders is written into `walked`.
    """
    visited: set[tuple[int, int]] = set()
    told = walked or Walked()
    waiting = deque((folder, str(folder), "") for folder in folders)
    links: deque[tuple[Path, str, str]] = deque()
    while waiting or links:
        folder, path, below = (waiting or links).popleft()
        entries = _entries(path, told) if _is_new(path, visited, told) else {}
        for entry in entries.values():
            if not entry.name.startswith(".") and _is(entry.is_dir):
                (links if entry.is_symlink() else waiting).append((folder, entry.path, f"{below}{entry.name}/"))
            elif (found := _found(entry, entries, folder, below)) is not None:
                yield found


def look_again(path: Path, folder: Path, name: str) -> Found | None:
    """The file `path` as `walk` would find it now; None if it is not there."""
    entries = _entries(str(path.parent), Walked())
    entry = entries.get(path.name) or entries.get(path.name.lower())
    below = name[: name.rfind("/") + 1]
    return _found(entry, entries, folder, below) if entry and entry.name == path.name else None


def stem_of(name: str) -> str:
    """`name` without the extension of an adapter, if it has one; other dots belong to the name."""
    stem, extension = os.path.splitext(name)
    return stem if extension.lower() in EXTENSIONS else name


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _is_new(path: str, visited: set[tuple[int, int]], told: Walked) -> bool:
    try:
        stat = os.stat(path)
    except OSError as error:
        told.mtimes[path] = 0
        told.problems.append(f"the folder {path} cannot be read ({error.strerror})")
        return False
    told.mtimes[path] = stat.st_mtime_ns
    identity = (stat.st_dev, stat.st_ino)
    new = identity not in visited
    visited.add(identity)
    return new


def _entries(path: str, told: Walked) -> dict[str, os.DirEntry[str]]:
    """{name in lower case: entry}, sorted; where two names differ only in case, the second keeps its own spelling."""
    try:
        with os.scandir(path) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        told.problems.append(f"the folder {path} cannot be read ({error.strerror})")
        return {}
    found: dict[str, os.DirEntry[str]] = {}
    for entry in entries:
        lower = entry.name.lower()
        found[entry.name if lower in found else lower] = entry
    return found


def _found(entry: os.DirEntry[str], entries: dict[str, os.DirEntry[str]], folder: Path, below: str) -> Found | None:
    if not entry.name.lower().endswith(EXTENSIONS) or entry.name.startswith("."):
        return None
    stem, extension = os.path.splitext(entry.name)
    try:
        if not entry.is_file():  # also a link that points to nothing
            return None
        stat = entry.stat()
        if extension.lower() == ".bin" and not _is_plausible_bin(entry):
            return None
        beside = tuple(_beside(stem.lower(), entries))
    except OSError:  # it vanished while we looked
        return None
    return Found(entry.path, folder, f"{below}{stem}", stat.st_size, stat.st_mtime_ns, beside)


def _beside(stem: str, entries: dict[str, os.DirEntry[str]]) -> Iterator[tuple[str, int]]:
    for ending in (*SIDECARS, *PREVIEWS):
        other = entries.get(stem + ending)
        if other is not None and _is(other.is_file):
            yield other.name, other.stat().st_mtime_ns


def _is(question: Callable[[], bool]) -> bool:
    """`entry.is_dir` or `entry.is_file`; a link that leads to itself is neither."""
    try:
        return question()
    except OSError:
        return False


def _is_plausible_bin(entry: os.DirEntry[str]) -> bool:
    """Old diffusers adapters are called pytorch_lora_weights.bin; most other .bin files are something else."""
    if not PLAUSIBLE_BIN.search(entry.name):
        return False
    with open(entry.path, "rb") as file:
        return file.read(4).startswith(PICKLE_STARTS)
