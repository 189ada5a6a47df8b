"""Presets: names for block weights and for rules about elements, the built-in ones and a user's own.

A text of lines `NAME:v,v,...`; a line that is no such thing is a comment. Rules are texts between empty lines:
`NAME:BLOCKS:ELEMENTS:RATIO`, more rules after a comma or in the next line. So are the files `lbwpresets.txt` and
`elempresets.txt` that the extension lora-block-weight keeps.

A name may stand for numbers for SD1 / SD2 and for others for SDXL: those of the loaded model count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lib_lora.grammar.alike import did_you_mean
from lib_lora.grammar.elements import ORDER, BlocksError, read_rules
from lib_lora.grammar.number import narrow, read_number
from lib_lora.grammar.scan import shortened


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


VECTORS: dict[int, tuple[str, ...]] = {  # how many numbers -> the blocks that they are for; all others become 0
    17: _names("BASE IN01 IN02 IN04 IN05 IN07 IN08 M00 OUT03 OUT04 OUT05 OUT06 OUT07 OUT08 OUT09 OUT10 OUT11"),
    26: ORDER,
    12: _names("BASE IN04 IN05 IN07 IN08 M00 OUT00 OUT01 OUT02 OUT03 OUT04 OUT05"),
    20: ("BASE", *ORDER[1:10], "M00", *ORDER[14:23]),
}
FOR_XL = frozenset({12, 20})
FLUX = 61  # numbers for a model that is not drawn with here
COUNTS = "12 or 20 for SDXL, 17 or 26 for SD1 and SD2"
# R is any number from 0 to 1, U from -0.5 to 1.5, both new for each picture; X is what `x=` says, X+0.5 more than that.
LETTER = re.compile(r"[RU]|X(?:[+-][0-9.]+)?")
BLOCK_NAMES = {  # of the built-in presets -> the blocks that are 1: for SD1 and SD2, for SDXL
    "NONE": ("", ""),
    "ALL": (" ".join(VECTORS[17]), " ".join(VECTORS[12])),
    "INS": ("BASE IN01 IN02 IN04", "BASE IN04 IN05"),
    "IND": ("BASE IN05 IN07 IN08", "BASE IN07 IN08"),
    "INALL": ("BASE IN01 IN02 IN04 IN05 IN07 IN08", "BASE IN04 IN05 IN07 IN08"),
    "MIDD": ("BASE IN05 IN07 IN08 M00 OUT03 OUT04 OUT05 OUT06", "BASE IN07 IN08 M00 OUT00 OUT01 OUT02"),
    "OUTD": ("BASE OUT03 OUT04 OUT05 OUT06", "BASE OUT00 OUT01 OUT02"),
    "OUTS": ("BASE OUT07 OUT08 OUT09 OUT10 OUT11", "BASE OUT03 OUT04 OUT05"),
    "OUTALL": ("BASE OUT03 OUT04 OUT05 OUT06 OUT07 OUT08 OUT09 OUT10 OUT11",
               "BASE OUT00 OUT01 OUT02 OUT03 OUT04 OUT05"),
}
ELEMENTS = {
    "ATTNDEEPON": "IN05-OUT05:attn:1",
    "ATTNDEEPOFF": "IN05-OUT05:attn:0",
    "PROJDEEPOFF": "IN05-OUT05:proj:0",
}

Vector = tuple[str, ...]  # numbers and letters, as typed


@dataclass(frozen=True)
class Presets:
    """Names, and what they stand for."""

    weights: Mapping[str, tuple[Vector, ...]] = field(default_factory=dict)  # one vector, or one for each kind of model
    elements: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()  # sentences: lines of a user's text that look like a preset and are none

    def vectors(self, name: str) -> tuple[Vector, ...]:
        """What `name` stands for. Raises BlocksError."""
        return self.weights[_known(name, self.weights, "preset of block weights")]

    def rules(self, name: str) -> str:
        """What `name` stands for. Raises BlocksError."""
        return self.elements[_known(name, self.elements, "preset of elements")]

    def of_model(self, is_xl: bool) -> dict[str, Vector]:
        """What every name stands for on SDXL, or on SD1 and SD2; for pages that offer them."""
        return {name: choose(vectors, is_xl) for name, vectors in self.weights.items()}

    def __or__(self, other: Presets) -> Presets:
        """These and others, which count where both have a name and it stands for something else there."""
        others = {name: vectors for name, vectors in other.weights.items()
                  if not {*vectors} <= {*self.weights.get(name, ())}}  # fmt: skip
        return Presets({**self.weights, **others}, {**self.elements, **other.elements},
                       (*self.problems, *other.problems))  # fmt: skip


def choose(vectors: Iterable[Vector], is_xl: bool) -> Vector:
    """The one of `vectors` that is for the model; any, if none is."""
    ordered = sorted(vectors, key=lambda vector: (len(vector) in FOR_XL) != is_xl)
    return ordered[0]


def read_vector(text: str) -> Vector:
    """`1,0,R,...` in as many parts as one of VECTORS. Raises BlocksError."""
    parts = tuple(part.strip() for part in narrow(text).split(","))
    if len(parts) not in VECTORS:
        raise BlocksError(f"has {len(parts)} numbers; it takes {COUNTS}")
    wrong = [part for part in parts if read_number(part) is None and not LETTER.fullmatch(part)]
    if wrong:
        raise BlocksError(f"has '{shortened(wrong[0])}' for a block, which is no number, nor R, U or X")
    return parts


def read_presets(weights: str = "", elements: str = "") -> Presets:
    """The built-in presets and those of a user's texts."""
    vectors: dict[str, tuple[Vector, ...]] = {}
    problems = []
    for line in narrow(weights).splitlines():
        name, colon, text = (part.strip() for part in line.partition(":"))
        if not colon or not name or "#" in line or "," not in text or text.count(",") + 1 == FLUX:
            continue
        try:
            vectors = _joined(vectors, {name: (read_vector(text),)})
        except BlocksError as error:
            problems.append(f"preset {name} {error}")
    rules = {}
    for part in re.split(r"\n[ \t]*\n", elements.replace("\r\n", "\n")):
        name, colon, text = (each.strip() for each in part.partition(":"))
        if not colon or not name or "#" in name:
            continue
        try:
            read_rules(text)
        except BlocksError as error:
            problems.append(f"preset {name}: {error}")
        else:
            rules[name] = text
    return BUILT_IN | Presets(vectors, rules, tuple(problems))


