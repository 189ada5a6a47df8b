"""The contact sheet of a comparison: a row for each adapter, a column for each weight, for each prompt and seed.

`draw_sheet` is the smallest comparison: one prompt, one seed, drawn here and kept nowhere.
"""

from __future__ import annotations

import io
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from lib_lora.compare.grid import Settings, checkpoint_names, make_grid, weight_value, with_words
from lib_lora.compare.run import Comparison, compare
from lib_lora.compare.store import Result
from lib_lora.compare.subject import Subject
from lib_lora.errors import LoraError
from lib_lora.formats.text import printable
from lib_lora.formats.write import write_file
from lib_lora.library import Entry

if TYPE_CHECKING:
    from lib_lora.hosts.diffusers import Attached

PROMPT = "a big red {heart} on a blue background"
SEED = 3
WEIGHTS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5)

PAPER, INK, FAINT, RULE, EMPTY = "#ffffff", "#1b1f24", "#6e7781", "#d0d7de", "#f6f8fa"
MARGIN, GAP, HEAD, FOOT = 28, 8, 34, 20  # pixels
NAME_SIZE, SMALL_SIZE = 19, 14
RADIUS = 6  # of a picture's corners
MOST = 60_000_000  # pixels of a sheet; pictures of a larger one are made smaller
SMALLEST = 48  # pixels
Font = Callable[[int], Any]


def draw_sheet(
    attached: Attached,
    prompt: str = PROMPT,
    *,
    names: Sequence[str] | None = None,
    weights: Sequence[float] = WEIGHTS,
    seed: int = SEED,
    steps: int | None = None,
    size: tuple[int, int] | None = None,
    on_picture: Callable[[int, int], object] | None = None,
) -> tuple[Image.Image, list[str]]:
    """The sheet, and a sentence for each adapter that could not be used; those have no row.

    `names` None: all adapters of the library. A word of `prompt` in braces gives way to the trigger words of an adapter
    that has some. Raises LoraError if nothing is left to draw.
    """
    from lib_lora.compare.local import Local  # diffusers: not where somebody else draws

    grid = make_grid(attached.library, adapters=names, weights=weights, prompts=[prompt], seeds=[seed],
                     settings=Settings(steps=steps, size=size), adds_words=True)  # fmt: skip
    told = [subject.problem for subject in grid.subjects if subject.problem]
    grid = replace(grid, subjects=tuple(subject for subject in grid.subjects if not subject.problem))
    if not grid.subjects:
        raise LoraError("\n".join(told) or "there are no adapters to draw")
    with tempfile.TemporaryDirectory(prefix="lib_lora-", ignore_cleanup_errors=True) as folder:
        done = compare(grid, Path(folder), [Local(attached)], on_cell=lambda progress: (
            on_picture(progress.done, progress.total) if on_picture is not None else None))  # fmt: skip
        told += done.problems
        failed = {result.cell.subject for result in done.results if result.file is None}
        whole = tuple(subject for subject in grid.subjects if subject not in failed)
        if not whole:
            raise LoraError("\n".join(told))
        return compose(done, whole), told


def compose(done: Comparison, subjects: Sequence[Subject] | None = None, *, font: Font | None = None) -> Image.Image:
    """The sheet of all that was drawn, or of some rows; where a picture is missing stands why.

    `font` of a size; None: Pillow's own, which it has from 10.1 on.
    """
    return _Sheet(done, done.grid.subjects if subjects is None else subjects, font or ImageFont.load_default).draw()


def write_sheet(done: Comparison, path: Path, *, font: Font | None = None) -> None:
    """The sheet as a file. Raises OSError."""
    file = io.BytesIO()
    compose(done, font=font).save(file, format="PNG", optimize=True)
    write_file(path, file.getvalue())


def prompt_for(entry: Entry | None, prompt: str) -> str:
    """`prompt` with the adapter's trigger words: in place of the word in braces, or at its end."""
    return with_words(prompt, () if entry is None else entry.trigger_words, adds=True)


