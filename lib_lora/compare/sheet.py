"""draw_sheet(): a contact sheet, one row for each adapter, one column for each weight. All pictures have one seed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageFont

from lib_lora.drawing.draw import draw
from lib_lora.errors import LoraError
from lib_lora.grammar.tag import LoraTag
from lib_lora.hosts.diffusers import Attached
from lib_lora.library import Entry

PROMPT = "a big red {heart} on a blue background"
BRACES = re.compile(r"\{([^{}]*)\}")
SEED = 3
WEIGHTS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5)

PAPER, INK, FAINT, RULE = "#ffffff", "#1b1f24", "#6e7781", "#d0d7de"
MARGIN, GAP, HEAD, FOOT = 28, 8, 34, 20  # pixels
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

    `names` None: all adapters of the library. A word of `prompt` in braces gives way to the trigger words of an adapter
    that has some. Raises LoraError if nothing is left to draw.
    """
    entries, told = _choose(attached, names)
    untouched: dict[str, Image.Image] = {}  # by prompt
    rows: list[tuple[Entry, list[Image.Image]]] = []
    for number, entry in enumerate(entries):
        row = []
        text = prompt_for(entry, prompt)
        for column, weight in enumerate(weights):
            if weight == 0 and text in untouched:
                row.append(untouched[text])
            else:
                tagged = f"{text} {LoraTag(entry.name, weight, weight)}"
                drawing = draw(attached, tagged, seed=seed, steps=steps, size=size)
                if not drawing.report.applied:
                    told += drawing.report.sentences()
                    break
                row.append(drawing.pictures[0].image)
                if weight == 0:
                    untouched[text] = row[-1]
            if on_picture is not None:
                on_picture(number * len(weights) + column + 1, len(entries) * len(weights))
        else:
            rows.append((entry, row))
    attached.clear()
    if not rows:
        raise LoraError("\n".join(told) or "there are no adapters to draw")
    return _compose(prompt, seed, weights, rows), told


def prompt_for(entry: Entry | None, prompt: str) -> str:
    """`prompt` with the adapter's trigger words: in place of the word in braces, or at its end."""
    words = "" if entry is None else ", ".join(entry.trigger_words)
    if words and not BRACES.search(prompt):
        return f"{prompt}, {words}"
    return BRACES.sub(lambda match: words or match[1], prompt)


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
    titles = [entry.title or entry.name for entry, _ in rows]
    below = [_described(entry) for entry, _ in rows]
    widest = max(*map(large.getlength, titles), *(small.getlength(line) for lines in below for line in lines), 60)
    width, height = rows[0][1][0].size
    left, top = MARGIN + round(widest) + 3 * GAP, MARGIN + HEAD
    right, bottom = left + len(weights) * (width + GAP) - GAP, top + len(rows) * (height + GAP)
    sheet = Image.new("RGB", (right + MARGIN, bottom + FOOT + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)

    pen.text((MARGIN, top - 15), "weight", FAINT, small, anchor="ls")
    for column, weight in enumerate(weights):
        middle = left + column * (width + GAP) + width // 2
        pen.text((middle, top - 15), f"{abs(weight):g}", INK, large, anchor="ms")
        if weight < 0:  # the font has no minus sign
            end = middle - large.getlength(f"{-weight:g}") / 2 - 4
            pen.line((end - 9, top - 22, end, top - 22), INK, 2)
    pen.line((MARGIN, top - 6, right, top - 6), RULE)

    corners = _rounded(width, height)
    for row, (_, pictures) in enumerate(rows):
        y = top + row * (height + GAP)
        middle = y + height // 2 - 10 * (len(below[row]) - 1)
        pen.text((MARGIN, middle - 2), titles[row], INK, large, anchor="ls")
        pen.multiline_text((MARGIN, middle + 4), "\n".join(below[row]), FAINT, small, spacing=5)
        for column, picture in enumerate(pictures):
            x = left + column * (width + GAP)
            sheet.paste(picture.convert("RGB"), (x, y), corners)
            pen.rounded_rectangle((x, y, x + width - 1, y + height - 1), RADIUS, outline=RULE)
    pen.text((MARGIN, bottom + FOOT), f"{prompt_for(None, prompt)}; seed {seed}", FAINT, small, anchor="ls")
    return sheet


def _described(entry: Entry) -> list[str]:
    """The lines below an adapter's name."""
    ranks = sorted(set(entry.rank or ()))
    rank = ", rank " + "-".join(map(str, ranks)) if ranks else ""
    trigger = [f"says \N{LEFT DOUBLE QUOTATION MARK}{', '.join(entry.trigger_words)}\N{RIGHT DOUBLE QUOTATION MARK}"]
    return [", ".join(entry.algorithms) + rank, *(trigger if entry.trigger_words else [])]


def _rounded(width: int, height: int) -> Image.Image:
    """A mask with round corners, smooth."""
    mask = Image.new("L", (width * 4, height * 4), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, width * 4 - 1, height * 4 - 1), RADIUS * 4, 255)
    return mask.resize((width, height), Image.Resampling.LANCZOS)
