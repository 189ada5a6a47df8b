"""Memory for patched weights, in large pages where the system has them.

A first use is spent on getting memory as much as on arithmetic: in pages of 4 KB, 1.4 GB cost a third of a million
interrupts. Linux gives pages of 2 MB to those who ask.
"""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

BLOCK = 64 << 20  # bytes; memory goes back when all weights in a block are restored
ALIGNED = 64  # bytes, as torch aligns tensors itself
LARGE_PAGES = getattr(mmap, "MADV_HUGEPAGE", None)  # Linux, with a kernel that knows them


class Fresh:
    """Hands out memory piece by piece. It is meant to be dropped when a change of weights is done."""

    def __init__(self) -> None:
        self._block: mmap.mmap | None = None
        self._place = 0  # bytes of it that are taken

    def like(self, tensor: Tensor) -> Tensor:
        """An uninitialised tensor of the shape, strides, dtype and device of `tensor`, with a storage of its own."""
        if LARGE_PAGES is None or tensor.device.type != "cpu" or not tensor.is_contiguous() or not tensor.nbytes:
            return torch.empty_like(tensor)
        if self._block is None or self._place + tensor.nbytes > len(self._block):
            try:
                self._block = mmap.mmap(-1, max(BLOCK, tensor.nbytes), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                self._block.madvise(LARGE_PAGES)
            except OSError:  # no memory, which torch says better; or a kernel without large pages
                self._block = None
                return torch.empty_like(tensor)
            self._place = 0
        found = torch.frombuffer(self._block, dtype=tensor.dtype, count=tensor.numel(), offset=self._place)
        self._place += -(-tensor.nbytes // ALIGNED) * ALIGNED
        return found.view(tensor.shape)
