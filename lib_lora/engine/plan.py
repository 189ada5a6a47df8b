"""plan(active, index) -> Plan: what every weight shall become, decided without touching a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import ref

from lib_lora.algorithms.base import Delta
from lib_lora.engine.active import Active
from lib_lora.engine.bind import Binding, bind, require_same_base
from lib_lora.engine.report import AdapterReport, summary
from lib_lora.errors import WrongBaseError
from lib_lora.model.targets import Target, TargetIndex

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Term:
    """One delta onto one target. Equal terms give equal weights, so plans can be compared."""

    target: Target
    delta: Delta
    multiplier: float
    dyn: int | None  # ranks to use
    source: str  # the adapter's name, for errors

    @property
    def meant(self) -> Delta:
        """The delta as far as it is for this target: with the ranks to use, and of its rows those that are meant."""
        delta = self.delta if self.dyn is None else self.delta.truncated(self.dyn)
        part = delta if self.target.piece is None else delta.part(*self.target.piece)
        assert part is not None  # `plan` makes no term that needs the rows that are not there
        return part


@dataclass(frozen=True)
class Plan:
    """Terms by parameter, in prompt order. A parameter that is not named here shall be its base weight."""

    terms: Mapping[str, tuple[Term, ...]] = field(default_factory=dict, repr=False)
    reports: tuple[AdapterReport, ...] = ()
    # Textual-inversion embeddings that the adapters bring: the word -> {"clip_l", "clip_g" or "text": (vectors, width)}
    embeddings: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict, repr=False)
    index: TargetIndex | None = field(default=None, compare=False, repr=False)  # what it was made for; None: any model


def plan(active: Sequence[Active], index: TargetIndex) -> Plan:
    """Bind adapters to the model that `index` describes, in prompt order.

    An adapter for another base model contributes nothing and its report says why, unless its tag says `force=1`.
    """
    terms: dict[str, list[Term]] = {}
    embeddings: dict[str, Mapping[str, Tensor]] = {}
    reports = []
    for each in active:
        tag, adapter = each.tag, each.adapter
        binding = bind(adapter, index)
        problem = None
        try:
            require_same_base(each, binding, index)
        except WrongBaseError as error:
            problem = str(error)
        else:
            for target, delta in binding.pairs:
                if multiplier := tag.multiplier(target.component):
                    term = Term(target, delta, multiplier, tag.dyn, tag.name)
                    terms.setdefault(target.key, []).append(term)
            if tag.te != 0 or tag.unet != 0:
                embeddings = {**adapter.embeddings, **embeddings}  # of two with one name, the first in the prompt
        reports.append(_report(each, binding, problem))
    return Plan({key: tuple(of_key) for key, of_key in terms.items()}, tuple(reports), embeddings, index)


def split(plans: Sequence[Plan], pictures: int = 1) -> tuple[Plan, dict[str, tuple[tuple[Term, ...], ...]]]:
    """`(what all plans have in common, {parameter: the terms of each row of a batch} of the rest)`.

    `pictures` are made of each prompt, one after another: that many rows in the UNet, one in a text encoder.
    """
    common: dict[str, tuple[Term, ...]] = {}
    rows: dict[str, tuple[tuple[Term, ...], ...]] = {}
    embeddings: dict[str, Mapping[str, Tensor]] = {}
    for key in dict.fromkeys(key for each in plans for key in each.terms):
        of_key = [each.terms.get(key, ()) for each in plans]
        component = next(terms[0] for terms in of_key if terms).target.component
        if all(terms == of_key[0] for terms in of_key):
            common[key] = of_key[0]
        else:
            repeat = pictures if component == "unet" else 1
            rows[key] = tuple(terms for terms in of_key for _ in range(repeat))
    for each in plans:
        embeddings = {**each.embeddings, **embeddings}
    index = next((each.index for each in plans if each.index is not None), None)
    return Plan(common, embeddings=embeddings, index=index), rows


def _report(active: Active, binding: Binding, problem: str | None) -> AdapterReport:
    tag, adapter = active.tag, active.adapter
    return AdapterReport(
        tag,
        str(adapter.path),
        binding.matched,
        len(adapter.modules),
        binding.unmatched,
        binding.misfits,
        adapter.unknown,
        adapter.refused,
        notes=(*tag.notes, *summary(tag.name, adapter.notes)),
        problem=problem,
        entry=active.entry,
        family=active.family,
        read=ref(adapter),
    )
