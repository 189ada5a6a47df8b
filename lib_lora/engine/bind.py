"""bind(adapter, index) -> Binding: which targets of a model an adapter's modules find, and whether that is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lib_lora.adapters.adapter import Adapter
from lib_lora.algorithms.base import Delta
from lib_lora.engine.active import Active
from lib_lora.errors import WrongBaseError
from lib_lora.model.targets import Target, TargetIndex

MOTION = "motion_modules"  # in the names of a motion LoRA's layers
LATENT_CHANNELS = 4  # what an adapter for a text-to-image UNet knows of the wider `conv_in` of an inpainting one


@dataclass(frozen=True)
class Binding:
    """One adapter on one model, whatever its tag says."""

    pairs: Sequence[tuple[Target, Delta]] = field(repr=False)
    matched: int  # modules that found a target and fit it, with their weight or their bias
    unmatched: tuple[str, ...]  # module names this model does not have
    misfits: tuple[str, ...]  # sentences: modules whose shape does not fit


def bind(adapter: Adapter, index: TargetIndex) -> Binding:
    """Look every module of `adapter` up in the model that `index` describes."""
    pairs: list[tuple[Target, Delta]] = []
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
                    pairs.append((target, delta))
        matched += fits
    return Binding(pairs, matched, tuple(unmatched), tuple(misfits))


def require_same_base(active: Active, binding: Binding, index: TargetIndex) -> None:
    """Raises WrongBaseError. The families decide where they are certain, else the share of layers that fit."""
    tag, adapter, family = active.tag, active.adapter, active.family
    if not adapter.modules:
        return  # embeddings alone: their host knows their width
    same = family.fits(index.family)
    total = len(adapter.modules)
    fits = f"{tag.name}: {binding.matched} of {total} layers match"
    if binding.matched == 0 and all(MOTION in module for module in adapter.modules):
        raise WrongBaseError(
            f"{tag.name} is a motion LoRA of AnimateDiff: its {total} layers belong into a motion module, "
            "which this model does not have; switch AnimateDiff on and draw again"
        )
    if binding.matched == 0 or (same is False and not tag.force):
        own, its = family.label, index.family.label
        bases = f": made for {own}, the checkpoint is {its}" if same is not True and own != its else ""
        hint = f" ({binding.misfits[0]})" if binding.misfits and same is not False else ""
        raise WrongBaseError(f"{fits}{bases}{hint}; nothing was applied")
    # Lacking modules is no proof where the family is known (a partial checkpoint); layers of other shapes are.
    needed = len(binding.misfits) if same else total / 2
    if binding.matched < needed and not tag.force:
        raise WrongBaseError(
            f"{fits} this checkpoint; nothing was applied (force=1 in the tag applies them all the same)"
        )


def _fitting(
    deltas: Mapping[str, Delta], choice: Sequence[Sequence[Mapping[str, Target]]]
) -> list[tuple[Delta, list[Target], str]]:
    """`(delta, its targets or none, why none)` of the weight and the bias, in the place of `choice` that fits best."""
    choices = []
    for places in choice:
        choices.append([
            (delta, *_fit(delta, [place.get(part) for place in places], part)) for part, delta in deltas.items()
        ])
    return max(choices, key=lambda fitted: sum(bool(targets) for _, targets, _ in fitted))


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
