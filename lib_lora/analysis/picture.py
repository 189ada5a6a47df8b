"""The block map: a UNet drawn as its blocks, each as dark as it is changed; beside it how the energy is spread.

And of several files how they pull at each other: a matrix of cosines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from lib_lora.analysis.conflicts import Conflicts
from lib_lora.analysis.measure import KINDS, Measured
from lib_lora.formats.text import printable

PAPER, INK, FAINT, EMPTY = "#ffffff", "#1b1f24", "#6e7781", "#eef1f4"
Colour = tuple[int, int, int]
WEAK: Colour = (253, 232, 219)
STRONG: Colour = (178, 58, 20)  # of the block that is changed most; of two that pull the same way
WHITE: Colour = (255, 255, 255)
AGAINST: Colour = (22, 92, 158)  # of two of which one undoes the other
WIDE, HIGH, GAP, MARGIN, HEAD = 132, 30, 6, 28, 64  # pixels
CURVE = 220  # width and height of the plot of the energy
CELL, NAMES = 72, 180  # of the matrix: a side of its cells, the width of its names
LETTERS = 18  # of a name that are shown
TITLE_SIZE, SIZE, SMALL_SIZE = 20, 14, 12


@dataclass(frozen=True)
class Cell:
    """A block of the map."""

    block: str
    column: int  # 0 down, 1 middle and text, 2 up
    row: int

    @property
    def label(self) -> str:
        """ "other" is what is in no block: the time's and the size's embedding, the last convolution."""
        return self.block or "other"


def cells(blocks: Sequence[str]) -> list[Cell]:
    """The places of a UNet's blocks: IN downwards on the left, OUT upwards on the right, M between at the bottom."""
    numbered = {start: [int(block[len(start) :]) for block in blocks if block.startswith(start) and block != "M00"]
                for start in ("IN", "OUT")}  # fmt: skip
    count = 1 + max((max(numbers) for numbers in numbered.values() if numbers), default=0)
    count = next((usual for usual in (9, 12) if count <= usual), count)
    down = [Cell(f"IN{number:02d}", 0, number) for number in range(count)]
    up = [Cell(f"OUT{number:02d}", 2, count - 1 - number) for number in range(count)]
    return [*down, Cell("M00", 1, count), Cell("BASE", 1, 0), Cell("", 1, 1), *up]


def draw_map(measured: Measured, title: str) -> Image.Image:
    """The map of one file, RGB. Where the base weights are known, the colour is the change relative to them."""
    blocks = measured.blocks()
    values = {block: _value(kinds) for block, kinds in blocks.items()}
    most = max(values.values(), default=0.0) or 1.0
    placed = cells(list(blocks))
    rows = 1 + max(cell.row for cell in placed)
    width = 2 * MARGIN + 3 * WIDE + 2 * GAP + MARGIN + CURVE
    picture = Image.new("RGB", (width, HEAD + rows * (HIGH + GAP) + MARGIN), PAPER)
    pen = ImageDraw.Draw(picture)
    has_base = all(base is not None for kinds in blocks.values() for _, base in kinds.values())
    pen.text((MARGIN, 14), _shown(title), INK, _font(TITLE_SIZE))
    what = "change relative to the checkpoint" if has_base and blocks else "change of each block, |delta|"
    pen.text((MARGIN, 40), f"{what}; in all {measured.delta:.4g}", FAINT, _font(SMALL_SIZE))
    for cell in placed:
        left, top = MARGIN + cell.column * (WIDE + GAP), HEAD + cell.row * (HIGH + GAP)
        value = values.get(cell.block)
        colour = EMPTY if value is None else _mixed(value / most)
        pen.rounded_rectangle((left, top, left + WIDE, top + HIGH), 5, colour)
        text = cell.label if value is None else f"{cell.label}   {value:.3g}"
        dark = value is not None and value / most > 0.5
        pen.text((left + 10, top + 7), text, PAPER if dark else FAINT if value is None else INK, _font(SIZE))
    _draw_energy(pen, measured, MARGIN * 2 + 3 * WIDE + 2 * GAP, HEAD)
    _draw_kinds(pen, blocks, MARGIN * 2 + 3 * WIDE + 2 * GAP, HEAD + CURVE + 44)
    return picture


