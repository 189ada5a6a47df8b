"""Memory for patched weights: tensors like any others, whatever pages they lie in."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from lib_lora import fresh
from lib_lora.fresh import BLOCK, Fresh

SHAPES = [(3,), (320, 320), (16, 4, 3, 3), (1,), (BLOCK // 8, 3)]  # the last is larger than a block


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_pieces_hold_what_is_written_and_do_not_overlap(dtype):
    memory = Fresh()
    wanted = [torch.full(shape, float(number), dtype=dtype) for number, shape in enumerate(SHAPES)]
    pieces = [memory.like(each) for each in wanted]
    for piece, each in zip(pieces, wanted, strict=True):
        assert (piece.shape, piece.dtype, piece.stride()) == (each.shape, each.dtype, each.stride())
        assert piece.data_ptr() % 64 == 0
        piece.copy_(each)
    assert all(torch.equal(piece, each) for piece, each in zip(pieces, wanted, strict=True))


def test_each_piece_has_a_storage_of_its_own():
    memory = Fresh()
    one, two = memory.like(torch.empty(64)), memory.like(torch.empty(64))
    assert one.untyped_storage().nbytes() == 64 * 4
    assert one.untyped_storage().data_ptr() != two.untyped_storage().data_ptr()


def test_strides_that_are_not_contiguous_are_kept():
    weight = torch.empty(8, 4, 3, 3).contiguous(memory_format=torch.channels_last)
    assert Fresh().like(weight).stride() == weight.stride()
    assert Fresh().like(torch.empty(0, 4)).shape == (0, 4)


@pytest.mark.skipif(fresh.LARGE_PAGES is None, reason="this system has no large pages to ask for")
def test_memory_goes_back_with_its_last_piece():
    memory = Fresh()
    one, two = memory.like(torch.empty(64)), memory.like(torch.empty(64))
    block = weakref.ref(memory._block)
    del memory, one
    gc.collect()
    assert block() is not None
    del two
    gc.collect()
    assert block() is None


def test_where_the_system_gives_none_torch_is_asked(monkeypatch):
    def refuse(*_, **__):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(fresh.mmap, "mmap", refuse)
    assert Fresh().like(torch.empty(5, 7)).shape == (5, 7)
    monkeypatch.setattr(fresh, "LARGE_PAGES", None)
    assert Fresh().like(torch.empty(5, 7)).shape == (5, 7)
