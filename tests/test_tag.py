"""The grammar of tags."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_lora.errors import TagError
from lib_lora.grammar.number import read_number, write_number
from lib_lora.grammar.scan import scan, without
from lib_lora.grammar.tag import MOST_TAGS, LoraTag, cut_out, find_tags, is_typable, read_prompt, read_tag, typed_tags


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
    tag = read_tag("ink:0.5:mood=MIDD")
    assert (tag.te, tag.unet) == (0.5, 0.5)
    assert "'mood=' is not known" in tag.notes[0]


@pytest.mark.parametrize(
    ("option", "told"),
    [("lbw=MIDD", "block weights"), ("lbwe=ATTN", "block weights"), ("start=3", "in all steps"),
     ("stop=9", "in all steps"), ("STEP=3-9", "in all steps"), ("hr=0.5", "hires pass"), ("hrte=1", "hires pass"),
     ("hrunet=1", "hires pass")],
)  # fmt: skip
def test_what_only_other_extensions_can_do_yet_is_called_by_its_name(option, told):
    tag = read_tag(f"ink:0.5:{option}")
    assert (tag.te, tag.unet) == (0.5, 0.5)
    assert told in tag.notes[0]
    assert "has no effect yet" in tag.notes[0]
    assert "not known" not in tag.notes[0]


@pytest.mark.parametrize("weight", ["1@0,0.2@1", "0.5~0", "te=1@0,0@0.5", "1:0@0,1@8"])
def test_a_weight_that_changes_over_the_steps_is_called_by_its_name(weight):
    with pytest.raises(TagError, match="changes over the steps, which does not work yet; write one number such as 1"):
        read_tag(f"ink:{weight}")


def test_tags_are_found_as_typed():
    assert list(find_tags("x <lora: a : 1 > <hypernet:b:1> <lyco:c>")) == ["<lora: a : 1 >", "<lyco:c>"]


WEIGHTS = st.floats(-10, 10) | st.floats(allow_nan=False, allow_infinity=False)
LETTERS = st.characters(exclude_characters=":：<>＜＞", exclude_categories=("Cc", "Cs", "Z", "Cf"))
NAMES = st.text(LETTERS, min_size=1, max_size=400)
PIECES = st.sampled_from([
    "<", "＜", "《", ">", "＞", "》", "lora", "LoRA", "ｌｏｒａ", "lyco", ":", "：", " ", "\t", "\u3000", "\u200b",
    "ink", "墨", "😀", "0.8", "08", "0_8", "８", ".", ",", "-", "−", "e", "1e-3", "1e3", "inf", "nan", "=", "＝", "te",
    "dyn", "force", "(", "\\(", "٠", "a" * 150, "<lora:ink:", "<lora:", "1" * 400,
])  # fmt: skip
PROMPTS = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=40)


@given(NAMES, WEIGHTS, WEIGHTS, st.none() | st.integers(1, 999), st.booleans())
def test_a_written_tag_reads_back_as_itself(name, te, unet, dyn, force):
    tag = LoraTag(name, te, unet, dyn, force)
    assert read_prompt(str(tag)).tags == (tag,)
    assert is_typable(name)


@given(PROMPTS)
def test_what_is_read_from_any_text_is_written_so_that_it_reads_the_same(text):
    read = read_prompt(text)
    for tag in read.tags:
        assert read_prompt(str(tag)).tags == (tag,)
    assert len(read.tags) + len(read.errors) == len(list(find_tags(text)))


@given(PROMPTS)
def test_the_tags_and_the_rest_are_the_whole_text(text):
    place, rest = 0, []
    for found in scan(text):
        assert text[found.start : found.end] == found.source
        assert found.start >= place
        rest.append(text[place : found.start])
        place = found.end
    assert "".join([*rest, text[place:]]) == without(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_number_reads_back_as_itself(value):
    assert read_number(write_number(value)) == value


@pytest.mark.parametrize(("value", "text"), [
    (1.0, "1"), (0.8, "0.8"), (-0.0, "0"), (1e-05, "0.00001"), (1e22, "1" + "0" * 22), (5e-17, f"0.{'0' * 16}5"),
])  # fmt: skip
def test_a_number_is_written_as_people_write_it(value, text):
    assert write_number(value) == text


def test_of_too_many_tags_the_first_ones_are_read_and_one_sentence_says_so():
    read = read_prompt("a " + "<lora:ink:1>" * 5000 + "b")
    assert (len(read.tags), read.text) == (MOST_TAGS, "a b")
    assert [str(error) for error in read.errors] == [
        "<lora:ink:1>: a prompt can have 128 tags; this one and those after it were left out"]  # fmt: skip


@pytest.mark.parametrize("text", [
    "<lora:" * 200_000, "<lora:a:1>" * 100_000, " " * 1_000_000, "<" + " " * 1_000_000 + "lora",
    "< lora" + " " * 1_000_000,
    "<lora:" + "：" * 1_000_000 + ">", f"<lora:a：{'1' * 1_000_000}x>", "<lora:a" + "：te=1" * 200_000 + ">",
    "<lora:a" + ":k=1" * 200_000 + ">", "<lora:" + "a" * 1_000_000, "《lora:" * 200_000,
    "<lora:a:" + "1" * 1_000_000 + ">",
], ids=lambda text: f"{text[:12]}...")
def test_a_million_signs_are_read_at_once_and_told_in_short_sentences(text):
    started = time.perf_counter()
    read = read_prompt(text)
    assert time.perf_counter() - started < 5
    assert max((len(str(error)) for error in read.errors), default=0) < 400
    assert sum(len(note) for tag in read.tags for note in tag.notes) < 4000


def test_tags_where_they_have_no_effect_are_cut_out_and_told_once():
    text, told = cut_out("blurry <lora:x:1> <LoRA:x:1> <lora:x:1>", "the negative prompt")
    assert text == "blurry   "
    assert told == (
        "<lora:x:1> in the negative prompt has no effect yet; it was left out. Put it into the prompt",
        "<LoRA:x:1> in the negative prompt has no effect yet; it was left out. Put it into the prompt",
    )


@pytest.mark.parametrize("name", ["NieR：2", "a:b", "a>b", " a", "", "x" * 401, "a\u200b"])
def test_a_name_that_a_tag_would_read_differently_is_not_typed(name):
    assert not is_typable(name)


def test_an_error_names_the_tag_as_it_was_typed():
    (typed,) = typed_tags("a ＜LoRA：ink：0_8＞ b")
    assert str(typed.error) == "＜LoRA：ink：0_8＞: '0_8' is not a weight; write a number such as 0.8"
