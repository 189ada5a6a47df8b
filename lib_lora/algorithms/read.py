"""read_module(): the stored tensors of one module -> {"weight": Delta} and / or {"bias": Delta}, by the tables here."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lib_lora.algorithms.base import Delta, Origin, Parts, PartsError
from lib_lora.algorithms.boft import Boft
from lib_lora.algorithms.dora import Dora
from lib_lora.algorithms.full import Full, FullBias
from lib_lora.algorithms.glora import Glora
from lib_lora.algorithms.ia3 import Ia3
from lib_lora.algorithms.loha import Loha
from lib_lora.algorithms.lokr import Lokr
from lib_lora.algorithms.lora import Lora, LoraBias
from lib_lora.algorithms.norm import Norm, NormBias
from lib_lora.algorithms.oft import Oft
from lib_lora.algorithms.oft2 import Oft2
from lib_lora.algorithms.refused import ACCESSORIES, incomplete, refusal
from lib_lora.algorithms.residual import Residual
from lib_lora.algorithms.started import Started
from lib_lora.algorithms.tlora import Tlora

# For a weight: the first that finds its parts.
ALGORITHMS: tuple[Callable[[Parts], Delta | None], ...] = (
    Lora.from_parts,
    Loha.from_parts,
    Lokr.from_parts,
    Glora.from_parts,
    Oft2.from_parts,
    Oft.from_parts,
    Boft.from_parts,
    Tlora.from_parts,
    Ia3.from_parts,
    Norm.from_parts,
    Full.from_parts,
)
# Around what was found for the weight.
WRAPPERS: tuple[Callable[[Delta, Parts], Delta], ...] = (
    Started.wrap,
    Residual.wrap,
    Dora.wrap,
)
# For a bias, beside anything for the weight or alone.
BIASES: tuple[Callable[[Parts], Delta | None], ...] = (
    LoraBias.from_parts,
    NormBias.from_parts,
    FullBias.from_parts,
)


def read_module(
    tensors: dict[str, Tensor], origin: Origin | None = None
) -> tuple[dict[str, Delta], list[str], list[str]]:
    """({"weight": Delta, "bias": Delta} as far as found, names of the parts left over, notes for the user).

    Raises PartsError if the module cannot be used: incomplete, contradictory, or of an unsupported algorithm.
    """
    if (reason := refusal(tensors)) is not None:
        raise PartsError(reason)
    parts = Parts(tensors, origin)
    found: dict[str, Delta] = {}
    weight = next((delta for read in ALGORITHMS if (delta := read(parts)) is not None), None)
    if weight is not None:
        for wrap in WRAPPERS:
            weight = wrap(weight, parts)
        found["weight"] = weight
    bias = next((delta for read in BIASES if (delta := read(parts)) is not None), None)
    if bias is not None:
        found["bias"] = bias
    if not found and not tensors.keys() <= ACCESSORIES:
        raise PartsError(incomplete(tensors))
    return found, sorted(parts.tensors), parts.notes

