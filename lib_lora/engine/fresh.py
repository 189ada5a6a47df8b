"""Memory for patched weights that is had again at once by the next adapter.

A first use is spent on getting memory as much as on arithmetic: in pages of 4 KB, 1.4 GB cost a third of a million
interrupts. Linux takes memory that was marked as free only when somebody needs it, so that adapters taken out and put
in again find theirs. (Large pages are not asked for: where files fill the memory, the kernel first moves them aside,
and a first use takes up to three times as long.)
"""

from __future__ import annotations

import mmap
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

ENOUGH = 1 << 20  # bytes of a tensor for which it is worth while
MAY_BE_TAKEN = getattr(mmap, "MADV_FREE", None)  # Linux


@dataclass
class Piece:
    """Memory for one tensor."""

    memory: mmap.mmap
    user: weakref.ref[Any]  # what the storage of the tensor holds as long as it lives
    is_marked: bool = False  # the system may take it

    @property
    def is_used(self) -> bool:
        """True if a tensor lies in it, whoever holds that."""
        return self.user() is not None


class Fresh:
    """Hands out uninitialised memory, and knows what it handed out before."""

    def __init__(self) -> None:
        self._pieces: dict[int, list[Piece]] = {}  # by the bytes of the tensor that is or was in it

    def like(self, tensor: Tensor) -> Tensor:
        """An uninitialised tensor of the shape, strides, dtype and device of `tensor`, with a storage of its own."""
        size = tensor.nbytes
        if MAY_BE_TAKEN is None or tensor.device.type != "cpu" or size < ENOUGH or not tensor.is_contiguous():
            return torch.empty_like(tensor)
        pieces = self._pieces.setdefault(size, [])
        free = next((piece for piece in pieces if not piece.is_used), None)
        try:
            memory = free.memory if free else mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError:  # no memory, which torch says better
            return torch.empty_like(tensor)
        user = np.frombuffer(memory, np.uint8, size)
        if free:
            pieces.remove(free)
        pieces.append(Piece(memory, weakref.ref(user)))
        return torch.from_numpy(user).view(tensor.dtype).view(tensor.shape)

    def release(self) -> None:
        """Let the system take what no tensor uses any more; what it does not take is handed out again."""
        for pieces in self._pieces.values():
            for piece in pieces:
                if MAY_BE_TAKEN is not None and not piece.is_marked and not piece.is_used:
                    piece.memory.madvise(MAY_BE_TAKEN)
                    piece.is_marked = True
