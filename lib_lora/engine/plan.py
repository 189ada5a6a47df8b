"""plan(active, index) -> Plan: what every weight shall become, decided without touching a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lib_lora.adapters.adapter import Adapter
from lib_lora.algorithms.base import Delta
from lib_lora.errors import WrongBaseError
from lib_lora.formats.text import printable
from lib_lora.grammar.tag import LoraTag
from lib_lora.model.targets import Target, TargetIndex

if TYPE_CHECKING:
    from torch import Tensor

MOTION = "motion_modules"  # in the names of a motion LoRA's layers
LATENT_CHANNELS = 4  # what an adapter for a text-to-image UNet knows of the wider `conv_in` of an inpainting one


@dataclass(frozen=True)
class Step:
    """One delta onto one target. Equal steps give equal weights, so plans can be compared."""

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
        assert part is not None  # `plan` makes no step that needs the rows that are not there
        return part


@dataclass(frozen=True)
class AdapterReport:
    """What became of one tag."""

    tag: LoraTag
    path: str | None = None
    matched: int = 0  # modules that found a target and fit it, with their weight or their bias
    total: int = 0  # modules in the file
    unmatched: tuple[str, ...] = ()  # module names this model does not have
    misfits: tuple[str, ...] = ()  # sentences: modules whose shape does not fit
    unknown: tuple[str, ...] = ()  # keys that no algorithm understands
    refused: tuple[str, ...] = ()  # sentences: modules of the file that cannot be used on any model
    notes: tuple[str, ...] = ()  # sentences for the user; the adapter works all the same
    problem: str | None = None  # a sentence: why nothing of it is applied

    @property
    def name(self) -> str:
        """As typed."""
        return self.tag.name

    @property
    def applied(self) -> bool:
        """True if it changes the model (or would, at a weight other than 0)."""
        return self.problem is None

    def sentences(self) -> list[str]:
        """Everything worth telling the person who typed the tag."""
        return [printable(sentence) for sentence in self._sentences()]

    def _sentences(self) -> list[str]:
        if self.problem is not None:
            return [self.problem]
        told = [*self.notes, *_summary(self.name, self.refused)]
        if self.misfits:
            count = f"{self.name}: {len(self.misfits)} of {self.total}"
            told.append(f"{count} layers do not fit this checkpoint ({self.misfits[0]})")
        if self.unmatched:
            count = f"{self.name}: {len(self.unmatched)} of {self.total}"
            told.append(f"{count} layers are not in this model and were left out (such as '{self.unmatched[0]}')")
        if self.unknown:
            told.append(f"{self.name}: {len(self.unknown)} tensors are not understood (such as '{self.unknown[0]}')")
        return told


@dataclass(frozen=True)
class Plan:
    """Steps by parameter, in prompt order. A parameter that is not named here shall be its base weight."""

    steps: Mapping[str, tuple[Step, ...]] = field(default_factory=dict, repr=False)
    reports: tuple[AdapterReport, ...] = ()
    # Textual-inversion embeddings that the adapters bring: the word -> {"clip_l", "clip_g" or "text": (vectors, width)}
    embeddings: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict, repr=False)


def plan(active: Sequence[tuple[LoraTag, Adapter]], index: TargetIndex) -> Plan:
    """Bind adapters to the model that `index` describes, in prompt order.

    An adapter for another base model contributes nothing and its report says why, unless its tag says `force=1`.
    """
    steps: dict[str, list[Step]] = {}
    embeddings: dict[str, Mapping[str, Tensor]] = {}
    reports = []
    for tag, adapter in active:
        own, report = _bind(tag, adapter, index)
        try:
            _require_same_base(report, adapter, index)
        except WrongBaseError as error:
            report = replace(report, problem=str(error))
        else:
            for step in own:
                if step.multiplier != 0:
                    steps.setdefault(step.target.key, []).append(step)
            if tag.te != 0 or tag.unet != 0:
                embeddings = {**adapter.embeddings, **embeddings}  # of two with one name, the first in the prompt
        reports.append(report)
    return Plan({key: tuple(of_key) for key, of_key in steps.items()}, tuple(reports), embeddings)


def split(plans: Sequence[Plan], pictures: int = 1) -> tuple[Plan, dict[str, tuple[tuple[Step, ...], ...]]]:
    """`(what all plans have in common, {parameter: the steps of each row of a batch} of the rest)`.

    `pictures` are made of each prompt, one after another: that many rows in the UNet, one in a text encoder.
    """
    common: dict[str, tuple[Step, ...]] = {}
    rows: dict[str, tuple[tuple[Step, ...], ...]] = {}
    embeddings: dict[str, Mapping[str, Tensor]] = {}
    for key in dict.fromkeys(key for each in plans for key in each.steps):
        of_key = [each.steps.get(key, ()) for each in plans]
        component = next(steps[0] for steps in of_key if steps).target.component
        if all(steps == of_key[0] for steps in of_key):
            common[key] = of_key[0]
        else:
            repeat = pictures if component == "unet" else 1
            rows[key] = tuple(steps for steps in of_key for _ in range(repeat))
    for each in plans:
        embeddings = {**each.embeddings, **embeddings}
    return Plan(common, embeddings=embeddings), rows


def _bind(tag: LoraTag, adapter: Adapter, index: TargetIndex) -> tuple[list[Step], AdapterReport]:
    steps: list[Step] = []
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
                    steps.append(Step(target, delta, tag.multiplier(target.component), tag.dyn, tag.name))
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
        notes=(*tag.notes, *_summary(tag.name, adapter.notes)),
    )
    return steps, report


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


def _summary(name: str, sentences: Sequence[str]) -> list[str]:
    """The first of many like sentences, and how many there are."""
    if not sentences:
        return []
    more = f" (and {len(sentences) - 1} more)" if len(sentences) > 1 else ""
    return [f"{name}: {sentences[0]}{more}"]
