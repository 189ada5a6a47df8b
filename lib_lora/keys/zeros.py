"""Which parts of a module must be zero so that it changes nothing, for whoever can look at values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

Values = TypeVar("Values")

# What is added is a sum of products. A module changes nothing if each product that it has has a factor that is zero.
PRODUCTS: tuple[tuple[str, ...], ...] = (
    ("up", "down", "mid"),
    ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_t1", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    ("a1", "a2"),
    ("b1", "b2", "bm"),
    ("oft_r",),
    ("oft_blocks",),
    ("weight",),  # of IA3
    ("w_norm",),
    ("b_norm",),
    ("diff",),
    ("diff_b",),
    ("lora_bias",),
    ("bias_values",),
)
FACTORS = ("scale", "scalar")  # of every product
ACTING = frozenset({"dora_scale", "magnitude", "rescale", "oft_diag", "q_layer"})  # whatever the others are
ALL_ZERO = "all its values are zero: it changes nothing"


def changes_nothing(parts: Mapping[str, Values], is_zero: Callable[[Values], bool]) -> bool:
    """Whether a module with these parts leaves its weight as it is."""
    if not ACTING.isdisjoint(parts):
        return False
    products = [[part for part in product if part in parts] for product in PRODUCTS]
    present = [product for product in products if product]
    if any(is_zero(parts[factor]) for factor in FACTORS if factor in parts):
        return bool(present)
    return bool(present) and all(any(is_zero(parts[part]) for part in product) for product in present)
