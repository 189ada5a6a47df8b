"""draw_sheet(): a contact sheet, one row for each adapter, one column for each weight. All pictures have one seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageFont

from lib_lora.demo.drawing import draw
from lib_lora.diffusers_host import Attached
from lib_lora.errors import LoraError
from lib_lora.library import Entry
from lib_lora.tag import LoraTag

PROMPT = "a big red heart on a yellow background"
SEED = 7
WEIGHTS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5)

PAPER, INK, FAINT, RULE = "#ffffff", "#1b1f24", "#6e7781", "#d0d7de"
MARGIN, GAP = 28, 8  # pixels
NAME_SIZE, SMALL_SIZE = 19, 14
RADIUS = 6  # of a picture's corners


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

    `names` None: all adapters of the library. Raises LoraError if nothing is left to draw.
    """
    entries, told = _choose(attached, names)
    untouched = draw(attached, prompt, seed=seed, steps=steps, size=size).pictures[0].image
    rows: list[tuple[Entry, list[Image.Image]]] = []
    for number, entry in enumerate(entries):
        row = []
        for column, weight in enumerate(weights):
            if weight == 0:
                row.append(untouched)
            else:
                drawing = draw(
                    attached, f"{prompt} {LoraTag(entry.name, weight, weight)}", seed=seed, steps=steps, size=size
                )
                if not drawing.report.applied:
                    told += drawing.report.sentences()
                    break
                row.append(drawing.pictures[0].image)
            if on_picture is not None:
                on_picture(number * len(weights) + column + 1, len(entries) * len(weights))
        else:
            rows.append((entry, row))
    attached.clear()
    if not rows:
        raise LoraError("\n".join(told) or "there are no adapters to draw")
    return _compose(prompt, seed, weights, rows), told


def _choose(attached: Attached, names: Sequence[str] | None) -> tuple[list[Entry], list[str]]:
    if names is None:
        entries = attached.library.entries()
        return [entry for entry in entries if not entry.broken], [entry.broken for entry in entries if entry.broken]
    found, told = [], []
    for name in names:
        try:
            found.append(attached.library.find(name))
        except LoraError as error:
            told.append(str(error))
    return found, told


def _compose(
    prompt: str, seed: int, weights: Sequence[float], rows: Sequence[tuple[Entry, list[Image.Image]]]
) -> Image.Image:
    large, small = ImageFont.load_default(NAME_SIZE), ImageFont.load_default(SMALL_SIZE)
    labels = [(entry.title or entry.name, _described(entry)) for entry, _ in rows]
    side = (
        MARGIN
        + GAP
        + round(max(*(large.getlength(name) for name, _ in labels), *(small.getlength(kind) for _, kind in labels), 90))
    )
    width, height = rows[0][1][0].size
    head = MARGIN + 40
    last_row, last_column = head + len(rows) * (height + GAP), side + 12 + len(weights) * (width + GAP)
    sheet = Image.new("RGB", (last_column + MARGIN - GAP, last_row + 34 + MARGIN - GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    corners = _rounded(width, height)

    pen.text((MARGIN, head - 12), "weight", FAINT, small, anchor="ls")
    for column, weight in enumerate(weights):
        x = side + 12 + column * (width + GAP) + width // 2
        pen.text((x, head - 12), f"{weight:g}".replace("-", "\N{MINUS SIGN}"), INK, large, anchor="ms")
    pen.line((MARGIN, head - 3, last_column - GAP, head - 3), RULE)
    for row, (_, pictures) in enumerate(rows):
        y = head + GAP // 2 + row * (height + GAP)
        pen.text((MARGIN, y + height // 2 - 2), labels[row][0], INK, large, anchor="ls")
        pen.text((MARGIN, y + height // 2 + 6), labels[row][1], FAINT, small, anchor="lt")
        for column, picture in enumerate(pictures):
            sheet.paste(picture.convert("RGB"), (side + 12 + column * (width + GAP), y), corners)
    pen.text(
        (MARGIN, last_row + 24),
        f"\N{LEFT DOUBLE QUOTATION MARK}{prompt}\N{RIGHT DOUBLE QUOTATION MARK}, seed {seed}",
        FAINT,
        small,
        anchor="ls",
    )
    return sheet


def _described(entry: Entry) -> str:
    ranks = sorted(set(entry.rank or ()))
    return ", ".join(entry.algorithms) + (f", rank {'-'.join(map(str, ranks))}" if ranks else "")


def _rounded(width: int, height: int) -> Image.Image:
    """A mask with round corners, smooth."""
    mask = Image.new("L", (width * 4, height * 4), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, width * 4 - 1, height * 4 - 1), RADIUS * 4, 255)
    return mask.resize((width, height), Image.Resampling.LANCZOS)
