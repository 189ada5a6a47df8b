"""Where the originals of patched weights go: as asked for (`keep`), or as the memory allows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import psutil
import torch
from torch import Tensor

from lib_lora.engine.originals import CheckpointFile, Kept, Original, Outbox
from lib_lora.model.slots import Slot

Keep = Literal["auto", "device", "cpu", "checkpoint"]
ROOM = 2 << 30  # bytes that must be left for sampling where originals are kept

log = logging.getLogger("lib_lora")


@dataclass(frozen=True)
class Place:
    """Where the originals of the weights that are patched next go."""

    keep: Keep
    checkpoint: CheckpointFile | None  # where they are, if that is nowhere but in the file
    outbox: Outbox
    log_once: Callable[[str], None]

    def put(self, key: str, current: Tensor) -> Original:
        """`current`, the base weight of `key`, put there."""
        keep = self.keep
        if keep == "checkpoint":
            reread = self.checkpoint.find(key, current) if self.checkpoint else None
            if reread is not None:
                return reread
            why = f"{self.checkpoint} has other weights" if self.checkpoint else "the file of the model is not known"
            self.log_once(f"{why}: untouched weights are kept in memory ({key} first)")
            keep = "cpu" if current.is_cuda and (free_memory(current.device) or 0) < ROOM else "device"
        return self.outbox.copy(current) if keep == "cpu" else Kept(current)


class Places:
    """Chooses the place, and says once in the log what a user should know of it."""

    def __init__(self) -> None:
        self._outbox = Outbox()
        self._logged: set[str] = set()

    def choose(
        self, keep: Keep, find_checkpoint: Callable[[], CheckpointFile | None], slots: Sequence[Slot]
    ) -> Place:
        """The place for the originals of `slots`, which are to be patched for the first time."""
        if not slots:
            return Place("device", None, self._outbox, self._log_once)
        if keep == "auto":
            return Place(*self._by_room(find_checkpoint, slots), self._outbox, self._log_once)
        checkpoint = self._open(find_checkpoint) if keep == "checkpoint" else None
        return Place(keep, checkpoint, self._outbox, self._log_once)

    def _by_room(
        self, find_checkpoint: Callable[[], CheckpointFile | None], slots: Sequence[Slot]
    ) -> tuple[Keep, CheckpointFile | None]:
        device = slots[0].parameter.device
        needed = sum(slot.parameter.nbytes for slot in slots if slot.parameter.device == device)
        free = free_memory(device)
        if free is None or free >= ROOM + needed:
            return "device", None
        checkpoint = self._open(find_checkpoint)
        keep: Keep = "checkpoint" if checkpoint else "cpu" if device.type == "cuda" else "device"
        where = {"checkpoint": f"are read again from {checkpoint}", "cpu": "wait in main memory"}.get(keep)
        if where:
            self._log_once(f"little memory is left on {device} ({free / 2**30:.1f} GB): the untouched weights {where}")
        return keep, checkpoint

    def _open(self, find_checkpoint: Callable[[], CheckpointFile | None]) -> CheckpointFile | None:
        try:
            return find_checkpoint()
        except OSError as error:
            self._log_once(f"the file of the model cannot be opened (it was: {error})")
            return None

    def _log_once(self, sentence: str) -> None:
        kind = sentence.partition("(")[0]
        if kind not in self._logged:
            self._logged.add(kind)
            log.warning("Lora: %s", sentence)


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free there, or would be if asked for; None where nobody can tell."""
    if device.type == "cpu":
        return int(psutil.virtual_memory().available)
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
