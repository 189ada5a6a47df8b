"""The tensors in nested dicts and lists of a pickle by name, so that it can be seen what such a file is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

GROUPS = (dict, list, tuple)
MAX_DEPTH = 4  # of dicts and lists in a pickle
MAX_NAMES = 100_000
MAX_NAME = 2000  # characters
MAX_LETTERS = 20_000_000  # of all names together, which a few bytes can make long; 100,000 usual ones have half of it


def named(loaded: Any, is_tensor: type, *, depth: int = MAX_DEPTH) -> Iterator[tuple[str, Any]]:
    """`(name, tensor)` in nested dicts and lists of a pickle, so that it can be seen what such a file is.

    A hypernetwork is {768: [{...}, {...}]}: its tensors are called `768.0.linear.0.weight` here. Names are cut off soon
    after MAX_NAME, and made of what is a tensor or may hold some only.
    """
    found = letters = 0
    seen: set[int] = set()
    waiting: list[tuple[str, Iterator[tuple[Any, Any]]]] = [("", iter([("", loaded)]))]  # one for each level
    while waiting and found < MAX_NAMES and letters < MAX_LETTERS:
        start, pairs = waiting[-1]
        pair = next(pairs, None)
        if pair is None:
            waiting.pop()
            continue
        key, value = pair
        if isinstance(value, is_tensor):
            name = f"{start}{key}"[: MAX_NAME + 1]
            found, letters = found + 1, letters + len(name)
            yield name, value
        elif isinstance(value, GROUPS) and value and len(waiting) <= depth and id(value) not in seen:
            seen.add(id(value))
            name = f"{start}{key}"[: MAX_NAME + 1]
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            waiting.append((f"{name}." if name else "", iter(inner)))
