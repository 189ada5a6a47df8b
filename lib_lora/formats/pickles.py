"""The pickle inside a file of torch's, interpreted without running anything: what comes out is plain data.

A pickle is a program for a small machine with a stack. Ours knows the few instructions that files of tensors are
written with, and no function: a tensor becomes a `PickledTensor`, a record of numbers; names of other things that
training leaves in checkpoints are known to be nothing (OPAQUE); any other name or instruction ends the reading. No key
but text is ever hashed (whole numbers become text), nothing is compared, and every step costs no more than what it
consumes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_STEPS = 2_000_000  # instructions; a checkpoint with its optimizer has 300,000
MAX_DIMENSIONS = 16
MAX_NUMBER = 1 << 48  # of values: more than any disk holds
MAX_WORD = 200  # characters of a module's or a class's name

ITEMSIZES = {  # torch's name of a type of numbers -> bytes of one
    "float32": 4, "float16": 2, "bfloat16": 2, "float64": 8, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1,
    "bool": 1, "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "complex64": 8,
    "complex128": 16, "uint16": 2, "uint32": 4, "uint64": 8,
}  # fmt: skip
STORAGES = {
    "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16", "DoubleStorage": "float64",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "UntypedStorage": "uint8",  # what is in it, `_rebuild_tensor_v3` says
}  # fmt: skip
HARMLESS = frozenset({  # what checkpoints carry besides tensors, of which nothing is needed
    "torch.Size", "torch.device", "torch.nn.modules.container.ParameterDict", "torch.nn.parameter.Parameter",
    "collections.defaultdict", "collections.Counter", "builtins.dict", "builtins.list", "builtins.set", "builtins.int",
    "builtins.float", "builtins.complex", "__builtin__.set", "__builtin__.dict", "__builtin__.list", "__builtin__.int",
    "__builtin__.long", "_codecs.encode", "numpy.dtype", "numpy.ndarray", "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct", "numpy._core.multiarray.scalar", "numpy._core.multiarray._reconstruct",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
})  # fmt: skip


class PickleError(Exception):
    """What is read is no plain file of tensors; the text is the reason, in a few words."""


class CutError(PickleError):
    """The bytes end before the pickle does."""


@dataclass(frozen=True, eq=False, slots=True)
class Name:
    """A class or function that the pickle names."""

    text: str  # "torch._utils._rebuild_tensor_v2"


@dataclass(frozen=True, eq=False, slots=True)
class Storage:
    """A row of numbers elsewhere in the file, in which tensors lie."""

    key: str
    dtype: str
    count: int  # of numbers, as the pickle says: to be compared with the file


@dataclass(frozen=True, eq=False, slots=True)
class PickledTensor:
    """Where a tensor lies in its storage: checked in itself, to be compared with the storage's real bytes."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def count(self) -> int:
        """Of values."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def end(self) -> int:
        """The place behind its last value in the storage."""
        if self.count == 0:
            return 0
        return 1 + self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))


OPAQUE = Name("")  # a value of which nothing is known or needed


def interpret(content: bytes, start: int = 0, storages: dict[str, Storage] | None = None) -> tuple[Any, int]:
    """`(what the pickle at "start" makes, where it ends)`. Raises PickleError, and nothing else.

    The storages that it names are written into `storages`, by key.
    """
    machine = _Machine(content, start, {} if storages is None else storages)
    try:
        return machine.run(), machine.at
    except CutError:
        raise
    except (IndexError, struct.error, UnicodeDecodeError) as error:  # an empty stack, a number that is cut off
        raise PickleError("it is damaged") from error


class _Machine:
    def __init__(self, content: bytes, start: int, storages: dict[str, Storage]) -> None:
        self.content = content
        self.at = start
        self.storages = storages
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []  # stacks that wait below
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        content = self.content
        for _ in range(MAX_STEPS):
            if self.at >= len(content):
                raise CutError("it is cut off")
            code = content[self.at]
            self.at += 1
            if code == STOP:
                return self.stack.pop()
            step = STEPS.get(code)
            if step is None:
                raise PickleError(f"it has the instruction {chr(code)!a}, which files of tensors do not need")
            step(self)
        raise PickleError("it has too many instructions")

    # bytes

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.content):
            raise CutError("it is cut off")
        taken = self.content[self.at : end]
        self.at = end
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def line(self) -> str:
        end = self.content.find(b"\n", self.at, self.at + MAX_WORD)
        if end < 0:
            raise CutError("it is cut off") if len(self.content) < self.at + MAX_WORD else PickleError("it is damaged")
        text = self.content[self.at : end].decode("ascii")
        self.at = end + 1
        return text

    # the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def group(self, count: int) -> None:
        if len(self.stack) < count:
            raise PickleError("it is damaged")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def remember(self, place: int) -> None:
        if place > MAX_STEPS:
            raise PickleError("it is damaged")
        self.memo[place] = self.stack[-1]

    def recall(self, place: int) -> None:
        if place not in self.memo:
            raise PickleError("it is damaged")
        self.stack.append(self.memo[place])

    # numbers and texts

    def text(self, count: int) -> None:
        self.push(self.take(count).decode("utf-8", "replace"))

    def skip(self, count: int) -> None:
        if self.at + count > len(self.content):
            raise CutError("it is cut off")
        self.at += count
        self.push(OPAQUE)

    def long(self, count: int) -> None:
        if count > 8:  # no tensor needs such a number
            self.skip(count)
        else:
            self.push(int.from_bytes(self.take(count), "little", signed=True))

    # lists and dicts

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif target is not OPAQUE:
            raise PickleError("it appends to what is no list")

    def append_one(self) -> None:
        self.append([self.stack.pop()])

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is dict and len(items) % 2 == 0:
            for key, value in zip(items[::2], items[1::2], strict=True):
                if type(key) is str or type(key) is int:  # others name no tensors, and are not hashed
                    target[str(key)] = value  # numbers can be chosen so that a dict of them takes quadratic time
        elif target is not OPAQUE:
            raise PickleError("it sets items of what has none")

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def make_dict(self) -> None:
        items = self.since_mark()
        self.push({})
        self.set_items(items)

    # names, and what becomes of calling them

    def name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise PickleError("it is damaged")
        text = f"{module}.{name}"
        is_type = module in ("torch", "torch.storage") and (name in STORAGES or name in ITEMSIZES)
        if not is_type and text not in CALLS and text not in HARMLESS:
            raise PickleError(f"{_short(text)} is not part of a file of tensors")
        self.push(Name(text))

    def global_name(self) -> None:
        self.name(self.line(), self.line())

    def stack_name(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(module, name)

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not Name or type(arguments) is not tuple:
            raise PickleError("it calls what is no function")
        if function.text in HARMLESS:
            self.push(OPAQUE)
        elif function.text in CALLS:
            self.push(CALLS[function.text](arguments))
        else:
            raise PickleError(f"it calls {_short(function.text)}")

    def build(self) -> None:
        """The attributes of what was made: nothing of them is needed but the tensors of a ParameterDict."""
        state, target = self.stack.pop(), self.stack[-1]
        if target is OPAQUE:
            parameters = state.get("_parameters") if type(state) is dict else None
            if type(parameters) is dict:
                self.stack[-1] = parameters
        elif type(target) is not dict:
            raise PickleError("it changes what is no dict")

    def storage(self) -> None:
        about = self.stack.pop()
        if type(about) is not tuple or len(about) < 5 or type(about[1]) is not Name:
            raise PickleError("not a storage")
        kind, (_, _, name), key, count = about[0], about[1].text.rpartition("."), about[2], about[4]
        key = str(key) if type(key) is int else key
        is_view = any(part is not None for part in about[5:])  # of another storage
        if kind != "storage" or type(key) is not str or len(key) > MAX_WORD or is_view:
            raise PickleError("not a storage")
        dtype = STORAGES.get(name) or (name if name in ITEMSIZES else "")
        if not dtype or type(count) is not int or not 0 <= count <= MAX_NUMBER:
            raise PickleError("not a storage")
        found = self.storages.setdefault(key, Storage(key, dtype, count))
        if (found.dtype, found.count) != (dtype, count):
            found = Storage(key, dtype, count)  # the same bytes as other numbers
        self.push(found)


def _tensor(arguments: tuple[Any, ...]) -> PickledTensor:
    """`_rebuild_tensor_v2(storage, offset, shape, strides, ...)`"""
    if len(arguments) < 4 or type(arguments[0]) is not Storage:
        raise PickleError("not a tensor")
    storage, offset, shape, strides = arguments[:4]
    if type(shape) is not tuple or type(strides) is not tuple or not len(shape) == len(strides) <= MAX_DIMENSIONS:
        raise PickleError("not a tensor")
    largest = 1
    for number in (offset, *strides):
        if type(number) is not int or not 0 <= number <= MAX_NUMBER:
            raise PickleError("not a shape")
    for size in shape:
        if type(size) is not int or size < 0 or (largest := largest * max(size, 1)) > MAX_NUMBER:
            raise PickleError("not a shape")
    return PickledTensor(storage, storage.dtype, offset, shape, strides)


def _typed_tensor(arguments: tuple[Any, ...]) -> PickledTensor:
    """`_rebuild_tensor_v3(storage, offset, shape, strides, requires_grad, hooks, dtype, ...)`"""
    tensor = _tensor(arguments)
    dtype = arguments[6].text.rpartition(".")[2] if len(arguments) > 6 and type(arguments[6]) is Name else ""
    if dtype not in ITEMSIZES:
        raise PickleError("not a tensor")
    return PickledTensor(tensor.storage, dtype, tensor.offset, tensor.shape, tensor.strides)


def _parameter(arguments: tuple[Any, ...]) -> PickledTensor:
    if not arguments or type(arguments[0]) is not PickledTensor:
        raise PickleError("not a tensor")
    return arguments[0]


def _ordered(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    if arguments:
        raise PickleError("an OrderedDict that torch does not write")
    return {}


def _short(text: str) -> str:
    return ascii(text[:80])[1:-1]


CALLS: Mapping[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
}
STOP = ord(".")
STEPS: Mapping[int, Callable[[_Machine], object]] = {
    code[0]: step
    for code, step in {
        b"\x80": lambda m: m.take(1),  # PROTO
        b"\x95": lambda m: m.take(8),  # FRAME
        b"(": _Machine.mark,
        b"N": lambda m: m.push(None), b"\x88": lambda m: m.push(True), b"\x89": lambda m: m.push(False),
        b"K": lambda m: m.push(m.number(1)), b"M": lambda m: m.push(m.number(2)),
        b"J": lambda m: m.push(int.from_bytes(m.take(4), "little", signed=True)),
        b"\x8a": lambda m: m.long(m.number(1)), b"\x8b": lambda m: m.long(m.number(4)),
        b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
        b"X": lambda m: m.text(m.number(4)), b"\x8c": lambda m: m.text(m.number(1)),
        b"\x8d": lambda m: m.text(m.number(8)),
        b"U": lambda m: m.text(m.number(1)), b"T": lambda m: m.text(m.number(4)),
        b"C": lambda m: m.skip(m.number(1)), b"B": lambda m: m.skip(m.number(4)),
        b"\x8e": lambda m: m.skip(m.number(8)),
        b")": lambda m: m.push(()), b"t": lambda m: m.push(tuple(m.since_mark())),
        b"\x85": lambda m: m.group(1), b"\x86": lambda m: m.group(2), b"\x87": lambda m: m.group(3),
        b"]": lambda m: m.push([]), b"l": lambda m: m.push(m.since_mark()), b"\x8f": lambda m: m.push([]),  # a set
        b"a": _Machine.append_one, b"e": lambda m: m.append(m.since_mark()),
        b"\x90": lambda m: m.append(m.since_mark()),
        b"}": lambda m: m.push({}), b"d": _Machine.make_dict,
        b"s": _Machine.set_item, b"u": lambda m: m.set_items(m.since_mark()),
        b"q": lambda m: m.remember(m.number(1)), b"r": lambda m: m.remember(m.number(4)),
        b"\x94": lambda m: m.remember(len(m.memo)),
        b"h": lambda m: m.recall(m.number(1)), b"j": lambda m: m.recall(m.number(4)),
        b"c": _Machine.global_name, b"\x93": _Machine.stack_name,
        b"R": _Machine.call, b"\x81": _Machine.call,  # NEWOBJ: a class is called as a function is
        b"b": _Machine.build, b"Q": _Machine.storage,
    }.items()
}  # fmt: skip
