"""Block weights: `lbw=`, `lbwe=`, `in=`, `mid=`, `out=` of a tag, and what they are for one module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lib_lora.grammar.curve import Curve, Weight, as_curve, write_weight
from lib_lora.grammar.number import read_number


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ALL_IN, ALL_OUT = tuple(f"IN{number:02d}" for number in range(12)), tuple(f"OUT{number:02d}" for number in range(12))
VECTORS: dict[int, tuple[str, ...]] = {  # how many numbers -> the blocks that they are for; all others become 0
    17: _names("BASE IN01 IN02 IN04 IN05 IN07 IN08 M00 OUT03 OUT04 OUT05 OUT06 OUT07 OUT08 OUT09 OUT10 OUT11"),
    26: ("BASE", *ALL_IN, "M00", *ALL_OUT),
    12: _names("BASE IN04 IN05 IN07 IN08 M00 OUT00 OUT01 OUT02 OUT03 OUT04 OUT05"),
    20: ("BASE", *ALL_IN[:9], "M00", *ALL_OUT[:9]),
}


@dataclass(frozen=True)
class Place:
    """Where in a model a module is, as far as block weights ask."""

    component: str = "unet"  # or a text encoder
    block: str = ""  # "IN04", "BASE", ""
    path: str = ""  # the module's name in a checkpoint: "input_blocks.4.1.transformer_blocks.0.attn1.to_q"
    is_xl: bool = False  # SDXL: names of presets mean other vectors


@dataclass(frozen=True)
class BlockWeights:
    """What a tag says of blocks, as typed."""

    weights: str = ""  # lbw=: numbers, or the name of a preset
    elements: str = ""  # lbwe=
    input: Weight = 1.0
    middle: Weight = 1.0
    output: Weight = 1.0
    presets: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)  # the user's own

    def of(self, place: Place) -> tuple[float, tuple[Curve, ...]]:
        """`(a factor, curves to multiply)` for the module at `place`."""
        factor = self._factor(place)
        for start, weight in (("IN", self.input), ("M", self.middle), ("OUT", self.output)):
            if place.block.startswith(start) and weight != 1.0:
                return factor, (as_curve(weight),)
        return factor, ()

    def _factor(self, place: Place) -> float:
        if not self.weights or not place.block:
            return 1.0
        numbers = [read_number(each) or 0.0 for each in self.weights.split(",")]
        return dict(zip(VECTORS[len(numbers)], numbers, strict=True)).get(place.block, 0.0)

    def arguments(self) -> list[str]:
        """As they stand in a tag."""
        named = [("lbw", self.weights), ("lbwe", self.elements)]
        named += [(key, write_weight(weight)) for key, weight in
                  (("in", self.input), ("mid", self.middle), ("out", self.output)) if weight != 1.0]  # fmt: skip
        return [f"{key}={value}" for key, value in named if value]


ALL_BLOCKS = BlockWeights()
