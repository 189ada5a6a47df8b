"""Prompts of a batch, joined into one list: each picture's own tags stay in the order in which it has them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lib_lora.grammar.tag import LoraTag, read_prompt
from lib_lora.grammar.who import EVERYONE, Row, Side, Who
from lib_lora.session.wanted import Wanted, repeated


def tags(prompt: str) -> tuple[LoraTag, ...]:
    return read_prompt("".join(f"<lora:{letter}:1>" for letter in prompt)).tags


def wanted(*prompts: str, negative: tuple[str, ...] = ()) -> Wanted:
    return Wanted(tuple(map(tags, prompts)), tuple(map(tags, negative)))


def names(each: list[tuple[LoraTag, Who]]) -> list[tuple[str, Who]]:
    return [(tag.name, who) for tag, who in each]


def only(*images: int, side: Side | None = None) -> Who:
    return Who(frozenset(images), side)


def test_what_all_pictures_have_is_for_everyone():
    assert names(wanted("ab", "ab").each()) == [("a", EVERYONE), ("b", EVERYONE)]


def test_other_orders_keep_each_pictures_own():
    assert names(wanted("ab", "ba").each()) == [("a", only(0)), ("b", EVERYONE), ("a", only(1))]


def test_a_tag_that_stands_twice_counts_twice():
    assert names(wanted("aa", "a").each()) == [("a", EVERYONE), ("a", only(0))]


def test_the_negative_prompt_acts_on_its_side_and_comes_last():
    assert names(wanted("a", negative=("b",)).each()) == [("a", EVERYONE), ("b", Who(side="uncond"))]
    assert names(wanted("a", "", negative=("b",)).each()) == [("a", only(0)), ("b", only(0, side="uncond"))]


def test_on_says_it_otherwise():
    negative = read_prompt("<lora:b:1:on=both><lora:c:1:on=cond>").tags
    asked = Wanted((read_prompt("<lora:a:1:on=cond>").tags,), (negative,))
    assert names(asked.each()) == [("a", Who(side="cond")), ("b", EVERYONE), ("c", Who(side="cond"))]


PROMPTS = st.lists(st.text("abc", max_size=4), min_size=1, max_size=4)


@given(PROMPTS, st.data())
def test_each_picture_has_what_it_would_have_alone(prompts, data):
    negative = tuple(data.draw(st.lists(st.text("abc", max_size=3), max_size=len(prompts))))
    joined = wanted(*prompts, negative=negative).each()
    for image, prompt in enumerate(prompts):
        own = negative[image] if image < len(negative) else ""
        for side, expected in (("cond", prompt), ("uncond", prompt + own)):
            assert "".join(tag.name for tag, who in joined if who.includes(Row(image, side))) == expected


@given(PROMPTS, st.integers(1, 3))
def test_several_pictures_of_a_prompt_are_alike(prompts, pictures):
    joined = repeated(wanted(*prompts), pictures).each()
    for number in range(len(prompts) * pictures):
        own = "".join(tag.name for tag, who in joined if who.includes(Row(number)))
        assert own == prompts[number // pictures]


def test_at_most_so_many_entries_as_needed():
    assert len(wanted("abc", "abc", "bc", "ac").each()) == 3
