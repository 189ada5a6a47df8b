"""Other threads read what comes next and write what is done, while this one is busy: a scan waits for no disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

DEPTH = 4  # items that are fetched before their turn, for each thread
T = TypeVar("T")
R = TypeVar("R")


def ahead(items: Iterable[T], fetch: Callable[[T], R], *, threads: int = 1) -> Iterator[tuple[T, R]]:
    """Each item with what `fetch` gives for it, in order, fetched by other threads a little before its turn."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    source = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="lib_lora reads ahead") as pool:
        while True:
            waiting.extend((item, pool.submit(fetch, item)) for item in islice(source, DEPTH * threads - len(waiting)))
            if not waiting:
                return
            item, fetched = waiting.popleft()
            yield item, fetched.result()


def behind(items: Iterable[T], work: Callable[[T], R]) -> Iterator[R]:
    """What `work` gives for each item, in order, done by a second thread while the next item is being made."""
    with ThreadPoolExecutor(1, thread_name_prefix="lib_lora writes") as thread:
        previous: Future[R] | None = None
        for item in items:
            current = thread.submit(work, item)
            if previous is not None:
                yield previous.result()
            previous = current
        if previous is not None:
            yield previous.result()
