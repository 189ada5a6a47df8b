"""The arguments of a tag, in one table: what each takes, what it means, an example, and how it is read.

`python -m lib_lora grammar` and docs/grammar.md are made of it (reference.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lib_lora.errors import TagError
from lib_lora.grammar.alike import nearest
from lib_lora.grammar.blocks import is_vector
from lib_lora.grammar.curve import Curve, Weight, Window
from lib_lora.grammar.elements import BlocksError, read_rules
from lib_lora.grammar.number import meant, read_number, read_whole, write_number
from lib_lora.grammar.positions import CurveError, is_curve, read_curve, read_position, read_range, read_window
from lib_lora.grammar.presets import LETTER, VECTORS, read_vector
from lib_lora.grammar.scan import shortened, stripped
from lib_lora.grammar.who import Area

POSITIONAL = ("te", "unet", "dyn")
FORCE = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
SIDES = ("cond", "uncond", "both")
OFF = "off"
NUMBERS = ("nan", "inf", "infinity", OFF)  # words that are no names of presets
FEWEST_BLOCKS, MOST_BLOCKS = min(VECTORS), 100  # numbers in a row that are no slip of the finger


class Reader:
    """Reads the values of one tag. What is wrong raises TagError; what is only odd is noted."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self.notes: list[str] = []

    def values(self, arguments: Sequence[str]) -> dict[str, Any]:
        """By key, and the window by `window`."""
        texts = self.texts(arguments)
        values = {key: ARGUMENTS[key].read(self, key, text) for key, text in texts.items()}
        values["window"] = self._window(texts)
        self._note_encoders(values)
        return values

    def weight(self, key: str, text: str) -> Weight:
        if is_curve(text):
            try:
                weight, notes = read_curve(text)
            except CurveError as error:
                raise self._error(f"'{shortened(text)}' {error}; write 0@0,1@0.5") from error
            self._note(notes)
            return weight
        number = read_number(text)
        if number is None:
            raise self._error(f"'{shortened(text)}' is not a weight; write a number such as {meant(text)}")
        return number

    def weight_or_off(self, key: str, text: str) -> Weight:
        return 0.0 if text.lower() == OFF else self.weight(key, text)

    def number(self, key: str, text: str) -> float:
        number = read_number(text)
        if number is None:
            raise self._error(f"'{key}={shortened(text)}' is not a number; write {key}={meant(text)}")
        return number

    def rank(self, key: str, text: str) -> int:
        rank = read_whole(text)
        if rank is None:
            raise self._error(f"'{shortened(text)}' is not a rank; dyn takes a whole number from 1 up")
        return rank

    def force(self, key: str, text: str) -> bool:
        force = FORCE.get(text.lower())
        if force is None:
            self._note([f"'force={shortened(text)}' is not known and was ignored; write force=1"])
        return bool(force)

    def position(self, key: str, text: str) -> str:
        try:
            read_position(text)
        except CurveError as error:
            raise self._error(f"'{key}=' {error}") from error
        return text

    def range(self, key: str, text: str) -> tuple[str | None, str | None]:
        try:
            return read_range(text)
        except CurveError as error:
            raise self._error(f"'{key}={shortened(text)}' {error}") from error

    def vector(self, key: str, text: str) -> str:
        """A name is looked up when the presets are known."""
        if not text:
            raise self._error(f"'{key}=' names no blocks; write lbw=OUTALL, or a number for each block")
        if not is_vector(text):
            return text
        try:
            return ",".join(read_vector(text))
        except BlocksError as error:
            raise self._error(f"'{key}={shortened(text)}' {error}") from error

    def rules(self, key: str, text: str) -> str:
        if not text:
            raise self._error(f"'{key}=' names no elements; write lbwe=ATTNDEEPOFF, or lbwe=IN05-OUT05:attn:0")
        try:
            if ":" in text:
                read_rules(text)
        except BlocksError as error:
            raise self._error(f"'{key}=' {error}") from error
        return text

    def side(self, key: str, text: str) -> str:
        if text.lower() not in SIDES:
            raise self._error(f"'on={shortened(text)}' is no side; write on=cond, on=uncond or on=both")
        return text.lower()

    def area(self, key: str, text: str) -> Area:
        numbers = [read_number(part.strip()) for part in text.replace(";", ",").split(",")]
        found = [number for number in numbers if number is not None and 0 <= number <= 1]
        if len(found) != len(numbers) or len(found) not in (4, 5) or not (found[2] and found[3]):
            raise self._error(f"'area={shortened(text)}' is no part of a picture; write its left, top, width and "
                              "height in shares of the picture, from 0 to 1: area=0,0,0.5,1 is the left half")
        area = Area(*found)
        if area.x >= 1 or area.y >= 1:
            raise self._error(f"'area={shortened(text)}' begins where the picture ends; its left and top are below 1")
        if area.x + area.w > 1 + 1e-6 or area.y + area.h > 1 + 1e-6:
            self._note([f"area={area} reaches beyond the picture; the part within it counts"])
        return area

    def texts(self, arguments: Sequence[str]) -> dict[str, str]:
        """The text of each argument by its key; a named one counts before a positional one."""
        positional: list[str] = []
        named: dict[str, str] = {}
        unknown: list[str] = []
        for argument in _joined_rules(arguments):
            typed, equals, value = (stripped(part) for part in argument.partition("="))
            key = KEYS.get(typed.lower())
            if not equals:
                positional.append(argument)
            elif key is not None:
                named[key] = value
            else:
                unknown.append(shortened(typed))
        self._note(_unknown(key) for key in dict.fromkeys(unknown))
        if len(positional) > len(POSITIONAL):
            self._note([f"only {', '.join(POSITIONAL)} can stand without a name; the rest was ignored"])
        return _old_way(positional[: len(POSITIONAL)]) | named

    def _window(self, texts: Mapping[str, str]) -> Window:
        start, stop = texts.get("start"), texts.get("stop")
        if "step" in texts:
            if start or stop:
                self._note(["step= says start and stop already; theirs were ignored"])
            start, stop = read_range(texts["step"])
        window, notes = read_window(start, stop)
        self._note(notes)
        return window

    def _note_encoders(self, values: Mapping[str, Any]) -> None:
        curves = [values[key] for key in ("te", "hr", "hrte", "refiner") if isinstance(values.get(key), Curve)]
        if curves:
            begins = " and ".join(dict.fromkeys(write_number(each.first) for each in curves))
            self._note([f"the text encoders get {begins}, what the curve begins with: they run before the first step"])
        if values["window"].unit == "sigma" and values.get("te", 1.0):
            self._note(["the text encoders know no sigma: they carry what is due at the beginning"])

    def _note(self, sentences: Any) -> None:
        self.notes += [f"{self.shown}: {sentence}" for sentence in sentences]

    def _error(self, sentence: str) -> TagError:
        return TagError(f"{self.shown}: {sentence}")


