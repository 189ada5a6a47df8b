"""Prompt editing around tags: a tag counts in the steps in which a word in its place would be shown."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_lora.grammar.curve import ALWAYS, Window
from lib_lora.grammar.editing import Segment, lettered, segments
from lib_lora.grammar.moment import Moment
from lib_lora.grammar.tag import LoraTag, read_prompt


def test_every_tag_is_one_letter_and_what_cannot_be_read_is_none():
    read = lettered("a [<lora:ink:1>:<lora:wash:0.5>:0.5] <lora:bad:x> b")
    first, second = read.tags
    assert read.text == f"a [{first}:{second}:0.5]  b"
    assert list(read.tags.values()) == [LoraTag("ink", 1, 1), LoraTag("wash", 0.5, 0.5)]
    assert [str(error) for error in read.errors] == [
        "<lora:bad:x>: 'x' is not a weight; write a number such as 0.8"]  # fmt: skip


def test_a_letter_that_stands_in_the_prompt_is_not_taken():
    read = lettered("\ue000 <lora:a:1> \ue001")
    assert list(read.tags) == ["\ue002"]
    assert read.spoken(read.text) == "\ue000  \ue001"


PIECES = st.sampled_from(["<lora:a:1>", "<lora:a:x>", "<lora", "[", "]", ":", "|", " ", "\ue000", "b"])


@given(st.lists(PIECES, max_size=12).map("".join))
def test_without_its_letters_the_text_is_the_prompt_without_its_tags(prompt):
    read, plain = lettered(prompt), read_prompt(prompt)
    assert read.spoken(read.text) == plain.text
    assert tuple(read.tags.values()) == plain.tags
    assert list(map(str, read.errors)) == list(map(str, plain.errors))


def test_more_tags_than_are_read_are_cut_out():
    read = lettered("a" + "<lora:a:1>" * 200 + "b")
    assert read.spoken(read.text) == "ab"
    assert (len(read.tags), len(read.errors)) == (128, 1)


def test_a_schedule_of_the_webui_shows_each_text_up_to_the_step_it_names():
    assert list(segments([(5, "a"), (10, "b")])) == [Segment(0, 6, "a"), Segment(6, math.inf, "b")]
    assert list(segments([(5, "a"), (20, "b")], calls=2)) == [Segment(0, 3, "a"), Segment(3, math.inf, "b")]


def test_a_tag_counts_where_its_letter_is_shown():
    read = lettered("[<lora:a:1>:<lora:b:1>:5]<lora:c:1>[[<lora:d:1>:3]::3]")
    a, b, c, d = read.tags
    shown = read.shown([Segment(0, 6, f"{a}{c}"), Segment(6, math.inf, f"{b}{c}")])
    assert [tag.shown for tag in shown] == [
        Window(((0, 6),), "step"), Window(((6, math.inf),), "step"), ALWAYS, Window((), "step")]  # fmt: skip
    assert [tag.shown.holds(Moment(6, 10)) for tag in shown] == [False, True, True, False]
    assert d not in read.spoken(read.text)


def test_of_several_texts_of_one_prompt_a_tag_counts_where_any_shows_it():
    read = lettered("<lora:a:1> AND x")
    (a,) = read.tags
    (tag,) = read.shown([Segment(0, 4, a), Segment(4, math.inf, ""), Segment(0, 2, "x"), Segment(2, 8, f"x{a}")])
    assert tag.shown == Window(((0, 8),), "step")


@pytest.mark.parametrize(("shown", "windows"), [
    ([(0, 2), (2, 4), (6, 8)], ((0, 4), (6, 8))),
    ([(6, 8), (0, 7)], ((0, 8),)),
])  # fmt: skip
def test_steps_that_touch_are_one_range(shown, windows):
    read = lettered("<lora:a:1>")
    (a,) = read.tags
    (tag,) = read.shown([Segment(start, stop, a) for start, stop in shown])
    assert tag.shown == Window(windows, "step")
