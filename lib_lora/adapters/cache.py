"""AdapterCache: the adapters read last, and all that somebody uses: no file is read twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from lib_lora.adapters.adapter import Adapter, read_adapter
from lib_lora.adapters.config import config_of
from lib_lora.errors import AdapterFileError
from lib_lora.formats.opening import strange

ENOUGH = 1 << 30  # bytes of adapters that are kept without being asked for


@dataclass(frozen=True)
class Cached:
    """An adapter that was read before."""

    adapter: Adapter
    stamp: object  # of the file and of what stands beside it
    size: int  # bytes in memory


class AdapterCache:
    """The adapters read last, keyed by path, modification time and size: a changed file is read again.

    They are in memory, so that their files may be replaced, cut off or deleted while they are in use.

    limit   that many are kept, as long as they are no more than ENOUGH
    budget  bytes of memory in which more are kept: a change back to one of them reads no file

    What somebody uses is found here however many others were read since. Safe to use from several threads.
    """

    def __init__(self, limit: int = 8, *, budget: int = 0) -> None:
        self.limit = limit
        self.budget = budget
        self._read: OrderedDict[Path, Cached] = OrderedDict()
        self._used: WeakValueDictionary[tuple[Path, object], Adapter] = WeakValueDictionary()
        self._lock = threading.RLock()

    def read(self, path: Path) -> Adapter:
        """The adapter at `path`. Raises AdapterFileError."""
        with self._lock:
            try:
                stamp = _stamps((path, config_of(path)))
                status = path.stat()
            except OSError as error:
                self._read.pop(path, None)
                raise AdapterFileError(
                    f"{path.name}: cannot be opened ({error.strerror}); is it still at {path}?"
                ) from error
            if kind := strange(status.st_mode):  # it would never end, or never begin
                raise AdapterFileError(f"{path.name} cannot be read: it is {kind}, not a file")
            known = self._read.get(path)
            if known is None or known.stamp != stamp:
                adapter = self._used.get((path, stamp)) or read_adapter(path)
                self._used[path, stamp] = adapter
                known = self._read[path] = Cached(adapter, stamp, status.st_size)
            self._read.move_to_end(path)
            self._shrink()
            return known.adapter

    def _shrink(self) -> None:
        """Drop those not used for longest: all but `limit`, as far as they do not fit into the budget."""
        held = sum(cached.size for cached in self._read.values())
        while len(self._read) > 1 and held > self.budget and (len(self._read) > self.limit or held > ENOUGH):
            _, dropped = self._read.popitem(last=False)
            held -= dropped.size

    def clear(self) -> None:
        """Forget every file."""
        self._read.clear()


def _stamps(paths: Iterable[Path | None]) -> tuple[tuple[int, int] | None, ...]:
    """(modification time, size) of each, None of what is not there. Raises OSError."""
    return tuple(None if path is None else (path.stat().st_mtime_ns, path.stat().st_size) for path in paths)
