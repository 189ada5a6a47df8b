"""Patcher: makes a model what a plan says, and puts the exact tensors back.

`route.py` says what is merged into the weights (`merged.py`) and what is added beside them (`bypass.py`), and why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from lib_lora.engine.books import NotUndoneError, unwatch
from lib_lora.engine.bypass import Bypass
from lib_lora.engine.call import Size
from lib_lora.engine.exact import exact_arithmetic
from lib_lora.engine.hooks import BESIDE, Hooked, forget_compiled, is_compiled
from lib_lora.engine.keeping import Keep
from lib_lora.engine.merged import Carried, Merged
from lib_lora.engine.originals import CheckpointFile
from lib_lora.engine.plan import Plan, Term
from lib_lora.engine.records import NewBias, Patched, Record
from lib_lora.engine.regions import Blended
from lib_lora.engine.roots import Records, Roots
from lib_lora.engine.route import USUAL_ROWS, Circumstances, route
from lib_lora.errors import PatchError, first_line, is_out_of_memory
from lib_lora.grammar.who import Row
from lib_lora.model.slots import Slot


@dataclass(frozen=True)
class Applied:
    """What was applied last, and to what."""

    plan: Plan
    slots: Mapping[str, Slot]
    bypass_all: bool


class Patcher:
    """What one model carries. `apply` is idempotent and does only what changed.

    Of its own it has settings only. What a model carries stands in the books of its root modules, and each record knows
    its way back: hosts that share a root module may have other settings, and what was said last is what it carries.

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
        self._roots = Roots()
        self._merged = Merged(Records(self._roots, Patched), Records(self._roots, NewBias), self._undo)
        self._bypass = Bypass(Records(self._roots, Hooked), Records(self._roots, Blended), self._undo)
        self._applied: Applied | None = None

    @property
    def patched(self) -> frozenset[str]:
        """The parameters that are not their base weight."""
        return self._merged.keys

    @property
    def bypassed(self) -> frozenset[str]:
        """The parameters that are their base weight, and whose layers add something to their outputs."""
        return self._bypass.keys

    def planned(self) -> dict[str, tuple[Term, ...]]:
        """The terms of every patched or bypassed parameter, whichever host put them there."""
        found: dict[str, tuple[Term, ...]] = {}
        for name, record in self._all():
            if record.planned:
                key = name.removesuffix(BESIDE)
                found[key] = found.get(key, ()) + record.planned
        return found

    def base(self, key: str, slot: Slot) -> Tensor | None:
        """The base weight of a parameter, whatever it carries now; not to be written to. None: nobody has it."""
        return self._merged.base(key, slot)

    def carried(self, slots: Mapping[str, Slot]) -> Iterator[Carried]:
        """Every parameter that adapters are in, one after the other."""
        return self._merged.carried(slots)

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else changes what these root modules carry meanwhile; needed for more than one call in a row."""
        return self._roots.held()

    def own(self, slots: Mapping[str, Slot]) -> dict[str, Slot]:
        """`slots` of the model as it is now, without the biases that were made for an adapter; it has their roots."""
        self._roots.see(slots.values())
        new = self._merged.modules_with_new_bias
        if not new:
            return dict(slots)
        return {key: slot for key, slot in slots.items() if slot.attribute != "bias" or slot.module not in new}

    def without_bias(self, slots: Mapping[str, Slot]) -> frozenset[str]:
        """The weights among `slots` whose modules have no bias of their own, whoever has given them one meanwhile."""
        new = self._merged.modules_with_new_bias
        return frozenset(key for key, slot in slots.items()
                         if slot.lacks_bias or (slot.attribute == "weight" and slot.module in new))  # fmt: skip

    def rows(self, rows: Sequence[Row], size: Size | None = None) -> None:
        """Whose rows the next call of the UNet has, in order, and how large (height, width) its latent is.

        Needed where a plan has terms that act on some rows, or on a part of the picture.
        """
        for books in self._roots.books():
            books.call.tell(rows, size)
        self._bypass.hide()

    def apply(self, plan: Plan, slots: Mapping[str, Slot]) -> None:
        """Make every parameter what `plan` says, starting from its base weight.

        Of another moment of the schedule that was applied last, only what is another tuple of terms is looked at.
        Raises PatchError if that fails, with every weight its base weight again.
        """
        with self.held():
            before, self._applied = self._still(plan, slots), None
            self._roots.speak()
            try:
                with exact_arithmetic():
                    if before is None:
                        self._make(plan, slots)
                    else:
                        self._follow(before, plan, slots)
                self._applied = Applied(plan, slots, self.bypass_all)
            except BaseException as error:
                self._take_back(error)
                if not isinstance(error, NotUndoneError):
                    raise
                if plan.terms:  # else all is as it should be, at the second try
                    raise PatchError(f"{_reason(error)}; the picture is made without any adapter") from error

    def _still(self, plan: Plan, slots: Mapping[str, Slot]) -> Plan | None:
        """What is carried now, if that is another moment of the same schedule, on this very model."""
        applied = self._applied
        if applied is None or plan.schedule is None or plan is applied.plan:
            return None
        is_same = applied.plan.schedule is plan.schedule and applied.slots is slots
        is_mine = all(books.spoken_for() is self._roots for books in self._roots.books())
        return applied.plan if is_same and is_mine and applied.bypass_all == self.bypass_all else None

    def _make(self, plan: Plan, slots: Mapping[str, Slot]) -> None:
        """All that `plan` says, whatever there is."""
        hooks, are_told = self._bypass.hooks(), False
        around = self._around(plan)
        routes = {key: route(terms, _slot_of(slots, key, terms[0]), around) for key, terms in plan.terms.items()}
        merged = {key: way.merged for key, way in routes.items() if way.merged}
        beside = {key: way.beside for key, way in routes.items() if way.beside}
        wanted = merged.keys() | {key + BESIDE for key in beside}
        self._undo([key for key, record in self._all() if key not in wanted and not isinstance(record, Blended)])
        self._roots.release_memory()
        for key, terms in beside.items():
            are_told |= self._bypass.show(key, terms, _slot_of(slots, key, terms[0]))
        self._bypass.blend()
        self._merged.hold(merged, slots, self.keep, self.find_checkpoint)
        if are_told or hooks != self._bypass.hooks():
            forget_compiled()

    def _follow(self, before: Plan, plan: Plan, slots: Mapping[str, Slot]) -> None:
        """What is other in `plan` than in `before`, at another moment."""
        hooks = self._bypass.hooks()
        around = self._around(plan)
        merged: dict[str, tuple[Term, ...]] = {}
        is_beside = False
        gone = [key for key in before.terms if key not in plan.terms]
        for key in gone:
            self._bypass.quieten(key, _slot_of(slots, key, before.terms[key][0]))
        for key, terms in plan.terms.items():
            if before.terms.get(key) is not terms:
                slot = _slot_of(slots, key, terms[0])
                way = route(terms, slot, around)
                if way.merged:
                    merged[key] = way.merged
                else:
                    gone.append(key)
                if way.beside:
                    is_beside = True
                    self._bypass.show(key, way.beside, slot, is_other_moment=True)
                else:
                    self._bypass.quieten(key, slot)
        self._undo(gone)
        self._merged.hold(merged, slots, self.keep, self.find_checkpoint)
        if hooks != self._bypass.hooks():
            self._bypass.blend()
            forget_compiled()
        elif is_beside:
            self._bypass.hide()

    def _around(self, plan: Plan) -> Circumstances:
        calls = [books.call for books in self._roots.books()]
        sizes, rows = [call.size for call in calls if call.size], [len(call.rows) for call in calls if call.rows]
        is_xl = plan.index is not None and plan.index.family.is_xl
        return Circumstances(plan.steps, max(rows, default=USUAL_ROWS), max(sizes, default=None), 3 if is_xl else 4,
                             self.bypass_all, is_compiled())  # fmt: skip

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
            self._applied = None
            self._roots.speak()
            hooked = self._bypass.hooks()
            try:
                with exact_arithmetic():
                    self._undo([key for key, _ in self._all()])
            finally:
                self._roots.release_memory()
                if hooked != self._bypass.hooks():
                    forget_compiled()

    def release(self) -> None:
        """Put every base weight back and leave the model: no hook stays. Raises PatchError as `restore` does."""
        self.restore()
        for root in self._roots.all():
            for module in root.modules():
                unwatch(module)

    def _all(self) -> list[tuple[str, Record]]:
        return [pair for books in self._roots.books() for pair in books.records.items()]

    def _undo(self, keys: list[str]) -> None:
        """Undo these wherever they are. Raises like Books.undo, with all of them done."""
        failed: BaseException | None = None
        for books in self._roots.books():
            try:
                books.undo(key for key in keys if key in books.records)
            except BaseException as error:
                if failed is None or isinstance(failed, Exception):
                    failed = error
        if failed is not None:
            raise failed


def _slot_of(slots: Mapping[str, Slot], key: str, term: Term) -> Slot:
    """Of `key`; of the weight if that is a bias which the model does not have."""
    return slots[term.target.new_bias_of or key]


def _explain(error: Exception) -> str:
    if is_out_of_memory(error):
        return "not enough memory to apply the adapters"
    reason = _reason(error)
    return reason if isinstance(error, PatchError) else f"the adapters could not be applied ({reason})"


def _reason(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, NotUndoneError) and error.__cause__ else error
    return first_line(cause)
