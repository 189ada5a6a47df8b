"""What is added to one weight: one algorithm = one file + one line in `ALGORITHMS`.

`read_module` turns the stored tensors of one module into {"weight": Delta} and / or {"bias": Delta}.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lib_lora.algorithms.base import Delta, Parts
from lib_lora.algorithms.loha import Loha
from lib_lora.algorithms.lokr import Lokr
from lib_lora.algorithms.lora import Lora

# First match wins; the order is the one of adapter files in the wild, most specific parts first.
ALGORITHMS: tuple[Callable[[Parts], Delta | None], ...] = (
    Lora.from_parts,
    Loha.from_parts,
    Lokr.from_parts,
)


def read_module(tensors: dict[str, Tensor]) -> tuple[dict[str, Delta], list[str], list[str]]:
    """({"weight": Delta, "bias": Delta} as far as found, names of the parts left over, notes for the user)."""
    parts = Parts(tensors)
    found: dict[str, Delta] = {}
    for read in ALGORITHMS:
        delta = read(parts)
        if delta is not None:
            found["weight"] = delta
            break
    return found, sorted(parts.tensors), parts.notes


__all__ = ["ALGORITHMS", "Delta", "Parts", "read_module"]
