"""The grammar of tags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_lora.errors import TagError
from lib_lora.tag import LoraTag, find_tags, read_prompt, read_tag


@pytest.mark.parametrize(("body", "tag"), [
    ("ink", LoraTag("ink", 1, 1)),
    ("ink:0.8", LoraTag("ink", 0.8, 0.8)),
    ("ink:0.8:0.5", LoraTag("ink", 0.8, 0.5)),
    ("ink:0.8:0.5:4", LoraTag("ink", 0.8, 0.5, 4)),
    (" ink : 0.8 ", LoraTag("ink", 0.8, 0.8)),
    ("ink:-1.5", LoraTag("ink", -1.5, -1.5)),
    ("ink:0.8:te=0", LoraTag("ink", 0, 0)),
    ("ink:0.8:unet=0.1", LoraTag("ink", 0.8, 0.1)),
    ("ink:te=0.2:unet=0.4:dyn=8", LoraTag("ink", 0.2, 0.4, 8)),
    ("ink:1:force=1", LoraTag("ink", 1, 1, force=True)),
    ("styles/墨 v1.2 (final):.5", LoraTag("styles/墨 v1.2 (final)", 0.5, 0.5)),
])
def test_a_tag_says_name_and_weights(body, tag):
    assert read_tag(body) == tag


@pytest.mark.parametrize(("body", "hint"), [
    ("ink:abc", "'abc' is not a weight"),
    ("ink:0,8", "write a number such as 0.8"),
    ("ink:nan", "'nan' is not a weight"),
    ("ink:", "'' is not a weight"),
    (":1", "the name is missing"),
    ("ink:1:1:half", "'half' is not a rank"),
    ("ink:1:1:0", "'0' is not a rank"),
])
def test_a_malformed_tag_is_named_with_the_next_step(body, hint):
    with pytest.raises(TagError) as caught:
        read_tag(body)
    assert f"<lora:{body}>" in str(caught.value)
    assert hint in str(caught.value)


def test_a_malformed_tag_leaves_the_others():
    prompt = read_prompt("a <lora:one:1> b <lora:two:x> c <lyco:three:0.5>")
    assert [tag.name for tag in prompt.tags] == ["one", "three"]
    assert len(prompt.errors) == 1
    assert prompt.text == "a  b  c "


def test_an_unknown_option_is_told_and_ignored():
    tag = read_tag("ink:0.5:lbw=MIDD")
    assert (tag.te, tag.unet) == (0.5, 0.5)
    assert "'lbw=' is not known" in tag.notes[0]


def test_tags_are_found_as_typed():
    assert list(find_tags("x <lora: a : 1 > <hypernet:b:1> <lyco:c>")) == ["<lora: a : 1 >", "<lyco:c>"]


WEIGHTS = st.floats(-10, 10).map(lambda value: float(f"{value:.4g}"))
NAMES = st.text(st.characters(exclude_characters=":<>=", exclude_categories=("Cc", "Cs", "Z")), min_size=1)


@given(NAMES, WEIGHTS, WEIGHTS, st.none() | st.integers(1, 999))
def test_a_written_tag_reads_back_as_itself(name, te, unet, dyn):
    tag = LoraTag(name, te, unet, dyn)
    assert read_prompt(str(tag)).tags == (tag,)
