"""plan(active, index) -> Plan: what every weight shall become, decided without touching a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lib_lora.adapters.adapter import Adapter
from lib_lora.algorithms.base import Delta
from lib_lora.engine.report import AdapterReport, summary
from lib_lora.errors import WrongBaseError
from lib_lora.grammar.tag import LoraTag
from lib_lora.model.targets import Target, TargetIndex

if TYPE_CHECKING:
    from torch import Tensor

MOTION = "motion_modules"  # in the names of a motion LoRA's layers
LATENT_CHANNELS = 4  # what an adapter for a text-to-image UNet knows of the wider `conv_in` of an inpainting one


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


def plan(active: Sequence[tuple[LoraTag, Adapter]], index: TargetIndex) -> Plan:
    """Bind adapters to the model that `index` describes, in prompt order.

    An adapter for another base model contributes nothing and its report says why, unless its tag says `force=1`.
    """
    terms: dict[str, list[Term]] = {}
    embeddings: dict[str, Mapping[str, Tensor]] = {}
    reports = []
    for tag, adapter in active:
        own, report = _bind(tag, adapter, index)
        try:
            _require_same_base(report, adapter, index)
        except WrongBaseError as error:
            report = replace(report, problem=str(error))
        else:
            for term in own:
                if term.multiplier != 0:
                    terms.setdefault(term.target.key, []).append(term)
            if tag.te != 0 or tag.unet != 0:
                embeddings = {**adapter.embeddings, **embeddings}  # of two with one name, the first in the prompt
        reports.append(report)
    return Plan({key: tuple(of_key) for key, of_key in terms.items()}, tuple(reports), embeddings)


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
    return Plan(common, embeddings=embeddings), rows


def _bind(tag: LoraTag, adapter: Adapter, index: TargetIndex) -> tuple[list[Term], AdapterReport]:
    terms: list[Term] = []
    unmatched: list[str] = []
    misfits: list[str] = []
    taken: dict[str, list[Target]] = {}
    matched = 0
    for module, deltas in adapter.modules.items():
        choice = index.find_each(module)
        if not choice:
            unmatched.append(module)
            continue
        fits = False
        for delta, targets, reason in _fitting(deltas, choice):
            if not targets:
                misfits.append(f"{module}: {reason}")
                continue
            fits = True
            if not any(_overlap(target, other) for target in targets for other in taken.get(target.key, ())):
                for target in targets:
                    taken.setdefault(target.key, []).append(target)
                    terms.append(Term(target, delta, tag.multiplier(target.component), tag.dyn, tag.name))
        matched += fits
    report = AdapterReport(
        tag,
        str(adapter.path),
        matched,
        len(adapter.modules),
        tuple(unmatched),
        tuple(misfits),
        adapter.unknown,
        adapter.refused,
        notes=(*tag.notes, *summary(tag.name, adapter.notes)),
    )
    return terms, report


def _fitting(
    deltas: Mapping[str, Delta], choice: Sequence[Sequence[Mapping[str, Target]]]
) -> list[tuple[Delta, list[Target], str]]:
    """`(delta, its targets or none, why none)` of the weight and the bias, in the place of `choice` that fits best."""
    found = []
    for places in choice:
        found.append([
            (delta, *_fit(delta, [place.get(part) for place in places], part)) for part, delta in deltas.items()
        ])
    return max(found, key=lambda fitted: sum(bool(targets) for _, targets, _ in fitted))


def _overlap(target: Target, other: Target) -> bool:
    """Two targets of one parameter that share rows: a file names it in two spellings, and the first counts."""
    if target.rows is None or other.rows is None:
        return True
    return target.rows[0] < other.rows[1] and other.rows[0] < target.rows[1]


def _fit(delta: Delta, targets: Sequence[Target | None], part: str) -> tuple[list[Target], str]:
    """The targets of a module's weight or bias as they fit, or none and why."""
    present = [target for target in targets if target is not None]
    if len(present) < len(targets):
        return [], f"the model has no {part} there"
    if present[0].piece is not None:
        begin, end, total = present[0].piece
        reason = delta.misfit((total, *present[0].shape[1:]))
        if reason is None and delta.part(begin, end, total) is None:
            reason = f"{delta.algorithm} mixes the rows of a layer that this model keeps apart"
        return ([], reason) if reason else (present, "")
    target = present[0]
    reason = delta.misfit(target.shape)
    if reason is None:
        return present, ""
    if len(target.shape) == 4 and target.shape[1] > LATENT_CHANNELS:
        narrowed = target.narrowed(LATENT_CHANNELS)
        if delta.misfit(narrowed.shape) is None:
            return [narrowed], ""
    return [], reason


def _require_same_base(report: AdapterReport, adapter: Adapter, index: TargetIndex) -> None:
    """Raises WrongBaseError. The families decide where they are certain, else the share of layers that fit."""
    if not adapter.modules:
        return  # embeddings alone: their host knows their width
    same = adapter.family.fits(index.family)
    fits = f"{report.name}: {report.matched} of {report.total} layers match"
    if report.matched == 0 and all(MOTION in module for module in adapter.modules):
        raise WrongBaseError(
            f"{report.name} is a motion LoRA of AnimateDiff: its {report.total} layers belong into a motion module, "
            "which this model does not have; switch AnimateDiff on and draw again"
        )
    if report.matched == 0 or (same is False and not report.tag.force):
        made, has = adapter.family.label, index.family.label
        bases = f": made for {made}, the checkpoint is {has}" if same is not True and made != has else ""
        hint = f" ({report.misfits[0]})" if report.misfits and same is not False else ""
        raise WrongBaseError(f"{fits}{bases}{hint}; nothing was applied")
    # Lacking modules is no proof where the family is known (a partial checkpoint); layers of other shapes are.
    needed = len(report.misfits) if same else report.total / 2
    if report.matched < needed and not report.tag.force:
        raise WrongBaseError(
            f"{fits} this checkpoint; nothing was applied (force=1 in the tag applies them all the same)"
        )
