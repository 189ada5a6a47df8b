"""The words that wake an adapter, as they go into a prompt.

Tags inside them are left out: an author's words often hold the tag of the author's own file. Brackets of trained tags
get a backslash, without which the WebUI takes them for an emphasis: `asuka (evangelion)` is `asuka \\(evangelion\\)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lib_lora.grammar.scan import scan, split_body

BRACKET = re.compile(r"(?<!\\)([()\[\]])")
ESCAPED = re.compile(r"\\([()\[\]{}])")
QUALIFIED = re.compile(r"\S[ _]\([^()]+\)$")  # how image boards tell names apart
# What an author wrote for a prompt: a weight, brackets in brackets, or a backslash that is there already.
FOR_A_PROMPT = re.compile(r"\\[()\[\]]|\(\(|\[\[|[(\[][^()\[\]]*:[ ]*[0-9.]+[ ]*[)\]]")


def spoken(text: str, keep: Callable[[str], bool] = lambda name: False) -> str:
    """`text` without its tags, but for those whose name `keep` wants; a comma that led to one goes too."""
    kept, place, is_cut = [], 0, False
    for found in scan(text):
        if not keep(split_body(found.body)[0]):
            kept.append(text[place : found.start])
            place, is_cut = found.end, True
    if not is_cut:
        return text
    pieces = (piece.strip() for piece in "".join([*kept, text[place:]]).split(","))
    return ", ".join(piece for piece in pieces if piece)


def escaped(tag: str) -> str:
    """A trained tag with a backslash before each bracket that has none."""
    return BRACKET.sub(r"\\\1", tag)


def unescaped(text: str) -> str:
    """`text` without the backslashes before brackets."""
    return ESCAPED.sub(r"\1", text)


def stated(text: str) -> list[str]:
    """An author's words, comma by comma and without tags: as they are, but for names such as `asuka (evangelion)`."""
    words = [word for part in spoken(text).split(",") if (word := part.strip())]
    if FOR_A_PROMPT.search(text):
        return words
    return [escaped(word) if QUALIFIED.search(word) else word for word in words]
