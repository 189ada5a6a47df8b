"""A tensor's key is `<module>.<part>`: told apart from the right, the longest known part first.

Parts get their canonical names (`up`, `down`, `mid` whatever the file calls them) by the table of the algorithms. PEFT
may put its adapter's name inside (`lora_A.default.weight`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from lib_lora.algorithms import table
from lib_lora.algorithms.table import Table
from lib_lora.keys.names import flat

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
    split = _splitter(table.TABLE)
    for key in keys:
        found = split(key)
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


def split_key(key: str) -> tuple[str, str] | None:
    """`("module", "part")` of a tensor's key, or None if no known part ends it."""
    return _splitter(table.TABLE)(key)


@lru_cache(maxsize=2)
def _splitter(known: Table) -> Callable[[str], tuple[str, str] | None]:
    """`split_key` by one table."""

    @lru_cache(maxsize=8192)  # the adapters of one trainer have the same keys
    def split(key: str) -> tuple[str, str] | None:
        words = key.split(".")
        if unnamed := _without_adapter(known, words):
            found = _split(known, unnamed)
            if found and found[1] != "weight":
                return found
        return _split(known, words) or _split_old_processor(words)

    return split


def _without_adapter(known: Table, words: list[str]) -> list[str] | None:
    """The words without the adapter's name that PEFT may have put behind the part: `lora_A.default.weight`."""
    end = len(words) - (words[-1] in ENDS)
    if end > 2 and (words[end - 2] in known.named or DEFAULT.fullmatch(words[end - 1])):
        return [*words[: end - 1], *words[end:]]
    return None


def _split(known: Table, words: list[str]) -> tuple[str, str] | None:
    if len(words) > 2 and words[-2] in known.peft_parts and words[-1] in ENDS:
        words = words[:-1]
    for length in range(min(known.longest, len(words) - 1), 0, -1):
        part = known.parts.get(".".join(words[-length:]))
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
