"""read_module(): the stored tensors of one module -> {"weight": Delta} and / or {"bias": Delta}, by the table."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from torch import Tensor

from lib_lora.algorithms import table
from lib_lora.algorithms.base import Delta, Origin, Parts, PartsError
from lib_lora.algorithms.table import Understood


def read_module(
    tensors: dict[str, Tensor], origin: Origin | None = None, module: str = ""
) -> tuple[dict[str, Delta], list[str], list[str]]:
    """({"weight": Delta, "bias": Delta} as far as found, names of the parts left over, notes for the user).

    Raises PartsError if the module cannot be used: incomplete, contradictory, or of an unsupported algorithm.
    """
    shapes = {part: tuple(tensor.shape) for part, tensor in tensors.items()}
    return read_understood(table.TABLE.understand(module, shapes), tensors, origin)


def read_understood(
    understood: Understood, tensors: dict[str, Tensor], origin: Origin | None = None
) -> tuple[dict[str, Delta], list[str], list[str]]:
    """The same of a module that was looked at before. Raises PartsError."""
    if understood.refused:
        raise PartsError(understood.refused)
    parts = Parts(tensors, origin)
    found: dict[str, Delta] = {}
    if understood.weight is not None:
        found["weight"] = _class(understood.weight.home).from_parts(parts)
        for wrapper in understood.around:
            found["weight"] = _class(wrapper.home).wrap(found["weight"], parts)
    if understood.bias is not None:
        found["bias"] = _class(understood.bias.home).from_parts(parts)
    return found, sorted(parts.tensors), parts.notes


@cache
def _class(home: str) -> Any:
    """ "loha.Loha": the class of an algorithm, or of a wrapper; its file is imported when it is first needed."""
    file, _, name = home.partition(".")
    return getattr(importlib.import_module(f"{__package__}.{file}"), name)
