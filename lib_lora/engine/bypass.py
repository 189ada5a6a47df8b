"""Bypass: add the delta to what a layer puts out, and leave its weight alone.

For weights that cannot hold a sum: in 8 bits or fewer, quantised, inference tensors, offloaded ones that come from
elsewhere in each call; and for batches in which every picture has adapters of its own. `layer(x) + delta(x)` is the
same number as with the delta merged, and costs a little in every step. A hook on this very module does it, as long as
the adapter is active; low-rank deltas stay two small matrices, all others are built anew in every call.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from lib_lora.engine.call import Call
from lib_lora.engine.fold import fold, low_rank_product
from lib_lora.engine.plan import Term
from lib_lora.errors import PatchError
from lib_lora.model.slots import Slot, is_plain

Addition = Callable[[Any, Tensor], Tensor]  # (layer, x) -> what is added to the layer's output
Through = Callable[[Any, Tensor, Tensor], Tensor]  # (layer, x, weight) -> what the layer makes of x with that weight
CONVOLUTIONS = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}
# Attention modules use the weight of their output projection without calling it.
NEVER_CALLED = (NonDynamicallyQuantizableLinear,)
THROUGH: Mapping[type[nn.Module], Through] = {  # without the bias
    nn.Linear: lambda layer, x, weight: F.linear(x, weight),
    **{kind: lambda layer, x, weight: layer._conv_forward(x, weight, None) for kind in CONVOLUTIONS},
    nn.Embedding: lambda layer, x, weight: F.embedding(x, weight),
    nn.LayerNorm: lambda layer, x, weight: F.layer_norm(x, layer.normalized_shape, weight, None, layer.eps),
    nn.GroupNorm: lambda layer, x, weight: F.group_norm(x, layer.num_groups, weight, None, layer.eps),
}


@dataclass
class Hooked:
    """One parameter whose layer adds something."""

    slot: Slot
    terms: tuple[Term, ...]
    hook: Callable[..., Any]
    handle: Any = None  # of the hook; None before it is there

    @property
    def planned(self) -> tuple[Term, ...]:
        """See Record."""
        return self.terms

    def undo(self) -> None:
        """See Record."""
        if self.handle is not None:
            self.handle.remove()
        hooks = self.slot.module._forward_hooks  # an interrupt came before the handle did
        for number in [number for number, hook in hooks.items() if hook is self.hook]:
            del hooks[number]
            self.slot.module._forward_hooks_with_kwargs.pop(number, None)

    def copied(self, memo: dict[int, Any]) -> Hooked:
        """See Record. The copied layer has the same hook."""
        return replace(self, slot=copy.deepcopy(self.slot, memo), handle=None)


class Adding:
    """The hook of one layer: what it adds for all rows, or for some of them."""

    def __init__(
        self, terms: tuple[Term, ...] = (), make: Callable[[tuple[Term, ...]], Addition] | None = None,
        call: Call | None = None,
    ) -> None:
        self.terms = terms
        self.call = call or Call()
        self._make = make
        self._made: dict[tuple[Term, ...], Addition] = {}
        if terms and not any(term.is_restricted for term in terms):
            self._of(terms)  # raises now what it would raise in the middle of a picture

    def __call__(self, layer: nn.Module, args: Sequence[Any], named: Mapping[str, Any], output: Tensor) -> Tensor:
        if not self.terms:
            return output
        x = args[0] if args else named["input"]
        x = x.to(output.dtype) if x.is_floating_point() else x  # as the layer did: some cast what they get
        if not any(term.is_restricted for term in self.terms):
            return output + self._of(self.terms)(layer, x).to(output.dtype)
        rows = self.call.rows
        if not rows or len(x) % len(rows):
            raise PatchError(f"a batch of {len(x)} cannot be told apart into {len(rows)} rows")
        each, total = len(x) // len(rows), output.clone()
        for number, row in enumerate(rows):
            terms = tuple(term.for_everyone() for term in self.terms if term.who.includes(row))
            if terms:
                some = slice(number * each, (number + 1) * each)
                total[some] += self._of(terms)(layer, x[some]).to(output.dtype)
        return total

    def _of(self, terms: tuple[Term, ...]) -> Addition:
        if terms not in self._made:
            assert self._make is not None
            self._made[terms] = self._make(terms)
        return self._made[terms]

    def __deepcopy__(self, memo: dict[int, Any]) -> Adding:
        return self  # a copied layer adds the same

    def __reduce__(self) -> Any:
        return Adding, ()  # a layer that is stored is its base weight


class Bypass:
    """The layers of one model that add something to their outputs."""

    def __init__(self, hooked: MutableMapping[str, Hooked]) -> None:
        self._hooked = hooked
        self.call = Call()

    def show(self, key: str, terms: tuple[Term, ...], slot: Slot) -> None:
        """Make the layer of `slot` (a bias that it lacks: the layer of the weight) add `terms` from now on.

        Nothing of `key` is there before. Raises PatchError if it is no layer for that.
        """
        if not can_bypass(slot):
            raise PatchError(_why_not(key, terms, slot))
        add = Adding(terms, lambda some: _addition(slot, some), self.call)
        hooked = self._hooked[key] = Hooked(slot, terms, add)
        hooked.handle = slot.module.register_forward_hook(add, with_kwargs=True)

    def is_shown(self, key: str, terms: tuple[Term, ...], slot: Slot) -> bool:
        """True if the layer adds just that, and really."""
        known = self._hooked.get(key)
        return known is not None and known.slot == slot and known.terms == terms and known.handle is not None


def forget_compiled() -> None:
    """Have compiled models compiled anew at their next call: torch.compile does not look whether hooks came or went."""
    frames = sys.modules.get("torch._dynamo.convert_frame")  # not there: nothing was ever compiled
    seen = getattr(getattr(frames, "input_codes", None), "seen", frames)
    if seen:
        torch.compiler.reset()


def _why_not(key: str, terms: Sequence[Term], slot: Slot) -> str:
    kind = type(slot.module).__name__
    if any(term.is_restricted for term in terms):
        return f"{key} cannot be another one for each picture of a batch, in a {kind}"
    if slot.is_away:
        return f"{key} is offloaded, and nothing can be added to a {kind} that is; load the model without offloading"
    return f"{key} is quantised, and nothing can be added to a {kind} that is; use another checkpoint"


def can_bypass(slot: Slot) -> bool:
    """True for a parameter whose layer is called, and whose output is a sum over it."""
    return isinstance(slot.module, tuple(THROUGH)) and not isinstance(slot.module, NEVER_CALLED)


class LowRank:
    """All deltas of a linear layer or a convolution as one pair of small layers."""

    def __init__(self, up: Tensor, down: Tensor) -> None:
        self.up = up  # (o, sum of ranks), scaled
        self.down = down  # (sum of ranks, i[, kh, kw])
        self._cast = up, down  # as the layer's input was last

    def __call__(self, layer: nn.Module, x: Tensor) -> Tensor:
        up, down = self._cast
        if up.device != x.device or up.dtype != x.dtype:
            up, down = self._cast = self.up.to(x), self.down.to(x)
        inner = _through(layer)(layer, x, down)
        for kind, convolve in CONVOLUTIONS.items():
            if isinstance(layer, kind):
                return convolve(inner, up.reshape(*up.shape, *[1] * (down.dim() - 2)))
        return F.linear(inner, up)


class Whole:
    """Deltas of any kind: the difference that they make to the weight, built when it is needed."""

    def __init__(self, slot: Slot, terms: Sequence[Term]) -> None:
        self.slot, self.terms = slot, terms
        for term in terms:
            if not term.delta.additive:
                _numbers(slot, term.source)  # raises now what it would raise in the middle of a picture

    def __call__(self, layer: nn.Module, x: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            difference = self._difference(x.device)
        return _through(layer)(layer, x, difference.to(x.dtype) if x.is_floating_point() else difference)

    def _difference(self, device: torch.device) -> Tensor:
        if all(term.delta.additive for term in self.terms):
            nothing = torch.zeros(self.slot.shape, dtype=torch.float32, device=device)
            fold(nothing, self.terms, nothing)
            return nothing
        base = _numbers(self.slot, self.terms[0].source).to(device)
        changed = torch.empty_like(base)
        fold(base, self.terms, changed)
        return changed.sub_(base)


class Vector:
    """What is added to a bias, the layer's own or none."""

    def __init__(self, slot: Slot, terms: Sequence[Term]) -> None:
        is_sum = slot.attribute != "bias" or all(term.delta.additive for term in terms)
        nothing = torch.zeros(terms[0].target.shape, dtype=torch.float32, device=slot.device)
        base = nothing if is_sum else _numbers(slot, terms[0].source)
        changed = torch.empty_like(base)
        fold(base, terms, changed)
        self.vector = changed - base

    def __call__(self, layer: nn.Module, x: Tensor) -> Tensor:
        if self.vector.device != x.device:
            self.vector = self.vector.to(x.device)
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return self.vector.reshape(-1, *[1] * len(layer.kernel_size))
        if isinstance(layer, nn.GroupNorm):
            return self.vector.reshape(-1, *[1] * (x.dim() - 2))
        return self.vector


