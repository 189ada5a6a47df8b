"""The reference of the grammar: docs/grammar.md and `python -m lib_lora grammar` say what is so."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from lib_lora.cli.reference import plain_text
from lib_lora.cli.terminal import columns
from lib_lora.grammar.arguments import ARGUMENTS
from lib_lora.grammar.curve import Curve
from lib_lora.grammar.editing import edited
from lib_lora.grammar.plot import picture, signs, values
from lib_lora.grammar.positions import read_curve
from lib_lora.grammar.presets import read_presets
from lib_lora.grammar.reference import CURVES, EDITING, markdown, sections
from lib_lora.grammar.tag import LoraTag, read_prompt
from tests.make_grammar_page import DOCS, IMAGES, page, pictures


def test_the_page_and_its_pictures_are_what_the_tables_give():
    assert (DOCS / "grammar.md").read_text("utf-8") == page()  # python -m tests.make_grammar_page
    for name, text in pictures().items():
        assert (IMAGES / name).read_text("utf-8") == text


def test_a_picture_of_a_section_is_shown_where_it_is_there():
    names = [section.picture for section in sections() if section.picture]
    assert names == ["grammar-time.png", "grammar-blocks.png", "grammar-places.png"]
    assert not any("grammar-time.png" in line for line in markdown())
    assert "![A weight over time](images/grammar-time.png)" in markdown(names)


MINE = "mine:1,X,X,X,X,0,0,0,0,0,0,0"


@pytest.mark.parametrize("key", ARGUMENTS)
def test_the_example_of_each_argument_is_read_and_uses_it(key):
    read = read_prompt(ARGUMENTS[key].example)
    (tag,) = read.tags
    assert (read.errors, tag.notes) == ((), ())
    tag.settled(read_presets(MINE))
    assert tag != LoraTag("ink", 0.5, 0.5)
    assert key in ("te", "unet") or f"{key}=" in ARGUMENTS[key].example
    assert key == "te" or tag != LoraTag("ink", 0.8, 0.8)


def test_every_tag_and_curve_of_the_page_is_read():
    codes = re.findall(r"`([^`]*)`", page())
    shown = [code for code in codes if "<lora:" in code and "NAME" not in code and "..." not in code]
    assert len(shown) > len(ARGUMENTS)
    for text in shown:
        assert read_prompt(text.replace("\\|", "|")).errors == (), text
    for text, _ in CURVES:
        assert isinstance(read_curve(text)[0], Curve)
        assert read_curve(text)[1] == ()
    for text, _ in EDITING:
        assert any(tag.shown != LoraTag("a").shown for tag in edited(text.strip("`"), 20).tags)


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_the_text_fits_the_terminal(width):
    lines = list(plain_text(width))
    assert max(map(columns, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert "`" not in text
    for section in sections():
        assert section.title.upper() in text
    if width >= 80:  # no tag is broken
        assert all(each.example in text for each in ARGUMENTS.values() if len(each.example) < 40)


def test_a_row_of_signs_shows_a_curve():
    assert signs(read_curve("0@0,1@1")[0]) == "▁▁▂▂▂▃▃▃▄▄▅▅▅▆▆▆▇▇▇██"
    assert signs(0.0) == "▁" * 21
    assert signs(read_curve("-1@0,1@1")[0])[::10] == "▁▅█"


def test_a_picture_is_a_line_through_the_points():
    root = ElementTree.fromstring(picture(read_curve("0@0,1@0.5,0@1")[0]))
    line = next(each for each in root.iter() if each.tag.endswith("polyline"))
    assert line.get("points") == "6.0,54.0 80.0,6.0 154.0,54.0"
    assert len(ElementTree.fromstring(picture(1.0))) == 2
    by_sigma = values(read_curve("0@s10,1@s2")[0])
    assert (by_sigma[0], by_sigma[-1]) == (0, 1)
    assert by_sigma == sorted(by_sigma)
