"""A tensor's key is `<module>.<part>`: told apart from the right, the longest known part first.

Part names here are the canonical ones: `up`, `down`, `mid` whatever the file calls them; the other algorithms keep the
names under which LyCORIS and PEFT save them. PEFT may put its adapter's name inside (`lora_A.default.weight`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from lib_lora.algorithms.refused import PEFT_TUNERS
from lib_lora.keys.names import flat

PEFT_PARTS = frozenset(part for parts in PEFT_TUNERS.values() for part in parts)
PARTS: dict[str, str] = {
    # LoRA family
    "lora_up.weight": "up",
    "lora_down.weight": "down",
    "lora_mid.weight": "mid",
    "lora_B.weight": "up",
    "lora_A.weight": "down",
    "lora_B": "up",
    "lora_A": "down",
    "lora.up.weight": "up",
    "lora.down.weight": "down",
    "lora_linear_layer.up.weight": "up",
    "lora_linear_layer.down.weight": "down",
    "lora_B.bias": "lora_bias",
    "alpha": "alpha",
    "scale": "scale",
    "scalar": "scalar",
    "bias_indices": "bias_indices",
    "bias_values": "bias_values",
    "bias_size": "bias_size",
    # DoRA
    "dora_scale": "dora_scale",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    "magnitude": "magnitude",  # ai-toolkit
    # LoHa, LoKr
    **{name: name for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")},
    **{
        name: name
        for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t1", "lokr_t2")
    },
    # IA3, full weights, norms
    "weight": "weight",
    "on_input": "on_input",
    "diff": "diff",
    "diff_b": "diff_b",
    "set_weight": "set_weight",
    "reshape_weight": "reshape_weight",
    "w_norm": "w_norm",
    "b_norm": "b_norm",
    # GLoRA
    "a1.weight": "a1",
    "a2.weight": "a2",
    "b1.weight": "b1",
    "b2.weight": "b2",
    "bm.weight": "bm",
    # OFT, BOFT, OFT v2, T-LoRA
    "oft_blocks": "oft_blocks",
    "oft_diag": "oft_diag",
    "rescale": "rescale",
    "oft_R.weight": "oft_r",
    "oft_R.scaled_oft": "scaled_oft",
    "q_layer.weight": "q_layer",
    "p_layer.weight": "p_layer",
    "lambda_layer": "lambda_layer",
    # known only to be refused by name
    **{name: name for name in PEFT_PARTS},
}
LONGEST = max(part.count(".") + 1 for part in PARTS)
NAMED_BY_PEFT = PEFT_PARTS | {"lora_A", "lora_B", "lora_magnitude_vector", "oft_R"}  # an adapter's name may follow
DEFAULT = re.compile(r"default(?:_\d+)?")  # the name that PEFT gives, behind any part
ENDS = ("weight", "bias", "scaled_oft")

# The old attention processors of diffusers put the projection's name into the suffix.
OLD_PROJECTIONS = {"to_q_lora": "to_q", "to_k_lora": "to_k", "to_v_lora": "to_v", "to_out_lora": "to_out.0"}
OLD_TEXT_PROJECTIONS = {"to_q_lora": "q_proj", "to_k_lora": "k_proj", "to_v_lora": "v_proj", "to_out_lora": "out_proj"}


class Sorted(NamedTuple):
    """The keys of a file by the module that they belong to."""

    modules: dict[str, dict[str, str]]  # {module: {part: key}}
    unknown: list[str]  # keys that are no part of any


def sort_keys(keys: Iterable[str]) -> Sorted:
    """Sort the keys of a file. What stands in it under a dotted and under a flat name is one module.

    diffusers' own converter writes `…attn2_to_k.lora_up.weight` beside `…attn2.to_k.lora_magnitude_vector`.
    """
    modules: dict[str, dict[str, str]] = {}
    unknown: list[str] = []
    for key in keys:
        found = split_key(key)
        if found is None or found[1] in modules.get(found[0], ()):
            unknown.append(key)
        else:
            modules.setdefault(found[0], {})[found[1]] = key
    _join_spellings(modules)
    unknown = [key for key in unknown if not _joined_bias(key, modules)]
    return Sorted(modules, unknown)


def _join_spellings(modules: dict[str, dict[str, str]]) -> None:
    """Put together what is one module in two spellings, unless both have one part: then it is there twice."""
    spelled: dict[str, str] = {}
    for module in list(modules):
        name = flat(module).removeprefix("lora_")  # `unet.down_blocks…` beside `lora_unet_down_blocks…`
        first = spelled.setdefault(name, module)
        if first != module and modules[first].keys().isdisjoint(modules[module]):
            kept, other = sorted((first, module), key=lambda name: -len(modules[name]))
            modules[kept] |= modules.pop(other)
            spelled[name] = kept


def _joined_bias(key: str, modules: dict[str, dict[str, str]]) -> bool:
    """True for a module's own trained bias, which is put to its parts: without it half of the module would be used."""
    module, _, last = key.rpartition(".")
    module = module.removesuffix(".base_layer")
    if last != "bias" or modules.get(module, {}).keys() <= {"weight"}:
        return False
    modules[module].setdefault("bias", key)
    return True


@lru_cache(maxsize=8192)  # the adapters of one trainer have the same keys
def split_key(key: str) -> tuple[str, str] | None:
    """`("module", "part")` of a tensor's key, or None if no known part ends it."""
    words = key.split(".")
    if unnamed := _without_adapter(words):
        found = _split(unnamed)
        if found and found[1] != "weight":
            return found
    return _split(words) or _split_old_processor(words)


def _without_adapter(words: list[str]) -> list[str] | None:
    """The words without the adapter's name that PEFT may have put behind the part: `lora_A.default.weight`."""
    end = len(words) - (words[-1] in ENDS)
    if end > 2 and (words[end - 2] in NAMED_BY_PEFT or DEFAULT.fullmatch(words[end - 1])):
        return [*words[: end - 1], *words[end:]]
    return None


def _split(words: list[str]) -> tuple[str, str] | None:
    if len(words) > 2 and words[-2] in PEFT_PARTS and words[-1] in ENDS:
        words = words[:-1]
    for length in range(min(LONGEST, len(words) - 1), 0, -1):
        part = PARTS.get(".".join(words[-length:]))
        if part is None or (part == "weight" and words[-2] in ("up", "down")):
            continue
        module = ".".join(words[:-length])
        return _modernise(module), part
    return None


def _split_old_processor(words: list[str]) -> tuple[str, str] | None:
    """`attn1.processor.to_q_lora.down.weight` (UNet) and `self_attn.to_q_lora.down.weight` (text encoder)."""
    *path, projection, direction, weight = words if len(words) > 3 else ["", "", "", ""]
    if weight != "weight" or direction not in ("up", "down") or projection not in OLD_PROJECTIONS:
        return None
    return _old_module(path, projection), direction


def _old_module(path: list[str], projection: str) -> str:
    if path and path[-1] == "processor":
        return ".".join([*path[:-1], OLD_PROJECTIONS[projection]])
    table = OLD_TEXT_PROJECTIONS if path and path[-1] == "self_attn" else OLD_PROJECTIONS
    return ".".join([*path, table[projection]])


def _modernise(module: str) -> str:
    """An `alpha` beside old-processor factors, and `to_out` written without its index."""
    head, _, last = module.rpartition(".")
    if last in OLD_PROJECTIONS:
        return _old_module(head.split("."), last)
    if last == "to_out" and ("attn1" in head or "attn2" in head):
        return f"{module}.0"
    return module
