"""Originals: where the base weight of a patched parameter is meanwhile, and how it gets back, bit for bit.

Kept      the tensor itself; the parameter points at a new one meanwhile
Borrowed  the Parameter itself, which another layer has too
Copied    a copy in main memory, from which a GPU is filled again
Reread    nowhere but in the checkpoint's file, whose bits were compared with it before
"""

from __future__ import annotations

import contextlib
import os
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

IN_FLIGHT = 256 << 20  # bytes that may be on their way to main memory, and take room on the GPU as long
PIECE = 1 << 20  # values
INTEGERS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}


class Original(ABC):
    """One base weight. It follows the parameter: where the host moved or cast that meanwhile, so is the base weight."""

    @abstractmethod
    def base(self, current: Tensor) -> Tensor:
        """The base weight on the device of `current`, with the values it has in that dtype; not to be written to."""

    @abstractmethod
    def put_back(self, parameter: Tensor) -> None:
        """Make `parameter` the base weight again."""


@dataclass(frozen=True)
class Kept(Original):
    """Restoring is a pointer swap: at once, for twice the memory of the touched weights."""

    tensor: Tensor

    def base(self, current: Tensor) -> Tensor:
        return self.tensor.to(device=current.device, dtype=current.dtype)

    def put_back(self, parameter: Tensor) -> None:
        parameter.data = self.base(parameter.data)


@dataclass(frozen=True)
class Copied(Original):
    """Restoring writes into the patched weight's memory: where there is no room for one more tensor there is none."""

    tensor: Tensor
    arrived: Any = None  # the CUDA event after which the copy is complete

    def base(self, current: Tensor) -> Tensor:
        self._wait()
        return self.tensor.to(device=current.device, dtype=current.dtype)

    def put_back(self, parameter: Tensor) -> None:
        self._wait()
        parameter.data.copy_(self.tensor)

    def _wait(self) -> None:
        if self.arrived is not None:
            self.arrived.synchronize()

    def __deepcopy__(self, memo: dict[int, Any]) -> Copied:
        return self  # it is only ever copied from


@dataclass(frozen=True)
class Borrowed(Original):
    """The Parameter that this layer and another one share (tied weights); the layer has one of its own meanwhile."""

    module: nn.Module
    attribute: str
    shared: Tensor  # a Parameter

    def base(self, current: Tensor) -> Tensor:
        return self.shared.data.to(device=current.device, dtype=current.dtype)

    def put_back(self, parameter: Tensor) -> None:
        self.shared.data = self.base(parameter.data)
        self.module._parameters[self.attribute] = self.shared  # type: ignore[assignment]


