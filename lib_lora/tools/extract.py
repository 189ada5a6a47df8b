"""extract(): what a tuned checkpoint has learned, as an adapter for the one that it was tuned from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from lib_lora.algorithms.forms import Form, Whole, square, wide
from lib_lora.errors import LoraError
from lib_lora.formats.header import read_header
from lib_lora.keys import ModuleName
from lib_lora.model.base_weights import BaseWeights
from lib_lora.model.targets import Target, TargetIndex
from lib_lora.tools.adapter_file import WHAT, made, parent_of, write_adapter
from lib_lora.tools.factors import Limit
from lib_lora.tools.layers import Built, Layer, Progress, build
from lib_lora.tools.out import check_out
from lib_lora.tools.spell_out import STYLES

WORDS = "token_embedding"  # a matrix of words is no layer


@dataclass(frozen=True)
class Extracted:
    """What was written."""

    out: Path
    built: Built  # its error is over all that differs: what cannot be a product counts as missed
    left_out: int  # biases and norms that differ


def extract(
    base: Path, tuned: Path, out: Path, limit: Limit, *, dtype: torch.dtype = torch.float16, overwrite: bool = False,
    progress: Progress | None = None,
) -> Extracted:  # fmt: skip
    """Write the difference of two checkpoints of one kind to `out`, one layer after the other. Raises LoraError."""
    check_out(out, WHAT, {"the base checkpoint": base, "the tuned checkpoint": tuned}, overwrite=overwrite)
    with BaseWeights(base) as before, BaseWeights(tuned) as after:
        if before.index.family.id != after.index.family.id:
            raise LoraError(f"{base.name} is {before.index.family.label}, {tuned.name} is {after.index.family.label}: "
                            "an adapter is the difference of two checkpoints of one base model")  # fmt: skip
        layers: list[Target] = []
        vectors: list[Target] = []
        for target in _targets(before.index, after.index):
            if _differs(target, before, after):
                (layers if len(target.shape) > 1 and WORDS not in target.key else vectors).append(target)
        if not layers:
            how = "differ in biases and norms only, which no product holds" if vectors else "have the same weights"
            raise LoraError(f"{base.name} and {tuned.name} {how}; nothing was written")
        wanted = [Layer(_name(before.index, target), target.shape, partial(_form, target, before, after))
                  for target in layers]  # fmt: skip
        is_xl = before.index.family.is_xl
        built = build(wanted, limit, STYLES["kohya"], is_xl=is_xl, dtype=dtype, progress=progress)
        for target in vectors:
            missed = square(_difference(target, before, after))
            built.meant += missed
            built.missed += missed
    parents = {"base": _parent(base), "tuned": _parent(tuned)}
    metadata = made({"extracted": tuned.name, "from": base.name, "error": built.error}, parents)
    metadata |= {"ss_network_module": "networks.lora", "ss_network_dim": str(max(built.ranks)),
                 "ss_network_alpha": str(max(built.ranks))}  # fmt: skip
    write_adapter(out, built.tensors, metadata, overwrite=overwrite)
    return Extracted(out, built, len(vectors))


def _parent(path: Path) -> dict[str, str]:
    """A folder has no hash."""
    return {"name": path.name, **(parent_of(path, read_header(path).metadata) if path.is_file() else {})}


def _targets(index: TargetIndex, other: TargetIndex) -> Iterator[Target]:
    """Every parameter that both have, each once: of a packed one its parts."""
    by_key: dict[str, dict[object, Target]] = {}
    for targets in index.modules.values():
        for target in targets.values():
            if target.key in other.keys and target.new_bias_of is None:
                by_key.setdefault(target.key, {})[target.place] = target
    for found in by_key.values():
        parts = [target for target in found.values() if target.rows is not None]
        yield from parts or list(found.values())[:1]


def _name(index: TargetIndex, target: Target) -> ModuleName:
    name = index.name_of(target)
    assert name is not None  # it comes from the index
    return name


def _differs(target: Target, before: BaseWeights, after: BaseWeights) -> bool:
    one, other = before(target), after(target)
    return one is not None and other is not None and one.shape == other.shape and not torch.equal(one, other)


def _difference(target: Target, before: BaseWeights, after: BaseWeights) -> Tensor:
    one, other = before(target), after(target)
    assert one is not None and other is not None
    return wide(other) - wide(one)


def _form(target: Target, before: BaseWeights, after: BaseWeights) -> Form:
    return Whole(_difference(target, before, after).reshape(target.shape[0], -1))
