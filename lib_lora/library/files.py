"""Adapter files in the user's folders: one walk, one stat a file, and what lies beside each is noted on the way.

What is called like an adapter and is no file that can be read (a pipe, a device) is found too: its `problem` says what
it is. So is what lies beside an adapter and is no file: it is in `strange`. Links that lead to nothing are told only.
"""

from __future__ import annotations

import errno
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from lib_lora.formats.kinds import is_safetensors, is_torch
from lib_lora.formats.opening import open_file, strange
from lib_lora.library.sidecar import PREVIEWS, SIDECARS, VIDEOS

EXTENSIONS = (".safetensors", ".pt", ".ckpt", ".bin")  # in the order of preference between files of one name
PLAUSIBLE_BIN = re.compile(r"lora|lyco|adapter|loha|lokr|locon", re.IGNORECASE)
LATEST = 2**63 - 1  # nanoseconds, the year 2262: the database has no later time, some files have


@dataclass(frozen=True)
class Found:
    """A file that may be an adapter."""

    location: str  # its path as text, of which there are thousands
    folder: Path  # the configured folder below which it was found
    name: str  # path below `folder` with "/" and without the extension: "styles/ink"
    size: int
    mtime_ns: int
    beside: tuple[tuple[str, int], ...] = ()  # (name, mtime_ns) of its sidecars and previews
    strange: tuple[str, ...] = ()  # sentences: what lies there instead of a sidecar or preview
    problem: str = ""  # why it is no file that can be read: "it is a pipe, not a file"

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


class Neighbours:
    """All that lies in one folder, in order, found by name: exactly, else whatever the case of its letters."""

    def __init__(self, entries: Iterable[os.DirEntry[str]]) -> None:
        self.all = {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name)}
        self._lower: dict[str, list[str]] = {}
        for name in self.all:
            self._lower.setdefault(name.lower(), []).append(name)
        self._stems = {os.path.splitext(name)[0] for name in self.all if name.lower().endswith(EXTENSIONS)}

    def beside(self, stem: str, ending: str) -> os.DirEntry[str] | None:
        """`<stem><ending>`; one that is spelt in another case only if no adapter has that very stem."""
        if (entry := self.all.get(stem + ending)) is not None:
            return entry
        others = self._lower.get((stem + ending).lower(), ())
        return next((self.all[name] for name in others if name[: -len(ending)] not in self._stems - {stem}), None)


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
        there = _neighbours(path, told) if _is_new(path, visited, told) else Neighbours(())
        for entry in there.all.values():
            if not entry.name.startswith(".") and _is(entry.is_dir):
                (links if entry.is_symlink() else waiting).append((folder, entry.path, f"{below}{entry.name}/"))
            elif (found := _found(entry, there, folder, below)) is not None:
                yield found
            elif entry.name.lower().endswith(EXTENSIONS) and entry.is_symlink() and not os.path.exists(entry.path):
                told.problems.append(f"{below}{entry.name} is a link to a file that is not there")


def look_again(path: Path, folder: Path, name: str) -> Found | None:
    """The file `path` as `walk` would find it now; None if it is not there."""
    there = _neighbours(str(path.parent), Walked())
    entry = there.all.get(path.name)
    below = name[: name.rfind("/") + 1]
    return _found(entry, there, folder, below) if entry and not _is(entry.is_dir) else None


def mtime_of(stat: os.stat_result) -> int:
    """Nanoseconds, as far as the database can keep them."""
    return max(-LATEST, min(stat.st_mtime_ns, LATEST))


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


def _neighbours(path: str, told: Walked) -> Neighbours:
    try:
        with os.scandir(path) as scan:
            return Neighbours(scan)
    except OSError as error:
        told.problems.append(f"the folder {path} cannot be read ({error.strerror})")
        return Neighbours(())


def _found(entry: os.DirEntry[str], there: Neighbours, folder: Path, below: str) -> Found | None:
    if not entry.name.lower().endswith(EXTENSIONS) or entry.name.startswith("."):
        return None
    stem, extension = os.path.splitext(entry.name)
    size, mtime_ns, problem = 0, 0, ""
    try:
        stat = entry.stat()
        if kind := strange(stat.st_mode):
            problem = f"it is {kind}, not a file"
        else:
            size, mtime_ns = stat.st_size, mtime_of(stat)
            if extension.lower() == ".bin" and not _is_plausible_bin(entry):
                return None
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.errno == errno.ELOOP:
            return None  # it vanished while we looked, or is a link that points to nothing or to itself
        problem = error.strerror or str(error)
    beside, odd = [], []
    for other, told in _beside(stem, there):
        if type(told) is int:
            beside.append((other, told))
        else:
            odd.append(f"{other} cannot be used: {told}")
    return Found(entry.path, folder, f"{below}{stem}", size, mtime_ns, tuple(beside), tuple(odd), problem)


def _beside(stem: str, there: Neighbours) -> Iterator[tuple[str, int | str]]:
    """(name, mtime_ns) of the sidecars and previews, and (name, what is wrong) of what only has such a name."""
    for ending in (*SIDECARS, *PREVIEWS, *VIDEOS):
        other = there.beside(stem, ending)
        if other is None:
            continue
        try:
            stat = other.stat()
            kind = strange(stat.st_mode)
            yield other.name, f"it is {kind}" if kind else stat.st_mtime_ns
        except FileNotFoundError:
            if other.is_symlink():
                yield other.name, "it links to a file that is not there"
        except OSError as error:
            yield other.name, error.strerror or str(error)


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
    with open_file(entry.path) as file:
        head, size = file.read(9), entry.stat().st_size
    return is_torch(head) or is_safetensors(head, size)
