"""What an adapter file contains, from the names and shapes of its tensors alone: algorithms, ranks, components.

A module's algorithm is known by which parts it has: ALGORITHMS is that table, the first match wins.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from lib_lora.algorithms.refused import ACCESSORIES, incomplete, refusal
from lib_lora.describe import foreign
from lib_lora.keys import sort_keys

Shape = tuple[int, ...]
Parts = Mapping[str, Shape]  # {part: shape} of one module

ALGORITHMS: tuple[tuple[str, tuple[str, ...]], ...] = (  # (name, parts that a module must have)
    ("LoRA", ("up", "down")),
    ("LoHa", ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")),
    ("LoKr", ("lokr_w1", "lokr_w2")),
    ("LoKr", ("lokr_w1", "lokr_w2_a", "lokr_w2_b")),
    ("LoKr", ("lokr_w1_a", "lokr_w1_b", "lokr_w2")),
    ("LoKr", ("lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b")),
    ("GLoRA", ("a1", "a2", "b1", "b2")),
    ("OFTv2", ("oft_r",)),
    ("diag-OFT", ("oft_diag",)),
    ("OFT", ("oft_blocks",)),
    ("T-LoRA", ("q_layer", "p_layer", "lambda_layer")),
    ("IA3", ("on_input", "weight")),
    ("Norm", ("w_norm",)),
    ("Norm", ("b_norm",)),
    ("Full", ("diff",)),
    ("Full", ("diff_b",)),
)
WRAPPERS = {"dora_scale": "DoRA", "magnitude": "DoRA"}  # part -> what it adds to any of them

RANKS = (("down", 0), ("hada_w1_b", 0), ("lokr_w2_b", 0), ("lokr_w1_b", 0), ("a1", None), ("q_layer", 0))
# (part, axis that is as long as the rank; None: the shorter of the first two)

TEXT_ENCODER_2 = re.compile(
    r"lora_te2_|text_encoder_2[._]|text_encoders[._]clip_g[._]|clip_g[._]|.*embedders\.1\.|(?:base_model\.model\.)?text_projection"
)
TEXT_ENCODER = re.compile(
    r"lora_te|text_encoder|cond_stage_model|clip_[lh][._]|t5[._]|.*embedders\.\d"
    r"|(?:base_model\.model\.)?(?:text_model|encoder\.layers)\."
)
ALONE = re.compile(r"(?:base_model\.model\.)?(?:text_model|encoder\.layers)\.")  # of some text encoder
BIG = 1280  # the width of the second
BUNDLE = "bundle_emb."
BUNDLE_PARTS = (".string_to_param.*", ".clip_l", ".clip_g", ".clip_l_out", ".clip_g_out", ".emb_params")


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


def survey(shapes: Mapping[str, Shape], *, grouped: Grouped | None = None) -> Survey:
    """Look through `shapes`, {tensor name: shape}; `grouped` if they are already. Never raises."""
    modules, embeddings, keys = grouped or group(shapes)
    unknown = list(keys)
    algorithms: Counter[str] = Counter()
    wrappers: dict[str, None] = {}
    ranks: Counter[int] = Counter()
    components: set[str] = set()
    incomplete_ones: list[str] = []
    refused = ""
    for module, parts in modules.items():
        name = algorithm_of(module, parts)
        if not name:
            incomplete_ones.append(f"{module} ({', '.join(sorted(parts))})")
            if not refused and not parts.keys() <= ACCESSORIES:
                refused = f"{module}: {refusal(parts) or incomplete(parts)}"
            continue
        algorithms[name] += 1
        wrappers.update((wrapper, None) for part, wrapper in WRAPPERS.items() if part in parts)
        components.add(component_of(module, parts))
        if rank := rank_of(parts):
            ranks[rank] += 1
    count = algorithms.total()
    if "LoCon" in algorithms:  # a LoCon file is LoRA plus convolutions: one name says it
        del algorithms["LoRA"]
    return Survey(
        algorithms=(*(name for name, _ in algorithms.most_common()), *wrappers),
        ranks=(min(ranks), max(ranks)) if ranks else None,
        rank=ranks.most_common(1)[0][0] if ranks else None,
        modules=count,
        components=tuple(sorted(components, key=lambda name: (name != "unet", name))),
        embeddings=embeddings,
        unknown=(*unknown, *incomplete_ones),
        refused=foreign.why_none(
            shapes, usable=bool(count or embeddings), refused=refused, unknown=next(iter(unknown), None)
        ),
    )


def group(shapes: Mapping[str, Shape]) -> Grouped:
    """Sort the tensors of an adapter, {name: shape}, by module."""
    embeddings: dict[str, None] = {}
    for key in shapes:
        if key.startswith(BUNDLE):
            end = next((part for part in BUNDLE_PARTS if key.endswith(part)), "")
            embeddings[key[len(BUNDLE) :].removesuffix(end)] = None
    keys, unknown = sort_keys(key for key in shapes if not key.startswith(BUNDLE))
    modules = {module: {part: shapes[key] for part, key in parts.items()} for module, parts in keys.items()}
    return Grouped(modules, tuple(embeddings), tuple(unknown))


def algorithm_of(module: str, parts: Parts) -> str:
    """ "LoCon"; empty if the module is incomplete, refused or not understood."""
    if refusal(parts):
        return ""
    name = next((name for name, needed in ALGORITHMS if all(part in parts for part in needed)), "")
    if name == "LoRA" and ("mid" in parts or _is_convolution(parts["down"])):
        return "LoCon"
    if name == "OFT":
        return "BOFT" if len(parts["oft_blocks"]) == 4 else "OFT" if module.startswith("oft_") else "diag-OFT"
    return name


def rank_of(parts: Parts) -> int | None:
    """The rank of a module, from the shape of one of its parts; None where the algorithm has none."""
    for part, axis in RANKS:
        shape = parts.get(part)
        if shape and len(shape) >= 2:
            return min(shape[:2]) if axis is None else shape[axis]
    return None


def component_of(module: str, parts: Parts) -> str:
    """Where a module belongs by its spelling: `unet`, `text_encoder` or `text_encoder_2`; a bare one by its width."""
    if TEXT_ENCODER_2.match(module) or (ALONE.match(module) and BIG in _sizes(parts)):
        return "text_encoder_2"
    return "text_encoder" if TEXT_ENCODER.match(module) else "unet"


def _sizes(parts: Parts) -> set[int]:
    return {size for shape in parts.values() for size in shape}


def _is_convolution(down: Shape) -> bool:
    """Larger than 1 x 1: kohya's plain LoRA covers 1 x 1 convolutions too."""
    return len(down) == 4 and down[2] * down[3] > 1
