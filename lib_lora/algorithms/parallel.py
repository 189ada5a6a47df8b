"""each(): layer after layer, several at a time where torch is told to take one core for each operation.

The matrices of adapters are small: an operation shared out among cores waits for the slowest of them, thousands of
times, and on a busy machine for ever. A core for each layer waits for nobody.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

MOST = 8  # layers at a time: each may be built whole
HANDED = 16  # layers to a core, so that it asks for more seldom; fewer where there are few
SELDOM = 100_000  # objects made between two looks
Item = TypeVar("Item")
Made = TypeVar("Made")


def each(work: Callable[[Item], Made], items: Sequence[Item]) -> Iterator[Made]:
    """`work` of every item, in order; in threads within `side_by_side`, else one after the other."""
    count = min(MOST, _cores(), len(items)) if torch.get_num_threads() == 1 else 1
    if count < 2:
        yield from map(work, items)
        return
    some = max(1, min(HANDED, len(items) // (HANDED * count)))
    with ThreadPoolExecutor(count) as pool:
        for made in pool.map(lambda at: list(map(work, items[at : at + some])), range(0, len(items), some)):
            yield from made


@contextmanager
def side_by_side() -> Iterator[None]:
    """Let every operation take one core. For a process that does nothing else: torch's threads are everybody's.

    Nor does Python look all that torch has imported through for garbage meanwhile, which no layer leaves.
    """
    before, patience = torch.get_num_threads(), gc.get_threshold()
    torch.set_num_threads(1)
    gc.set_threshold(max(patience[0], SELDOM), *patience[1:])
    try:
        yield
    finally:
        torch.set_num_threads(before)
        gc.set_threshold(*patience)


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
