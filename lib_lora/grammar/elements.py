"""Elements of blocks: `IN05-OUT05:attn:0`, the weight of those modules in those blocks whose name has that word in it.

    BLOCKS:ELEMENTS:RATIO[,BLOCKS:ELEMENTS:RATIO...]     the last rule that holds for a module decides

Both lists are separated by blanks; an empty one means all, `NOT` before one all others, `IN05-OUT05` all in between.
The ratio stands in for the block's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lib_lora.grammar.alike import did_you_mean
from lib_lora.grammar.number import narrow, read_number
from lib_lora.grammar.scan import shortened

ORDER = ("BASE", *(f"IN{number:02d}" for number in range(12)), "M00", *(f"OUT{number:02d}" for number in range(12)))
OTHER_NAMES = {"MID": "M00", "ENCODER": "BASE"}
NOT = "NOT"
BETWEEN = re.compile("[,\n]")  # rules
MOST_RULES = 64
MOST_WORDS = 64  # of one rule


class BlocksError(ValueError):
    """A text says nothing about blocks; it says what is wrong, as the end of a sentence."""


@dataclass(frozen=True)
class Rule:
    """What some elements weigh."""

    blocks: frozenset[str] | None  # None: all, and what is in no block
    elements: tuple[str, ...]  # words in the name of a module; none: any
    is_other: bool  # NOT before the elements
    ratio: float

    def holds(self, block: str, path: str) -> bool:
        """True for a module at `path` ("input_blocks.4.1.proj_in") in `block`."""
        if self.blocks is not None and block not in self.blocks:
            return False
        name = path.replace(".", "_")
        return not self.elements or any(word in name for word in self.elements) != self.is_other


def read_rules(text: str) -> tuple[Rule, ...]:
    """All rules of a text. Raises BlocksError."""
    texts = [part.strip() for part in BETWEEN.split(narrow(text)) if part.strip()]
    if len(texts) > MOST_RULES:
        raise BlocksError(f"has {len(texts)} parts; {MOST_RULES} are allowed")
    return tuple(map(_read, texts))


def _read(text: str) -> Rule:
    parts = [part.strip() for part in text.split(":")]
    ratio = read_number(parts[-1])
    if len(parts) != 3 or ratio is None:
        raise BlocksError(f"'{shortened(text)}' is no blocks:elements:ratio; write IN05-OUT05:attn:0")
    words = parts[1].split()
    if max(len(words), len(parts[0].split())) > MOST_WORDS:
        raise BlocksError(f"'{shortened(text)}' lists too much; {MOST_WORDS} words are allowed")
    is_other = words[:1] == [NOT]
    return Rule(_blocks(parts[0]), tuple(words[is_other:]), is_other, ratio)


def _blocks(text: str) -> frozenset[str] | None:
    words = text.split()
    is_other = words[:1] == [NOT]
    named = frozenset(block for word in words[is_other:] for block in _range(word))
    if is_other:
        return frozenset({*ORDER, ""}) - named
    return named if words else None


def _range(word: str) -> Iterator[str]:
    """`IN05`, or all from one to the other of `IN05-OUT05`."""
    ends = sorted(ORDER.index(_block(part)) for part in word.split("-", 1))
    yield from ORDER[ends[0] : ends[-1] + 1]


def _block(word: str) -> str:
    block = OTHER_NAMES.get(word.upper(), word.upper())
    block = re.sub(r"^(IN|OUT|M)(\d)$", r"\g<1>0\2", block)
    if block not in ORDER:
        raise BlocksError(f"'{shortened(word)}' is no block{did_you_mean(block, ORDER)}; blocks are BASE, IN00 to "
                          "IN11, M00, OUT00 to OUT11")  # fmt: skip
    return block
