"""Schedule: what every weight shall be at each moment of a picture. Bound to a model once; `at` gives the Plan.

What never changes is the very same object in every plan, so that who applies one after another sees what is new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import ref

from lib_lora.algorithms.base import Delta
from lib_lora.engine.active import Active
from lib_lora.engine.bind import Binding, bind, require_same_base
from lib_lora.engine.plan import Plan, Term
from lib_lora.engine.report import AdapterReport, summary
from lib_lora.errors import WrongBaseError
from lib_lora.grammar.blocks import Place
from lib_lora.grammar.curve import Strength
from lib_lora.grammar.moment import ONE_A_STEP, START, USUAL_STEPS, Calls, Moment
from lib_lora.grammar.tag import LoraTag
from lib_lora.grammar.who import EVERYONE, FIRST_PASS, Area, Row, Stage, Who
from lib_lora.keys.blocks import block_of
from lib_lora.keys.places import about
from lib_lora.model.targets import Target, TargetIndex

if TYPE_CHECKING:
    from torch import Tensor


Words = Mapping[str, Mapping[str, "Tensor"]]  # as in Plan.embeddings


@dataclass(frozen=True)
class Share:
    """One delta onto one target, over time."""

    target: Target
    delta: Delta
    strength: Strength
    dyn: int | None
    source: str
    who: Who = EVERYONE
    region: Area | None = None

    def adds_up_with(self, other: Share) -> bool:
        """True for the same thing, named twice."""
        return (self.target, self.delta, self.dyn, self.who, self.region) == (
            other.target, other.delta, other.dyn, other.who, other.region)  # fmt: skip

    def at(self, moment: Moment, changes: int) -> Term:
        """The term then; its multiplier may be 0."""
        return Term(self.target, self.delta, self.strength.at(moment), self.dyn, self.source, self.who, self.region,
                    changes)  # fmt: skip


@dataclass(frozen=True)
class Encoding:
    """One run of the text encoders: for which row, and for which part of the steps."""

    row: Row = field(default_factory=lambda: Row(0))
    moment: Moment = START


FIRST_ENCODING = Encoding()


@dataclass(frozen=True, eq=False)
class Schedule:
    """Shares by parameter, in prompt order. Those whose weight is 0 all the time are none."""

    shares: Mapping[str, tuple[Share, ...]] = field(default_factory=dict, repr=False)
    reports: tuple[AdapterReport, ...] = ()
    words: tuple[tuple[Who, Words], ...] = field(default=(), repr=False)  # that the adapters bring, in prompt order
    index: TargetIndex | None = field(default=None, compare=False, repr=False)
    # Of the last plan: {parameter: its terms}, what they were made for, and {weight over time: what it was}.
    _known: dict[str, tuple[Term, ...]] = field(default_factory=dict, init=False, repr=False)
    _encoded: list[Encoding] = field(default_factory=list, init=False, repr=False)  # the last one
    _values: dict[int, tuple[float, int]] = field(default_factory=dict, init=False, repr=False)
    _changes: dict[object, int] = field(default_factory=dict, init=False, repr=False)

    def at(self, moment: Moment = START, encoding: Encoding = FIRST_ENCODING) -> Plan:
        """What the UNet shall carry at `moment`, and the text encoders in that run of theirs."""
        steps = moment.steps if moment.steps > 1 else USUAL_STEPS
        for key in self._others_in_unet(moment, steps):
            terms = [share.at(moment, self._changes_of(share, steps)) for share in self.shares[key]]
            self._known[key] = self._at_work(key, terms)
        if self._encoded != [encoding]:
            self._encoded[:] = [encoding]
            for key in self._of_encoders:
                self._encode(key, encoding)
        known = self._known
        words: dict[str, Mapping[str, Tensor]] = {}
        for who, brought in self.words:
            if who.includes(encoding.row):
                words = {**brought, **words}  # of two with one name, the first in the prompt
        due = {key: known[key] for key in self.shares if known[key]}
        return Plan(due, self.reports, words, self.index, steps, self)

    def _others_in_unet(self, moment: Moment, steps: int) -> list[str]:
        """The parameters one of whose weights is another one than in the last plan."""
        others: dict[str, None] = {}
        for strength, keys in self._by_strength:
            constant = strength.constant
            value = (strength.at(moment), steps) if constant is None else (constant, 0)
            if self._values.get(id(strength)) != value:
                self._values[id(strength)] = value
                others |= dict.fromkeys(keys)
        return list(others)

    @cached_property
    def _by_strength(self) -> list[tuple[Strength, list[str]]]:
        """Each weight over time in the UNet, of which there are few, and the many parameters that have it."""
        found: dict[int, tuple[Strength, list[str]]] = {}
        for key, shares in self.shares.items():
            if shares[0].target.component == "unet":
                for share in shares:
                    found.setdefault(id(share.strength), (share.strength, []))[1].append(key)
        return list(found.values())

    @cached_property
    def _of_encoders(self) -> list[str]:
        return [key for key, shares in self.shares.items() if shares[0].target.component != "unet"]

    def _encode(self, key: str, encoding: Encoding) -> None:
        """What stays as it was stays the same object."""
        here = [share for share in self.shares[key] if share.who.includes(encoding.row)]
        terms = [share.at(encoding.moment, 0).for_everyone() for share in here]
        new, known = self._at_work(key, terms), self._known.get(key)
        if new != known:
            self._known[key] = new

    def _at_work(self, key: str, terms: Sequence[Term]) -> tuple[Term, ...]:
        """Without those that weigh nothing, unless they keep a place for another with the same delta."""
        if key in self._repeated and any(term.multiplier for term in terms):
            return tuple(terms)
        return tuple(term for term in terms if term.multiplier)

    @cached_property
    def _repeated(self) -> frozenset[str]:
        """The parameters that one delta changes several times, each for others, where the order of deltas counts."""
        several = ((key, [share.delta for share in shares]) for key, shares in self.shares.items() if len(shares) > 1)
        return frozenset(key for key, deltas in several
                         if len(set(deltas)) < len(deltas) and not all(delta.additive for delta in deltas))  # fmt: skip

    def _changes_of(self, share: Share, steps: int) -> int:
        if (known := self._changes.get((share.strength, steps))) is None:
            known = self._changes[share.strength, steps] = share.strength.changes(steps)
        return known

    @cached_property
    def varies(self) -> bool:
        """True if the UNet carries something else at some moments than at others."""
        return any(share.strength.constant is None for share in self._of("unet"))

    @cached_property
    def restricts(self) -> bool:
        """True if something acts on some rows of a call only, or on a part of the picture."""
        return any(not share.who.is_everyone or share.region is not None for share in self._of("unet"))

    @cached_property
    def tells_encodings_apart(self) -> bool:
        """True if text encoders carry something else for some rows, or for some of the steps."""
        is_told = any(not share.who.is_everyone or share.strength.constant is None for share in self._of("text"))
        return is_told or any(not who.is_everyone for who, _ in self.words)

    def segments(self, row: Row, steps: int, calls: Calls = ONE_A_STEP) -> list[tuple[int, Encoding]]:
        """`(the first call that is not in it any more, what the text encoders run with)`, for all of `steps`."""
        found: list[tuple[int, Encoding]] = []
        shares = [share for share in self._of("text") if share.who.includes(row)]
        strengths = list(dict.fromkeys(share.strength for share in shares if share.strength.constant is None))
        before: tuple[float, ...] | None = None
        for call in range(calls.count(max(steps, 1))):
            step, part = calls.place(call)
            moment = Moment(step, steps, part=part)
            values = tuple(strength.at(moment) for strength in strengths)
            if values == before:
                found[-1] = (call + 1, found[-1][1])
            else:
                found.append((call + 1, Encoding(row, moment)))
            before = values
        return found

    def _of(self, component: str) -> list[Share]:
        return [share for shares in self.shares.values() for share in shares
                if (share.target.component == "unet") == (component == "unet")]  # fmt: skip


def schedule(active: Sequence[Active], index: TargetIndex, stage: Stage = FIRST_PASS) -> Schedule:
    """Bind adapters to the model that `index` describes, in prompt order.

    An adapter for another base model contributes nothing and its report says why, unless its tag says `force=1`.
    """
    shares: dict[str, list[Share]] = {}
    words: list[tuple[Who, Words]] = []
    reports = []
    for each in active:
        binding = bind(each.adapter, index)
        problem, placeless = None, 0
        try:
            require_same_base(each, binding, index)
        except WrongBaseError as error:
            problem = str(error)
        else:
            own, placeless = _shares(each, binding, index, stage)
            for share in own:
                _add(shares.setdefault(share.target.key, []), share)
            if each.adapter.embeddings and (own or _weighs(each, stage)):
                words.append((each.who, each.adapter.embeddings))
        reports.append(_report(each, binding, problem, index.family.is_xl, placeless))
    return Schedule({key: tuple(of_key) for key, of_key in shares.items()}, tuple(reports), tuple(words), index)


def plan(active: Sequence[Active], index: TargetIndex) -> Plan:
    """What the weights shall be at the beginning, or all the time if nothing varies."""
    return schedule(active, index).at(START)


def _shares(active: Active, binding: Binding, index: TargetIndex, stage: Stage) -> tuple[list[Share], int]:
    """Of one adapter, those that ever weigh anything; and how many cannot act in an area, as its tag asks."""
    tag = active.tag
    strengths: dict[object, Strength] = {}
    found, placeless = [], 0
    for target, delta in binding.pairs:
        block = block_of(target.path, target.component)
        asked = (target.component, target.path if tag.blocks.elements else block)
        if (strength := strengths.get(asked)) is None:
            place = Place(target.component, block, target.path, index.family.is_xl)
            strength = strengths[asked] = Strength((tag.strength(place, stage),))
        if strength.constant == 0:
            continue
        if tag.area is not None and target.component == "unet" and about(target.path) == "neither":
            placeless += 1
        else:
            found.append(Share(target, delta, strength, tag.dyn, tag.name, active.who, tag.area))
    return found, placeless


def _weighs(active: Active, stage: Stage) -> bool:
    """True if its tag gives it a weight, whatever layers the file has."""
    places = (Place("unet"), Place("text_encoder"))
    return any(active.tag.strength(place, stage).constant != 0 for place in places)


def _add(shares: list[Share], share: Share) -> None:
    for number, earlier in enumerate(shares):
        if earlier.adds_up_with(share):
            shares[number] = replace(earlier, strength=earlier.strength + share.strength)
            return
    shares.append(share)


def _lost_blocks(tag: LoraTag, binding: Binding, is_xl: bool) -> list[str]:
    """A sentence on the blocks of the adapter that its tag made 0 without naming them."""
    blocks = {block_of(target.path, target.component) for target, _ in binding.pairs}
    told = tag.blocks.unlisted(blocks, is_xl)
    return [f"{tag.name}: {told}"] if told else []


def _report(
    active: Active, binding: Binding, problem: str | None, is_xl: bool, placeless: int
) -> AdapterReport:
    tag, adapter = active.tag, active.adapter
    left_out = (f"{tag.name}: {placeless} of its layers know no places and are left out within an area",)
    return AdapterReport(
        tag,
        str(adapter.path),
        binding.matched,
        len(adapter.modules),
        binding.unmatched,
        binding.misfits,
        adapter.unknown,
        adapter.refused,
        notes=(*tag.notes, *_lost_blocks(tag, binding, is_xl), *(left_out if placeless else ()),
               *summary(tag.name, adapter.notes)),
        problem=problem,
        entry=active.entry,
        family=active.family,
        who=active.who,
        read=ref(adapter),
    )
