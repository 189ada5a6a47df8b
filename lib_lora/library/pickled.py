"""Names and shapes inside a .pt / .ckpt / .bin file, read without torch and without running anything in it.

Such a file is a zip archive whose `data.pkl` rebuilds a dict of tensors. The pickle is run by an unpickler that knows
only stand-ins: a tensor becomes its shape, a storage and every class of numbers becomes nothing. Any other name in it
ends the reading, so there is nothing that could be called; the stand-ins have no attributes that it could overwrite.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_lora import foreign
from lib_lora.errors import AdapterFileError

MAX_PICKLE = 50 * 1024 * 1024  # bytes of data.pkl, unpacked
MAX_DIMENSIONS = 16


class _Tensor(tuple[int, ...]):
    """A shape that stands for its tensor."""

    __slots__ = ()


class _Nothing:
    """Stands for a storage or a type of numbers."""

    __slots__ = ()


class _RebuildTensor:
    __slots__ = ()

    def __call__(self, _storage: Any, _offset: Any, shape: Any, *_rest: Any) -> _Tensor:
        if len(shape) > MAX_DIMENSIONS or not all(type(size) is int and size >= 0 for size in shape):
            raise pickle.UnpicklingError("not a shape")
        return _Tensor(shape)


class _RebuildParameter:
    __slots__ = ()

    def __call__(self, tensor: Any, *_rest: Any) -> Any:
        return tensor


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """{tensor name: shape} of a torch file in zip format. Raises AdapterFileError."""
    try:
        with zipfile.ZipFile(path) as archive:
            content = _pickle_of(archive, path.name)
        loaded = _Unpickler(io.BytesIO(content)).load()
    except zipfile.BadZipFile as error:
        raise AdapterFileError(f"{path.name}: not a torch file in zip format; save it again as .safetensors") from error
    except OSError as error:
        raise AdapterFileError(f"{path.name} cannot be read ({error.strerror or error}): check its rights") from error
    except BROKEN as error:
        raise AdapterFileError(f"{path.name}: not a plain file of tensors; it was not loaded") from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping):
        raise AdapterFileError(f"{path.name}: holds no tensors by name")
    return {name: tuple(shape) for name, shape in foreign.named(loaded, _Tensor)}


BROKEN = (  # what unpickling hostile bytes can raise
    pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError,
    RecursionError, OverflowError, MemoryError, NotImplementedError, RuntimeError, zipfile.LargeZipFile,
    zlib.error, struct.error,
)  # fmt: skip


def _pickle_of(archive: zipfile.ZipFile, name: str) -> bytes:
    members = {member.filename.rpartition("/")[2]: member for member in archive.infolist()}
    member = members.get("data.pkl")
    if member is None or "constants.pkl" in members:
        raise AdapterFileError(f"{name}: a program, not a file of tensors; it was not opened")
    if member.file_size > MAX_PICKLE:
        raise AdapterFileError(f"{name}: its listing is larger than {MAX_PICKLE >> 20} MB; it was not opened")
    with archive.open(member) as file:
        return file.read(MAX_PICKLE)


STAND_INS: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _RebuildTensor(),
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
}
NOTHING = _Nothing()
NUMBERS = ("Storage", "float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name.endswith(NUMBERS):
            return NOTHING
        if (module, name) not in STAND_INS:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a file of tensors")
        return STAND_INS[module, name]

    def persistent_load(self, _pid: Any) -> Any:
        return NOTHING
