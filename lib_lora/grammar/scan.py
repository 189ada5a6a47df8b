"""Where the tags of a text stand, however they are typed: `<lora:ink:1>`, `<LoRA:ink>`, `< lora:ink>`, `＜lora：ink＞`.

A keyboard for Chinese or Japanese types `：`, `＜` or `《` where another types `:` and `<`; all of them are read. So is
what somebody only began to type as a tag, to be told. One pass over the text, whatever it holds: no tag reaches beyond
the next opening bracket, so that no sign is looked at more than a few times.

javascript/lora_tag_scan.js does the same in the browser; tests/tag_cases.json is read by both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lib_lora.grammar.number import narrow

BLANKS = "".join(chr(code) for first, last in (  # invisible signs too
    (0x09, 0x0D), (0x1C, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200B), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x2060), (0x3000, 0x3000), (0xFEFF, 0xFEFF)) for code in range(first, last + 1)
)  # fmt: skip
CLOSERS = ">＞》〉"
BRACKETS = re.compile("[<＜>＞]")  # a name may hold the others
ALL_BRACKETS = re.compile(f"[<＜《〈{CLOSERS}]")
ODD_OPENERS = "《〈"
COLONS = re.compile("[:：]")
UNCLOSED = re.compile(f"[^{BLANKS},，<＜《〈{CLOSERS}]*")  # what is taken for the tag where its end is missing
NO_COLON = "the colon after lora is missing; write <lora:name:0.8>"
NO_END = "the closing > is missing; write <lora:name:0.8>"
SHOWN = 100  # characters of a tag in a sentence


def _any_case(word: str) -> str:
    wide = [(letter, letter.upper(), chr(ord(letter) + 0xFEE0), chr(ord(letter.upper()) + 0xFEE0)) for letter in word]
    return "".join(f"[{''.join(signs)}]" for signs in wide)


KEYWORD = f"(?:{_any_case('lora')}(?:{_any_case('ctl')})?|{_any_case('lyco')}(?:{_any_case('ris')})?)"
HEAD = re.compile(f"[<＜《〈][{BLANKS}]*{KEYWORD}(?:[{BLANKS}]*([:：])|(?![0-9A-Za-z_-]))")
# A file may be called "Re：Zero": the full-width colon ends a name only where a number, a curve or `key=` follows.
IN_CURVE = "0-9０-９.．,，_@＠~～;；sSｓ+＋－-"  # signs of a number or a curve, behind the first digit
ARGUMENT = f"(?:[-+－＋]?[.．]?[0-9０-９][{IN_CURVE}]*(?:[eE][-+]?[0-9]+)?|[A-Za-z]+[{BLANKS}]*[=＝][^:：]*)"
END_OF_NAME = re.compile(f":|：(?=[{BLANKS}]*{ARGUMENT}[{BLANKS}]*(?:[:：]|$))")


@dataclass(frozen=True)
class Found:
    """The place of one tag."""

    start: int
    end: int
    source: str  # as typed, brackets included
    body_start: int
    body: str  # what stands between the colon and the closing bracket
    fault: str = ""  # what is wrong with it as a whole, in words

    @property
    def shown(self) -> str:
        """The source, as it is named in a sentence."""
        return shortened(self.source)


def scan(text: str) -> Iterator[Found]:
    """Every tag of `text`, in order."""
    place = 0
    while head := HEAD.search(text, place):
        start, place = head.span()
        closing = (ALL_BRACKETS if text[start] in ODD_OPENERS else BRACKETS).search(text, place)
        fault = "" if head[1] else NO_COLON
        if closing and closing[0] in CLOSERS:
            end = closing.end()
            yield Found(start, end, text[start:end], place, text[place : closing.start()], fault)
            place = end
        elif head[1]:
            end = _match_end(UNCLOSED, text, place)
            yield Found(start, end, text[start:end], place, text[place:end], NO_END)
            place = end


def split_body(body: str) -> list[str]:
    """The name and the arguments, without the blanks around; the signs of arguments are ASCII where they can be."""
    end = END_OF_NAME.search(body)
    if end is None:
        return [stripped(body)]
    return [stripped(body[: end.start()]), *(stripped(narrow(part)) for part in COLONS.split(body[end.end() :]))]


def renamed(text: str, new_name: Callable[[str], str | None]) -> str:
    """`text` with other names in its tags, where `new_name` gives one for the old."""
    pieces, place = [], 0
    for found in scan(text):
        old = split_body(found.body)[0]
        new = new_name(old)
        if new is not None:
            start = text.index(old, found.body_start)
            pieces += [text[place:start], new]
            place = start + len(old)
    return "".join([*pieces, text[place:]])


def without(text: str) -> str:
    """`text` without its tags, and without what somebody began to type as a tag."""
    kept, place = [], 0
    for found in scan(text):
        kept.append(text[place : found.start])
        place = found.end
    return "".join([*kept, text[place:]])


def shortened(text: str) -> str:
    """`text`, or its beginning if it is too long for a sentence."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def stripped(text: str) -> str:
    """Without the blanks around it, invisible ones too."""
    return text.strip(BLANKS)


def _match_end(pattern: re.Pattern[str], text: str, place: int) -> int:
    match = pattern.match(text, place)
    return match.end() if match else place

