"""What the axes of the X/Y/Z plot make of a prompt. That the plot has them: tests/webui/test_axes.py."""

from __future__ import annotations

import pytest

from lib_lora.webui.retyped import changed, values

CHANGED = [  # (prompt, axis, value, what becomes of it)
    ("a <lora:ink:0.8> b", "weight", "0.5", "a <lora:ink:0.5> b"),
    ("a <lora:ink:0.8:0.2> b", "weight", "0.5", "a <lora:ink:0.5> b"),
    ("<lora:ink>", "TE", "0.5", "<lora:ink:0.5:1>"),
    ("<lora:ink:0.8>", "UNet", "0", "<lora:ink:0.8:0>"),
    ("<lora:ink:te=0.8:start=0.2>", "UNet", "0.3", "<lora:ink:0.8:0.3:start=0.2>"),
    ("<lora:ink:0.8>", "curve", "0@0;1@1", "<lora:ink:0.8:0@0;1@1>"),
    ("<lora:ink:0.8:hr=0.2>", "start", "0.3", "<lora:ink:0.8:hr=0.2:start=0.3>"),
    ("<lora:ink:0.8:step=2-6>", "stop", "4", "<lora:ink:0.8:start=2:stop=4>"),
    ("<lora:ink:0.8:w=MIDD>", "blocks", "ALL", "<lora:ink:0.8:lbw=ALL>"),
    ("<LoRA: ink : 0.8 > <lora:gold:1>", "name", "rust", "<lora:rust:0.8> <lora:gold:1>"),
    ("<lora:ink:0.8> <lora:gold:1>", "weight", "gold=0.5", "<lora:ink:0.8> <lora:gold:0.5>"),
    ("<lora:ink:0.8> <lora:gold:1>", "name", "gold=rust", "<lora:ink:0.8> <lora:rust:1>"),
    ("[<lora:ink:0.8>:5] cat", "weight", "1", "[<lora:ink:1>:5] cat"),
    ("<lora:ink:1:0.5:4:on=cond>", "TE", "0.2", "<lora:ink:0.2:0.5:dyn=4:on=cond>"),
]


@pytest.mark.parametrize(("prompt", "axis", "value", "expected"), CHANGED)
def test_one_tag_gets_the_value(prompt, axis, value, expected):
    assert changed(prompt, axis, value) == expected


@pytest.mark.parametrize(("prompt", "axis", "value", "reason"), [
    ("a cat", "weight", "1", "no <lora:...> tag"),
    ("<lora:ink:1>", "weight", "much", "is not a weight"),
    ("<lora:ink:1>", "start", "soon", "position"),
])  # fmt: skip
def test_what_cannot_be_is_told(prompt, axis, value, reason):
    with pytest.raises(ValueError, match=reason):
        changed(prompt, axis, value)


@pytest.mark.parametrize(("text", "expected"), [
    ("0.2, 0.5,1", ["0.2", "0.5", "1"]),
    ("0-1 (+0.25)", ["0", "0.25", "0.5", "0.75", "1"]),
    ("0-1 [3], 2", ["0", "0.5", "1", "2"]),
    ("-1-1 (+1)", ["-1", "0", "1"]),
    ('"0@0,1@1", 0@0;1@0.5', ["0@0,1@1", "0@0;1@0.5"]),
    ("ink=0.5, ink=1", ["ink=0.5", "ink=1"]),
    ("0-1 (+0)", ["0"]),
    ("", []),
])  # fmt: skip
def test_values_are_typed_between_commas_or_as_a_range(text, expected):
    assert values(text) == expected


def test_a_range_has_an_end():
    assert values("0-1 (+0.0000001)") == ["0-1 (+0.0000001)"]
