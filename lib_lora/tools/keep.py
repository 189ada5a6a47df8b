"""save(): exactly what a prompt's tags do, all the time or at one moment, as one adapter file that says how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from lib_lora.adapters.cache import AdapterCache
from lib_lora.algorithms.forms import Form, Whole, form_of, wide
from lib_lora.engine.plan import Plan, Term
from lib_lora.engine.schedule import Encoding
from lib_lora.errors import LoraError
from lib_lora.grammar.curve import ALWAYS
from lib_lora.grammar.moment import START
from lib_lora.grammar.named import Named
from lib_lora.grammar.positions import CurveError
from lib_lora.grammar.presets import BUILT_IN, Presets
from lib_lora.grammar.tag import LoraTag
from lib_lora.grammar.who import Row
from lib_lora.keys.bundled import BUNDLE, ENDS
from lib_lora.model.base_weights import BaseWeights
from lib_lora.model.targets import Target, TargetIndex
from lib_lora.model.usual import usual_index
from lib_lora.session.finder import Finder
from lib_lora.session.session import Report, Session
from lib_lora.session.wanted import Wanted, settled
from lib_lora.tools.adapter_file import WHAT, made, parent_of, write_adapter
from lib_lora.tools.bake import CheckpointHost, MergeRefused
from lib_lora.tools.factors import Limit
from lib_lora.tools.layers import Built, Layer, Progress, build, joined
from lib_lora.tools.out import adapters_of, check_out, require_others
from lib_lora.tools.spell_out import STYLES


@dataclass(frozen=True)
class Saved:
    """What was written."""

    out: Path
    report: Report
    built: Built
    hash: str  # of the tensors


def save(
    out: Path, tags: Sequence[LoraTag], finder: Finder, *, errors: Sequence[LoraError] = (),
    base: BaseWeights | None = None, limit: Limit | None = None, dtype: torch.dtype = torch.float32,
    at: Named | None = None, typed: str = "", presets: Presets = BUILT_IN, overwrite: bool = False,
    progress: Progress | None = None,
) -> Saved:  # fmt: skip
    """Write what `tags` do to a model to `out`, in kohya's spelling.

    Products are joined, exactly; with a `limit` everything is cut to products. `base`: the checkpoint, needed by
    adapters that depend on its weights. `at`: the moment that is kept of what changes over time; `typed`: the prompt
    that they stand in, which the recipe tells where it edits them; `presets`: names of block weights. Raises
    MergeRefused if any tag cannot be applied, LoraError for all else.
    """
    check_out(out, WHAT, {}, overwrite=overwrite)
    tags = tuple(settled(tag, presets) for tag in tags)
    _require_a_moment(tags, errors, at)
    cache = AdapterCache(limit=max(1, len(tags)))
    index = base.index if base is not None else _usual(tags, finder, cache)
    host = CheckpointHost(index)
    session = Session(host, finder, cache=cache)
    report = session.activate(Wanted((tags,), presets=presets), errors)
    if errors or not report.adapters or len(report.applied) < len(report.adapters):
        raise MergeRefused(report)
    require_others(out, adapters_of(report))
    moment = START if at is None else at.moment
    plan = session.schedule.at(moment, Encoding(Row(0), moment))
    layers = list(_layers(plan, index, base))
    is_xl = index.family.is_xl
    built = build(layers, limit, STYLES["kohya"], is_xl=is_xl, dtype=dtype, progress=progress)
    built.tensors.update(_words(plan))
    if not built.tensors:
        raise LoraError(f"{out.name}: these tags change nothing; nothing was written")
    is_edited = any(tag.shown != ALWAYS for tag in tags)
    recipe = {"prompt": typed if typed and is_edited else "".join(map(str, tags)), **_told(tags, at),
              "error": built.error}  # fmt: skip
    found = write_adapter(out, built.tensors, _metadata(report, recipe, built), overwrite=overwrite)
    return Saved(out, report, built, found)


def _require_a_moment(tags: Sequence[LoraTag], errors: Sequence[LoraError], at: Named | None) -> None:
    """Raises MergeRefused for what a file cannot hold: something else at other moments, in other passes and places."""
    told = []
    for tag in tags:
        if tag.for_some:
            what = f"so that {' and '.join(tag.for_some)} cannot be kept; write one number instead"
            told.append(f"{tag}: a file has no pictures, passes, sides and places, {what}")
        if not tag.units:
            continue
        if at is None:
            told.append(f"{tag}: it changes over time ({' and '.join(tag.over_time)}); name the moment that shall be "
                        "kept with --at, such as --at 0.5")  # fmt: skip
        elif tag.shown != ALWAYS and at.steps is None:
            told.append(f"{tag}: prompt editing around it counts in steps; say how many there are with --steps")
        else:
            try:
                at.require(tag.units)
            except CurveError as error:
                told.append(f"{tag}: it {error}")
    if told:
        raise MergeRefused(Report(problems=(*map(str, errors), *told)))


def _told(tags: Sequence[LoraTag], at: Named | None) -> dict[str, object]:
    """The moment, if it made a difference."""
    if at is None or not any(tag.units for tag in tags):
        return {}
    return {"at": at.text} if at.steps is None else {"at": at.text, "steps": at.steps}


def _words(plan: Plan) -> dict[str, Tensor]:
    """The embeddings that the adapters bring, as kohya's scripts bundle them."""
    end_of = {encoder: end for end, encoder in reversed(ENDS.items()) if encoder is not None}
    return {f"{BUNDLE}{word}.{end_of[encoder]}": vectors
            for word, found in plan.embeddings.items() for encoder, vectors in found.items()}


