"""The reference of the grammar as plain text, as wide as the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from lib_lora.cli.terminal import columns
from lib_lora.grammar.plot import signs
from lib_lora.grammar.positions import read_curve
from lib_lora.grammar.reference import Curves, Row, Table, sections

GAP = 2  # blanks between columns
NARROWEST = 8  # a column is made no narrower than that
USUAL = 100  # where nobody says how wide the terminal is


def plain_text(width: int | None) -> Iterator[str]:
    """Line by line."""
    width = max(width or USUAL, 40)
    for section in sections():
        yield from ("", section.title.upper())
        for part in section.parts:
            yield ""
            if isinstance(part, str):
                yield from textwrap.wrap(_bare(part), width)
            elif isinstance(part, Curves):
                rows = tuple((text, signs(read_curve(text)[0]), meaning) for text, meaning in part.rows)
                yield from _aligned(Table(("typed", "over the steps", "meaning"), rows), width)
            else:
                yield from _aligned(part, width)


def _aligned(table: Table, width: int) -> Iterator[str]:
    rows = [table.head, *(tuple(map(_bare, row)) for row in table.rows)]
    widths = _widths(rows, width)
    for row in rows:
        cells = [textwrap.wrap(cell, wide, break_on_hyphens=False) or [""]
                 for cell, wide in zip(row, widths, strict=True)]  # fmt: skip
        for line in range(max(map(len, cells))):
            found = [cell[line] if line < len(cell) else "" for cell in cells]
            padded = (text + " " * (wide - columns(text)) for text, wide in zip(found, widths, strict=True))
            yield (" " * GAP).join(padded).rstrip()


def _widths(rows: list[Row], width: int) -> list[int]:
    """As wide as the cells are; the widest columns give way until the line fits, words are broken last."""
    by_column = list(zip(*rows, strict=True))
    widths = [max(map(columns, column)) for column in by_column]
    words = [max(columns(word) for cell in column for word in (cell.split() or [""])) for column in by_column]
    for least in (words, [NARROWEST] * len(words)):
        while sum(widths) + GAP * (len(widths) - 1) > width:
            spare = [wide - fewest for wide, fewest in zip(widths, least, strict=True)]
            if max(spare) <= 0:
                break
            widest = max((wide, number) for number, wide in enumerate(widths) if spare[number] > 0)[1]
            widths[widest] -= 1
    return widths


def _bare(text: str) -> str:
    return text.replace("`", "")