def _known(name: str, names: Mapping[str, object], what: str) -> str:
    if name in names:
        return name
    same = [each for each in names if each.lower() == name.lower()]
    if not same:
        listed = ", ".join(names)
        raise BlocksError(f"'{shortened(name)}' is no {what}{did_you_mean(name, names)}; there are {listed}")
    return same[0]


def _joined(
    first: Mapping[str, tuple[Vector, ...]], then: Mapping[str, tuple[Vector, ...]]
) -> dict[str, tuple[Vector, ...]]:
    """Of one name, the later vector for each kind of model."""
    joined = dict(first)
    for name, vectors in then.items():
        kinds = {len(vector) in FOR_XL for vector in vectors}
        kept = tuple(vector for vector in joined.get(name, ()) if (len(vector) in FOR_XL) not in kinds)
        joined[name] = (*kept, *vectors)
    return joined


def _built_in() -> Presets:
    named = {
        name: tuple(tuple("1" if block in _names(ones) else "0" for block in VECTORS[count])
                    for count, ones in zip((17, 12), both, strict=True))
        for name, both in BLOCK_NAMES.items()
    }  # fmt: skip
    halves = tuple(("0.5",) * count for count in (17, 12))
    return Presets({**named, "ALL0.5": halves}, ELEMENTS)


BUILT_IN = _built_in()
