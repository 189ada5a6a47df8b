"""check(): the weights that are loaded against their file, bit for bit; and what differs put right.

A weight that adapters are in is compared twice: as it was before them with the file, and as it is now with what they
make of that. The same sum in other memory, or on another device, may be rounded otherwise, and one that the host moved
was perhaps cast on the way: what is no more than that is no damage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lib_lora.engine.exact import exact_arithmetic
from lib_lora.engine.merged import Carried
from lib_lora.engine.originals import CheckpointFile, becomes, same_bits
from lib_lora.engine.patch import Patcher
from lib_lora.engine.records import CAST_ERROR
from lib_lora.model.slots import Slot, is_plain

EMBEDDING = "token_embedding.weight"  # whose matrix is longer where adapters have brought words
HALVES = (torch.float16, torch.bfloat16)  # as which a host loads what it keeps in 8 bits
ORDER = 32  # units of float32 by which a sum of some hundred numbers depends on their order
Progress = Callable[[int, int], object]  # (weights done, of how many)


@dataclass(frozen=True)
class Checked:
    """What became of it."""

    file: str
    same: int  # weights that are the file's bits, and what adapters make of these
    differing: tuple[str, ...] = field(default=(), repr=False)  # parameters; those that were put right are the same
    unknown: tuple[str, ...] = field(default=(), repr=False)  # parameters that nobody can compare
    repaired: int = 0
    carrying: int = 0  # parameters that adapters were in

    @property
    def total(self) -> int:
        """How many were compared."""
        return self.same + len(self.differing)


def check(
    patcher: Patcher, slots: Mapping[str, Slot], file: CheckpointFile, *, repair: bool = False,
    progress: Progress | None = None,
) -> Checked:  # fmt: skip
    """Of all `slots`. With `repair` adapters are taken out and what differs is read from the file again.

    Raises OSError if the file is being written to, PatchError if the adapters cannot be taken out.
    """
    same, repaired = 0, 0
    differing: list[str] = []
    unknown: list[str] = []
    with patcher.held(), exact_arithmetic():
        carried = {each.key: _is_made_so(each) for each in patcher.carried(slots)}
        spoilt = {key for key, is_right in carried.items() if not is_right}
        if repair:
            patcher.restore()
            repaired = len(spoilt - slots.keys())  # biases that were made for an adapter, and are gone
        else:
            differing += sorted(spoilt - slots.keys())
        for done, (key, slot) in enumerate(slots.items()):
            is_spoilt = key in spoilt
            found = _is_right(patcher, key, slot, file)
            if found is False and repair and _put_right(slot, file.stored(key)):
                is_spoilt = True
                found = _is_right(patcher, key, slot, file)
            if found is None:
                unknown.append(key)
            elif found and (repair or not is_spoilt):
                same += 1
                repaired += is_spoilt
            else:
                differing.append(key)
            if progress is not None:
                progress(done + 1, len(slots))
    return Checked(str(file), same, tuple(differing), tuple(unknown), repaired, len(carried))


def _is_made_so(carried: Carried) -> bool:
    """Whether a parameter is what adapters make of its base weight, but for rounding."""
    found, meant = carried.found.detach(), carried.made_anew()
    if same_bits(found, meant):
        return True
    sizes = meant.float().abs()
    order = ORDER * torch.finfo(torch.float32).eps * sizes.max()
    if carried.is_where_written:
        slack = torch.finfo(found.dtype).eps * sizes + order
    else:
        slack = CAST_ERROR * (sizes + carried.base.float().abs()) + order
    return bool(((found.float() - meant.float()).abs() <= slack).all())


def _is_right(patcher: Patcher, key: str, slot: Slot, file: CheckpointFile) -> bool | None:
    """None if nobody can tell."""
    stored = file.stored(key)
    current = patcher.base(key, slot) if stored is not None and is_plain(slot.parameter) else None
    if stored is None or current is None or not stored.is_floating_point():
        return None
    if key.endswith(EMBEDDING) and current.shape[1:] == stored.shape[1:] and len(current) > len(stored):
        current = current[: len(stored)]
    if not _is_from(file, key, stored, current):
        return False
    finer = slot.base(current)
    return finer is current or _is_from(file, key, stored, finer)


def _is_from(file: CheckpointFile, key: str, stored: Tensor, current: Tensor) -> bool:
    """Whether that is what the file has, after the cast of a host."""
    if file.find(key, current) is not None:
        return True
    is_small = current.element_size() == 1 and stored.shape == current.shape
    return is_small and any(becomes(stored.to(half), current) for half in HALVES)


def _put_right(slot: Slot, stored: Tensor | None) -> bool:
    """Whether it could be done. What others may share is not written to."""
    parameter = slot.parameter
    if stored is None or slot.is_away or stored.shape != parameter.shape:
        return False
    with torch.no_grad():
        finer = slot.base(parameter.data)
        if finer is not parameter.data and slot.finer:
            setattr(slot.module, slot.finer, torch.empty_like(finer).copy_(stored))
        stored = stored.half() if parameter.element_size() == 1 else stored
        parameter.data = torch.empty_like(parameter.data).copy_(stored)
    return True
