"""check(): the weights that are loaded against their file, bit for bit; and what differs put right.

What adapters have changed is compared as it was before them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lib_lora.engine.exact import exact_arithmetic
from lib_lora.engine.originals import CheckpointFile
from lib_lora.engine.patch import Patcher
from lib_lora.model.slots import Slot, is_plain

EMBEDDING = "token_embedding.weight"  # whose matrix is longer where adapters have brought words
Progress = Callable[[int, int], object]  # (weights done, of how many)


@dataclass(frozen=True)
class Checked:
    """What became of it."""

    file: str
    same: int  # weights that are the file's bits
    differing: tuple[str, ...] = field(default=(), repr=False)  # parameters; those that were put right are the same
    unknown: tuple[str, ...] = field(default=(), repr=False)  # parameters that nobody can compare
    repaired: int = 0

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
        if repair:
            patcher.restore()
        for done, (key, slot) in enumerate(slots.items()):
            found = _is_right(patcher, key, slot, file)
            if found is False and repair and _put_right(slot, file.stored(key)):
                repaired += 1
                found = _is_right(patcher, key, slot, file)
            if found is None:
                unknown.append(key)
            elif found:
                same += 1
            else:
                differing.append(key)
            if progress is not None:
                progress(done + 1, len(slots))
    return Checked(str(file), same, tuple(differing), tuple(unknown), repaired)


def _is_right(patcher: Patcher, key: str, slot: Slot, file: CheckpointFile) -> bool | None:
    """None if nobody can tell."""
    stored = file.stored(key)
    current = patcher.base(key, slot) if stored is not None and is_plain(slot.parameter) else None
    if stored is None or current is None or not stored.is_floating_point():
        return None
    if key.endswith(EMBEDDING) and current.shape[1:] == stored.shape[1:] and len(current) > len(stored):
        current = current[: len(stored)]
    return file.find(key, current) is not None


def _put_right(slot: Slot, stored: Tensor | None) -> bool:
    """Whether it could be done. What others may share is not written to."""
    parameter = slot.parameter
    if stored is None or slot.is_away or stored.shape != parameter.shape:
        return False
    with torch.no_grad():
        parameter.data = torch.empty_like(parameter.data).copy_(stored)
    return True