def _addition(slot: Slot, terms: tuple[Term, ...]) -> LowRank | Whole | Vector:
    is_bias = slot.attribute == "bias" or terms[0].target.new_bias_of is not None
    return Vector(slot, terms) if is_bias else _of_weight(slot, terms)


def _of_weight(slot: Slot, terms: tuple[Term, ...]) -> LowRank | Whole:
    layer = slot.module
    is_simple = isinstance(layer, nn.Linear) or getattr(layer, "groups", 0) == 1
    if is_simple and all(term.target.is_whole and term.meant.low_rank() is not None for term in terms):
        product = low_rank_product(terms, torch.empty(0, dtype=torch.float32, device=slot.device))
        assert product is not None
        return LowRank(product.up * product.scale, product.down.reshape(-1, *slot.shape[1:]))
    return Whole(slot, terms)


def _through(layer: nn.Module) -> Through:
    return next(through for kind, through in THROUGH.items() if isinstance(layer, kind))


def _numbers(slot: Slot, source: str) -> Tensor:
    """The base weight in float32, whatever it is stored as. Raises PatchError on behalf of the adapter `source`."""
    parameter = slot.elsewhere if slot.parameter.is_meta else slot.parameter
    if parameter is None:
        raise PatchError(
            f"{source}: needs the numbers of the base weights, and those are offloaded; use an adapter that is plain "
            "LoRA, or load the model without offloading", source)  # fmt: skip
    if is_plain(parameter):
        return slot.base(parameter.detach()).float()
    try:
        return parameter.dequantize().detach().float().reshape(slot.shape)
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        kind = type(parameter).__name__
        needs = f"{source}: needs the numbers of the base weights, and those are quantised ({kind})"
        raise PatchError(f"{needs}; use an adapter that is plain LoRA, or a checkpoint that is not", source) from error
