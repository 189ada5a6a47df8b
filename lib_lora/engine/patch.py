"""Patcher: the only code that changes what a model's weights are, and puts the exact tensors back.

Memory that may be shared with others (a checkpoint cache) is never written to. Where the original is meanwhile is one
of three policies (`originals.py`); weights that cannot hold a sum stay as they are and are bypassed (`bypass.py`).
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import psutil
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from lib_lora.engine.books import Made, NotUndoneError, Parts, Patched, Record, Records, Rows, books_of, sample, unwatch
from lib_lora.engine.bypass import Bypass, Hooked, can_bypass, forget_compiled
from lib_lora.engine.exact import exact_arithmetic
from lib_lora.engine.fold import fold
from lib_lora.engine.fresh import Fresh
from lib_lora.engine.originals import Borrowed, CheckpointFile, Kept, Original, Outbox, Reread, is_shared
from lib_lora.engine.plan import Plan, Step
from lib_lora.errors import PatchError, is_out_of_memory
from lib_lora.model.slots import Slot

Keep = Literal["auto", "device", "cpu", "checkpoint"]
ROOM = 2 << 30  # bytes that must be left for sampling where originals are kept

log = logging.getLogger("lib_lora")


class Patcher:
    """What one model carries. `apply` is idempotent and does only what changed.

    `keep` says where originals are while their weights are patched: `device` (where they were: restored at once, for
    twice the memory of the touched weights), `cpu` (in main memory), `checkpoint` (nowhere: read again from the file
    that `find_checkpoint` names, where that has the same bits, else in memory), `auto` (`device` while there is room).
    `bypass_all`: add deltas to the layers' outputs instead of their weights, wherever that can be done.
    """

    def __init__(
        self, keep: Keep = "auto", *, find_checkpoint: Callable[[], CheckpointFile | None] = lambda: None
    ) -> None:
        self.keep: Keep = keep
        self.find_checkpoint = find_checkpoint
        self.bypass_all = False
        self._parts = Parts()
        self._patched = Records(self._parts, Patched)
        self._made = Records(self._parts, Made)
        self._hooked = Records(self._parts, Hooked)
        self._bypass = Bypass(self._hooked)
        self._outbox = Outbox()
        self._fresh = Fresh()
        self._told: set[str] = set()

    @property
    def patched(self) -> frozenset[str]:
        """The parameters that are not their base weight."""
        return frozenset(self._patched) | frozenset(self._made)

    @property
    def bypassed(self) -> frozenset[str]:
        """The parameters that are their base weight, and whose layers add something to their outputs."""
        return frozenset(self._hooked)

    def planned(self) -> dict[str, tuple[Step, ...]]:
        """The steps of every patched or bypassed parameter, whichever host put them there."""
        return {key: record.planned for key, record in self._all()}

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else changes what these parts carry meanwhile; needed for more than one call in a row."""
        return self._parts.held()

    def own(self, slots: Mapping[str, Slot]) -> dict[str, Slot]:
        """`slots` of the model as it is now, without the biases that were made for an adapter. They are its parts."""
        self._parts.see(slots.values())
        made = {record.slot for record in self._made.values()}
        return {key: slot for key, slot in slots.items() if slot not in made} if made else dict(slots)

    def apply(self, plan: Plan, slots: Mapping[str, Slot], *, rows: Mapping[str, Rows] | None = None) -> None:
        """Make every parameter what `plan` says, starting from its base weight.

        `rows`: parameters that `plan` does not name, and that shall be another one for each picture of a batch. Raises
        PatchError if that fails, with every weight its base weight again.
        """
        rows = rows or {}
        with self.held():
            hooked = self._hooks()
            try:
                with exact_arithmetic():
                    self._undo([key for key, _ in self._all() if key not in plan.steps and key not in rows])
                    self._fresh.release()
                    for key, of_key in rows.items():
                        first = next(steps[0] for steps in of_key if steps)
                        self._show_beside(key, of_key, _beside(slots, key, first))
                    self._merge(self._bypass_others(plan, slots), slots)
                if hooked != self._hooks():
                    forget_compiled()
            except BaseException as error:
                self._take_back(error)
                if not isinstance(error, NotUndoneError):
                    raise
                if plan.steps or rows:  # else all is as it should be, at the second try
                    raise PatchError(f"{_reason(error)}; the picture is made without any adapter") from error

    def _take_back(self, error: BaseException) -> None:
        """Every base weight after `error`. Raises a PatchError in its place if torch had no memory or could not."""
        try:
            self.restore()
        except NotUndoneError as also:
            if isinstance(error, NotUndoneError):
                raise also from error
            if isinstance(error, Exception):
                raise PatchError(f"{_explain(error)}; {also}", getattr(error, "source", None)) from error
        if isinstance(error, RuntimeError | MemoryError):
            raise PatchError(f"{_explain(error)}; the picture is made without any of them") from error

    def restore(self) -> None:
        """Put every base weight back, bit for bit.

        What cannot be put back stays known, and the next call tries again. Raises PatchError at the end if there is
        some, with all others in place.
        """
        with self.held():
            hooked = self._hooks()
            try:
                with exact_arithmetic():
                    self._undo([key for key, _ in self._all()])
            finally:
                self._fresh.release()
                if hooked != self._hooks():
                    forget_compiled()

    def release(self) -> None:
        """Put every base weight back and leave the model: no hook stays. Raises PatchError as `restore` does."""
        self.restore()
        for part in self._parts.all():
            for module in part.modules():
                unwatch(module)

    def _all(self) -> list[tuple[str, Record]]:
        return [pair for books in self._parts.books() for pair in books.records.items()]

    def _hooks(self) -> set[int]:
        return {id(record.hook) for record in self._hooked.values()}

    def _undo(self, keys: list[str]) -> None:
        """Undo these wherever they are. Raises like Books.undo, with all parts done."""
        failed: BaseException | None = None
        for books in self._parts.books():
            try:
                books.undo(key for key in keys if key in books.records)
            except BaseException as error:
                if failed is None or isinstance(failed, Exception):
                    failed = error
        if failed is not None:
            raise failed

    def _bypass_others(self, plan: Plan, slots: Mapping[str, Slot]) -> dict[str, tuple[Step, ...]]:
        """Bypass what cannot or shall not be merged; returns the rest."""
        merged = {}
        for key, steps in plan.steps.items():
            slot = _beside(slots, key, steps[0])
            is_bypassed = can_bypass(slot) and (self.bypass_all or not slot.can_hold_sums)
            # What cannot be bypassed, such as OpenCLIP's projections in fp8, is rounded once.
            if slot.may_be_written and not is_bypassed:
                if key in self._hooked:
                    self._undo([key])
                merged[key] = steps
            else:
                self._show_beside(key, (steps,), slot)
        return merged

    def _show_beside(self, key: str, rows: Rows, slot: Slot) -> None:
        if not self._bypass.is_shown(key, rows, slot):
            self._undo([key])
            self._bypass.show(key, rows, slot)

    def _merge(self, merged: Mapping[str, tuple[Step, ...]], slots: Mapping[str, Slot]) -> None:
        new = [key for key in merged if key in slots and key not in self._patched]
        keep, checkpoint = self._policy([slots[key] for key in new]) if new else ("device", None)
        tied = _tied(slots.values(), self._patched.values()) if new else frozenset()
        for key, steps in merged.items():
            if steps[0].target.beside is not None:
                self._make_bias(key, steps, slots[steps[0].target.beside])
            else:
                self._patch(key, steps, slots[key], keep, checkpoint, tied)

    def _policy(self, fresh: list[Slot]) -> tuple[Keep, CheckpointFile | None]:
        """Where the originals of these weights go, and the file if that is where they are."""
        if self.keep != "auto":
            return self.keep, self._checkpoint() if self.keep == "checkpoint" else None
        device = fresh[0].parameter.device
        needed = sum(slot.parameter.nbytes for slot in fresh if slot.parameter.device == device)
        free = _free_memory(device)
        if free is None or free >= ROOM + needed:
            return "device", None
        checkpoint = self._checkpoint()
        policy: Keep = "checkpoint" if checkpoint else "cpu" if device.type == "cuda" else "device"
        where = {"checkpoint": f"are read again from {checkpoint}", "cpu": "wait in main memory"}.get(policy)
        if where:
            self._tell(f"little memory is left on {device} ({free / 2**30:.1f} GB): the untouched weights {where}")
        return policy, checkpoint

    def _checkpoint(self) -> CheckpointFile | None:
        try:
            return self.find_checkpoint()
        except OSError as error:
            self._tell(f"the file of the model cannot be opened (it was: {error})")
            return None

    def _original(self, key: str, current: Tensor, keep: Keep, checkpoint: CheckpointFile | None) -> Original:
        """`current` put where `keep` says."""
        if keep == "checkpoint":
            reread = checkpoint.find(key, current) if checkpoint else None
            if reread is not None:
                return reread
            why = f"{checkpoint} has other weights" if checkpoint else "the file of the model is not known"
            self._tell(f"{why}: untouched weights are kept in memory ({key} first)")
            keep = "cpu" if current.is_cuda and (_free_memory(current.device) or 0) < ROOM else "device"
        return self._outbox.copy(current) if keep == "cpu" else Kept(current)

    def _tell(self, sentence: str) -> None:
        kind = sentence.partition("(")[0]
        if kind not in self._told:
            self._told.add(kind)
            log.warning("Lora: %s", sentence)

    def _patch(
        self, key: str, steps: tuple[Step, ...], slot: Slot, keep: Keep, checkpoint: CheckpointFile | None,
        tied: frozenset[int],
    ) -> None:  # fmt: skip
        current = slot.parameter.data
        known = self._patched.get(key)
        if known is not None and not (known.slot == slot and known.is_here(current)):
            self._undo([key])  # another layer has its name now, or somebody has put another weight there
            known = None
        if known is None:
            is_tied = id(slot.parameter) in tied
            original = (Borrowed(slot.module, slot.attribute, slot.parameter) if is_tied
                        else self._original(key, current, keep, checkpoint))  # fmt: skip
            known = Patched(slot, original, None, StorageWeakRef(current.untyped_storage()), sample(current))
            is_written_over = isinstance(original, Reread) and not is_shared(slot.parameter)
            base, out = current, current if is_written_over else self._fresh.like(current)
        else:
            is_right = known.steps == steps and known.is_exact(current)
            known.memory = StorageWeakRef(current.untyped_storage())  # the host may have moved it
            if is_right:
                return
            known.steps = None
            base, out = known.original.base(current), current
        # Entered before anything is written: from here on it can be undone.
        self._patched[key] = known
        books_of(slot.part).watch(key, slot.module)
        fold(slot.base(base), steps, out)
        written = sample(out)
        if out is not current:
            known.memory, known.sample = StorageWeakRef(out.untyped_storage()), written
            if isinstance(known.original, Borrowed):
                slot.module._parameters[slot.attribute] = nn.Parameter(out, requires_grad=False)
            else:
                slot.parameter.data = out
        known.steps, known.sample = steps, written

    def _make_bias(self, key: str, steps: tuple[Step, ...], weight: Slot) -> None:
        """Give the module of `weight` a bias, which starts from zero."""
        module, current = weight.module, weight.parameter
        slot = Slot(module, "bias", root=weight.root)
        known = self._made.get(key)
        if known is not None and known.slot == slot and module.bias is not None:
            if known.steps == steps and known.like == current.dtype:
                return
        elif known is not None:
            self._undo([key])
        base = torch.zeros(steps[0].target.shape, dtype=current.dtype, device=current.device)
        out = torch.empty_like(base)
        fold(base, steps, out)
        bias = nn.Parameter(out, requires_grad=False)
        made = self._made[key] = Made(slot, None, current.dtype, bias)
        books_of(slot.part).watch(key, module)
        module.bias = bias
        made.steps = steps


def _beside(slots: Mapping[str, Slot], key: str, step: Step) -> Slot:
    """Of `key`; of the weight if that is a bias which the model does not have."""
    return slots[step.target.beside or key]


def _tied(slots: Iterable[Slot], patched: Iterable[Patched]) -> frozenset[int]:
    """The ids of the Parameters that are those of several layers."""
    lent = {record.slot: id(record.original.shared) for record in patched if isinstance(record.original, Borrowed)}
    owners = Counter(lent.get(slot) or id(slot.parameter) for slot in slots)
    return frozenset(parameter for parameter, count in owners.items() if count > 1)


def _free_memory(device: torch.device) -> int | None:
    """Bytes that are free there, or would be if asked for; None where nobody can tell."""
    if device.type == "cpu":
        return int(psutil.virtual_memory().available)
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def _explain(error: Exception) -> str:
    if is_out_of_memory(error):
        return "not enough memory to apply the adapters"
    told = _reason(error)
    return told if isinstance(error, PatchError) else f"the adapters could not be applied ({told})"


def _reason(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, NotUndoneError) and error.__cause__ else error
    return (str(cause).splitlines() or [type(cause).__name__])[0]
