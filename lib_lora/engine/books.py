"""Books: everything on one part of a model (a UNet, a text encoder) that is not its own, and how to undo it.

They lie on the part itself: hosts that share a part share its books and its lock, and a host that is gone leaves them
to the next. What is undone leaves the books afterwards, never before, so that an error in between loses nothing; each
undoing may be repeated.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from lib_lora.engine.originals import Original
from lib_lora.engine.plan import Step
from lib_lora.errors import PatchError
from lib_lora.model.slots import Slot

ATTRIBUTE = "_lib_lora_books"  # of the part
PLACES, IN_ROW = 16, 4  # values by which a patched weight is recognised after the host moved or cast it
WORDS = "words"  # for `watch`: of the matrix of a text encoder's words
CAST_ERROR = 2**-7  # relative: what a weight may lose on the way through bf16
Rows = tuple[tuple[Step, ...], ...]  # the steps of each row of a batch in turn; only one: of all rows

log = logging.getLogger("lib_lora")


class NotUndoneError(PatchError):
    """Some weights could not be put back; they are still known."""


class Record(Protocol):
    """Something on a part that is not its own."""

    @property
    def slot(self) -> Slot:
        """Where it is."""
        ...

    @property
    def planned(self) -> tuple[Step, ...]:
        """The steps that made it, of all rows."""
        ...

    def undo(self) -> None:
        """As if it had never been there; once more does no harm."""
        ...

    def copied(self, memo: dict[int, Any]) -> Record:
        """The same on a deep copy of the part."""
        ...


class Words(Protocol):
    """Words that adapters have brought to a text encoder (`embeddings.py`)."""

    @property
    def embedding(self) -> nn.Module:
        """The matrix of its words, a longer one now."""
        ...

    def undo(self) -> None:
        """As if they had never been there; once more does no harm."""
        ...

    def copied(self, memo: dict[int, Any]) -> Words:
        """The same on a deep copy of the text encoder."""
        ...


@dataclass
class Patched:
    """One parameter that is not its base weight at the moment."""

    slot: Slot
    original: Original
    steps: tuple[Step, ...] | None  # None while it is written
    memory: StorageWeakRef | None  # of the patched weight; unlike an address it is never that of another one
    sample: Tensor  # a few values of the patched weight

    @property
    def planned(self) -> tuple[Step, ...]:
        """See Record."""
        return self.steps or ()

    def is_same_memory(self, tensor: Tensor) -> bool:
        """True if `tensor` lies where it was written."""
        return self.memory is not None and StorageWeakRef(tensor.untyped_storage()) == self.memory

    def is_exact(self, tensor: Tensor) -> bool:
        """True if `tensor` is what was written, moved perhaps."""
        if self.is_same_memory(tensor):
            return True
        return tensor.dtype == self.sample.dtype and torch.equal(sample(tensor), self.sample.to(tensor.device))

    def is_here(self, tensor: Tensor) -> bool:
        """True if `tensor` came from what was written, moved or cast; False if somebody put another weight there."""
        if self.is_same_memory(tensor):
            return True
        if tensor.is_meta or not tensor.is_floating_point():
            return False  # the host has let go of the weights
        written, found = self.sample.to(tensor.device), sample(tensor).float()
        if found.shape != written.shape:
            return False
        if torch.equal(found, written.to(tensor.dtype).float()):
            return True  # cast, however coarsely
        return torch.allclose(found, written.float(), rtol=CAST_ERROR, atol=1e-6)

    def undo(self) -> None:
        """See Record. Raises OSError if the base weight is in a file that was changed meanwhile."""
        parameter = getattr(self.slot.module, self.slot.attribute, None)
        if parameter is None:
            return  # the host has taken the layer apart
        # Who offloads weights may have taken the patched one for the model's own.
        elsewhere = self.slot.elsewhere if parameter.is_meta or self.slot.copy is not None else None
        if elsewhere is not None and self.is_here(elsewhere):
            elsewhere.copy_(self.original.base(elsewhere))
        if self.is_here(parameter.data):
            self.original.put_back(parameter)

    def copied(self, memo: dict[int, Any]) -> Patched:
        """See Record. The copy's memory is not known: it is recognised by its values."""
        slot, original = copy.deepcopy(self.slot, memo), copy.deepcopy(self.original, memo)
        return replace(self, slot=slot, original=original, memory=None)


