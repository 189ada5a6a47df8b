"""`python -m tests.make_grammar_sheets`: draw docs/images/grammar-*.png, what tags say, with the demo model."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lib_lora.drawing.demo_files import ADAPTERS
from lib_lora.drawing.draw import draw
from lib_lora.drawing.pipelines import load_pipeline
from lib_lora.hosts.diffusers import Attached
from lib_lora.library import Library

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SEED = 3
PAPER, INK, FAINT = "#ffffff", "#1b1f24", "#6e7781"
SIDE, GAP, MARGIN, FOOT, SIZE = 184, 12, 20, 44, 13  # pixels
HEART = "a large red heart on a white background"
STAR = "a large yellow star on a blue background"
SHEETS: dict[str, tuple[tuple[str, str, str], ...]] = {  # file -> (prompt, tag, what it means)
    "grammar-time": (
        (HEART, "", "no adapter"),
        (HEART, "<lora:night:0.8>", "all the time"),
        (HEART, "<lora:night:0.8:stop=0.3>", "in the first third"),
        (HEART, "<lora:night:0.8:start=0.3>", "from a third on"),
        (HEART, "<lora:night:0.8:0.8@0,0@0.5>", "fading until the middle"),
    ),
    "grammar-blocks": (
        (STAR, "", "no adapter"),
        (STAR, "<lora:outline:1>", "all blocks"),
        (STAR, "<lora:outline:1:out=0>", "without output blocks"),
        (STAR, "<lora:outline:1:in=0:mid=0>", "output blocks alone"),
        (STAR, "<lora:outline:1:out=2>", "output blocks twice"),
    ),
    "grammar-places": (
        (HEART, "<lora:night:0.8>", "everywhere"),
        (HEART, "<lora:night:0.8:area=0,0,0.5,1>", "left half"),
        (HEART, "<lora:night:0.8:area=0,0,0.5,1,0.5>", "left half, soft"),
        (HEART, "<lora:night:0.8:on=cond>", "on what is wanted"),
        (HEART, "<lora:night:0.5:on=uncond>", "on what is not"),
    ),
}


def main() -> None:
    """Draw and write them."""
    attached = Attached(load_pipeline(None), Library([ADAPTERS]))
    for name, cells in SHEETS.items():
        sheet = Image.new("RGB", (2 * MARGIN + len(cells) * (SIDE + GAP) - GAP, 2 * MARGIN + SIDE + FOOT), PAPER)
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(SIZE)
        for column, (prompt, tag, meaning) in enumerate(cells):
            drawing = draw(attached, f"{prompt} {tag}", seed=SEED)
            if told := drawing.report.sentences():
                raise SystemExit("\n".join(told))
            left = MARGIN + column * (SIDE + GAP)
            sheet.paste(drawing.pictures[0].image.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, MARGIN))
            pen.text((left, MARGIN + SIDE + 8), meaning, INK, font)
            pen.text((left, MARGIN + SIDE + 26), tag.removeprefix("<lora:").removesuffix(">"), FAINT, font)
        sheet.save(IMAGES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
