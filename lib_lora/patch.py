"""Patcher: the only code that writes to the weights of a model, and puts the exact tensors back.

The original tensor itself is kept and the parameter is pointed at a new one, so restoring is a pointer swap: exact by
construction, also after an error. Memory that may be shared with others (a checkpoint cache) is never written to. On a
GPU without room for both, the originals move to main memory and are copied back, which needs no room there.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from lib_lora.errors import PatchError, is_out_of_memory
from lib_lora.fold import fold
from lib_lora.plan import Plan, Step

Keep = Literal["auto", "device", "cpu"]
ROOM = 2 << 30  # bytes that a GPU must have left for sampling before originals stay on it
SAMPLES = 64  # values by which a patched weight is recognised after the host moved or cast it
CAST_ERROR = 2**-7  # relative: what a weight may lose on the way through bf16


@dataclass(frozen=True)
class Slot:
    """Where a parameter lives: looked up anew each time, because `.to()` may replace the Parameter object."""

    module: nn.Module
    attribute: str
    finer: str | None = None  # where the host keeps the same weight in a higher precision, if it does

    @property
    def parameter(self) -> Tensor:
        """The parameter as it is now."""
        return getattr(self.module, self.attribute)

    def base(self, original: Tensor) -> Tensor:
        """What adapters are added to: the finer copy of `original` if there is one, else itself."""
        finer = getattr(self.module, self.finer, None) if self.finer else None
        return original if finer is None or finer.shape != original.shape else finer.to(original.device)

    @property
    def lacks_bias(self) -> bool:
        """True for the weight of a module that could have a bias and has none."""
        return self.attribute == "weight" and self.module._parameters.get("bias", self.module) is None


@dataclass
class Patched:
    """One parameter that is not its base weight at the moment."""

    slot: Slot
    original: Tensor
    is_copy: bool  # the original lies in main memory, and the parameter's own memory may be written to
    steps: tuple[Step, ...]
    memory: StorageWeakRef  # of the patched weight; unlike an address it is never that of another one
    sample: Tensor  # a few values of the patched weight

    def is_exact(self, tensor: Tensor) -> bool:
        """True if `tensor` is what was written, moved perhaps."""
        if StorageWeakRef(tensor.untyped_storage()) == self.memory:
            return True
        return tensor.dtype == self.sample.dtype and torch.equal(_sample(tensor), self.sample.to(tensor.device))

    def is_here(self, tensor: Tensor) -> bool:
        """True if `tensor` came from what was written, moved or cast; False if somebody put another weight there."""
        if StorageWeakRef(tensor.untyped_storage()) == self.memory:
            return True
        if tensor.is_meta:
            return False  # the host has let go of the weights
        written = self.sample.to(tensor.device).float()
        return torch.allclose(_sample(tensor).float(), written, rtol=CAST_ERROR, atol=1e-6)


@dataclass(frozen=True)
class Made:
    """A bias that the model does not have of its own."""

    module: nn.Module
    steps: tuple[Step, ...]
    like: torch.dtype  # the weight's


class Patcher:
    """What one model carries. `apply` is idempotent and does only what changed.

    `keep` says where originals are while their weights are patched: `device` (where they were: at once, twice the
    memory of the touched weights), `cpu` (in main memory), `auto` (`cpu` where a GPU would get too full).
    """

    def __init__(self, keep: Keep = "auto") -> None:
        self.keep: Keep = keep
        self._patched: dict[str, Patched] = {}
        self._made: dict[str, Made] = {}
        self._watched: dict[str, tuple[nn.Module, Any]] = {}  # the handle of the hook on this module

    @property
    def patched(self) -> frozenset[str]:
        """The parameters that are not their base weight."""
        return frozenset(self.planned())

    @property
    def made(self) -> frozenset[str]:
        """The biases among them that the model does not have of its own; without adapters they are not there."""
        return frozenset(self._made)

    def planned(self) -> dict[str, tuple[Step, ...]]:
        """The steps of every patched parameter."""
        patched = {key: known.steps for key, known in self._patched.items()}
        return patched | {key: made.steps for key, made in self._made.items()}

    def apply(self, plan: Plan, slots: Mapping[str, Slot]) -> None:
        """Make every parameter what `plan` says, starting from its base weight.

        Raises PatchError if that fails, with every weight its base weight again.
        """
        try:
            with _exact_arithmetic():
                to_main_memory = self._goes_to_main_memory(plan, slots)
                for key in [key for key in self.patched if key not in plan.steps]:
                    self._restore(key)
                for key, steps in plan.steps.items():
                    if steps[0].target.beside is not None:
                        self._make_bias(key, steps, slots[steps[0].target.beside])
                    else:
                        self._patch(key, steps, slots[key], to_main_memory)
        except RuntimeError as error:
            self.restore()
            raise PatchError(_explain(error)) from error
        except BaseException:
            self.restore()
            raise

    def restore(self) -> None:
        """Put every base weight back, bit for bit."""
        for key in self.patched:
            self._restore(key)

    def release(self) -> None:
        """Put every base weight back and leave the model: no hook stays."""
        self.restore()
        for _, handle in self._watched.values():
            handle.remove()
        self._watched.clear()

    def _goes_to_main_memory(self, plan: Plan, slots: Mapping[str, Slot]) -> bool:
        """Whether originals that are not kept yet shall leave the GPU."""
        if self.keep != "auto":
            return self.keep == "cpu"
        parameters = (slots[key].parameter for key in plan.steps if key in slots and key not in self._patched)
        fresh = [parameter for parameter in parameters if parameter.is_cuda]
        if not fresh:
            return False
        device = fresh[0].device
        free, _ = torch.cuda.mem_get_info(device)
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + reusable < ROOM + sum(parameter.nbytes for parameter in fresh)

    def _patch(self, key: str, steps: tuple[Step, ...], slot: Slot, to_main_memory: bool) -> None:
        current = slot.parameter.data
        known = self._patched.get(key)
        if known is not None and not (known.slot == slot and known.is_here(current)):
            del self._patched[key]
            known = None
        if known is None:
            original, out, is_copy = current, torch.empty_like(current), to_main_memory
        else:
            is_copy = known.is_copy
            is_right = known.steps == steps and known.is_exact(current)
            known.memory = StorageWeakRef(current.untyped_storage())  # for `restore`, should the arithmetic fail
            if is_right:
                return
            original, out = _follow(known.original, current), current
        self._watch(key, slot.module)
        fold(slot.base(original), steps, out)
        # Entered before the swap: from here on `restore` knows it.
        if known is not None:
            original = known.original
        elif is_copy:
            original = _in_main_memory(original)
        memory = StorageWeakRef(out.untyped_storage())
        self._patched[key] = Patched(slot, original, is_copy, steps, memory, _sample(out))
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
        if key in self._made:
            self._made.pop(key).module.register_parameter("bias", None)
            return
        known = self._patched.pop(key)
        current = known.slot.parameter
        if known.is_copy and known.is_here(current.data):
            current.data.copy_(known.original)  # where there is no room for one more tensor there is none to restore
        elif known.is_here(current.data) or current.data_ptr() == known.original.data_ptr():
            current.data = _follow(known.original, current.data)


def _follow(original: Tensor, current: Tensor) -> Tensor:
    """The original where the host moved or cast the parameter meanwhile; itself if it did not."""
    return original.to(device=current.device, dtype=current.dtype)


def _in_main_memory(original: Tensor) -> Tensor:
    """A copy from which a GPU is filled quickly (pinned), or an ordinary one where the system gives no such memory."""
    if original.is_cuda:
        with contextlib.suppress(RuntimeError):
            return torch.empty_like(original, device="cpu", pin_memory=True).copy_(original)
    return original.to("cpu", copy=True)


def _sample(tensor: Tensor) -> Tensor:
    flat = tensor.detach().reshape(-1) if tensor.is_contiguous() else tensor.detach().flatten()
    return flat[:: max(1, flat.numel() // SAMPLES)][:SAMPLES].clone()


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
