"""`python -m tests.make_grammar_page`: write docs/grammar.md, and its small pictures, from the grammar's tables."""

from __future__ import annotations

from pathlib import Path

from lib_lora.grammar.plot import picture
from lib_lora.grammar.positions import read_curve
from lib_lora.grammar.reference import CURVES, curve_pictures, markdown

DOCS = Path(__file__).parents[1] / "docs"
IMAGES = DOCS / "images"


def page() -> str:
    """docs/grammar.md, with the pictures that are there."""
    return "\n".join(markdown([path.name for path in IMAGES.iterdir()])) + "\n"


def pictures() -> dict[str, str]:
    """The pictures of the curves by name."""
    return {name: picture(read_curve(text)[0]) for name, (text, _) in zip(curve_pictures(), CURVES, strict=True)}


def main() -> None:
    """Write them."""
    for name, text in pictures().items():
        (IMAGES / name).write_text(text, "utf-8")
    (DOCS / "grammar.md").write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
