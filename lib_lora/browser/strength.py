"""What the strip needs to know of the grammar: blocks and presets of the loaded model, the meaning of arguments."""

from __future__ import annotations

from typing import Any

from lib_lora.describe.families import Family
from lib_lora.grammar.arguments import ARGUMENTS
from lib_lora.grammar.number import read_number
from lib_lora.grammar.presets import FOR_XL, VECTORS, Presets, Vector

USUAL = {False: 17, True: 12}  # True: for SDXL


def strength_of(family: Family | None, presets: Presets) -> dict[str, Any]:
    """`{"usual", "whole", "vectors", "presets", "arguments"}` for the loaded model.

    usual      how many numbers name all blocks that a LoRA has: 17
    whole      how many name every block: what has convolutions has those that `usual` leaves out too
    vectors    {"17": [block, ...]} of each length that there is
    presets    {"name", "numbers"} of what fits the model; one with letters, which are other numbers in each picture,
               has no `numbers`
    arguments  {"lbw": {"takes", "meaning"}}
    """
    is_xl = family is not None and family.is_xl
    vectors = {str(count): names for count, names in VECTORS.items() if (count in FOR_XL) == is_xl}
    offered = [{"name": name, "numbers": _numbers(vector)} for name, vector in presets.of_model(is_xl).items()
               if str(len(vector)) in vectors]  # fmt: skip
    told = {key: {"takes": argument.takes, "meaning": argument.meaning} for key, argument in ARGUMENTS.items()}
    whole = max(map(int, vectors))
    return {"usual": USUAL[is_xl], "whole": whole, "vectors": vectors, "presets": offered, "arguments": told}


def _numbers(vector: Vector) -> list[float] | None:
    numbers = [read_number(part) for part in vector]
    found = [number for number in numbers if number is not None]
    return found if len(found) == len(numbers) else None
