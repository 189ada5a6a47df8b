"""The WebUI's own cache of hashes, filled with what is known here: other extensions look there for an adapter's hash.

Under the title `lora/<file name>` the built-in keeps the hash of the tensors (group `hashes-addnet`) of a .safetensors
file, that of the whole file (group `hashes`) of any other. Nothing is read for it but a time stamp.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

from modules import cache

from lib_lora.formats.hashes import stored_hash
from lib_lora.library import Entry
from lib_lora.webui.catalogue import Catalogue

GROUPS = {True: "hashes-addnet", False: "hashes"}  # is it a .safetensors file? -> the name of the group
WHOLE = 64  # digits


class HashCache:
    """Follows the catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._lock = threading.Lock()
        self._put: dict[str, tuple[str, int]] = {}  # {path: (hash, time stamp of the file)} of what is there
        self._failed = False

    def install(self) -> None:
        """Fill it after each scan, and whenever a hash becomes known."""
        self._catalogue.on_change.append(self.fill)
        self._catalogue.library.on_hash.append(lambda entry: self._put_all([entry]))

    def fill(self) -> None:
        """Everything that is known now, in the background: with thousands of files it takes seconds, the first time."""
        entries = list(self._catalogue.by_name.values())
        threading.Thread(target=self._put_all, args=(entries,), name="lib_lora hash cache", daemon=True).start()

    def _put_all(self, entries: Sequence[Entry]) -> None:
        stems = Counter(entry.stem for entry in self._catalogue.by_name.values())
        for is_safetensors, group in GROUPS.items():
            with self._lock:
                try:
                    self._put_into(cache.cache(group), [
                        entry for entry in entries if _is_safetensors(entry) == is_safetensors
                        and stems[entry.stem] == 1  # else the title means none of them
                    ])  # fmt: skip
                except Exception as error:  # the rim: somebody else's cache, locked or full; the index may be closed
                    if not self._failed and not self._catalogue.library.closed:
                        print(f"lib_lora: the WebUI's cache of hashes cannot be filled: {error}")
                    self._failed = True

    def _put_into(self, group: Any, entries: Iterable[Entry]) -> None:
        fresh = {}
        for entry in entries:
            if (value := self._hash(entry, group)) and self._put.get(entry.location) != (value, entry.mtime_ns):
                mtime = _mtime(entry)
                if mtime is not None:
                    fresh[f"lora/{entry.stem}"] = {"mtime": mtime, "sha256": value}
                    self._put[entry.location] = value, entry.mtime_ns
        if fresh:
            _write(group, fresh)

    def _hash(self, entry: Entry, group: Any) -> str:
        known = self._catalogue.library.known_hashes(entry)
        if known:
            return known.tensors if _is_safetensors(entry) else known.sha256
        stated = [text for text in entry.stated_hashes if len(text) == WHOLE]
        if not stated or not _is_safetensors(entry) or entry.location in self._put:
            return ""
        there = group.get(f"lora/{entry.stem}")
        if there and there.get("sha256") in stated and there.get("mtime") == _mtime(entry):
            return ""
        return stored_hash(entry.metadata)  # the trainer's own, of the tensors


def _is_safetensors(entry: Entry) -> bool:
    return entry.extension.lower() == ".safetensors"


def _mtime(entry: Entry) -> float | None:
    """As the WebUI compares it; None if the file is not the one that was hashed."""
    try:
        stat = os.stat(entry.path)
    except OSError:
        return None
    return stat.st_mtime if stat.st_mtime_ns == entry.mtime_ns else None


def _write(group: Any, items: dict[str, dict[str, Any]]) -> None:
    """In one step where the cache is a database; what stands there already stays."""
    with group.transact() if hasattr(group, "transact") else nullcontext():
        for title, item in items.items():
            if group.get(title) != item:
                group[title] = item
    cache.dump_cache()
