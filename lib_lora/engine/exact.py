"""exact_arithmetic(): no shortcut that anybody switched on costs digits meanwhile."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch

# From torch 2.9 on; the older names refuse to answer where somebody has used the newer ones.
IS_NEW = hasattr(torch.backends, "fp32_precision")
FULL, INHERITED = "ieee", "none"
PATIENCE = 2.0  # seconds


class _Computing:
    """One `with` that computes now, in any thread. It is gone with that, even if an interrupt cut its end short."""


_lock = threading.RLock()
_inside: weakref.WeakSet[_Computing] = weakref.WeakSet()
_before: list[Callable[[], None]] = []  # what gives back the settings that the first of them found


@contextlib.contextmanager
def exact_arithmetic() -> Iterator[None]:
    """No gradients, no inference tensors, no autocast (hosts activate adapters inside it), full float32 products.

    torch's settings of products count for all threads: the first that comes in switches, the last that goes out
    switches back.
    """
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        for device in devices:
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(_full_products())
        yield


@contextlib.contextmanager
def _full_products() -> Iterator[None]:
    mine = _Computing()
    try:
        with _alone():
            _inside.add(mine)
            _switch()
        yield
    finally:
        with _alone():
            _inside.discard(mine)
            while _before and not _inside:
                _before[-1]()
                _before.pop()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One thread at a time. Nobody waits for ever for one that an interrupt kept from leaving, nor more than once."""
    global _lock
    while not (lock := _lock).acquire(timeout=PATIENCE):
        if _lock is lock:
            _lock = threading.RLock()
    try:
        yield
    finally:
        lock.release()


def _switch() -> None:
    """Full precision everywhere; how to go back is noted first."""
    matmul: Any = torch.backends.cuda.matmul
    mkldnn: Any = torch.backends.mkldnn
    if IS_NEW:
        for where in (matmul, mkldnn.matmul):
            if (precision := where.fp32_precision) not in (FULL, INHERITED):
                _before.append(_back(where, precision))
                where.fp32_precision = FULL
        return
    if (precision := torch.get_float32_matmul_precision()) != "highest":
        _before.append(lambda: torch.set_float32_matmul_precision(precision))
        torch.set_float32_matmul_precision("highest")
    if matmul.allow_tf32:
        _before.append(lambda: setattr(matmul, "allow_tf32", True))
        matmul.allow_tf32 = False


def _back(where: Any, precision: str) -> Callable[[], None]:
    def back() -> None:
        where.fp32_precision = INHERITED
        if where.fp32_precision != precision:  # its own, not that of all
            where.fp32_precision = precision

    return back
