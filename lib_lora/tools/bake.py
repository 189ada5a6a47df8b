"""merge(): bake adapters into a checkpoint file, tensor by tensor.

The result has the very header of the base (same keys, types, places and metadata), so it is written by copying the base
and replacing the bytes of the tensors that change; one of them at a time is in memory. It appears whole or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from lib_lora.adapters.cache import AdapterCache
from lib_lora.describe import families
from lib_lora.engine.fold import fold
from lib_lora.engine.plan import Plan, Term
from lib_lora.engine.report import AdapterReport
from lib_lora.errors import AdapterFileError, CheckpointError, LoraError, PatchError, first_line
from lib_lora.formats.header import Header, TensorInfo, read_header
from lib_lora.formats.opening import open_file
from lib_lora.formats.write import writing
from lib_lora.grammar.presets import BUILT_IN, Presets
from lib_lora.grammar.tag import LoraTag
from lib_lora.model.targets import TargetIndex, index_checkpoint
from lib_lora.session.finder import Finder
from lib_lora.session.session import Report, Session
from lib_lora.session.wanted import Wanted, settled
from lib_lora.tools.out import SUFFIX, adapters_of, check_out, require_others

BLOCK = 1 << 22  # bytes copied at a time
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
Progress = Callable[[int, int], object]  # (bytes written, bytes in all)


class MergeRefused(LoraError):
    """Some of the tags cannot be baked in, so nothing was written; `report` says which and why, as the text does."""

    def __init__(self, report: Report) -> None:
        self.report = report
        super().__init__("\n".join(report.sentences()))


@dataclass(frozen=True)
class Merged:
    """What was written."""

    out: Path
    report: Report
    changed: int  # tensors that differ from the base
    tensors: int


class CheckpointHost:
    """A checkpoint file as host of a Session: the plan is kept, and carried out while the file is written."""

    def __init__(self, index: TargetIndex) -> None:
        self.index = index
        self.plan = Plan()

    def targets(self) -> TargetIndex:
        """See Host."""
        return self.index

    def apply(self, plan: Plan) -> None:
        """See Host."""
        self.plan = plan


def merge(
    base: Path,
    out: Path,
    tags: Sequence[LoraTag],
    finder: Finder,
    *,
    errors: Sequence[LoraError] = (),
    presets: Presets = BUILT_IN,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Merged:
    """Write `base` with `tags` baked in to `out`; without tags, or at weight 0, that is a copy.

    `base` is a .safetensors file in CompVis / SGM layout (SD1, SD2, SDXL), complete or not; `errors` are tags that
    could not be read, `presets` the names of block weights. A file has no steps, sides and places: arguments that speak
    of them are refused. Raises MergeRefused if any tag cannot be applied, CheckpointError if a file cannot be read or
    written, PatchError if the numbers do not work out.
    """
    header = _read_base(base)
    _check_out(base, out, overwrite)
    _require_constants(tags, errors, presets)
    report, plan = _decide(header, tags, finder, errors, presets)
    if errors or len(report.applied) < len(report.adapters):
        raise MergeRefused(report)
    _check_types(header, plan, base.name)
    require_others(out, adapters_of(report), error=CheckpointError)
    try:
        with open_file(base, buffering=-1) as source, writing(out, overwrite=overwrite) as target:
            _write(source, target, header, plan, progress)
    except FileExistsError as error:
        raise CheckpointError(f"{out.name}: another program wrote it meanwhile; nothing was written over it") from error
    except OSError as error:
        raise CheckpointError(f"{error.filename or out.name}: {error.strerror or error}") from error
    return Merged(out, report, len(plan.terms), len(header.tensors))


def _require_constants(tags: Sequence[LoraTag], errors: Sequence[LoraError], presets: Presets) -> None:
    told = [f"{tag}: a merge has no steps, passes, sides and places, so that {' and '.join(found)} cannot be baked in; "
            "write one number instead" for tag in tags if (found := settled(tag, presets).only_for_pictures)]
    if told:
        raise MergeRefused(Report(problems=(*map(str, errors), *told)))


def _read_base(base: Path) -> Header:
    if base.suffix.lower() != SUFFIX:
        raise CheckpointError(f"{base.name}: only {SUFFIX} checkpoints can be merged; convert it first")
    try:
        return read_header(base)
    except AdapterFileError as error:
        raise CheckpointError(str(error)) from error


def _check_out(base: Path, out: Path, overwrite: bool) -> None:
    """Everything that would fail after minutes of work fails here."""
    inputs = {"the base checkpoint": base}
    check_out(out, "the merged checkpoint", inputs, overwrite=overwrite, error=CheckpointError)
    free, needed = shutil.disk_usage(out.parent).free, base.stat().st_size
    if free < needed:
        raise CheckpointError(f"{out.parent}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")


def _decide(
    header: Header, tags: Sequence[LoraTag], finder: Finder, errors: Sequence[LoraError], presets: Presets
) -> tuple[Report, Plan]:
    host = CheckpointHost(index_checkpoint(header.shapes))
    session = Session(host, finder, cache=AdapterCache(limit=max(1, len(tags))))
    answers = session.look_up(tags)
    report = session.activate(Wanted((tuple(tags),), presets=presets), errors, answers=answers)
    partial = {each.name: each for each in report.adapters if _is_partial_match(each, host.index)}
    if partial:
        forced = tuple(_forced(tag, partial.get(tag.name)) for tag in tags)
        report = session.activate(Wanted((forced,), presets=presets), errors, answers=answers)
    return report, host.plan


def _is_partial_match(report: AdapterReport, index: TargetIndex) -> bool:
    """Refused only because most of its layers are not in the file, which in a partial checkpoint is as it should be."""
    if report.applied or not report.matched or report.misfits or report.family is None:
        return False
    family = report.family
    return not (family.sure and index.family.sure) or families.compatible(family.id, index.family.id) is True


def _forced(tag: LoraTag, report: AdapterReport | None) -> LoraTag:
    return tag if report is None else replace(tag, force=True)


def _check_types(header: Header, plan: Plan, name: str) -> None:
    for key in plan.terms:
        if header.tensors[key].dtype not in DTYPES:
            raise CheckpointError(
                f"{name}: {key} is stored as {header.tensors[key].dtype}; use a checkpoint that is not quantised"
            )


def _write(source: BinaryIO, target: BinaryIO, header: Header, plan: Plan, progress: Progress | None) -> None:
    total = os.fstat(source.fileno()).st_size
    for place, end, tensor, terms in _pieces(header, plan.terms, total):
        if tensor is None:
            target.write(_read(source, end - place))
        else:
            target.write(_patched(_read(source, end - place), tensor, terms))
        if progress is not None:
            progress(end, total)


def _pieces(
    header: Header, terms: Mapping[str, tuple[Term, ...]], total: int
) -> Iterator[tuple[int, int, TensorInfo | None, tuple[Term, ...]]]:
    """(begin, end, tensor, its terms) of the whole file, in order; the tensor is None for what is copied as it is."""
    place = 0
    for key in sorted(terms, key=lambda key: header.tensors[key].begin):
        tensor = header.tensors[key]
        begin, end = header.data_start + tensor.begin, header.data_start + tensor.end
        yield from ((at, min(at + BLOCK, begin), None, ()) for at in range(place, begin, BLOCK))
        yield begin, end, tensor, terms[key]
        place = end
    yield from ((at, min(at + BLOCK, total), None, ()) for at in range(place, total, BLOCK))


def _read(source: BinaryIO, count: int) -> bytearray:
    block = bytearray(count)
    if source.readinto(block) < count:  # type: ignore[attr-defined]
        raise CheckpointError("the base checkpoint became shorter while it was read")
    return block


@torch.no_grad()
def _patched(content: bytearray, info: TensorInfo, terms: Sequence[Term]) -> memoryview:
    """The bytes of one tensor with `terms` applied."""
    dtype = DTYPES[info.dtype]
    base = torch.frombuffer(content, dtype=dtype).reshape(info.shape)
    out = torch.empty_like(base)
    try:
        fold(base, terms, out)
    except RuntimeError as error:
        raise PatchError(
            f"{terms[0].source}: cannot be applied to {terms[0].target.key} ({first_line(error)})"
        ) from error
    if not _is_finite(out) and _is_finite(base):
        raise PatchError(f"{terms[-1].target.key}: the result does not fit into {info.dtype}; use smaller weights")
    return out.reshape(-1).view(torch.uint8).numpy().data


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor).all())