@dataclass(frozen=True)
class Argument:
    """One key of a tag."""

    key: str
    takes: str
    meaning: str
    example: str
    read: Callable[[Reader, str, str], Any]
    aliases: tuple[str, ...] = ()


CURVE, CURVE_OR_OFF = "number or curve", "number, curve or off"
ARGUMENTS: dict[str, Argument] = {each.key: each for each in (
    Argument("te", CURVE, "weight for the text encoders: the first without a name; 1 if missing",
             "<lora:ink:0.8>", Reader.weight),
    Argument("unet", CURVE, "weight for the UNet: the second without a name; that of te if missing",
             "<lora:ink:0.8:0@0,1@0.5>", Reader.weight),
    Argument("dyn", "whole number", "use only so many ranks of the file, the first: the third without a name",
             "<lora:ink:0.8:dyn=8>", Reader.rank),
    Argument("force", "1 or 0", "use it on a base model that it was not made for", "<lora:ink:0.8:force=1>",
             Reader.force),
    Argument("start", "position", "acts from there on", "<lora:ink:0.8:start=0.3>", Reader.position),
    Argument("stop", "position", "acts until there; until the end with 1", "<lora:ink:0.8:stop=10>", Reader.position),
    Argument("step", "position-position", "start and stop in one", "<lora:ink:0.8:step=5-10>", Reader.range),
    Argument("lbw", "preset, or 12, 17, 20 or 26 numbers", "a factor for each block; 0 for those that it does not name",
             "<lora:ink:0.8:lbw=OUTALL>", Reader.vector, ("w",)),
    Argument("lbwe", "preset or blocks:elements:ratio", "the factor of some layers of blocks, instead of that of lbw",
             "<lora:ink:0.8:lbwe=IN05-OUT05:attn:0>", Reader.rules),
    Argument("x", "number", "what X is among the numbers of lbw; 1 if missing",
             "<lora:ink:0.8:lbw=mine:x=0.5>", Reader.number),
    Argument("in", CURVE, "a factor for all input blocks", "<lora:ink:0.8:in=0>", Reader.weight),
    Argument("mid", CURVE, "a factor for the middle block", "<lora:ink:0.8:mid=0.5>", Reader.weight),
    Argument("out", CURVE, "a factor for all output blocks", "<lora:ink:0.8:out=1@0,0@1>", Reader.weight),
    Argument("hr", CURVE_OR_OFF, "instead of te and unet, in the hires pass", "<lora:ink:0.5:hr=1>",
             Reader.weight_or_off),
    Argument("hrte", CURVE_OR_OFF, "instead of te, in the hires pass", "<lora:ink:0.5:hrte=off>",
             Reader.weight_or_off),
    Argument("hrunet", CURVE_OR_OFF, "instead of unet, in the hires pass", "<lora:ink:0.5:hrunet=1@0,0@1>",
             Reader.weight_or_off),
    Argument("refiner", CURVE_OR_OFF, "instead of te and unet, while the refiner runs", "<lora:ink:0.8:refiner=off>",
             Reader.weight_or_off),
    Argument("on", "cond, uncond or both", "which side of the guidance: what is wanted, what is not, or both; both if "
             "missing, uncond in the negative prompt", "<lora:ink:0.8:on=cond>", Reader.side),
    Argument("area", "left, top, width, height; feather", "acts on that part of the picture only, in shares of it, but "
             "on the whole prompt; feather: how wide its edge is", "<lora:ink:0.8:area=0,0,0.5,1>", Reader.area),
)}  # fmt: skip
KEYS = {name: each.key for each in ARGUMENTS.values() for name in (each.key, *each.aliases)}


