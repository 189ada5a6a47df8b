"""plan(active, index) -> Plan: what every weight shall become, decided without touching a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lib_lora import families
from lib_lora.adapter import Adapter
from lib_lora.algorithms import Delta
from lib_lora.errors import WrongBaseError
from lib_lora.tag import LoraTag
from lib_lora.targets import Target, TargetIndex

LATENT_CHANNELS = 4  # what an adapter for a text-to-image UNet knows of the wider `conv_in` of an inpainting one


@dataclass(frozen=True)
class Step:
    """One delta onto one target. Equal steps give equal weights, so plans can be compared."""

    target: Target
    delta: Delta
    multiplier: float
    dyn: int | None  # ranks to use
    source: str  # the adapter's name, for errors


@dataclass(frozen=True)
class AdapterReport:
    """What became of one tag."""

    tag: LoraTag
    path: str | None = None
    matched: int = 0  # modules that found a target and fit it
    total: int = 0  # modules in the file
    unmatched: tuple[str, ...] = ()  # module names this model does not have
    misfits: tuple[str, ...] = ()  # sentences: modules whose shape does not fit
    unknown: tuple[str, ...] = ()  # keys that no algorithm understands
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
        if self.problem is not None:
            return [self.problem]
        told = list(self.notes)
        if self.misfits:
            told.append(f"{self.name}: {len(self.misfits)} of {self.total} layers do not fit this checkpoint ({self.misfits[0]})")
        if self.unknown:
            told.append(f"{self.name}: {len(self.unknown)} tensors are not understood (such as '{self.unknown[0]}')")
        return told


@dataclass(frozen=True)
class Plan:
    """Steps by parameter, in prompt order. A parameter that is not named here shall be its base weight."""

    steps: Mapping[str, tuple[Step, ...]] = field(default_factory=dict, repr=False)
    reports: tuple[AdapterReport, ...] = ()


def plan(active: Sequence[tuple[LoraTag, Adapter]], index: TargetIndex) -> Plan:
    """Bind adapters to the model that `index` describes, in prompt order.

    An adapter for another base model contributes nothing and its report says why, unless its tag says `force=1`.
    """
    steps: dict[str, list[Step]] = {}
    reports = []
    for tag, adapter in active:
        own, report = _bind(tag, adapter, index)
        try:
            _require_same_base(report, adapter, index)
        except WrongBaseError as error:
            report = _failed(report, str(error))
        else:
            for step in own:
                if step.multiplier != 0:
                    steps.setdefault(step.target.key, []).append(step)
        reports.append(report)
    return Plan({key: tuple(of_key) for key, of_key in steps.items()}, tuple(reports))


def _bind(tag: LoraTag, adapter: Adapter, index: TargetIndex) -> tuple[list[Step], AdapterReport]:
    steps: list[Step] = []
    unmatched: list[str] = []
    misfits: list[str] = []
    taken: set[Target] = set()
    matched = 0
    for module, deltas in adapter.modules.items():
        targets = index.find(module)
        if targets is None:
            unmatched.append(module)
            continue
        fits = True
        for part, delta in deltas.items():
            target, reason = _fit(delta, targets.get(part), part)
            if target is None:
                misfits.append(f"{module}: {reason}")
                fits = False
            elif target not in taken:  # a file may name one target in two spellings; the first counts
                taken.add(target)
                steps.append(Step(target, delta, tag.multiplier(target.component), tag.dyn, tag.name))
        matched += fits
    report = AdapterReport(
        tag, str(adapter.path), matched, len(adapter.modules), tuple(unmatched), tuple(misfits), adapter.unknown,
        notes=(*tag.notes, *_summary(tag.name, adapter.refused), *_summary(tag.name, adapter.notes)),
    )
    return steps, report


def _fit(delta: Delta, target: Target | None, part: str) -> tuple[Target | None, str]:
    if target is None:
        return None, f"the model has no {part} there"
    reason = delta.misfit(target.shape)
    if reason is None:
        return target, ""
    if len(target.shape) == 4 and target.shape[1] > LATENT_CHANNELS:
        narrowed = target.narrowed(LATENT_CHANNELS)
        if delta.misfit(narrowed.shape) is None:
            return narrowed, ""
    return None, reason


def _require_same_base(report: AdapterReport, adapter: Adapter, index: TargetIndex) -> None:
    """Raises WrongBaseError. The families decide where both are certain, else the share of layers that fit."""
    is_sure = adapter.family.sure and index.family.sure
    same = families.compatible(adapter.family.id, index.family.id) if is_sure else None
    fits = f"{report.name}: {report.matched} of {report.total} layers match"
    if report.matched == 0 or (same is False and not report.tag.force):
        bases = f": made for {adapter.family.label}, the checkpoint is {index.family.label}" if same is not True else ""
        hint = f" ({report.misfits[0]})" if report.misfits and same is not False else ""
        raise WrongBaseError(f"{fits}{bases}{hint}; nothing was applied")
    if same is None and not report.tag.force and report.matched * 2 < report.total:
        raise WrongBaseError(f"{fits} this checkpoint; nothing was applied (force=1 in the tag applies them all the same)")


def _failed(report: AdapterReport, problem: str) -> AdapterReport:
    return AdapterReport(report.tag, report.path, report.matched, report.total, report.unmatched, report.misfits,
                         report.unknown, report.notes, problem)


def _summary(name: str, sentences: Sequence[str]) -> list[str]:
    """The first of many like sentences, and how many there are."""
    if not sentences:
        return []
    more = f" (and {len(sentences) - 1} more)" if len(sentences) > 1 else ""
    return [f"{name}: {sentences[0]}{more}"]
