"""Block weights: `lbw=`, `lbwe=`, `in=`, `mid=`, `out=` of a tag, and what they are for one module."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from lib_lora.grammar.curve import Curve, Weight, as_curve, write_weight
from lib_lora.grammar.elements import ORDER, BlocksError, Rule, read_rules
from lib_lora.grammar.number import narrow, read_number
from lib_lora.grammar.presets import BUILT_IN, FOR_XL, LETTER, VECTORS, Presets, Vector, read_vector

CHANCE = {"R": (0.0, 1.0), "U": (-0.5, 1.5)}  # the numbers that a letter can become
DIGITS = 3  # of a number that a letter became


@dataclass(frozen=True)
class Place:
    """Where in a model a module is, as far as block weights ask."""

    component: str = "unet"  # or a text encoder
    block: str = ""  # "IN04", "BASE", ""
    path: str = ""  # the module's name in a checkpoint: "input_blocks.4.1.transformer_blocks.0.attn1.to_q"
    is_xl: bool = False  # SDXL: names of presets mean other vectors


@dataclass(frozen=True)
class Meaning:
    """What the words of a tag stand for, presets and letters included."""

    vectors: tuple[tuple[float, ...], ...] = ()
    rules: tuple[Rule, ...] = ()

    def vector(self, is_xl: bool) -> tuple[float, ...]:
        """The numbers for a model; none if the tag says none."""
        return min(self.vectors, key=lambda vector: (len(vector) in FOR_XL) != is_xl, default=())


@dataclass(frozen=True)
class BlockWeights:
    """What a tag says of blocks, as typed."""

    weights: str = ""  # lbw=: numbers, or the name of a preset
    elements: str = ""  # lbwe=: rules, or the name of a preset
    x: float = 1.0  # what X is among the numbers
    input: Weight = 1.0
    middle: Weight = 1.0
    output: Weight = 1.0
    meaning: Meaning | None = None  # of `weights` and `elements` in one picture, where `settled` gave it one

    def of(self, place: Place) -> tuple[float, tuple[Curve, ...]]:
        """`(a factor, curves to multiply)` for the module at `place`. Raises BlocksError for an unknown preset."""
        factor = self._factor(place)
        for start, weight in (("IN", self.input), ("M", self.middle), ("OUT", self.output)):
            if place.block.startswith(start) and weight != 1.0:
                return factor, (as_curve(weight),)
        return factor, ()

    def settled(self, presets: Presets = BUILT_IN, chance: random.Random | None = None) -> BlockWeights:
        """The same with a user's presets looked up, and with numbers for its letters. Raises BlocksError."""
        if self.meaning is not None or not (self.weights or self.elements):
            return self
        meaning = self._read(presets, chance or random.Random(0))
        try:
            is_usual = meaning == self._meaning
        except BlocksError:  # a user's own preset
            is_usual = False
        return self if is_usual else replace(self, meaning=meaning)

    def unlisted(self, blocks: Iterable[str], is_xl: bool) -> str:
        """A sentence part that names those of `blocks` that became 0 as the numbers are not for them; else nothing."""
        vector = self._meaning.vector(is_xl)
        lost = sorted({*blocks} - {"", *VECTORS.get(len(vector), ORDER)}, key=ORDER.index)
        if not lost:
            return ""
        others = [str(count) for count in VECTORS if (count in FOR_XL) == is_xl and not {*lost} - {*VECTORS[count]}]
        family = "SDXL" if is_xl else "SD1 and SD2"
        return (f"the {len(vector)} numbers of lbw={self.weights} do not name {', '.join(lost)}, which became 0; "
                f"{' or '.join(others)} numbers name all blocks of {family}")  # fmt: skip

    @property
    def letters(self) -> tuple[str, ...]:
        """Those of the typed numbers that are new in each picture."""
        typed = read_vector(self.weights) if self.weights and is_vector(self.weights) else ()
        return tuple(sorted(CHANCE.keys() & {*typed}))

    @cached_property
    def _meaning(self) -> Meaning:
        return self.meaning or self._read(BUILT_IN, random.Random(0))

    def _read(self, presets: Presets, chance: random.Random) -> Meaning:
        vectors = tuple(tuple(self._number(part, chance) for part in vector) for vector in self._vectors(presets))
        text = self.elements if ":" in self.elements or not self.elements else presets.rules(self.elements)
        return Meaning(vectors, read_rules(text))

    def _vectors(self, presets: Presets) -> tuple[Vector, ...]:
        if not self.weights:
            return ()
        return (read_vector(self.weights),) if is_vector(self.weights) else presets.vectors(self.weights)

    def _number(self, part: str, chance: random.Random) -> float:
        if part in CHANCE:
            return round(chance.uniform(*CHANCE[part]), DIGITS)
        return self.x + (read_number(part[1:]) or 0.0) if part.startswith("X") else read_number(part) or 0.0

    def _factor(self, place: Place) -> float:
        if not self.weights and not self.elements:
            return 1.0
        factor = 1.0
        vector = self._meaning.vector(place.is_xl)
        if vector and place.block:
            factor = dict(zip(VECTORS[len(vector)], vector, strict=True)).get(place.block, 0.0)
        for rule in self._meaning.rules:
            if rule.holds(place.block, place.path):
                factor = rule.ratio
        return factor

    def arguments(self) -> list[str]:
        """As they stand in a tag."""
        weights = ("x", self.x), ("in", self.input), ("mid", self.middle), ("out", self.output)
        named = [("lbw", self.weights), ("lbwe", self.elements)]
        named += [(key, write_weight(weight)) for key, weight in weights if weight != 1.0]
        return [f"{key}={value}" for key, value in named if value]


def is_vector(text: str) -> bool:
    """True if a text lists numbers for blocks; else it is a name."""
    return "," in narrow(text) or read_number(text) is not None or bool(LETTER.fullmatch(text))


ALL_BLOCKS = BlockWeights()
