"""Regions: which places of what a layer puts out are in an area of the picture, and how much.

A layer knows the places of the picture by rows and columns (convolutions) or as one token for each (attention, feed
forward), at its own level: the latent halved so and so often. How large the latent is its host tells, since a number
of tokens alone says nothing of width and height.

Keys and values of the attention to the prompt belong to words, not places. There the whole attention runs once without
what acts in areas and once for each area, and each place takes from both what its mask says:

    out = out_none + sum over areas of mask * (out_area - out_none)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lib_lora.engine.call import Call, Size
from lib_lora.engine.plan import Term
from lib_lora.errors import PatchError
from lib_lora.grammar.who import Area
from lib_lora.model.slots import WRAPPED, Slot


def levels(size: Size) -> Iterator[Size]:
    """The sizes of a latent on the way down: each step halves it and rounds up, as the UNet's convolutions do."""
    height, width = size
    while True:
        yield height, width
        if height == width == 1:
            return
        height, width = math.ceil(height / 2), math.ceil(width / 2)


def mask_of(area: Area, call: Call, out: Tensor, *, is_map: bool) -> Tensor:
    """How much each place of `out` is in `area`, in a shape that `out` can be multiplied by.

    `is_map`: `out` is (batch, channels, height, width), else (batch, tokens, channels). Raises PatchError if its places
    are none of the latent's.
    """
    if call.size is None:
        raise PatchError("an area needs to know how large the picture is, and nobody has told")
    shape = tuple(out.shape[-2:]) if is_map else out.shape[1] if out.dim() == 3 else 0
    key = area, shape, out.dtype, out.device
    if (mask := call.masks.get(key)) is None:
        size = _at_level(call.size, shape)
        with torch.inference_mode(False):
            mask = area_mask(area, size, call.size).to(out.device, out.dtype)
        mask = call.masks[key] = mask if is_map else mask.reshape(-1, 1)
    return mask


def _at_level(latent: Size, shape: int | tuple[int, ...]) -> Size:
    for size in levels(latent):
        if shape in (size, size[0] * size[1]):
            return size
    seen = f"{shape} places" if isinstance(shape, int) else " x ".join(map(str, shape))
    raise PatchError(
        f"an area cannot be found: a layer sees {seen}, and the picture's {latent[0]} x {latent[1]} never becomes that "
        "(does another extension merge or split tokens?)"
    )


def area_mask(area: Area, size: Size, latent: Size) -> Tensor:
    """(height, width) in float32: the share of each place that lies in `area`, whose edge is as wide as its feather."""
    shorter = min(latent)
    down = _along(size[0], area.y, area.h, area.feather * shorter / latent[0])
    across = _along(size[1], area.x, area.w, area.feather * shorter / latent[1])
    return (down[:, None] * across).float()


def _along(count: int, start: float, length: float, feather: float) -> Tensor:
    """For each of `count` places in a row: the mean of what rises from 0 to 1 around `start`, and falls at the end.

    What begins or ends at the picture's own edge neither rises nor falls there.
    """
    edges = torch.arange(count + 1, dtype=torch.float64, device="cpu") / count

    def passed(place: float) -> Tensor:
        """The mean of a step at `place`, `feather` wide, over each of the places."""
        begin = edges - (place - feather / 2)
        if feather > 0:
            area = torch.where(begin < feather, begin.clamp(min=0) ** 2 / (2 * feather), begin - feather / 2)
        else:
            area = begin.clamp(min=0)
        return area.diff() * count

    rising = passed(start) if start > 0 else torch.ones(count, dtype=torch.float64, device="cpu")
    return (rising - passed(start + length)).clamp(0, 1) if start + length < 1 else rising


class AboutWords(Protocol):
    """The hook of a layer of keys or values: it acts in one area at a time."""

    area: Area | None  # whose terms count now, beside those without one

    @property
    def terms(self) -> Sequence[Term]:
        """All that it adds."""
        ...


class Blending:
    """The hook of an attention to the prompt, some of whose keys or values are others in some areas."""

    def __init__(self, call: Call | None = None, hooks: Sequence[AboutWords] = ()) -> None:
        self.call = call or Call()
        self.hooks = hooks

    def __call__(self, attention: nn.Module, args: Sequence[Any], named: Mapping[str, Any], output: Tensor) -> Tensor:
        terms = [term for hook in self.hooks for term in hook.terms if term.region is not None]
        areas = list(dict.fromkeys(term.region for term in terms))
        if not areas:
            return output
        outputs = []
        try:
            for area in areas:
                for hook in self.hooks:
                    hook.area = area
                outputs.append(attention.forward(*args, **named))
        finally:
            for hook in self.hooks:
                hook.area = None
        whole = output.clone()
        for area, other in zip(areas, outputs, strict=True):
            assert area is not None
            some = self._rows([term for term in terms if term.region == area])
            whole[some] += mask_of(area, self.call, output, is_map=False) * (other[some] - output[some])
        return whole

    def _rows(self, terms: Sequence[Term]) -> slice | list[int]:
        """Those of a call that one of `terms` acts on."""
        if any(term.who.is_everyone for term in terms):
            return slice(None)
        return [number for number, row in enumerate(self.call.rows) if any(term.who.includes(row) for term in terms)]

    def __deepcopy__(self, memo: dict[int, Any]) -> Blending:
        return Blending(copy.deepcopy(self.call, memo), [copy.deepcopy(hook, memo) for hook in self.hooks])

    def __reduce__(self) -> Any:
        return Blending, ()  # an attention that is stored is its own


@dataclass
class Blended:
    """An attention with such a hook."""

    slot: Slot  # of the attention; its attribute is none
    hook: Blending
    handle: Any = None  # of the hook; None before it is there

    @property
    def planned(self) -> tuple[Term, ...]:
        """See Record. None: those of its keys and values stand in their own."""
        return ()

    @property
    def registered(self) -> Blending:
        """What the attention calls."""
        return self.hook

    def undo(self) -> None:
        """See Record."""
        take_hook(self.slot.module, self.hook, self.handle)

    def copied(self, memo: dict[int, Any]) -> Blended:
        """See Record."""
        return replace(self, slot=copy.deepcopy(self.slot, memo), hook=copy.deepcopy(self.hook, memo), handle=None)


def take_hook(module: nn.Module, hook: Any, handle: Any) -> None:
    """Take a forward hook away, whether or not its handle has come yet: an interrupt may have been in between."""
    if handle is not None:
        handle.remove()
    for number in [number for number, each in module._forward_hooks.items() if each is hook]:
        del module._forward_hooks[number]
        module._forward_hooks_with_kwargs.pop(number, None)


def attention_of(slot: Slot, names: Mapping[nn.Module, str]) -> nn.Module:
    """The attention whose keys or values the layer of `slot` makes; `names` are those of its root's modules."""
    path = names[slot.module].split(".")
    while path and path[-1] in WRAPPED:
        path.pop()
    return slot.root_module.get_submodule(".".join(path[:-1]))
