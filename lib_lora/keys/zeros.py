"""Which parts of a module must be zero so that it changes nothing, for whoever can look at values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from lib_lora.algorithms import table

Values = TypeVar("Values")

FACTORS = ("scale", "scalar")  # of every product of the table
ALL_ZERO = "all its values are zero: it changes nothing"


def changes_nothing(parts: Mapping[str, Values], is_zero: Callable[[Values], bool]) -> bool:
    """Whether a module with these parts leaves its weight as it is."""
    if not table.TABLE.acting.isdisjoint(parts):
        return False
    products = [[part for part in product if part in parts] for product in table.TABLE.products]
    present = [product for product in products if product]
    if any(is_zero(parts[factor]) for factor in FACTORS if factor in parts):
        return bool(present)
    return bool(present) and all(any(is_zero(parts[part]) for part in product) for product in present)
