"""Patcher: the only code that changes what a model's weights are, and puts the exact tensors back.

Memory that may be shared with others (a checkpoint cache) is never written to. Where the original is meanwhile is one
of three policies (`originals.py`); weights that cannot hold a sum stay as they are and are bypassed (`bypass.py`).
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import psutil
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from lib_lora.bypass import Bypass, Rows, can_bypass
from lib_lora.errors import PatchError, is_out_of_memory
from lib_lora.fold import fold
from lib_lora.fresh import Fresh
from lib_lora.originals import CheckpointFile, Kept, Original, Outbox, Reread, is_shared
from lib_lora.plan import Plan, Step
from lib_lora.slots import Slot

Keep = Literal["auto", "device", "cpu", "checkpoint"]
ROOM = 2 << 30  # bytes that must be left for sampling where originals are kept
PLACES, IN_ROW = 16, 4  # values by which a patched weight is recognised after the host moved or cast it
CAST_ERROR = 2**-7  # relative: what a weight may lose on the way through bf16

log = logging.getLogger("lib_lora")


@dataclass
class Patched:
    """One parameter that is not its base weight at the moment."""

    slot: Slot
    original: Original
    steps: tuple[Step, ...]
    memory: StorageWeakRef  # of the patched weight; unlike an address it is never that of another one
    sample: Tensor  # a few values of the patched weight

    def is_same_memory(self, tensor: Tensor) -> bool:
        """True if `tensor` lies where it was written."""
        return StorageWeakRef(tensor.untyped_storage()) == self.memory

    def is_exact(self, tensor: Tensor) -> bool:
        """True if `tensor` is what was written, moved perhaps."""
        if self.is_same_memory(tensor):
            return True
        return tensor.dtype == self.sample.dtype and torch.equal(_sample(tensor), self.sample.to(tensor.device))

    def is_here(self, tensor: Tensor) -> bool:
        """True if `tensor` came from what was written, moved or cast; False if somebody put another weight there."""
        if self.is_same_memory(tensor):
            return True
        if tensor.is_meta:
            return False  # the host has let go of the weights
        written, found = self.sample.to(tensor.device), _sample(tensor).float()
        if torch.equal(found, written.to(tensor.dtype).float()):
            return True  # cast, however coarsely
        return torch.allclose(found, written.float(), rtol=CAST_ERROR, atol=1e-6)


@dataclass(frozen=True)
class Made:
    """A bias that the model does not have of its own."""

    module: nn.Module
    steps: tuple[Step, ...]
    like: torch.dtype  # the weight's


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
        self._patched: dict[str, Patched] = {}
        self._made: dict[str, Made] = {}
        self._bypass = Bypass()
        self._watched: dict[str, tuple[nn.Module, Any]] = {}  # the handle of the hook on this module
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
        return frozenset(self._bypass.planned())

    @property
    def made(self) -> frozenset[str]:
        """The biases that the model does not have of its own; without adapters they are not there."""
        return frozenset(self._made)

    def planned(self) -> dict[str, tuple[Step, ...]]:
        """The steps of every patched or bypassed parameter."""
        patched = {key: known.steps for key, known in self._patched.items()}
        return patched | {key: made.steps for key, made in self._made.items()} | self._bypass.planned()

    def apply(self, plan: Plan, slots: Mapping[str, Slot], *, rows: Mapping[str, Rows] | None = None) -> None:
        """Make every parameter what `plan` says, starting from its base weight.

        `rows`: parameters that `plan` does not name, and that shall be another one for each picture of a batch. Raises
        PatchError if that fails, with every weight its base weight again.
        """
        rows = rows or {}
        try:
            with _exact_arithmetic():
                for key in [key for key in self.planned() if key not in plan.steps and key not in rows]:
                    self._restore(key)
                self._fresh.release()
                for key, of_key in rows.items():
                    first = next(steps[0] for steps in of_key if steps)
                    self._show_beside(key, of_key, slots[first.target.beside or key])
                merged = self._bypass_others(plan, slots)
                fresh = [slots[key] for key in merged if key in slots and key not in self._patched]
                keep, checkpoint = self._policy(fresh) if fresh else ("device", None)
                for key, steps in merged.items():
                    if steps[0].target.beside is not None:
                        self._make_bias(key, steps, slots[steps[0].target.beside])
                    else:
                        self._patch(key, steps, slots[key], keep, checkpoint)
        except RuntimeError as error:
            self.restore()
            raise PatchError(_explain(error)) from error
        except BaseException:
            self.restore()
            raise

    def restore(self) -> None:
        """Put every base weight back, bit for bit."""
        for key in self.planned():
            self._restore(key)
        self._fresh.release()

    def release(self) -> None:
        """Put every base weight back and leave the model: no hook stays."""
        self.restore()
        for _, handle in self._watched.values():
            handle.remove()
        self._watched.clear()

    def _bypass_others(self, plan: Plan, slots: Mapping[str, Slot]) -> dict[str, tuple[Step, ...]]:
        """Bypass what cannot or shall not be merged; returns the rest."""
        merged = {}
        for key, steps in plan.steps.items():
            slot = slots[steps[0].target.beside or key]
            is_bypassed = can_bypass(slot) and (self.bypass_all or not slot.can_hold_sums)
            # What cannot be bypassed, such as OpenCLIP's projections in fp8, is rounded once.
            if slot.may_be_written and not is_bypassed:
                self._bypass.remove(key)
                merged[key] = steps
            else:
                self._show_beside(key, (steps,), slot)
        return merged

    def _show_beside(self, key: str, rows: Rows, slot: Slot) -> None:
        if key in self._patched or key in self._made:
            self._restore(key)
        self._bypass.show(key, rows, slot)

    def _policy(self, fresh: list[Slot]) -> tuple[Keep, CheckpointFile | None]:
        """Where the originals of these weights go, and the file if that is where they are."""
        if self.keep != "auto":
            return self.keep, self.find_checkpoint() if self.keep == "checkpoint" else None
        device = fresh[0].parameter.device
        needed = sum(slot.parameter.nbytes for slot in fresh if slot.parameter.device == device)
        free = _free_memory(device)
        if free is None or free >= ROOM + needed:
            return "device", None
        checkpoint = self.find_checkpoint()
        policy: Keep = "checkpoint" if checkpoint else "cpu" if device.type == "cuda" else "device"
        where = {"checkpoint": f"are read again from {checkpoint}", "cpu": "wait in main memory"}.get(policy)
        if where:
            self._tell(f"little memory is left on {device} ({free / 2**30:.1f} GB): the untouched weights {where}")
        return policy, checkpoint

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
        self, key: str, steps: tuple[Step, ...], slot: Slot, keep: Keep, checkpoint: CheckpointFile | None
    ) -> None:
        current = slot.parameter.data
        known = self._patched.get(key)
        if known is not None and not (known.slot == slot and known.is_here(current)):
            del self._patched[key]
            known = None
        if known is None:
            original = self._original(key, current, keep, checkpoint)
            known = Patched(slot, original, (), StorageWeakRef(current.untyped_storage()), _sample(current))
            is_written_over = isinstance(original, Reread) and not is_shared(slot.parameter)
            base, out = current, current if is_written_over else self._fresh.like(current)
        else:
            if not known.is_same_memory(current):
                is_right = known.steps == steps and known.is_exact(current)
                known.memory = StorageWeakRef(current.untyped_storage())  # for `restore`, should the arithmetic fail
            else:
                is_right = known.steps == steps
            if is_right:
                return
            base, out = known.original.base(current), current
        # Entered before anything is written: from here on `restore` knows it.
        self._patched[key] = known
        self._watch(key, slot.module)
        fold(slot.base(base), steps, out)
        known.steps, known.sample = steps, _sample(out)
        if out is not current:
            known.memory = StorageWeakRef(out.untyped_storage())
            slot.parameter.data = out

    def _watch(self, key: str, module: nn.Module) -> None:
        """From now on, whoever loads other weights into `module` finds the base weight in place and nothing kept."""
        watched, handle = self._watched.get(key, (None, None))
        if watched is module:
            return
        if handle is not None:
            handle.remove()
        myself = weakref.ref(self)

        def before_loading(*_: Any) -> None:
            patcher = myself()
            if patcher is not None and key in patcher._patched:
                patcher._restore(key)

        self._watched[key] = (module, module._register_load_state_dict_pre_hook(before_loading))

    def _make_bias(self, key: str, steps: tuple[Step, ...], weight: Slot) -> None:
        """Give the module of `weight` a bias, which starts from zero."""
        module, current = weight.module, weight.parameter
        if self._made.get(key) == Made(module, steps, current.dtype) and module.bias is not None:
            return
        base = torch.zeros(steps[0].target.shape, dtype=current.dtype, device=current.device)
        out = torch.empty_like(base)
        fold(base, steps, out)
        self._made[key] = Made(module, steps, current.dtype)
        module.bias = nn.Parameter(out, requires_grad=False)

    def _restore(self, key: str) -> None:
        self._bypass.remove(key)
        if key in self._made:
            self._made.pop(key).module.register_parameter("bias", None)
        known = self._patched.pop(key, None)
        if known is not None and known.is_here(known.slot.parameter.data):
            known.original.put_back(known.slot.parameter)


def _free_memory(device: torch.device) -> int | None:
    """Bytes that are free there, or would be if asked for; None where nobody can tell."""
    if device.type == "cpu":
        return int(psutil.virtual_memory().available)
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def _sample(tensor: Tensor) -> Tensor:
    """Some values from PLACES places, in the order of the indices; some in a row cost no more than one."""
    flat = tensor.detach().reshape(-1)
    if flat.numel() < PLACES * IN_ROW:
        return flat.clone()
    step = (flat.numel() - IN_ROW) // (PLACES - 1)
    return flat.as_strided((PLACES, IN_ROW), (step, 1), flat.storage_offset()).clone()


def _explain(error: RuntimeError) -> str:
    if is_out_of_memory(error):
        return "not enough memory to apply the adapters; the picture is made without any of them"
    return f"the adapters could not be applied ({str(error).splitlines()[0]}); the picture is made without any of them"


@contextlib.contextmanager
def _exact_arithmetic() -> Iterator[None]:
    """No gradients, no autocast (hosts activate adapters inside it) and no TF32: each would cost digits."""
    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    try:
        with torch.no_grad(), contextlib.ExitStack() as stack:
            for device in devices:
                stack.enter_context(torch.autocast(device, enabled=False))
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
