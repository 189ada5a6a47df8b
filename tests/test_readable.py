"""Whatever a header holds, what is answered of it is JSON that everybody reads."""

# ruff: noqa: E501  (tables)

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_lora.library.readable import original, readable

ODD = {
    "not a number": ('{"x": NaN}', {"x": "NaN"}),
    "infinite": ('{"x": Infinity, "y": -Infinity}', {"x": "Infinity", "y": "-Infinity"}),
    "infinite by its exponent": ('{"x": 1e999, "y": -1e999, "z": "NaN"}', {"x": "1e999", "y": "-1e999", "z": "NaN"}),
    "half a character": ('{"\\ud800": "\\udfff"}', {"?": "?"}),
    "a whole one in two halves": ('{"x": "\\ud83d\\ude00"}', {"x": "😀"}),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_numbers_and_characters_become_texts(what):
    text, expected = ODD[what]
    assert orjson.loads(readable({"a": text, "b": text})[0]) == {"a": expected, "b": expected}


@pytest.mark.parametrize("text", ['{"x": ' + "9" * 5000 + "}", '{"a":' * 200 + "1" + "}" * 200, "{", '{"x": 1e}', "{}x"])
def test_what_cannot_be_read_stays_the_text_that_it_is(text):
    shown, is_whole = readable({"a": text})
    assert orjson.loads(shown) == {"a": text}
    assert is_whole
    assert original(shown) == {"a": text}


VALUES = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
                      max_leaves=8)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
def test_what_python_writes_into_a_header_everybody_can_read(values):
    metadata = {key.encode("utf-8", "replace").decode(): json.dumps(value) for key, value in values.items()}
    shown, is_whole = readable(metadata)
    assert orjson.loads(shown).keys() == metadata.keys()
    shown.encode()
    if is_whole:
        assert original(shown) == metadata
