"""What the strip needs to know of block weights: which blocks the loaded model has, and the presets that go by a name."""

from __future__ import annotations

from typing import Any

from lib_lora.describe.families import Family
from lib_lora.grammar.number import read_number
from lib_lora.grammar.presets import FOR_XL, VECTORS, Presets, Vector

USUAL = {False: 17, True: 12}  # how many numbers a vector has that is begun anew; True: for SDXL


def blocks_of(family: Family | None, presets: Presets) -> dict[str, Any]:
    """`{"usual": 17, "vectors": {"17": [block, ...]}, "presets": [{"name", "numbers"}, ...]}` for the loaded model.

    A preset with letters, which are other numbers in each picture, has no `numbers`.
    """
    is_xl = family is not None and family.id.startswith("sdxl")
    vectors = {str(count): names for count, names in VECTORS.items() if (count in FOR_XL) == is_xl}
    offered = [{"name": name, "numbers": _numbers(vector)} for name, vector in presets.of_model(is_xl).items()
               if str(len(vector)) in vectors]  # fmt: skip
    return {"usual": USUAL[is_xl], "vectors": vectors, "presets": offered}


def _numbers(vector: Vector) -> list[float] | None:
    numbers = [read_number(part) for part in vector]
    found = [number for number in numbers if number is not None]
    return found if len(found) == len(numbers) else None
