"""Prompt editing around tags: a tag counts in the steps in which a word in its place would be shown."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_lora.grammar.brackets import schedule
from lib_lora.grammar.curve import ALWAYS, Window
from lib_lora.grammar.editing import Segment, edited, lettered, segments
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


EDITED = {  # in 10 steps: {the last step: the text}
    "a [b:3]": {3: "a ", 10: "a b"}, "a [b: 3 ]": {3: "a ", 10: "a b"}, "a [b:.5] c": {5: "a  c", 10: "a b c"},
    "a [b:c:0.25]d": {2: "a bd", 10: "a cd"}, "a [b::3]": {3: "a b", 10: "a "}, "[:b:3]": {3: "", 10: "b"},
    "[a:b:1.5]": {10: "a"}, "[a:b:12]": {10: "a"}, "[a:b:0]": {10: "b"}, "[a:b:-1]": {10: "b"}, "[a:b:0.01]": {10: "b"},
    "a[b:[c:d:2]:1]e": {1: "abe", 2: "ace", 10: "ade"}, "[[a:2]::4]": {2: "", 4: "a", 10: ""},
    "[(a:2):3]": {3: "", 10: "(a:2)"}, "(a [b:c:2]:1.2)": {2: "(a b:1.2)", 10: "(a c:1.2)"},
    "a [[[b]]:2]": {2: "a ", 10: "a [[b]]"}, "a [unbalanced": {10: "a [unbalanced"},
    "((a][:b:c [d:3]": {3: "((a][:b:c ", 10: "((a][:b:c d"}, "a:b [c:d:3]": {3: "a:b c", 10: "a:b d"},
    "\\[a:b:3]": {10: "\\[a:b:3]"}, "[a\\:b:c:3]": {3: "a\\:b", 10: "c"}, "[a:b:3\\]": {10: "[a:b:3\\]"},
    "[a:b:c:3]": {10: "[a:b:c:3]"}, "[a:b:three]": {10: "[a:b:three]"}, "(a) [b] (c:1.2)": {10: "(a) [b] (c:1.2)"},
    "a|b [c:d:3]": {10: "a|b [c:d:3]"}, "[a|b:c]": {10: "[a|b:c]"}, "": {10: ""}, "[a:b:3]\\": {10: "[a:b:3]\\"},
}  # fmt: skip


@pytest.mark.parametrize("prompt", EDITED)
def test_a_text_is_edited_as_the_webui_does(prompt):
    assert dict(schedule(prompt, 10)) == EDITED[prompt]


@pytest.mark.parametrize(("prompt", "texts"), [
    ("[fe|]male", ["female", "male"] * 5), ("[a|(b:1.1)]", ["a", "(b:1.1)"] * 5),
    ("[a||c]", ["a", "", "c", "a", "", "c", "a", "", "c", "a"]), ("[[a|b]:c:2]", ["a", "b", "c", *"c" * 7]),
    ("[a|[b|c]]", ["a", "c"] * 5), ("[|a]", ["", "a"] * 5),
])  # fmt: skip
def test_texts_take_turns_as_the_webui_has_them(prompt, texts):
    assert schedule(prompt, 10) == list(enumerate(texts, 1))


@pytest.mark.parametrize(("prompt", "expected"), [
    ("a [b:.5] c", {6: "a b c"}), ("a [b:1.5] c", {3: "a  c", 6: "a b c"}), ("[a:b:12]", {2: "a", 6: "b"}),
    ("[a:b:3]", {6: "b"}), ("[a:b:40]", {6: "a"}),
])  # fmt: skip
def test_in_a_hires_pass_numbers_count_on_from_the_first(prompt, expected):
    """6 steps after 10."""
    assert dict(schedule(prompt, 6, before=10)) == expected


def acting(prompt, steps, before=None):
    """The steps in which each tag counts."""
    return [[step for step in range(steps) if tag.shown.holds(Moment(step, steps))]
            for tag in edited(prompt, steps, before).tags]  # fmt: skip


@pytest.mark.parametrize(("prompt", "steps"), [
    ("<lora:a:1>", [range(10)]),
    ("a ([cat <lora:a:1>]:1.2)", [range(10)]),
    ("[<lora:a:1>:<lora:b:0.5:1>:0.5]", [range(6), range(6, 10)]),
    ("[<lora:a:1>:3]", [range(4, 10)]),
    ("[<lora:a:1>::3]", [range(4)]),
    ("[<lora:a:1>cat|<lora:b:1>dog]", [[0, 1, 3, 5, 7, 9], [2, 4, 6, 8]]),
    ("[[<lora:a:1>::2]|<lora:b:1>|]", [[0, 1], [2, 5, 8]]),
    ("[<lora:a:1>:<lora:b:1>:9]", [range(10), []]),
    ("[<lora:a:1>:<lora:b:1>:0]", [[], range(10)]),
    ("[<lora:a:te=1:unet=0@0,1@0.5>:[<lora:b:1:lbw=MIDD>:<lora:a:1>:6]:2]", [range(3), [3, 4, 5, 6], [7, 8, 9]]),
    ("\\[<lora:a:1>:<lora:b:1>:3\\]", [range(10), range(10)]),
])  # fmt: skip
def test_a_tag_counts_in_the_steps_that_show_a_word_in_its_place(prompt, steps):
    assert acting(prompt, 10) == list(map(list, steps))
    for word, expected in enumerate(steps):  # the promise, by the text itself
        words = iter(f"WORD{number}" for number in range(9))
        spelt = "".join(each if not number else next(words) + each.partition(">")[2]
                        for number, each in enumerate(prompt.split("<lora:")))  # fmt: skip
        shown = [next(text for stop, text in edited(spelt, 10).texts if step < stop) for step in range(10)]
        assert [step for step, text in enumerate(shown) if f"WORD{word}" in text] == list(expected)


def test_in_a_hires_pass_too():
    assert acting("[<lora:a:1>:<lora:b:1>:12]", 6, before=10) == [[0, 1, 2], [3, 4, 5]]
    assert acting("[<lora:a:1>:<lora:b:1>:0.5]", 6, before=10) == [[], [0, 1, 2, 3, 4, 5]]


def test_the_texts_have_no_tags_and_end_with_the_steps():
    read = edited("a [<lora:a:1>cat:<lora:b:x>dog:3] <lora:c:1>[b|b]", 8)
    assert read.texts == ((4, "a cat b"), (8, "a dog b"))
    assert [tag.name for tag in read.tags] == ["a", "c"]
    assert len(read.errors) == 1
    assert edited("[a:b:0.5]", 1).texts == ((1, "b"),)


def test_what_is_not_edited_is_as_read_prompt_has_it():
    prompt = "a (cat:1.2) <lora:a:0.5> [dog] <lora:b:1:start=0.2>"
    read, plain = edited(prompt, 20), read_prompt(prompt)
    assert read.texts == ((20, plain.text),)
    assert read.tags == plain.tags


@pytest.mark.parametrize("text", [
    "[" * 10_000, "[a:" * 10_000, "[a|" * 10_000, "[" * 10_000 + ":3]" * 10_000, "(" * 10_000 + ")" * 10_000,
    "[a:b:3]" * 5_000, "[a" * 5_000 + "|b]" * 5_000, "\\" * 10_001,
], ids=lambda text: text[:6])  # fmt: skip
def test_any_number_of_brackets_is_read_at_once(text):
    started = time.perf_counter()
    schedule(text, 10)
    assert time.perf_counter() - started < 5
