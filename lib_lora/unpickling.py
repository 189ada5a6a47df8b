"""The tensors of a file of torch's (a zip archive with a pickle in it), read without running anything.

The pickle is run by an unpickler of our own, which knows a dict, a tensor and a storage and nothing else: any other
name ends the reading, and torch never opens the file (older versions of it run code in files that claim to be
programs). No tensor can be larger than the bytes that the file holds for it.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib_lora import foreign
from lib_lora.errors import AdapterFileError

PICKLES = (".pt", ".pth", ".ckpt", ".bin")
FLOAT8 = tuple(getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2") if hasattr(torch, name))
MAX_PICKLE = 50 * 1024 * 1024  # bytes of `data.pkl`: the listing, without the tensors
MAX_DIMENSIONS = 16
STORAGES = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64, "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16,
    "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,  # what is in it, `_rebuild_tensor_v3` says
}  # fmt: skip
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (*STORAGES.values(), *FLOAT8)}
BROKEN = (  # what unpickling hostile bytes can raise
    pickle.UnpicklingError, zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, ValueError, TypeError, AttributeError,
    IndexError, KeyError, RecursionError, OverflowError, MemoryError, NotImplementedError, RuntimeError,
)  # fmt: skip


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors by name. Raises AdapterFileError."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = _records(archive, path)
            if records["data.pkl"].file_size > MAX_PICKLE:
                raise AdapterFileError(
                    f"{path.name}: its listing is larger than {MAX_PICKLE >> 20} MB; it was not opened"
                )
            loaded = _Unpickler(archive, records).load()
    except zipfile.BadZipFile as error:
        raise AdapterFileError(f"{path.name}: not a torch file in zip format; save it again as .safetensors") from error
    except OSError as error:
        raise AdapterFileError(
            f"{path.name} cannot be read ({error.strerror or error}): check the file and its rights"
        ) from error
    except BROKEN as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AdapterFileError(f"{path.name}: not a plain file of tensors ({reason}); it was not loaded") from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping):
        raise AdapterFileError(f"{path.name}: holds no tensors by name")
    return dict(foreign.named(loaded, Tensor))


def _records(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The archive's members by their name below its one folder. Raises AdapterFileError if it is no file of tensors."""
    records = {record.filename.partition("/")[2]: record for record in archive.infolist()}
    if "constants.pkl" in records or "data.pkl" not in records:
        raise AdapterFileError(f"{path.name}: a program, not a file of tensors; it was not opened")
    if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
        raise AdapterFileError(f"{path.name}: a compressed archive, which torch does not write; it was not opened")
    if sum(record.file_size for record in archive.infolist()) > path.stat().st_size:
        raise AdapterFileError(f"{path.name}: its parts are larger than itself; it was not opened")
    return records


@dataclass(frozen=True)
class _Storage:
    """The bytes of one record, in which tensors lie."""

    data: bytearray
    dtype: torch.dtype


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, records: Mapping[str, zipfile.ZipInfo]) -> None:
        super().__init__(io.BytesIO(archive.read(records["data.pkl"])))
        self._archive = archive
        self._records = records
        self._read: dict[str, bytearray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a file of tensors")
        return KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key = pid[:3]
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError("not a storage")
        record = f"data/{key}"
        if record not in self._read:
            self._read[record] = bytearray(self._archive.read(self._records[record]))
        return _Storage(self._read[record], dtype)


class _Rebuild:
    """Stands for torch's own function; has no attributes that a pickle could overwrite."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
        dtype = self._dtype(storage, rest)
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or not isinstance(dtype, torch.dtype) or len(shape) != len(strides):
            raise pickle.UnpicklingError("not a tensor")
        if len(shape) > MAX_DIMENSIONS or not all(type(number) is int and number >= 0 for number in numbers):
            raise pickle.UnpicklingError("not a shape")
        count = torch.Size(shape).numel()
        if count == 0:
            return torch.empty(shape, dtype=dtype)
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        held = len(storage.data) // dtype.itemsize
        if max(last + 1, count) > held:
            raise pickle.UnpicklingError("a tensor is larger than its data")
        return torch.frombuffer(storage.data, dtype=dtype, count=held).as_strided(shape, strides, offset)

    def _dtype(self, storage: Any, _rest: tuple[Any, ...]) -> Any:
        return storage.dtype


class _RebuildTyped(_Rebuild):
    """The third version of that function: the storage has no type, the tensor has."""

    __slots__ = ()

    def _dtype(self, storage: Any, rest: tuple[Any, ...]) -> Any:
        return rest[2]


class _RebuildParameter:
    __slots__ = ()

    def __call__(self, tensor: Any, *_rest: Any) -> Any:
        return tensor


KNOWN: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _Rebuild(),
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
    ("torch._utils", "_rebuild_tensor_v3"): _RebuildTyped(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
}
