"""Memory for patched weights: in large pages, and had again at once by the next adapter.

A first use is spent on getting memory as much as on arithmetic: in pages of 4 KB, 1.4 GB cost a third of a million
interrupts. Linux gives pages of 2 MB to those who ask; and it takes memory that was marked as free only when somebody
needs it, so that adapters taken out and put in again find theirs.
"""

from __future__ import annotations

import mmap
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

PAGE = 2 << 20  # bytes of a large page
LARGE_PAGES = getattr(mmap, "MADV_HUGEPAGE", None)  # Linux
MAY_BE_TAKEN = getattr(mmap, "MADV_FREE", None)


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
        if LARGE_PAGES is None or tensor.device.type != "cpu" or size < 2 * PAGE or not tensor.is_contiguous():
            return torch.empty_like(tensor)
        pieces = self._pieces.setdefault(size, [])
        free = next((piece for piece in pieces if not piece.is_used), None)
        try:
            memory = free.memory if free else _mapped(size)
        except OSError:  # no memory, which torch says better; or a kernel without large pages
            return torch.empty_like(tensor)
        to_page = _to_page(memory)
        user = np.frombuffer(memory, np.uint8, size, to_page)
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


def _mapped(size: int) -> mmap.mmap:
    """At least `size` bytes from a large page on, of which the last, if they fill none, lie in small ones.

    Raises OSError.
    """
    memory = mmap.mmap(-1, size + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(LARGE_PAGES, _to_page(memory), size // PAGE * PAGE)  # type: ignore[arg-type]
    return memory


def _to_page(memory: mmap.mmap) -> int:
    """Bytes before the first large page."""
    return int(-np.frombuffer(memory, np.uint8).ctypes.data % PAGE)
