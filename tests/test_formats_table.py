"""docs/formats.md says what is so."""

from __future__ import annotations

from tests.make_formats_table import PAGE, given_part, own_part
from tests.support_golden import GIVEN


def test_the_page_of_formats_is_what_the_code_does():
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith(own_part())
    if GIVEN.is_dir():
        assert text == own_part() + given_part()
