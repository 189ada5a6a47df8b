"""The examples of docs/inspect.md and docs/tools.md do what stands below them."""

from __future__ import annotations

import doctest
import re

import pytest
from PIL import Image

from tests.make_tools_pages import DOCS, PAGES, PICTURE, commands, place, printed, run

NUMBER = re.compile(r"\d+\.\d+(?:e[+-]\d+)?")
NOISE = 1e-6  # an error below that is rounding, of which every machine has its own
MOMENT = re.compile(r"\d{4}-\d\d-\d\d\S*|[0-9a-f]{12,64}")  # dates, and hashes of files with a date in them


def likened(text):
    """(the text without its numbers, the numbers)"""
    text = MOMENT.sub("*", text)
    numbers = [float(each) for each in NUMBER.findall(text)]
    return " ".join(NUMBER.sub("#", text).split()), [0.0 if each < NOISE else each for each in numbers]


@pytest.mark.parametrize("name", PAGES)
def test_the_examples_print_what_stands_below_them(name, tmp_path, monkeypatch):
    page = (DOCS / name).read_text("utf-8")
    place(tmp_path)
    monkeypatch.chdir(tmp_path)
    for block, expected in zip(commands(page), printed(page), strict=True):
        told, numbers = likened("".join(run(command) for command in block))
        assert (told, pytest.approx(numbers, rel=0.02)) == likened(expected)
    examples = "\n".join(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    test = doctest.DocTestParser().get_doctest(examples, {}, name, name, 0)
    assert doctest.DocTestRunner().run(test).failed == 0


def test_the_picture_has_both_files_and_their_cosines():
    with Image.open(PICTURE) as picture:
        assert picture.height > picture.width > 600
