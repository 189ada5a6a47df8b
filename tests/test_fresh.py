"""Memory for patched weights: tensors like any others, wherever their memory comes from."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from lib_lora.engine import fresh
from lib_lora.engine.fresh import ENOUGH, Fresh

LARGE = (ENOUGH, 3)
SHAPES = [(3,), (1024, 1100), (1024, 1100), (64, 64, 32, 33), (0, 4), LARGE]


def large(value: float = 0.0) -> torch.Tensor:
    return torch.full(LARGE, value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_pieces_hold_what_is_written_and_do_not_overlap(dtype):
    memory = Fresh()
    wanted = [torch.full(shape, float(number), dtype=dtype) for number, shape in enumerate(SHAPES)]
    pieces = [memory.like(each) for each in wanted]
    for piece, each in zip(pieces, wanted, strict=True):
        assert (piece.shape, piece.dtype, piece.stride()) == (each.shape, each.dtype, each.stride())
        piece.copy_(each)
    assert all(torch.equal(piece, each) for piece, each in zip(pieces, wanted, strict=True))
    storages = {piece.untyped_storage().data_ptr() for piece in pieces if piece.numel()}
    assert len(storages) == len(SHAPES) - 1
    assert all(piece.untyped_storage().nbytes() == piece.nbytes for piece in pieces)


def test_strides_that_are_not_contiguous_are_kept():
    weight = torch.empty(640, 640, 3, 3).contiguous(memory_format=torch.channels_last)
    assert Fresh().like(weight).stride() == weight.stride()


@pytest.mark.skipif(fresh.MAY_BE_TAKEN is None, reason="this system does not take memory back later")
def test_memory_is_handed_out_again_only_when_nobody_holds_it():
    memory = Fresh()
    one = memory.like(large())
    address, alias = one.data_ptr(), one.view(-1)[5:]
    assert address % 64 == 0
    one.fill_(7)
    del one
    memory.release()
    other = memory.like(large())
    assert other.data_ptr() != address  # `alias` lies there
    assert alias.eq(7).all()
    del alias
    memory.release()
    again = memory.like(large())
    assert again.data_ptr() == address
    again.copy_(large(3))
    memory.release()
    assert again.eq(3).all()
    assert other.data_ptr() != again.data_ptr()


@pytest.mark.skipif(fresh.MAY_BE_TAKEN is None, reason="this system does not take memory back later")
def test_memory_outlives_its_maker_and_goes_with_its_last_tensor():
    memory = Fresh()
    one, two = memory.like(large()), memory.like(large())
    one.fill_(1)
    gone = weakref.ref(memory._pieces[one.nbytes][1].memory)
    del memory, two
    gc.collect()
    assert gone() is None
    assert one.eq(1).all()


def test_where_the_system_gives_none_torch_is_asked(monkeypatch):
    def refuse(*_, **__):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(fresh.mmap, "mmap", refuse)
    assert Fresh().like(large()).shape == LARGE
    monkeypatch.setattr(fresh, "MAY_BE_TAKEN", None)
    assert Fresh().like(large()).shape == LARGE
