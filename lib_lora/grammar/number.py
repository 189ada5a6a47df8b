"""A number as people type it into a tag: `0.8`, `-1`, `.5`, `+1`, in full-width signs too. Python reads more than that.

`0_8` is 8 for Python, `08` is 8, `1e3` a thousand, and all of them are a slip of the finger: they are no numbers here,
and `meant` says what was probably meant. `1e-05` is read: programs write small numbers so.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]-[0-9]{1,3})?")
MISSING_POINT = re.compile(r"[+-]?0+[1-9][0-9]*")  # 08
THOUSANDS = re.compile(r"[+-]?[0-9]{1,6}(?:\.[0-9]{1,6})?[eE]\+?[0-9]")  # 1e3
WHOLE = re.compile(r"\+?[0-9]{1,9}")
WIDE = {sign: sign - 0xFEE0 for sign in range(0xFF01, 0xFF5F)}  # full-width "！" to "～" as ASCII
ZEROS = "\u0660\u06f0\u0966\u09e6\u0e50"  # where Arabic, Persian, Devanagari, Bengali and Thai digits start
DIGITS = {ord(zero) + value: str(value) for zero in ZEROS for value in range(10)}
SIGNS = DIGITS | dict.fromkeys(map(ord, "_,;'\u3002\u3001\u00b7\u2019\u066b"), ".") | dict.fromkeys(
    map(ord, "\u2212\u2010\u2011\u2012\u2013\u2014"), "-")  # fmt: skip
USUAL = "0.8"  # said where nothing better is known
LONGEST = 20  # characters of a slip that is looked at


def narrow(text: str) -> str:
    """Full-width signs as ASCII: "０．８" is "0.8"."""
    return text if text.isascii() else text.translate(WIDE)


def read_number(text: str) -> float | None:
    """A finite number, or None."""
    text = narrow(text)
    if not NUMBER.fullmatch(text) or MISSING_POINT.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def read_whole(text: str) -> int | None:
    """A whole number from 1 up, or None."""
    text = narrow(text)
    return int(text) or None if WHOLE.fullmatch(text) else None


def write_number(value: float) -> str:
    """The shortest text that reads back as `value`, without an exponent where that can be."""
    text = repr(float(value))
    if "e" in text and (abs(value) > 1 or abs(value) > 1e-20):
        text = format(Decimal(text), "f")
    text = text.removesuffix(".0")
    return "0" if text == "-0" else text


def meant(text: str) -> str:
    """What somebody who typed `text` for a number probably meant; a usual one where that cannot be guessed."""
    if len(text) > LONGEST:
        return USUAL
    plain = re.sub(r"\.+", ".", narrow(text).translate(SIGNS).replace(" ", ""))
    plain = plain[:-1] if plain.endswith(".") else plain
    if MISSING_POINT.fullmatch(plain):
        plain = plain.replace("0", "0.", 1)
    if THOUSANDS.fullmatch(plain):
        return write_number(float(plain))
    return plain if read_number(plain) is not None else USUAL
