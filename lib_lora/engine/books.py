"""Books: everything on one root module of a model (a UNet, a text encoder) that is not its own, and how to undo it.

They lie on the root module itself: hosts that share it share its books, its lock and its memory, and a host that is
gone leaves them to the next. What is undone leaves the books afterwards, never before, so that an error in between
loses nothing; each undoing may be repeated.
"""

from __future__ import annotations

import copy
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from lib_lora.engine.call import Call
from lib_lora.engine.differences import Room
from lib_lora.engine.memory import Memory
from lib_lora.engine.records import Patched, Record, Words
from lib_lora.errors import PatchError, first_line

ATTRIBUTE = "_lib_lora_books"  # of the root module
WORDS = "words"  # for `watch`: of the matrix of a text encoder's words

log = logging.getLogger("lib_lora")


class NotUndoneError(PatchError):
    """Some weights could not be put back; they are still known."""


class Books:
    """The records of one root module by the name of the parameter, and the lock of whoever reads or changes them."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.records: dict[str, Record] = {}
        self.words: Words | None = None  # that adapters have brought to this text encoder
        self.memory = Memory()  # for its patched weights
        self.call = Call()  # what its next call holds, for all who add to outputs
        self.room = Room()  # for what they keep
        self.spoken_for: Callable[[], object] = lambda: None  # whoever said last what it shall carry; None: gone
        self._is_copy = False

    def undo(self, keys: Iterable[str]) -> None:
        """Undo these, all that can be. Raises the first error at the end, with what could not be undone still known.

        An interrupt comes before all others; every other error is a NotUndoneError.
        """
        failed: dict[str, BaseException] = {}
        for key in list(keys):
            try:
                self._undo(key)
            except BaseException as error:
                failed[key] = error
        for interrupt in failed.values():
            if not isinstance(interrupt, Exception):
                raise interrupt
        if failed:
            key, reason = next(iter(failed.items()))
            raise NotUndoneError(
                f"{len(failed)} weights could not be put back ({key}: {first_line(reason)}); they still carry an "
                "adapter. The next picture tries again; if that fails too, load the checkpoint again"
            ) from reason

    def _undo(self, key: str) -> None:
        record = self.records.get(key)
        if record is not None:
            with torch.no_grad():
                record.undo()
            self.records.pop(key, None)

    def forget_words(self) -> None:
        """Undo `words`."""
        if self.words is not None:
            self.words.undo()
            self.words = None

    def watch(self, key: str, module: nn.Module) -> None:
        """From now on, whoever loads other weights into `module` finds its own in place and nothing kept."""
        watch = next((each for each in _watches(module) if each.books() is self), None)
        if watch is None:
            watch = Watch(self)
            module._register_load_state_dict_pre_hook(watch, with_module=True)
        watch.keys.add(key)

    def loaded(self, module: nn.Module, keys: Iterable[str]) -> None:
        """Other weights are about to be loaded into `module`."""
        with self.lock:
            if self.words is not None and WORDS in keys and self.words.embedding is module:
                self.forget_words()
            for key in [key for key in keys if key in self.records and self.records[key].slot.module is module]:
                try:
                    self.undo([key])
                except NotUndoneError as error:
                    log.warning("Lora: %s", error)
                    record = self.records.get(key)
                    if isinstance(record, Patched):
                        record.memory = None  # what is loaded is told from what was patched by its values

    def adopt(self) -> None:
        """On a deep copy: watch its modules, and forget what others have put there."""
        self._is_copy = False
        for key, record in list(self.records.items()):
            if isinstance(record, Patched):
                parameter = record.slot.parameter.data
                if not record.is_here(parameter):
                    del self.records[key]
                    continue
                record.memory = StorageWeakRef(parameter.untyped_storage())
            self.watch(key, record.slot.module)
        if self.words is not None:
            self.watch(WORDS, self.words.embedding)

    def __deepcopy__(self, memo: dict[int, Any]) -> Books:
        copied = memo[id(self)] = Books()
        with self.lock:
            copied.records = {key: record.copied(memo) for key, record in self.records.items()}
            copied.words = self.words and self.words.copied(memo)
        copied.call, copied.room = copy.deepcopy(self.call, memo), copy.deepcopy(self.room, memo)
        copied._is_copy = True
        return copied

    def __reduce__(self) -> Any:
        return Books, ()  # a model that is stored has the weights it shows


class Watch:
    """Hook of a module: tells the books before other weights are loaded into it."""

    __slots__ = ("books", "keys")

    def __init__(self, books: Books | None = None) -> None:
        self.books: Callable[[], Books | None] = weakref.ref(books) if books else lambda: None
        self.keys: set[str] = set()

    def __call__(self, module: nn.Module, *_: Any) -> None:
        books = self.books()
        if books is not None:
            books.loaded(module, self.keys)

    def __reduce__(self) -> Any:
        return Watch, ()  # a module that is copied or stored is watched when its books are opened


def books_of(root: nn.Module) -> Books:
    """The books of this root module; empty ones at the first call."""
    books: Books = root.__dict__.setdefault(ATTRIBUTE, Books())
    if books._is_copy:
        books.adopt()
    return books


def unwatch(module: nn.Module) -> None:
    """Take the hooks of all books from `module`."""
    for number, hook in list(module._load_state_dict_pre_hooks.items()):
        if isinstance(getattr(hook, "hook", None), Watch):
            del module._load_state_dict_pre_hooks[number]


def _watches(module: nn.Module) -> Iterator[Watch]:
    hooks = (getattr(hook, "hook", None) for hook in module._load_state_dict_pre_hooks.values())
    return (hook for hook in hooks if isinstance(hook, Watch))
