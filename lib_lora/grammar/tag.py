"""The grammar of `<lora:name:0.8:te=1>`: text to LoraTag and back.

    <lora:NAME[:TE[:UNET[:DYN]]][:key=value]...>        aliases <lyco:...>, <loractl:...>

NAME   file name, alias, sub-folder path ("styles/ink") or hash of an installed adapter; no ':' and no '>'
TE     weight for the text encoders, 1 if missing; a number as people write it (number.py), or a curve (curve.py)
UNET   weight for the UNet, TE if missing
DYN    use only the first DYN ranks
key    what the table of arguments.py lists

Spaces around parts do not matter, nor how brackets and colons are typed (scan.py). What cannot be read is a
TagError that names the tag; an unknown key is a note and the tag still counts.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from lib_lora.errors import TagError
from lib_lora.grammar.arguments import Reader
from lib_lora.grammar.blocks import ALL_BLOCKS, BlockWeights, Place
from lib_lora.grammar.curve import ALWAYS, Curve, Product, Weight, Window, as_curve, write_weight
from lib_lora.grammar.elements import BlocksError
from lib_lora.grammar.moment import Unit
from lib_lora.grammar.others import others
from lib_lora.grammar.positions import write_window
from lib_lora.grammar.presets import BUILT_IN, Presets
from lib_lora.grammar.scan import Found, scan, shortened, split_body, without
from lib_lora.grammar.who import FIRST_PASS, Area, Side, Stage

PLAIN = re.compile(r"[\w./()-](?:[\w ./()-]{0,200}[\w./()-])?", re.ASCII)  # most names
MOST_TAGS = 128  # of one prompt
MOST_LETTERS = 400  # of a name
MOST_NOTES = 8  # of one tag


@dataclass(frozen=True)
class LoraTag:
    """One tag, read. `notes` says what of the tag was ignored, in words for the user."""

    name: str
    te: Weight = 1.0
    unet: Weight = 1.0
    dyn: int | None = None
    force: bool = False
    window: Window = ALWAYS
    blocks: BlockWeights = ALL_BLOCKS
    hires_te: Weight | None = None  # in the hires pass, instead of `te`
    hires_unet: Weight | None = None
    refiner: Weight | None = None  # while the refiner runs, instead of both
    on: Side | Literal["both"] | None = None  # which side of the guidance; None: what the prompt is that it stands in
    area: Area | None = None  # of the picture; None: all of it
    shown: Window = ALWAYS  # where prompt editing around it shows it: not a part of its own text
    notes: tuple[str, ...] = field(default=(), compare=False)

    def strength(self, place: Place, stage: Stage = FIRST_PASS) -> Product:
        """What it is for the module at `place`, over time. Text encoders get what curves begin with."""
        factor, curves = self.blocks.of(place)
        weights = (as_curve(self.weight(place.component, stage)), *curves)
        product = Product(weights, tuple(each for each in (self.window, self.shown) if each != ALWAYS), factor)
        return product if place.component == "unet" else product.beginning

    def weight(self, component: str, stage: Stage = FIRST_PASS) -> Weight:
        """What is typed for `component` (`unet`, or any text encoder) in that pass."""
        if stage.refiner and self.refiner is not None:
            return self.refiner
        own, hires = (self.unet, self.hires_unet) if component == "unet" else (self.te, self.hires_te)
        return hires if stage.hires and hires is not None else own

    def settled(self, presets: Presets = BUILT_IN, seed: int = 0) -> LoraTag:
        """As it is in the picture of `seed`: with a user's presets, and numbers for the letters of its block weights.

        Raises TagError for a preset that there is not.
        """
        try:
            blocks = self.blocks.settled(presets, random.Random(f"{seed} {self.name}"))
        except BlocksError as error:
            raise TagError(f"{shortened(str(self))}: {error}") from error
        return self if blocks is self.blocks else replace(self, blocks=blocks)

    @property
    def only_for_pictures(self) -> tuple[str, ...]:
        """Those of its arguments that mean nothing where no picture is made: in a merge."""
        return (*self.over_time, *self.for_some)

    @property
    def over_time(self) -> tuple[str, ...]:
        """Those of its arguments that make its weight another one at some moments than at others."""
        weights = {"te": self.te, "unet": self.unet, "in": self.blocks.input, "mid": self.blocks.middle,
                   "out": self.blocks.output}  # fmt: skip
        curves = [f"{key}={weight}" for key, weight in weights.items() if isinstance(weight, Curve)]
        if self.unet == self.te:
            curves = [each for each in curves if not each.startswith("unet=")]
        edited = ["prompt editing around it"] if self.shown != ALWAYS else []
        return (*curves, *write_window(self.window), *edited)

    @property
    def for_some(self) -> tuple[str, ...]:
        """Those of its arguments that are for some pictures, passes, sides of the guidance or places only."""
        places = [each for each in self._places() if each != "on=both"]
        return (*(f"{letter} in lbw=" for letter in self.blocks.letters), *self._passes(), *places)

    @property
    def units(self) -> frozenset[Unit]:
        """In which what it is over time is counted; none if it is the same all the time."""
        weights = (self.unet, self.blocks.input, self.blocks.middle, self.blocks.output)  # text encoders: the first
        curves = {weight.unit for weight in weights if isinstance(weight, Curve)}
        return frozenset(curves | {window.unit for window in (self.window, self.shown) if window != ALWAYS})

    @property
    def is_plain(self) -> bool:
        """True if it says no more than numbers: the same for all steps, blocks, passes, sides and places."""
        return self == LoraTag(self.name, self.te, self.unet, self.dyn, self.force) and not (
            isinstance(self.te, Curve) or isinstance(self.unet, Curve))

    def __str__(self) -> str:
        return f"<lora:{':'.join([self.name, *self._arguments()])}>"

    def _arguments(self) -> Iterator[str]:
        yield write_weight(self.te)
        if self.unet != self.te:
            yield write_weight(self.unet)
        if self.dyn is not None:
            yield f"dyn={self.dyn}"
        if self.force:
            yield "force=1"
        yield from write_window(self.window)
        yield from self.blocks.arguments()
        yield from self._passes()
        yield from self._places()

    def _passes(self) -> Iterator[str]:
        hires = {"hrte": self.hires_te, "hrunet": self.hires_unet}
        if self.hires_te == self.hires_unet:
            hires = {"hr": self.hires_te}
        for key, weight in {**hires, "refiner": self.refiner}.items():
            if weight is not None:
                yield f"{key}={write_weight(weight)}"

    def _places(self) -> Iterator[str]:
        if self.on is not None:
            yield f"on={self.on}"
        if self.area is not None:
            yield f"area={self.area}"


@dataclass(frozen=True)
class Typed:
    """One tag as it stands in a prompt, read or not: either `tag` or `error` is None."""

    found: Found
    tag: LoraTag | None
    error: TagError | None

    @property
    def name(self) -> str:
        """As it is typed."""
        return split_body(self.found.body)[0]


@dataclass(frozen=True)
class Prompt:
    """A prompt, taken apart."""

    text: str  # the prompt without its tags
    tags: tuple[LoraTag, ...]
    errors: tuple[TagError, ...]


def read_prompt(prompt: str) -> Prompt:
    """Cut the tags out of `prompt`. A tag that cannot be read is cut out too and stands in `errors`."""
    typed = list(typed_tags(prompt))
    tags = tuple(each.tag for each in typed if each.tag is not None)
    errors = tuple(each.error for each in typed if each.error is not None)
    return Prompt(without(prompt), tags, errors + others(prompt))


def typed_tags(prompt: str) -> Iterator[Typed]:
    """Every tag of `prompt` in order. If there are too many, the last that is told says so; the rest is left out."""
    for count, found in enumerate(scan(prompt)):
        if count == MOST_TAGS:
            yield Typed(found, None, TagError(
                f"{found.shown}: a prompt can have {MOST_TAGS} tags; this one and those after it were left out"))
            return
        try:
            yield Typed(found, _read(found), None)
        except TagError as error:
            yield Typed(found, None, error)


def find_tags(prompt: str) -> Iterator[str]:
    """Every tag as typed, brackets included, in the order of the prompt."""
    return (found.source for found in scan(prompt))


def is_typable(name: str) -> bool:
    """Whether a tag can name a file so: `Re：Zero` can, `NieR：2` cannot, because the 2 would be its weight."""
    return bool(PLAIN.fullmatch(name)) or read_prompt(f"<lora:{name}:1>").tags == (LoraTag(name),)


def read_tag(body: str) -> LoraTag:
    """Read what stands between `<lora:` and `>`. Raises TagError."""
    return _read_body(body, shortened(f"<lora:{body}>"))


def _read(found: Found) -> LoraTag:
    if found.fault:
        raise TagError(f"{found.shown}: {found.fault}")
    return _read_body(found.body, found.shown)


def _read_body(body: str, shown: str) -> LoraTag:
    name, *arguments = split_body(body)
    if not name:
        raise TagError(f"{shown}: the name is missing; write <lora:name:0.8>")
    if len(name) > MOST_LETTERS:
        raise TagError(f"{shown}: the name has more than {MOST_LETTERS} letters; is a > missing?")
    reader = Reader(shown)
    values = reader.values(arguments)
    te, hires = values.get("te", 1.0), values.get("hr")
    return LoraTag(
        name, te, values.get("unet", te), values.get("dyn"), values.get("force", False),
        window=values["window"],
        blocks=BlockWeights(values.get("lbw", ""), values.get("lbwe", ""), values.get("x", 1.0),
                            values.get("in", 1.0), values.get("mid", 1.0), values.get("out", 1.0)),
        hires_te=values.get("hrte", hires), hires_unet=values.get("hrunet", hires), refiner=values.get("refiner"),
        on=values.get("on"), area=values.get("area"), notes=tuple(reader.notes[:MOST_NOTES]),
    )  # fmt: skip