def _joined_rules(arguments: Sequence[str]) -> list[str]:
    """The rules of `lbwe=IN05-OUT05:attn:0` again as one, which the colons between arguments had cut."""
    joined: list[str] = []
    place = 0
    while place < len(arguments):
        end = place + 1
        if KEYS.get(stripped(arguments[place].partition("=")[0]).lower()) == "lbwe":
            while end < len(arguments) and "=" not in arguments[end]:
                end += 1
            end -= (end - place - 1) % 2  # a rule has two colons; one part more is a weight
        joined.append(":".join(arguments[place:end]))
        place = end
    return joined


def _old_way(positional: Sequence[str]) -> dict[str, str]:
    """By key; also lora-block-weight's way of before lbw= and x=: `<lora:ink:1:OUTALL:0.7>`, `<lora:ink:1:1,0,...>`."""
    texts = dict(zip(POSITIONAL, positional, strict=False))
    if "unet" in texts and _names_blocks(texts["unet"]):
        texts["lbw"] = texts.pop("unet")
        if "dyn" in texts:
            texts["x"] = texts.pop("dyn")
    return texts


def _names_blocks(text: str) -> bool:
    """A preset, or a list that is long enough to be no slip of the finger."""
    if text.lower() in NUMBERS or is_curve(text):
        return False
    parts = text.split(",")
    if len(parts) > 1:
        return FEWEST_BLOCKS <= len(parts) <= MOST_BLOCKS and all(
            read_number(part.strip()) is not None or LETTER.fullmatch(part.strip()) for part in parts)
    return text[:1].isalpha() and text.replace(".", "").replace("_", "").isalnum()


def _unknown(key: str) -> str:
    near = nearest(key, KEYS)
    known = f"did you mean {near}=?" if near else f"known are {', '.join(ARGUMENTS)}"
    return f"'{key}=' is not known and was ignored; {known}"