def _value(kinds: Mapping[str, tuple[float, float | None]]) -> float:
    delta = math.hypot(*(delta for delta, _ in kinds.values()))
    bases = [base for _, base in kinds.values() if base is not None]
    whole = math.hypot(*bases)
    return delta / whole if len(bases) == len(kinds) and whole else delta


def _draw_energy(pen: ImageDraw.ImageDraw, measured: Measured, left: int, top: int) -> None:
    """The share of the energy that is kept at each rank, over all layers."""
    kept = measured.energy()
    pen.text((left, top), "energy kept at rank", INK, _font(SIZE))
    box = (left, top + 24, left + CURVE, top + CURVE)
    pen.rectangle(box, outline=EMPTY)
    if not kept:
        return
    most = len(kept)
    points = [(rank / most, share) for rank, share in enumerate([0.0, *kept])]
    line = [(box[0] + x * (box[2] - box[0]), box[3] - y * (box[3] - box[1])) for x, y in points]
    pen.line(line, fill=STRONG, width=2)
    pen.text((left, top + CURVE + 4), "0", FAINT, _font(SMALL_SIZE))
    pen.text((left + CURVE - 14, top + CURVE + 4), str(most), FAINT, _font(SMALL_SIZE))


def _draw_kinds(
    pen: ImageDraw.ImageDraw, blocks: Mapping[str, Mapping[str, tuple[float, float | None]]], left: int, top: int
) -> None:
    """A bar for each kind of layer."""
    kinds = {kind: math.hypot(*(of[kind][0] for of in blocks.values() if kind in of)) for kind in KINDS}
    most = max(kinds.values(), default=0.0) or 1.0
    for row, (kind, value) in enumerate((kind, value) for kind, value in kinds.items() if value):
        pen.text((left, top + row * 20), kind, FAINT, _font(SMALL_SIZE))
        begin = left + 96
        pen.rectangle((begin, top + row * 20 + 3, begin + (CURVE - 96) * value / most, top + row * 20 + 13), STRONG)


def draw_conflicts(found: Conflicts, names: Sequence[str]) -> Image.Image:
    """The cosines of several files, each with each, and what they are together; RGB."""
    side = len(names) * CELL
    picture = Image.new("RGB", (2 * MARGIN + NAMES + max(side, 2 * CELL), HEAD + side + 2 * MARGIN + SIZE), PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((MARGIN, 14), "which of them fight", INK, _font(TITLE_SIZE))
    pen.text((MARGIN, 40), "cosine: 1 the same way, 0 nothing in common, -1 undone", FAINT, _font(SMALL_SIZE))
    for row, (name, cosines) in enumerate(zip(names, found.cosine(), strict=True)):
        top = HEAD + row * CELL
        pen.text((MARGIN, top + CELL // 2 - 8), f"{row + 1}  {_shown(name, LETTERS)}", INK, _font(SIZE))
        for column, cosine in enumerate(cosines):
            left, strength = MARGIN + NAMES + column * CELL, min(abs(cosine), 1.0)
            colour = _mixed(strength, WHITE, STRONG if cosine > 0 else AGAINST)
            pen.rectangle((left, top, left + CELL - 2, top + CELL - 2), colour, outline=EMPTY)
            pen.text((left + 16, top + CELL // 2 - 8), f"{cosine:.2f}", PAPER if strength > 0.5 else INK, _font(SIZE))
    for column in range(len(names)):
        left = MARGIN + NAMES + column * CELL + CELL // 2 - 4
        pen.text((left, HEAD + side + 4), str(column + 1), FAINT, _font(SIZE))
    pen.text((MARGIN, HEAD + side + MARGIN), f"together |delta| {found.together:.4g}", FAINT, _font(SMALL_SIZE))
    return picture


def _shown(name: str, letters: int | None = None) -> str:
    """What the font can draw of a file's name: the one that Pillow had before 10.1 fails at all but Latin letters.

    Of more than `letters`, if given, the first.
    """
    shown = printable(name)
    if letters is not None and len(shown) > letters:
        shown = f"{shown[: letters - 1]}…"
    if isinstance(_font(SIZE), ImageFont.FreeTypeFont):
        return shown
    return shown.replace("…", "...").encode("latin-1", errors="replace").decode("latin-1")


def _mixed(share: float, low: Colour = WEAK, high: Colour = STRONG) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return red, green, blue


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size
        return ImageFont.load_default()
