"""What an adapter file contains, from the names and shapes of its tensors alone: algorithms, ranks, components.

A module's algorithm is known by which parts it has: the table of the algorithms.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from lib_lora.algorithms import table
from lib_lora.describe import foreign
from lib_lora.keys import sort_keys
from lib_lora.keys.bundled import ENDS, is_bundled, split_bundled

Shape = tuple[int, ...]
Parts = Mapping[str, Shape]  # {part: shape} of one module

TEXT_ENCODER_2 = re.compile(
    r"lora_te2_|text_encoder_2[._]|text_encoders[._]clip_g[._]|clip_g[._]|.*embedders\.1\.|(?:base_model\.model\.)?text_projection"
)
TEXT_ENCODER = re.compile(
    r"lora_te|text_encoder|cond_stage_model|clip_[lh][._]|t5[._]|.*embedders\.\d"
    r"|(?:base_model\.model\.)?(?:text_model|encoder\.layers)\."
)
ALONE = re.compile(r"(?:base_model\.model\.)?(?:text_model|encoder\.layers)\.")  # of some text encoder
BIG = 1280  # the width of the second


@dataclass(frozen=True)
class Survey:
    """What stands in one file."""

    algorithms: tuple[str, ...] = ()  # the most frequent first
    ranks: tuple[int, int] | None = None  # (smallest, largest); None where an algorithm has no rank
    rank: int | None = None  # the most common one
    modules: int = 0
    components: tuple[str, ...] = ()  # "unet", "text_encoder", "text_encoder_2"
    embeddings: tuple[str, ...] = ()  # names of bundled textual inversions
    unknown: tuple[str, ...] = ()  # tensors that belong to no algorithm
    refused: str = ""  # "a checkpoint: ...": what the file is if it is no adapter


class Grouped(NamedTuple):
    """Tensors sorted by the module they belong to."""

    modules: Mapping[str, Parts]
    embeddings: tuple[str, ...]  # names of bundled textual inversions
    unknown: tuple[str, ...]  # keys that are neither
    keys: Mapping[str, Mapping[str, str]]  # {module: {part: key}}


def survey(shapes: Mapping[str, Shape], *, grouped: Grouped | None = None) -> Survey:
    """Look through `shapes`, {tensor name: shape}; `grouped` if they are already. Never raises."""
    modules, embeddings, unknown, _ = grouped or group(shapes)
    labels: list[tuple[str, ...]] = []
    ranks: Counter[int] = Counter()
    components: set[str] = set()
    incomplete_ones: list[str] = []
    refused = ""
    for module, parts in modules.items():
        understood = table.TABLE.understand(module, parts)
        if understood.algorithm is None:
            incomplete_ones.append(f"{module} ({', '.join(sorted(parts))})")
            if understood.refused and not refused:
                refused = f"{module}: {understood.refused}"
            continue
        labels.append(understood.labels)
        components.add(component_of(module, parts))
        if rank := understood.algorithm.rank(parts):
            ranks[rank] += 1
    return Survey(
        algorithms=table.TABLE.summary(labels),
        ranks=(min(ranks), max(ranks)) if ranks else None,
        rank=ranks.most_common(1)[0][0] if ranks else None,
        modules=len(labels),
        components=tuple(sorted(components, key=lambda name: (name != "unet", name))),
        embeddings=embeddings,
        unknown=(*unknown, *incomplete_ones),
        refused=foreign.why_none(
            shapes, usable=bool(labels or embeddings), refused=refused, unknown=next(iter(unknown), None)
        ),
    )


def group(shapes: Mapping[str, Shape]) -> Grouped:
    """Sort the tensors of an adapter, {name: shape}, by module."""
    bundled = list(filter(is_bundled, shapes))
    keys, unknown = sort_keys(shapes if not bundled else (key for key in shapes if not is_bundled(key)))
    embeddings: dict[str, None] = {}
    for key in bundled:
        word, end = split_bundled(key) or ("", "")
        if not end:
            unknown.append(key)
        elif word and ENDS[end]:
            embeddings[word] = None
    modules = {module: {part: shapes[key] for part, key in parts.items()} for module, parts in keys.items()}
    return Grouped(modules, tuple(embeddings), tuple(unknown), keys)


def component_of(module: str, parts: Parts) -> str:
    """Where a module belongs by its spelling: `unet`, `text_encoder` or `text_encoder_2`; a bare one by its width."""
    if TEXT_ENCODER_2.match(module) or (ALONE.match(module) and BIG in _sizes(parts)):
        return "text_encoder_2"
    return "text_encoder" if TEXT_ENCODER.match(module) else "unet"


def _sizes(parts: Parts) -> set[int]:
    return {size for shape in parts.values() for size in shape}
