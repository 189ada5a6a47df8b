"""The values of a tag's arguments: text to numbers, curves, ranks, positions, blocks, sides and areas."""

from __future__ import annotations

from collections.abc import Iterable

from lib_lora.errors import TagError
from lib_lora.grammar.blocks import is_vector
from lib_lora.grammar.curve import Weight
from lib_lora.grammar.elements import BlocksError, read_rules
from lib_lora.grammar.number import meant, read_number, read_whole
from lib_lora.grammar.positions import CurveError, is_curve, read_curve, read_position, read_range
from lib_lora.grammar.presets import read_vector
from lib_lora.grammar.scan import shortened
from lib_lora.grammar.who import Area

FORCE = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
SIDES = ("cond", "uncond", "both")
OFF = "off"


class Values:
    """Reads the values of one tag. What is wrong raises TagError; what is only odd is noted."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self.notes: list[str] = []

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

    def _note(self, sentences: Iterable[str]) -> None:
        self.notes += [f"{self.shown}: {sentence}" for sentence in sentences]

    def _error(self, sentence: str) -> TagError:
        return TagError(f"{self.shown}: {sentence}")
