"""The grammar of `<lora:name:0.8:te=1>`: text to LoraTag and back. The only place that knows it.

    <lora:NAME[:TE[:UNET[:DYN]]][:key=value]...>        aliases <lyco:...>, <loractl:...>

NAME   file name, alias, sub-folder path ("styles/ink") or hash of an installed adapter; no ':' and no '>'
TE     weight for the text encoders, 1 if missing; a number as people write it (number.py), or a curve (curve.py)
UNET   weight for the UNet, TE if missing
DYN    use only the first DYN ranks
key    what KEYS lists

Spaces around parts do not matter, nor how brackets and colons are typed (scan.py). What cannot be read is a
TagError that names the tag; an unknown key is a note and the tag still counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lib_lora.errors import TagError
from lib_lora.grammar.blocks import ALL_BLOCKS, BlockWeights, Place
from lib_lora.grammar.curve import (
    ALWAYS,
    Curve,
    CurveError,
    Product,
    Weight,
    Window,
    as_curve,
    is_curve,
    read_curve,
    read_position,
    unit_of,
    write_weight,
)  # fmt: skip
from lib_lora.grammar.number import meant, read_number, read_whole, write_number
from lib_lora.grammar.scan import Found, scan, shortened, split_body, stripped, without
from lib_lora.grammar.who import FIRST_PASS, Area, Side, Stage

POSITIONAL = ("te", "unet", "dyn")
PLAIN = re.compile(r"[\w./()-](?:[\w ./()-]{0,200}[\w./()-])?", re.ASCII)  # most names
FORCE = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
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
        yield from _window_arguments(self.window)
        yield from self.blocks.arguments()
        hires = {"hrte": self.hires_te, "hrunet": self.hires_unet}
        if self.hires_te is not None and self.hires_te == self.hires_unet:
            hires = {"hr": self.hires_te}
        for key, weight in {**hires, "refiner": self.refiner}.items():
            if weight is not None:
                yield f"{key}={write_weight(weight)}"
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
    return Prompt(without(prompt), tags, tuple(each.error for each in typed if each.error is not None))


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


def cut_out(text: str, place: str) -> tuple[str, tuple[str, ...]]:
    """`text`, where tags have no effect, without them, and a sentence for each. `place`: "the negative prompt"."""
    told = (f"{typed.found.shown} in {place} has no effect yet; it was left out. Put it into the prompt"
            for typed in typed_tags(text))  # fmt: skip
    return without(text), tuple(dict.fromkeys(told))


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
    positional, named, told = _sort_arguments(arguments, shown)
    texts = dict(zip(POSITIONAL, positional, strict=False)) | named
    reader = _Reader(shown, list(told))
    values = {key: reader.read(key, text) for key, text in texts.items()}
    te = values.get("te", 1.0)
    hires = values.get("hr")
    return LoraTag(
        name, te, values.get("unet", te), values.get("dyn"), bool(values.get("force")),
        window=reader.window(texts),
        blocks=BlockWeights(values.get("lbw", ""), values.get("lbwe", ""), values.get("in", 1.0),
                            values.get("mid", 1.0), values.get("out", 1.0)),
        hires_te=values.get("hrte", hires), hires_unet=values.get("hrunet", hires), refiner=values.get("refiner"),
        on=values.get("on"), area=values.get("area"), notes=tuple(reader.notes[:MOST_NOTES]),
    )  # fmt: skip


def _sort_arguments(arguments: Sequence[str], shown: str) -> tuple[list[str], dict[str, str], list[str]]:
    positional: list[str] = []
    named: dict[str, str] = {}
    unknown: list[str] = []
    for argument in arguments:
        typed, equals, value = (stripped(part) for part in argument.partition("="))
        key = ALIASES.get(typed.lower(), typed.lower())
        if not equals:
            positional.append(argument)
        elif key in KEYS:
            named[key] = value
        else:
            unknown.append(shortened(typed))
    notes = [f"{shown}: '{key}=' is not known and was ignored; known are {', '.join(KEYS)}"
             for key in dict.fromkeys(unknown)]  # fmt: skip
    if len(positional) > len(POSITIONAL):
        notes.append(f"{shown}: only {', '.join(POSITIONAL)} can stand without a name; the rest was ignored")
    return positional[: len(POSITIONAL)], named, notes


class _Reader:
    """Reads the values of one tag. What is wrong raises TagError; what is only odd is noted."""

    def __init__(self, shown: str, notes: list[str]) -> None:
        self.shown, self.notes = shown, notes

    def read(self, key: str, text: str) -> Any:
        return KEYS[key](self, key, text)

    def weight(self, key: str, text: str) -> Weight:
        if is_curve(text):
            try:
                weight, notes = read_curve(text)
            except CurveError as error:
                raise TagError(f"{self.shown}: '{shortened(text)}' {error}; write 0@0,1@0.5") from error
            self.notes += [f"{self.shown}: {note}" for note in notes]
            return weight
        number = read_number(text)
        if number is None:
            raise TagError(f"{self.shown}: '{shortened(text)}' is not a weight; write a number such as {meant(text)}")
        return number

    def weight_or_off(self, key: str, text: str) -> Weight:
        return 0.0 if text.lower() == "off" else self.weight(key, text)

    def rank(self, key: str, text: str) -> int:
        rank = read_whole(text)
        if rank is None:
            raise TagError(f"{self.shown}: '{shortened(text)}' is not a rank; dyn takes a whole number from 1 up")
        return rank

    def force(self, key: str, text: str) -> bool:
        force = FORCE.get(text.lower())
        if force is None:
            self.notes.append(
                f"{self.shown}: 'force={shortened(text)}' is not known and was ignored; write force=1")
        return bool(force)

    def text(self, key: str, text: str) -> str:
        return text.replace(" ", "")

    def position(self, key: str, text: str) -> str:
        try:
            read_position(text)
        except CurveError as error:
            raise TagError(f"{self.shown}: '{key}=' {error}") from error
        return text

    def range(self, key: str, text: str) -> str:
        for part in text.split("-", 1):
            self.position(key, part.strip())
        return text

    def side(self, key: str, text: str) -> str:
        if text.lower() not in ("cond", "uncond", "both"):
            raise TagError(f"{self.shown}: 'on={shortened(text)}' is no side; write on=cond, on=uncond or on=both")
        return text.lower()

    def area(self, key: str, text: str) -> Area:
        numbers = [read_number(part.strip()) for part in text.replace(";", ",").split(",")]
        found = [number for number in numbers if number is not None and number >= 0]
        if len(found) != len(numbers) or len(found) not in (4, 5) or not (found[2] and found[3]):
            raise TagError(f"{self.shown}: 'area={shortened(text)}' is no part of a picture; write its left, top, "
                           "width and height in shares of the picture: area=0,0,0.5,1 is the left half")
        return Area(*found)

    def window(self, texts: Mapping[str, str]) -> Window:
        """Of `start`, `stop` and `step`."""
        start, stop = texts.get("start"), texts.get("stop")
        if "step" in texts:
            first, _, last = (part.strip() for part in texts["step"].partition("-"))
            start, stop = first, last or None
        given = [each for each in (start, stop) if each]
        if not given:
            return ALWAYS
        unit, notes = unit_of(given)
        self.notes += [f"{self.shown}: {note}" for note in notes]
        ends = (math.inf, 0.0) if unit == "sigma" else (0.0, 1.0 if unit == "share" else math.inf)
        return Window(((read_position(start) if start else ends[0], read_position(stop) if stop else ends[1]),), unit)


KEYS: dict[str, Callable[[_Reader, str, str], Any]] = {
    "te": _Reader.weight, "unet": _Reader.weight, "dyn": _Reader.rank, "force": _Reader.force,
    "start": _Reader.position, "stop": _Reader.position, "step": _Reader.range,
    "lbw": _Reader.text, "lbwe": _Reader.text,
    "in": _Reader.weight, "mid": _Reader.weight, "out": _Reader.weight,
    "hr": _Reader.weight_or_off, "hrte": _Reader.weight_or_off, "hrunet": _Reader.weight_or_off,
    "refiner": _Reader.weight_or_off, "on": _Reader.side, "area": _Reader.area,
}  # fmt: skip
ALIASES = {"w": "lbw"}


def _window_arguments(window: Window) -> Iterator[str]:
    if window == ALWAYS:
        return
    ((start, stop),) = window.ranges
    sign = "s" if window.unit == "sigma" else ""
    if start not in (0.0, math.inf):
        yield f"start={sign}{write_number(start)}"
    if stop != (0.0 if sign else 1.0 if window.unit == "share" else math.inf):
        yield f"stop={sign}{write_number(stop)}"