class _Sheet:
    """Measures first, then draws: sections one below the other, columns as wide as a picture."""

    def __init__(self, done: Comparison, subjects: Sequence[Subject], font: Font) -> None:
        self.done, self.subjects, self.grid = done, subjects, done.grid
        self.results = {(cell.checkpoint, cell.subject, cell.weight, cell.prompt, cell.seed): each
                        for each in done.results for cell in (each.cell,)}  # fmt: skip
        self.large, self.small = font(NAME_SIZE), font(SMALL_SIZE)
        self.names = checkpoint_names(self.grid.checkpoints)
        self.sections = list(product(self.grid.checkpoints, self.grid.prompts, self.grid.seeds))
        self.size = self._size()

    def draw(self) -> Image.Image:
        width, height = self.size
        columns, rows = len(self.grid.weights), len(self.subjects)
        titles = [printable(subject.title) for subject in self.subjects]
        lines = [list(map(printable, subject.facts)) for subject in self.subjects]
        widest = max(*map(self.large.getlength, titles), *(self.small.getlength(line) for each in lines
                                                             for line in each), 60)  # fmt: skip
        left, top = MARGIN + round(widest) + 3 * GAP, MARGIN + HEAD
        right = left + columns * (width + GAP) - GAP
        section = rows * (height + GAP) + FOOT + GAP + (MARGIN if len(self.sections) > 1 else 0)
        bottom = top + len(self.sections) * section - GAP - (MARGIN if len(self.sections) > 1 else 0)
        sheet = Image.new("RGB", (right + MARGIN, bottom + MARGIN), PAPER)
        pen = ImageDraw.Draw(sheet)
        self._head(pen, left, top, right)
        corners = _rounded(width, height)
        for number, (checkpoint, prompt, seed) in enumerate(self.sections):
            start = top + number * section
            for row, subject in enumerate(self.subjects):
                y = start + row * (height + GAP)
                middle = y + height // 2 - 10 * (len(lines[row]) - 1)
                pen.text((MARGIN, middle - 2), titles[row], INK, self.large, anchor="ls")
                pen.multiline_text((MARGIN, middle + 4), "\n".join(lines[row]), FAINT, self.small, spacing=5)
                for column, weight in enumerate(self.grid.weights):
                    x = left + column * (width + GAP)
                    result = self.results.get((checkpoint, subject, weight, prompt, seed))
                    self._cell(sheet, pen, x, y, result, corners)
            on = f"{printable(self.names[checkpoint])}: " if checkpoint else ""
            foot = f"{on}{printable(prompt_for(None, prompt))}; seed {seed}"
            pen.text((MARGIN, start + rows * (height + GAP) + FOOT), foot, FAINT, self.small, anchor="ls")
        return sheet

    def _size(self) -> tuple[int, int]:
        """Of a picture on the sheet: as it is, unless all of them together are too large."""
        chosen = self.done.settings.size
        assert chosen is not None
        width, height = chosen
        count = len(self.sections) * len(self.subjects) * len(self.grid.weights)
        shrink = min((MOST / (count * width * height)) ** 0.5, 1.0)
        return max(round(width * shrink), SMALLEST), max(round(height * shrink), SMALLEST)

    def _head(self, pen: ImageDraw.ImageDraw, left: int, top: int, right: int) -> None:
        width = self.size[0]
        pen.text((MARGIN, top - 15), "weight", FAINT, self.small, anchor="ls")
        for column, weight in enumerate(self.grid.weights):
            middle = left + column * (width + GAP) + width // 2
            value = weight_value(weight)
            if isinstance(value, str):
                pen.text((middle, top - 15), _fitting(self.small, value, width), INK, self.small, anchor="ms")
                continue
            pen.text((middle, top - 15), f"{abs(value):g}", INK, self.large, anchor="ms")
            if value < 0:  # the font has no minus sign
                end = middle - self.large.getlength(f"{-value:g}") / 2 - 4
                pen.line((end - 9, top - 22, end, top - 22), INK, 2)
        pen.line((MARGIN, top - 6, right, top - 6), RULE)

    def _cell(self, sheet: Image.Image, pen: ImageDraw.ImageDraw, x: int, y: int, result: Result | None,
              corners: Image.Image) -> None:  # fmt: skip
        width, height = self.size
        box = (x, y, x + width - 1, y + height - 1)
        if result is not None and result.file is not None:
            with Image.open(self.done.folder / result.file) as image:
                picture = image.convert("RGB")
            sheet.paste(picture if picture.size == self.size else picture.resize(self.size), (x, y), corners)
        else:
            pen.rounded_rectangle(box, RADIUS, fill=EMPTY)
            reason = printable((result and result.problem) or "not drawn")
            letters = max(width // 8, 6)
            shown = textwrap.wrap(reason, letters)[: max((height - 10) // 18, 1)]
            pen.multiline_text((x + 6, y + 6), "\n".join(shown), FAINT, self.small, spacing=3)
        pen.rounded_rectangle(box, RADIUS, outline=RULE)


def _fitting(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str, width: int) -> str:
    while len(text) > 2 and font.getlength(text) > width:
        text = f"{text.removesuffix('…')[:-1]}…"
    return text



def _rounded(width: int, height: int) -> Image.Image:
    """A mask with round corners, smooth."""
    mask = Image.new("L", (width * 4, height * 4), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, width * 4 - 1, height * 4 - 1), RADIUS * 4, 255)
    return mask.resize((width, height), Image.Resampling.LANCZOS)
