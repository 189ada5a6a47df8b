"""The patterns of PEFT's configurations (`alpha_pattern`), matched in a time that only their length decides.

PEFT asks `re.match(rf"(.*\\.)?({pattern})$", path)` of every pattern and every module. Files come from the internet,
and there are expressions that take Python for ever. So plain paths, which nearly all are, are looked up; of the others
those are understood that people write, as one walk over the pattern in which a set of places in the path moves along:

    to_q    ^down_blocks.0    .*attn.*to_k    blocks\\.\\d+\\.(?:q|k)    [0-3]+

A pattern that is neither fits nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

MAX_PIECES = 2000  # of all expressions of one configuration
MAX_PATTERN = 300  # characters
MAX_PATH = 400
PLAIN = re.compile(r"\^?(?:\w|\\?[.-])+\$?")  # an unescaped dot stands for itself: nobody means anything else
PIECE = re.compile(
    r"(?P<sign>\\[.dw-]|\.|[\w-]|\[\^?(?:\\?[\w.-])+\])(?P<many>[*+?]?)|\((?:\?:)?(?P<texts>[\w.|\\-]*)\)(?P<maybe>\??)"
)


class Piece(NamedTuple):
    """One step of a pattern."""

    sign: str = ""  # an expression for one character
    many: str = ""  # how often: "" once, "?", "+", "*"
    texts: tuple[tuple[str, ...], ...] = ()  # or one of these rows of signs


class Expression(NamedTuple):
    """A pattern that is no plain path."""

    place: int  # among all patterns
    is_whole: bool  # it begins where the path does
    pieces: tuple[Piece, ...]
    value: Any


class Patterns:
    """The patterns of one configuration, {pattern: value}. The first that fits counts, as with PEFT.

    Raises ValueError if there are more expressions than anybody writes.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._plain: dict[tuple[bool, str], tuple[int, Any]] = {}  # (whole path?, path) -> (place, value)
        self._others: list[Expression] = []
        for place, (pattern, value) in enumerate(values.items()):
            is_whole, path = pattern.startswith("^"), pattern.removeprefix("^").removesuffix("$")
            if PLAIN.fullmatch(pattern):
                self._plain.setdefault((is_whole, path.replace("\\", "")), (place, value))
            elif pieces := _pieces(path):
                self._others.append(Expression(place, is_whole, pieces, value))
        if sum(len(each.pieces) for each in self._others) > MAX_PIECES:
            raise ValueError(f"{len(self._others)} of its patterns are regular expressions, which takes too long")

    def find(self, path: str) -> Any:
        """The value for the module at `path`; None if no pattern fits."""
        found = [self._plain[key] for key in _ends(path) if key in self._plain]
        first, value = min(found, key=lambda each: each[0], default=(-1, None))
        places = Places(path) if self._others and len(path) <= MAX_PATH else None
        for each in self._others if places else ():
            if places and (first < 0 or each.place < first) and places.fit(each):
                return each.value
        return value


class Places:
    """Sets of places in one path, as the bits of a number: bit n is the place before character n."""

    def __init__(self, path: str) -> None:
        self._end = len(path)
        self._signs: dict[str, int] = {}  # a character -> the places where it is
        for place, character in enumerate(path):
            self._signs[character] = self._signs.get(character, 0) | 1 << place
        self._known: dict[str, int] = {}

    def fit(self, expression: Expression) -> bool:
        """Whether it reaches from the path's beginning, or from behind a dot unless it `is_whole`, to its end."""
        reached = 1 if expression.is_whole else 1 | self._signs.get(".", 0) << 1
        for piece in expression.pieces:
            reached = self._after(reached, piece)
        return bool(reached >> self._end & 1)

    def _after(self, reached: int, piece: Piece) -> int:
        if piece.texts:
            after = reached if piece.many else 0
            for text in piece.texts:
                way = reached
                for sign in text:
                    way = (way & self._where(sign)) << 1
                after |= way
            return after
        here = self._where(piece.sign)
        once = (reached & here) << 1
        if piece.many in ("", "?"):
            return once | reached if piece.many else once
        begun = once if piece.many == "+" else reached
        # Adding a bit to the row of ones that it stands in carries it to the row's end: so far "again and again" goes.
        return begun | (((begun & here) + here) ^ here)

    def _where(self, sign: str) -> int:
        """The places of all characters that `sign` stands for."""
        if sign not in self._known:
            found = 0
            for character, places in self._signs.items():
                if _stands_for(sign, character):
                    found |= places
            self._known[sign] = found
        return self._known[sign]


def _ends(path: str) -> Iterator[tuple[bool, str]]:
    """What a plain pattern may be that fits: the path, or what stands behind one of its last dots."""
    yield True, path
    yield False, path
    start = len(path)
    for _ in range(MAX_PATTERN // 2):
        start = path.rfind(".", 0, start)
        if start < 0 or len(path) - start > MAX_PATTERN:
            return
        yield False, path[start + 1 :]


def _pieces(pattern: str) -> tuple[Piece, ...]:
    """The pieces of an expression; none if it has others than we know."""
    pieces, at = [], 0
    while at < len(pattern) <= MAX_PATTERN:
        match = PIECE.match(pattern, at)
        if match is None:
            return ()
        at = match.end()
        if match["sign"] is None:
            texts = tuple(tuple(re.findall(r"\\.|[^\\]", text)) for text in match["texts"].split("|"))
            pieces.append(Piece(many=match["maybe"], texts=texts))
        else:
            pieces.append(Piece(match["sign"], match["many"]))
    signs = [sign for piece in pieces for text in ((piece.sign,), *piece.texts) for sign in text]
    return tuple(pieces) if all(map(_is_sign, signs)) else ()


def _is_sign(sign: str) -> bool:
    try:
        return re.compile(sign) is not None
    except re.error:  # "[z-a]"
        return False


@lru_cache(maxsize=8192)
def _stands_for(sign: str, character: str) -> bool:
    return re.fullmatch(sign, character) is not None
