"""Roots: the root modules of one model (UNet, text encoders), and all that stands in their books."""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Generic, TypeVar

from torch import nn

from lib_lora.engine.books import Books, NotUndoneError, books_of
from lib_lora.engine.records import Record
from lib_lora.model.slots import Slot

log = logging.getLogger("lib_lora")

Kind = TypeVar("Kind", bound=Record)


class Roots:
    """The root modules of a model as one host knows them now, and those it knew before."""

    def __init__(self) -> None:
        self._now: dict[int, weakref.ref[nn.Module]] = {}
        self._gone: dict[int, weakref.ref[nn.Module]] = {}  # those before that are none now, and not undone yet

    def see(self, slots: Iterable[Slot]) -> None:
        """From now on they are those of `slots`. Those that are exchanged for others are undone.

        Not those for which another host has spoken since. What cannot be undone is logged and tried again: it is no
        reason to leave the others without adapters.
        """
        roots = {id(slot.root_module): slot.root_module for slot in slots}
        now = {number: weakref.ref(root) for number, root in roots.items()}
        self._gone = {number: ref for number, ref in {**self._gone, **self._now}.items() if number not in now}
        self._now = now
        for number, ref in list(self._gone.items()):
            root = ref()
            if root is not None:
                books = books_of(root)
                with books.lock:
                    if books.spoken_for() in (self, None):
                        try:
                            books.undo(books.records)
                        except NotUndoneError as error:
                            log.warning("Lora: in a model that is not used any more: %s", error)
                            continue
                        books.memory.release()
            del self._gone[number]

    def all(self) -> list[nn.Module]:
        """Always in the same order."""
        return [root for _, ref in sorted(self._now.items()) if (root := ref()) is not None]

    def books(self) -> list[Books]:
        """Those of all of them."""
        return [books_of(root) for root in self.all()]

    def speak(self) -> None:
        """From now on they carry what the host of these says."""
        for books in self.books():
            books.spoken_for = weakref.ref(self)

    def release_memory(self) -> None:
        """Let the system take what no patched weight uses any more."""
        for books in self.books():
            books.memory.release()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else reads or changes what they carry meanwhile."""
        with contextlib.ExitStack() as stack:
            for books in self.books():  # in one order everywhere: two hosts never wait for each other
                stack.enter_context(books.lock)
            yield


class Records(MutableMapping[str, Kind], Generic[Kind]):
    """The records of one kind on all root modules of a model, by the name of the parameter."""

    def __init__(self, roots: Roots, kind: type[Kind]) -> None:
        self._roots, self._kind = roots, kind

    def __getitem__(self, key: str) -> Kind:
        for books in self._roots.books():
            record = books.records.get(key)
            if isinstance(record, self._kind):
                return record
        raise KeyError(key)

    def __setitem__(self, key: str, record: Kind) -> None:
        books_of(record.slot.root_module).records[key] = record

    def __delitem__(self, key: str) -> None:
        for books in self._roots.books():
            if isinstance(books.records.get(key), self._kind):
                del books.records[key]
                return
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter([key for books in self._roots.books() for key, record in list(books.records.items())
                     if isinstance(record, self._kind)])

    def __len__(self) -> int:
        return sum(isinstance(record, self._kind) for books in self._roots.books() for record in books.records.values())
