"""The arguments of a tag, in one table: what each takes, what it means, an example, and how it is read.

`python -m lib_lora grammar` and docs/grammar.md are made of it (reference.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lib_lora.grammar.alike import nearest
from lib_lora.grammar.curve import Curve, Window
from lib_lora.grammar.number import read_number, write_number
from lib_lora.grammar.positions import is_curve, read_range, read_window
from lib_lora.grammar.presets import LETTER, VECTORS
from lib_lora.grammar.scan import shortened, stripped
from lib_lora.grammar.values import OFF, Values

POSITIONAL = ("te", "unet", "dyn")
NUMBERS = ("nan", "inf", "infinity", OFF)  # words that are no names of presets
FEWEST_BLOCKS, MOST_BLOCKS = min(VECTORS), 100  # numbers in a row that are no slip of the finger


class Reader(Values):
    """Reads the arguments of one tag."""

    def values(self, arguments: Sequence[str]) -> dict[str, Any]:
        """By key, and the window by `window`."""
        texts = self.texts(arguments)
        values = {key: ARGUMENTS[key].read(self, key, text) for key, text in texts.items()}
        values["window"] = self._window(texts)
        self._note_encoders(values)
        return values

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


@dataclass(frozen=True)
class Argument:
    """One key of a tag."""

    key: str
    takes: str
    meaning: str
    example: str
    read: Callable[[Values, str, str], Any]
    aliases: tuple[str, ...] = ()


CURVE, CURVE_OR_OFF = "number or curve", "number, curve or off"
ARGUMENTS: dict[str, Argument] = {each.key: each for each in (
    Argument("te", CURVE, "weight for the text encoders: the first without a name; 1 if missing",
             "<lora:ink:0.8>", Values.weight),
    Argument("unet", CURVE, "weight for the UNet: the second without a name; that of te if missing",
             "<lora:ink:0.8:0@0,1@0.5>", Values.weight),
    Argument("dyn", "whole number", "use only so many ranks of the file, the first: the third without a name",
             "<lora:ink:0.8:dyn=8>", Values.rank),
    Argument("force", "1 or 0", "use it on a base model that it was not made for", "<lora:ink:0.8:force=1>",
             Values.force),
    Argument("start", "position", "acts from there on", "<lora:ink:0.8:start=0.3>", Values.position),
    Argument("stop", "position", "acts until there; until the end with 1", "<lora:ink:0.8:stop=10>", Values.position),
    Argument("step", "position-position", "start and stop in one", "<lora:ink:0.8:step=5-10>", Values.range),
    Argument("lbw", "preset, or 12, 17, 20 or 26 numbers", "a factor for each block; 0 for those that it does not name",
             "<lora:ink:0.8:lbw=OUTALL>", Values.vector, ("w",)),
    Argument("lbwe", "preset or blocks:elements:ratio", "the factor of some layers of blocks, instead of that of lbw",
             "<lora:ink:0.8:lbwe=IN05-OUT05:attn:0>", Values.rules),
    Argument("x", "number", "what X is among the numbers of lbw; 1 if missing",
             "<lora:ink:0.8:lbw=mine:x=0.5>", Values.number),
    Argument("in", CURVE, "a factor for all input blocks", "<lora:ink:0.8:in=0>", Values.weight),
    Argument("mid", CURVE, "a factor for the middle block", "<lora:ink:0.8:mid=0.5>", Values.weight),
    Argument("out", CURVE, "a factor for all output blocks", "<lora:ink:0.8:out=1@0,0@1>", Values.weight),
    Argument("hr", CURVE_OR_OFF, "instead of te and unet, in the hires pass", "<lora:ink:0.5:hr=1>",
             Values.weight_or_off),
    Argument("hrte", CURVE_OR_OFF, "instead of te, in the hires pass", "<lora:ink:0.5:hrte=off>",
             Values.weight_or_off),
    Argument("hrunet", CURVE_OR_OFF, "instead of unet, in the hires pass", "<lora:ink:0.5:hrunet=1@0,0@1>",
             Values.weight_or_off),
    Argument("refiner", CURVE_OR_OFF, "instead of te and unet, while the refiner runs", "<lora:ink:0.8:refiner=off>",
             Values.weight_or_off),
    Argument("on", "cond, uncond or both", "which side of the guidance: what is wanted, what is not, or both; both if "
             "missing, uncond in the negative prompt", "<lora:ink:0.8:on=cond>", Values.side),
    Argument("area", "left, top, width, height; feather", "acts on that part of the picture only, in shares of it, but "
             "on the whole prompt; feather: how wide its edge is", "<lora:ink:0.8:area=0,0,0.5,1>", Values.area),
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