def _usual(tags: Sequence[LoraTag], finder: Finder, cache: AdapterCache) -> TargetIndex:
    """Of the usual checkpoint of the adapters' family. Raises LoraError."""
    families = {}
    for tag in tags:
        adapter = cache.read(finder.find(tag.name).path)
        families[adapter.family.id] = f"{tag.name} is for {adapter.family.label}"
    index = usual_index(next(iter(families))) if len(families) == 1 else None
    if index is None:
        why = "; ".join(families.values()) or "there is no tag"
        raise LoraError(f"for which checkpoint the adapter shall be is not certain ({why}); name it with --model")
    return index


def _layers(plan: Plan, index: TargetIndex, base: BaseWeights | None) -> Iterator[Layer]:
    for terms in plan.terms.values():
        by_target: dict[Target, list[Term]] = {}
        for term in terms:
            by_target.setdefault(term.target, []).append(term)
        if len(by_target) > 1 and not _are_apart(by_target):
            raise LoraError(f"{terms[0].source} and {terms[-1].source} name one layer as a whole and in parts "
                            f"({terms[0].target.key}); save them one by one")  # fmt: skip
        for target, of_target in by_target.items():
            module = index.name_of(target)
            assert module is not None  # every target comes from the index
            is_bias = len(target.shape) == 1 and (target.new_bias_of is not None or target.key.endswith("bias"))
            yield Layer(module, target.shape, partial(_form, target, of_target, base), is_bias)


def _are_apart(targets: Mapping[Target, object]) -> bool:
    rows = sorted(target.rows for target in targets if target.rows is not None)
    return len(rows) == len(targets) and all(before[1] <= after[0] for before, after in pairwise(rows))


def _form(target: Target, terms: Sequence[Term], base: BaseWeights | None) -> Form:
    if all(term.delta.additive for term in terms):
        found = [(form_of(term.meant, target.shape), term.multiplier) for term in terms]
        return joined((form, times) for form, times in found if form is not None)
    weight = base(target) if base is not None else None
    if weight is None:
        needs = next(term for term in terms if not term.delta.additive)
        what = f"{needs.source}: {needs.delta.algorithm} depends on the base weights"
        raise LoraError(f"{what}; name the checkpoint with --model")
    return Whole(_difference(wide(weight), terms).reshape(target.shape[0], -1))


def _difference(weight: Tensor, terms: Sequence[Term]) -> Tensor:
    """Folded as the engine does it; the weight is the very view that the terms mean."""
    start = weight.clone()
    for term in terms:
        term.meant.add_to(start, term.multiplier)
    return start - weight


def _metadata(report: Report, recipe: Mapping[str, object], built: Built) -> dict[str, str]:
    found = ((each, each.adapter) for each in report.applied)
    parents = {each.name: parent_of(Path(each.path), adapter.metadata)
               for each, adapter in found if each.path is not None and adapter is not None}  # fmt: skip
    told = made(recipe, parents)
    told["ss_network_module"] = "networks.lora"
    if built.ranks:
        told["ss_network_dim"] = told["ss_network_alpha"] = str(max(built.ranks))
    licences = sorted({parent["license"] for parent in parents.values() if parent["license"]})
    if licences:
        told["modelspec.license"] = "; ".join(licences)
    return told