@dataclass(frozen=True)
class Reread(Original):
    """Takes no memory: `stored` is memory-mapped, and its pages are the system's to drop and to read again.

    Raises OSError where the file is not as it was when its bits were compared.
    """

    stored: Tensor  # as in the file
    dtype: torch.dtype  # in which it was compared
    file: MappedFile

    def base(self, current: Tensor) -> Tensor:
        moved = self._unchanged().to(current.device)
        return moved if self._is_exact(current) else moved.to(self.dtype).to(current.dtype)

    def put_back(self, parameter: Tensor) -> None:
        stored = self._unchanged()
        parameter.data.copy_(stored if self._is_exact(parameter) else stored.to(self.dtype))

    def _unchanged(self) -> Tensor:
        self.file.check()
        return self.stored

    def _is_exact(self, current: Tensor) -> bool:
        """True if what is stored becomes the base weight in whatever computes with it, without a copy of its own."""
        return current.dtype == self.dtype == torch.promote_types(self.stored.dtype, self.dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> Reread:
        return self


class MappedFile:
    """A safetensors file in the memory map, and how to tell that it is still the same."""

    def __init__(self, path: Path) -> None:
        """Raises OSError or SafetensorError."""
        self.path = path
        self._number = os.open(path, os.O_RDONLY)  # this very file, also when another one takes its name
        weakref.finalize(self, os.close, self._number)
        self._stamp = self._now()
        self._tensors = safe_open(path, framework="pt")
        self.names = frozenset(self._tensors.keys())
        if (there := path.stat()).st_ino != self._stamp[0] or there.st_size != self._stamp[1]:
            raise OSError(f"{path} was exchanged while it was opened")

    def tensor(self, name: str) -> Tensor:
        """As stored; its values lie in the map."""
        return self._tensors.get_tensor(name)

    def check(self) -> None:
        """Raises OSError if the file was written to: what is in the map is not what was there, or not there at all."""
        if self._now() != self._stamp:
            raise OSError(f"{self.path.name} was changed while adapters were active; load the checkpoint again")

    def _now(self) -> tuple[int, int, int]:
        status = os.fstat(self._number)
        return status.st_ino, status.st_size, status.st_mtime_ns


class CheckpointFile:
    """The safetensors files that a model was loaded from. They must stay as they are while adapters are active.

    places  {key of the parameter: where it may be, as (file, name in it), the likeliest first}
    """

    def __init__(self, places: Mapping[str, Sequence[tuple[Path, str]]]) -> None:
        self._places = places
        self._files: dict[Path, MappedFile] = {}
        for path in {path for known in places.values() for path, _ in known}:
            with contextlib.suppress(OSError, SafetensorError):
                self._files[path] = MappedFile(path)

    def __str__(self) -> str:
        return ", ".join(sorted({path.name for path in self._files}))

    def stored(self, key: str) -> Tensor | None:
        """As the likeliest file has it, whatever the model has; None if no file does. Raises OSError."""
        for path, name in self._places.get(key, ()):
            file = self._files.get(path)
            if file is not None and name in file.names:
                file.check()
                return file.tensor(name)
        return None

    def find(self, key: str, current: Tensor) -> Reread | None:
        """The base weight `current` as a file has it; None unless every bit is the same after the host's cast."""
        for path, name in self._places.get(key, ()):
            file = self._files.get(path)
            if file is not None and name in file.names:
                with contextlib.suppress(OSError):
                    file.check()
                    stored = file.tensor(name)
                    if stored.shape == current.shape and stored.is_floating_point() and becomes(stored, current):
                        return Reread(stored, current.dtype, file)
        return None


class Outbox:
    """Copies originals from a GPU into main memory, beside the arithmetic."""

    def __init__(self) -> None:
        self._streams: dict[torch.device, Any] = {}
        self._leaving: deque[tuple[int, Any]] = deque()  # (bytes, event) in order

    def copy(self, original: Tensor) -> Copied:
        """A copy that is complete when it is asked for. `original` may be dropped at once."""
        pinned = _pinned_like(original)
        if pinned is None:
            return Copied(original.to("cpu", copy=True))
        stream = self._streams.setdefault(original.device, torch.cuda.Stream(original.device))
        stream.wait_stream(torch.cuda.current_stream(original.device))
        with torch.cuda.stream(stream):
            pinned.copy_(original, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record(stream)
        original.record_stream(stream)  # its memory is free when the copy is complete
        self._leaving.append((original.nbytes, arrived))
        while sum(size for size, _ in self._leaving) > IN_FLIGHT:
            self._leaving.popleft()[1].synchronize()
        return Copied(pinned, arrived)


def _pinned_like(original: Tensor) -> Tensor | None:
    """Memory that a GPU can copy to by itself; None on other devices, and where the system gives none."""
    if original.is_cuda:
        with contextlib.suppress(RuntimeError):
            return torch.empty_like(original, device="cpu", pin_memory=True)
    return None


def becomes(stored: Tensor, current: Tensor) -> bool:
    """True if the host's cast of `stored` is `current`, bit for bit.

    On a CPU in pieces: temporaries of many sizes would stay with the process as holes in its memory.
    """
    rows = stored.shape[0] if stored.dim() else 1
    if not current.is_cuda and stored.dtype != current.dtype:
        rows = max(1, PIECE * rows // max(1, stored.numel()))
    pieces = (stored.split(rows), current.split(rows)) if stored.dim() else ((stored,), (current,))
    return all(same_bits(one.to(other.device).to(other.dtype), other) for one, other in zip(*pieces, strict=True))


def same_bits(one: Tensor, other: Tensor) -> bool:
    """True if two tensors of one shape, dtype and device are the same, down to the sign of a zero."""
    pair = [tensor.detach().contiguous().view(-1) for tensor in (one, other)]
    own = one.element_size()
    # Compared as integers, as wide as they can be: that is twice as fast.
    aligned = all((tensor.storage_offset() * own) % 8 == 0 and tensor.nbytes % 8 == 0 for tensor in pair)
    width = 8 if aligned else own
    return torch.equal(*(tensor.view(INTEGERS[width]) for tensor in pair))


def is_shared(parameter: Tensor) -> bool:
    """True if another tensor, in a cached state dict perhaps, has the same memory, or if nobody can tell.

    The caller holds the parameter's `.data` and nothing else of it.
    """
    count = getattr(torch._C, "_storage_Use_Count", None)
    if count is None:
        return True
    alone = nn.Parameter(torch.empty(1, device="cpu"), requires_grad=False)
    data = alone.data
    usual = count(data.untyped_storage()._cdata)
    return bool(count(parameter.untyped_storage()._cdata) > usual)
