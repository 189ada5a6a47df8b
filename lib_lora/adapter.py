"""Adapter: a file, read, knowing no model: {module spelling: Delta} and what was not understood."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lib_lora import families
from lib_lora.algorithms import Delta, read_module
from lib_lora.errors import AdapterFileError
from lib_lora.keys import split_key

BUNDLE = "bundle_emb."
PICKLES = (".pt", ".pth", ".ckpt", ".bin")


@dataclass(frozen=True, eq=False)
class Adapter:
    """Immutable, and bound to a model only by `plan`: it can be cached and used on several models."""

    path: Path
    family: families.Family
    metadata: Mapping[str, str] = field(repr=False)
    modules: Mapping[str, Mapping[str, Delta]] = field(repr=False)  # spelling -> {"weight": ..., "bias": ...}
    unknown: tuple[str, ...] = ()  # keys that no algorithm understands
    refused: tuple[str, ...] = ()  # sentences: modules that are incomplete or not finite
    notes: tuple[str, ...] = ()  # sentences: decisions that a user should know of

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms' names, each once."""
        return tuple(sorted({delta.algorithm for deltas in self.modules.values() for delta in deltas.values()}))

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that occur, ascending."""
        ranks = {delta.rank for deltas in self.modules.values() for delta in deltas.values()}
        return tuple(sorted(rank for rank in ranks if rank is not None))


def read_adapter(path: Path) -> Adapter:
    """Read an adapter file. Tensors of .safetensors stay in the memory map; pickles cannot execute code.

    Raises AdapterFileError if the file is missing, broken, or holds no module of a known algorithm.
    """
    tensors, metadata = _read_pickle(path) if path.suffix.lower() in PICKLES else _read_safetensors(path)
    by_module: dict[str, dict[str, Tensor]] = {}
    keys: dict[tuple[str, str], str] = {}
    unknown: list[str] = []
    for key, tensor in tensors.items():
        split = None if key.startswith(BUNDLE) else split_key(key)
        if split is None:
            unknown.append(key)
            continue
        by_module.setdefault(split[0], {})[split[1]] = tensor
        keys[split] = key

    modules: dict[str, Mapping[str, Delta]] = {}
    refused: list[str] = []
    notes: list[str] = []
    for name, parts in by_module.items():
        bad = next((part for part, tensor in parts.items() if not _is_usable(tensor)), None)
        if bad is not None:
            refused.append(f"{name}: {bad} holds values that are not finite numbers")
            continue
        deltas, left_over, said = read_module(parts)
        if deltas:
            modules[name] = deltas
            notes += [f"{name}: {note}" for note in said]
        unknown += [keys[name, part] for part in left_over]
    if not modules:
        raise AdapterFileError(f"{path.name}: {_why_nothing(refused, unknown)}")
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    return Adapter(path, families.detect(shapes, metadata), metadata, modules, tuple(unknown), tuple(refused), tuple(notes))


class AdapterCache:
    """The last `limit` adapters read, keyed by path, modification time and size: a changed file is read again."""

    def __init__(self, limit: int = 8) -> None:
        self.limit = limit
        self._read: OrderedDict[Path, tuple[tuple[int, int], Adapter]] = OrderedDict()

    def read(self, path: Path) -> Adapter:
        """The adapter at `path`. Raises AdapterFileError."""
        try:
            status = path.stat()
        except OSError as error:
            self._read.pop(path, None)
            raise AdapterFileError(f"{path.name}: cannot be opened ({error.strerror}); is it still at {path}?") from error
        stamp = (status.st_mtime_ns, status.st_size)
        known = self._read.get(path)
        if known is None or known[0] != stamp:
            known = (stamp, read_adapter(path))
            self._read[path] = known
        self._read.move_to_end(path)
        while len(self._read) > max(self.limit, 1):
            self._read.popitem(last=False)
        return known[1]

    def clear(self) -> None:
        """Forget every file."""
        self._read.clear()


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise AdapterFileError(f"{path.name}: not a readable .safetensors file ({error}); download it again") from error


def _read_pickle(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A dict of tensors saved by torch, in its zip format only.

    `weights_only` forbids code in the pickle. TorchScript archives are refused before torch sees them: older versions of
    torch would run them whatever `weights_only` says.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
        if "data.pkl" not in names or "constants.pkl" in names:
            raise AdapterFileError(f"{path.name}: a program, not a file of tensors; it was not opened")
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except zipfile.BadZipFile as error:
        raise AdapterFileError(f"{path.name}: not a torch file in zip format; save it again as .safetensors") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AdapterFileError(f"{path.name}: not a plain file of tensors ({reason}); it was not loaded") from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict):
        raise AdapterFileError(f"{path.name}: holds no tensors by name")
    return {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}, {}


def _is_usable(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor.float().sum()).item())


def _why_nothing(refused: list[str], unknown: list[str]) -> str:
    if refused:
        return f"no usable module; {refused[0]}"
    if unknown:
        return f"not an adapter that is known here; its tensors are named like '{unknown[0]}'"
    return "the file holds no tensors"
