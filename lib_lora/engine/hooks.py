"""The hook of one layer, which adds terms to what the layer puts out, and its record in the books.

It is told other weights of its terms without being built anew; where all are 0, the output is not touched.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lib_lora.engine.activations import Factored
from lib_lora.engine.additions import addition
from lib_lora.engine.call import Call
from lib_lora.engine.differences import Room, Vector
from lib_lora.engine.layers import channels_first
from lib_lora.engine.parts import Addition, Mask, Part
from lib_lora.engine.plan import Term
from lib_lora.engine.regions import mask_of, take_hook
from lib_lora.errors import PatchError
from lib_lora.grammar.who import Area
from lib_lora.keys.places import about
from lib_lora.model.slots import Slot

BESIDE = " (beside)"  # after a parameter's name: the name of its record, which is another one than its weight's
Runs = Sequence[tuple[slice, tuple[Part, ...]]]  # which terms count for which rows of a layer's input


@dataclass
class Hooked:
    """One parameter whose layer adds something."""

    key: str
    slot: Slot
    hook: Adding
    registered: Callable[..., Any] | None = None  # the hook, or what hides it from torch.compile
    handle: Any = None  # of what is registered; None before it is there

    @property
    def planned(self) -> tuple[Term, ...]:
        """See Record."""
        return self.hook.terms

    def undo(self) -> None:
        """See Record."""
        take_hook(self.slot.module, self.registered, self.handle)
        self.hook.tell(())

    def copied(self, memo: dict[int, Any]) -> Hooked:
        """See Record. The copied layer has a hook of its own."""
        slot, hook = copy.deepcopy(self.slot, memo), copy.deepcopy(self.hook, memo)
        return replace(self, slot=slot, hook=hook, registered=copy.deepcopy(self.registered, memo), handle=None)

    def register(self) -> None:
        """Let the layer call its hook."""
        self.registered = Hidden(self.hook) if may_compile() and self.hook.is_hidden else self.hook
        self.handle = self.slot.module.register_forward_hook(self.registered, with_kwargs=True)

    def hide(self) -> bool:
        """What has been compiled meanwhile shall not know what the hook does. False if there is nothing to do."""
        if not self.hook.is_hidden or isinstance(self.registered, Hidden):
            return False
        take_hook(self.slot.module, self.registered, self.handle)
        self.register()
        return True


class Hidden:
    """A hook that torch.compile calls and does not compile."""

    def __init__(self, hook: Adding | None = None) -> None:
        self.hook = hook or Adding()
        self._call = torch.compiler.disable(lambda *args: self.hook(*args))

    def __call__(self, *args: Any) -> Tensor:
        return self._call(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> Hidden:
        copied = memo[id(self)] = Hidden(copy.deepcopy(self.hook, memo))
        return copied

    def __reduce__(self) -> Any:
        return Hidden, ()  # as that of the hook


class Adding:
    """The hook of one layer: what it adds for all rows, or for some of them."""

    def __init__(
        self, slot: Slot | None = None, known: tuple[Term, ...] = (), call: Call | None = None, room: Room | None = None
    ) -> None:
        self.slot = slot
        self.known = known  # all that it can add
        self.terms: tuple[Term, ...] = ()  # those of them that count now, with their weights
        self.area: Area | None = None  # of keys and values of words: whose terms count now (`Blending`)
        self.call, self.room = call or Call(), room or Room()
        self._is_about_words = bool(known) and about(known[0].target.path) == "words"
        self._addition: Addition | None = None
        self._parts: tuple[tuple[Part, Term], ...] = ()
        self._runs: tuple[object, ...] = ()  # the last ones, and what they were made for

    def build(self) -> None:
        """Raises now what it would raise in the middle of a picture."""
        assert self.slot is not None
        self._addition = addition(self.slot, self.known, self.room)

    def tell(self, terms: tuple[Term, ...]) -> bool:
        """From now on add `terms`. False if there are some that it does not know, or in another order."""
        numbered: list[tuple[Part, Term]] = []
        number = 0
        for term in terms:
            while number < len(self.known) and not self.known[number].is_same_but_weight(term):
                number += 1
            if number == len(self.known):
                return False
            numbered.append((Part(number, term.multiplier, term.region), term))
            number += 1
        self.terms, self._parts, self._runs = terms, tuple(numbered), ()
        if self._addition is not None:
            self._addition.forget()
        return True

    @property
    def is_hidden(self) -> bool:
        """True if torch.compile shall not look into it: it adds something else in some calls than in others, or keeps
        differences of weights for the next."""
        is_simple = isinstance(self._addition, Factored | Vector)
        return not is_simple or any(term.is_restricted or term.changes for term in self.known)

    def __call__(self, layer: nn.Module, args: Sequence[Any], named: Mapping[str, Any], output: Tensor) -> Tensor:
        if not self.terms:
            return output
        x = args[0] if args else named["input"]
        x = x.to(output.dtype) if x.is_floating_point() else x  # as the layer did: some cast what they get
        if self._addition is None:
            self.build()
            assert self._addition is not None
        mask = self._mask(layer)
        for some, parts in self._runs_of(len(x)):
            if some.start is None:
                self._addition.add(layer, x, output, parts, mask)
            else:
                self._addition.add(layer, x[some], output[some], parts, mask)
        return output

    def _mask(self, layer: nn.Module) -> Mask:
        is_first = channels_first(layer)
        return lambda area, out: mask_of(area, self.call, out, is_map=is_first)

    def _runs_of(self, count: int) -> Runs:
        """For `count` rows of a layer; those beside each other that need the same are one run."""
        made_for = count, self.call.rows, self.area
        if self._runs and self._runs[0] == count and self._runs[1] is self.call.rows and self._runs[2] == self.area:
            return self._runs[3]  # type: ignore[return-value]
        runs = self._make_runs(count)
        self._runs = *made_for, runs
        return runs

    def _make_runs(self, count: int) -> Runs:
        parts = self._parts
        if self._is_about_words:  # areas one after another, and each with all its words
            parts = tuple((replace(part, area=None), term) for part, term in parts if part.area in (None, self.area))
        rows = self.call.rows
        if all(term.who.is_everyone for _, term in parts):
            if rows and count != len(rows) and any(part.area is not None for part, _ in parts):
                raise PatchError(f"an area cannot be found where a layer sees {count} pieces of {len(rows)} rows")
            return [(slice(None), tuple(part for part, _ in parts))] if parts else []
        if not rows:
            raise PatchError(f"a batch of {count} cannot be told apart: nobody has said whose rows it has")
        if count % len(rows):
            raise PatchError(f"{parts[0][1].target.path} sees {count} of {len(rows)} rows, which cannot be told apart "
                             "(perturbed attention guidance does that: in its layers an adapter can act on all rows "
                             "alone)")  # fmt: skip
        each = count // len(rows)
        if each > 1 and any(part.area is not None for part, _ in parts):
            raise PatchError(f"an area cannot be found where a layer sees {count} pieces of {len(rows)} rows")
        runs: list[tuple[slice, tuple[Part, ...]]] = []
        for number, row in enumerate(rows):
            own = tuple(part for part, term in parts if term.who.includes(row))
            begin, end = number * each, (number + 1) * each
            if runs and runs[-1][1] == own:
                begin = runs.pop()[0].start
            runs.append((slice(begin, end), own))
        return [(some, own) for some, own in runs if own]

    def __deepcopy__(self, memo: dict[int, Any]) -> Adding:
        """A copied layer adds the same, whatever becomes of this one."""
        copied = memo[id(self)] = Adding(None, self.known, copy.deepcopy(self.call, memo))
        copied.slot, copied.room = copy.deepcopy(self.slot, memo), copy.deepcopy(self.room, memo)
        copied.tell(self.terms)
        return copied

    def __reduce__(self) -> Any:
        return Adding, ()  # a layer that is stored is its base weight


def may_compile() -> bool:
    """True if something may be compiled. Then what is compiled from now on tells layers with hooks from others.

    By itself torch.compile does not look for hooks when it decides whether code that it has made fits. As long as a
    model is compiled in one piece that does no harm; where it falls into pieces, as at a hidden hook, a piece that was
    made for one layer would be taken for others of its kind, with the hook of the first or with none.
    """
    config: Any = sys.modules.get("torch._dynamo.config")
    if config is None or "torch._dynamo.convert_frame" not in sys.modules:
        return False
    config.skip_nnmodule_hook_guards = False
    return True


def is_compiled() -> bool:
    """True if anything was compiled, this model perhaps."""
    frames = sys.modules.get("torch._dynamo.convert_frame")  # not there: nothing ever was
    return bool(getattr(getattr(frames, "input_codes", None), "seen", frames))


def forget_compiled() -> None:
    """Have compiled models compiled anew at their next call: torch.compile does not look whether hooks came or went."""
    if is_compiled():
        torch.compiler.reset()