@dataclass
class Made:
    """A bias that the model does not have of its own."""

    slot: Slot
    steps: tuple[Step, ...] | None  # None while it is made
    like: torch.dtype  # the weight's
    bias: Tensor  # the Parameter

    @property
    def planned(self) -> tuple[Step, ...]:
        """See Record."""
        return self.steps or ()

    def undo(self) -> None:
        """See Record."""
        bias = self.slot.module._parameters.get("bias")
        if bias is not None and self._is_here(bias):
            self.slot.module.register_parameter("bias", None)

    def _is_here(self, bias: Tensor) -> bool:
        """False if somebody else has given the layer a bias meanwhile."""
        if bias is self.bias or bias.is_meta:
            return True
        made = self.bias.detach().to(bias.device)
        return bias.shape == made.shape and torch.allclose(bias.float(), made.float(), rtol=CAST_ERROR, atol=1e-6)

    def copied(self, memo: dict[int, Any]) -> Made:
        """See Record."""
        return replace(self, slot=copy.deepcopy(self.slot, memo), bias=copy.deepcopy(self.bias, memo))


class Books:
    """The records of one part by the name of the parameter, and the lock of whoever reads or changes them."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.records: dict[str, Record] = {}
        self.words: Words | None = None  # that adapters have brought to this text encoder
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
                f"{len(failed)} weights could not be put back ({key}: {_first_line(reason)}); they still carry an "
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
        found = next((watch for watch in _watches(module) if watch.books() is self), None)
        if found is None:
            found = Watch(self)
            module._register_load_state_dict_pre_hook(found, with_module=True)
        found.keys.add(key)

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
        made = memo[id(self)] = Books()
        with self.lock:
            made.records = {key: record.copied(memo) for key, record in self.records.items()}
            made.words = self.words and self.words.copied(memo)
        made._is_copy = True
        return made

    def __reduce__(self) -> Any:
        return Books, ()  # a part that is stored has the weights it shows


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


def books_of(part: nn.Module) -> Books:
    """The books of this part; empty ones at the first call."""
    books: Books = part.__dict__.setdefault(ATTRIBUTE, Books())
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


Kind = TypeVar("Kind", bound=Record)


class Parts:
    """The parts of a model as one host knows them now, and those it knew before."""

    def __init__(self) -> None:
        self._now: dict[int, weakref.ref[nn.Module]] = {}
        self._gone: dict[int, weakref.ref[nn.Module]] = {}  # parts before that are none now, and not undone yet

    def see(self, slots: Iterable[Slot]) -> None:
        """From now on the parts are those of `slots`. Those that are exchanged for others are undone.

        What cannot be undone there is logged and tried again: it is no reason to leave the others without adapters.
        """
        now = {id(slot.part): weakref.ref(slot.part) for slot in slots}
        self._gone = {number: ref for number, ref in {**self._gone, **self._now}.items() if number not in now}
        self._now = now
        for number, ref in list(self._gone.items()):
            part = ref()
            if part is not None:
                books = books_of(part)
                with books.lock:
                    try:
                        books.undo(books.records)
                    except NotUndoneError as error:
                        log.warning("Lora: in a model that is not used any more: %s", error)
                        continue
            del self._gone[number]

    def all(self) -> list[nn.Module]:
        """Always in the same order."""
        return [part for _, ref in sorted(self._now.items()) if (part := ref()) is not None]

    def books(self) -> list[Books]:
        """Those of all parts."""
        return [books_of(part) for part in self.all()]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else reads or changes what these parts carry meanwhile."""
        with contextlib.ExitStack() as stack:
            for books in self.books():  # in one order everywhere: two hosts never wait for each other
                stack.enter_context(books.lock)
            yield


class Records(MutableMapping[str, Kind], Generic[Kind]):
    """The records of one kind on all parts of a model, by the name of the parameter."""

    def __init__(self, parts: Parts, kind: type[Kind]) -> None:
        self._parts, self._kind = parts, kind

    def __getitem__(self, key: str) -> Kind:
        for books in self._parts.books():
            record = books.records.get(key)
            if isinstance(record, self._kind):
                return record
        raise KeyError(key)

    def __setitem__(self, key: str, record: Kind) -> None:
        books_of(record.slot.part).records[key] = record

    def __delitem__(self, key: str) -> None:
        for books in self._parts.books():
            if isinstance(books.records.get(key), self._kind):
                del books.records[key]
                return
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter([key for books in self._parts.books() for key, record in list(books.records.items())
                     if isinstance(record, self._kind)])

    def __len__(self) -> int:
        return len(list(iter(self)))


def sample(tensor: Tensor) -> Tensor:
    """Some values from PLACES places, in the order of the indices; some in a row cost no more than one."""
    flat = tensor.detach().reshape(-1)
    if flat.numel() < PLACES * IN_ROW:
        return flat.clone()
    step = (flat.numel() - IN_ROW) // (PLACES - 1)
    return flat.as_strided((PLACES, IN_ROW), (step, 1), flat.storage_offset()).clone()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
