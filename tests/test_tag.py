"""The grammar of tags."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_lora.errors import TagError
from lib_lora.grammar.blocks import BlockWeights
from lib_lora.grammar.curve import ALWAYS, Curve, Window, simple
from lib_lora.grammar.number import read_number, write_number
from lib_lora.grammar.scan import scan, without
from lib_lora.grammar.tag import MOST_TAGS, LoraTag, find_tags, is_typable, read_prompt, read_tag, typed_tags
from lib_lora.grammar.who import Area


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


@pytest.mark.parametrize(("typed", "meant"), [
    ("strat", "start"), ("mood", None), ("hr_te", "hrte"), ("refine", "refiner"), ("LBWW", "lbw"),
])  # fmt: skip
def test_an_unknown_key_is_told_with_the_nearest_one(typed, meant):
    (note,) = read_tag(f"ink:0.5:{typed}=1").notes
    assert (f"did you mean {meant}=?" if meant else "known are te, unet, dyn") in note


UP, DOWN = Curve(((0, 0), (0.5, 1))), Curve(((0, 1), (1, 0)))


@pytest.mark.parametrize(("body", "tag"), [
    ("ink:0@0,1@0.5", LoraTag("ink", UP, UP)),
    ("ink:1:0@0,1@0.5", LoraTag("ink", 1, UP)),
    ("ink:te=0~0;1~0.5:unet=1@0,0@1", LoraTag("ink", UP, DOWN)),
    ("ink:unet=0@0,1@0.5", LoraTag("ink", 1, UP)),
    ("ink:1:in=0@0,1@0.5:mid=0.3:out=1@0,0@1", LoraTag("ink", blocks=BlockWeights(input=UP, middle=0.3, output=DOWN))),
    ("ink:1:hr=0@0,1@0.5", LoraTag("ink", hires_te=UP, hires_unet=UP)),
    ("ink:1:hr=0.5:hrte=1@0,0@1", LoraTag("ink", hires_te=DOWN, hires_unet=0.5)),
    ("ink:1:hrunet=off", LoraTag("ink", hires_unet=0)),
    ("ink:1:refiner=0@0,1@0.5", LoraTag("ink", refiner=UP)),
    ("ink:1:REFINER=Off", LoraTag("ink", refiner=0)),
    ("ink:1:start=0.2:stop=0.8", LoraTag("ink", window=Window(((0.2, 0.8),)))),
    ("ink:1:stop=10", LoraTag("ink", window=Window(((0, 10),), "step"))),
    ("ink:1:step=5-10", LoraTag("ink", window=Window(((5, 10),), "step"))),
    ("ink:1:step=5-", LoraTag("ink", window=Window(((5, float("inf")),), "step"))),
    ("ink:1:step=s14.6-s2", LoraTag("ink", window=Window(((14.6, 2),), "sigma"))),
    ("ink:1:start=S5", LoraTag("ink", window=Window(((5, 0),), "sigma"))),
    ("ink:1:start=0:stop=1", LoraTag("ink")),
    ("ink:1:lbw=MIDD", LoraTag("ink", blocks=BlockWeights("MIDD"))),
    ("ink:1:w=MIDD:x=0.5", LoraTag("ink", blocks=BlockWeights("MIDD", x=0.5))),
    ("ink:1:lbw= 1, 0,0,0,0,0,R,0,0,X,0,.5", LoraTag("ink", blocks=BlockWeights("1,0,0,0,0,0,R,0,0,X,0,.5"))),
    ("ink:1:lbwe=ATTNDEEPOFF", LoraTag("ink", blocks=BlockWeights(elements="ATTNDEEPOFF"))),
    ("ink:1:lbwe=IN05-OUT05 M00:attn:0,:proj:.5:on=cond",
     LoraTag("ink", blocks=BlockWeights(elements="IN05-OUT05 M00:attn:0,:proj:.5"), on="cond")),
    ("ink:1:lbwe=::0", LoraTag("ink", blocks=BlockWeights(elements="::0"))),
    ("ink:lbwe=ATTNDEEPOFF:0.5", LoraTag("ink", 0.5, 0.5, blocks=BlockWeights(elements="ATTNDEEPOFF"))),
    ("ink:1:ON=Uncond", LoraTag("ink", on="uncond")),
    ("ink:1:area=0,0.25,0.5,0.75", LoraTag("ink", area=Area(0, 0.25, 0.5, 0.75))),
    ("ink:1:area=0;0;1;1;.1", LoraTag("ink", area=Area(0, 0, 1, 1, 0.1))),
    ("ink：１：start＝０．２：lbw＝OUTALL", LoraTag("ink", window=Window(((0.2, 1),)), blocks=BlockWeights("OUTALL"))),
])  # fmt: skip
def test_every_key_is_read_and_written(body, tag):
    assert read_tag(body) == tag
    assert read_prompt(str(tag)).tags == (tag,)


@pytest.mark.parametrize(("body", "sentence"), [
    ("ink:0@0,x@1", "'0@0,x@1' has the point 'x@1', which is no weight@position; write 0@0,1@0.5"),
    ("ink:0@0,1@2@3", "'0@0,1@2@3' has the point '1@2@3', which is no weight@position; write 0@0,1@0.5"),
    ("ink:0@-1,1@1", "'0@-1,1@1' has the position '-1'; write a share such as 0.5, a step such as 12, or s14.6 for "
                     "sigma; write 0@0,1@0.5"),
    ("ink:1:start=early", "'start=' has the position 'early'; write a share such as 0.5, a step such as 12, or s14.6 "
                          "for sigma"),
    ("ink:1:step=5", "'step=5' is no range; write step=5-10, from 5 steps made until 10 steps made"),
    ("ink:1:in=high", "'high' is not a weight; write a number such as 0.8"),
    ("ink:1:hr=on", "'on' is not a weight; write a number such as 0.8"),
    ("ink:1:x=0_8", "'x=0_8' is not a number; write x=0.8"),
    ("ink:1:lbw=1,1,1", "'lbw=1,1,1' has 3 numbers; it takes 12 or 20 for SDXL, 17 or 26 for SD1 and SD2"),
    ("ink:1:lbw=1", "'lbw=1' has 1 numbers; it takes 12 or 20 for SDXL, 17 or 26 for SD1 and SD2"),
    ("ink:1:lbw=", "'lbw=' names no blocks; write lbw=OUTALL, or a number for each block"),
    ("ink:1:lbw=1,1,1,1,1,Z,1,1,1,1,1,1", "'lbw=1,1,1,1,1,Z,1,1,1,1,1,1' has 'Z' for a block, which is no number, nor "
                                          "R, U or X"),
    ("ink:1:lbwe=", "'lbwe=' names no elements; write lbwe=ATTNDEEPOFF, or lbwe=IN05-OUT05:attn:0"),
    ("ink:1:lbwe=IN05-OUT15:attn:0", "'lbwe=' 'OUT15' is no block (did you mean OUT11?); blocks are BASE, IN00 to "
                                     "IN11, M00, OUT00 to OUT11"),
    ("ink:1:lbwe=IN05:attn:half", "'lbwe=' 'IN05:attn:half' is no blocks:elements:ratio; write IN05-OUT05:attn:0"),
    ("ink:1:on=negative", "'on=negative' is no side; write on=cond, on=uncond or on=both"),
    ("ink:1:area=0,0,256,512", "'area=0,0,256,512' is no part of a picture; write its left, top, width and height in "
                               "shares of the picture, from 0 to 1: area=0,0,0.5,1 is the left half"),
    ("ink:1:area=0,0,0.5", "'area=0,0,0.5' is no part of a picture; write its left, top, width and height in "
                           "shares of the picture, from 0 to 1: area=0,0,0.5,1 is the left half"),
    ("ink:1:area=1,0,0.5,1", "'area=1,0,0.5,1' begins where the picture ends; its left and top are below 1"),
])  # fmt: skip
def test_a_bad_argument_is_named_with_what_was_meant_and_switches_off_its_tag_alone(body, sentence):
    read = read_prompt(f"<lora:one:1> <lora:{body}> <lora:two:1>")
    assert [str(error) for error in read.errors] == [f"<lora:{body}>: {sentence}"]
    assert [tag.name for tag in read.tags] == ["one", "two"]


@pytest.mark.parametrize(("body", "note"), [
    ("ink:1:start=1", "start=1 is a share, the end: it acts in the last step only; from the second step on it is "
                      "start=0.001"),
    ("ink:1:stop=1", "stop=1 is a share, the end: it acts in all steps; for the first step alone write stop=0.001"),
    ("ink:1:start=0.5:stop=10", "0.5, 10 are all taken as step numbers"),
    ("ink:1:start=s5:stop=0.5:te=0", "s5, 0.5 are all taken as sigma"),
    ("ink:1:start=0.8:stop=0.2", "from 0.8 to 0.2 there is no step: it never acts"),
    ("ink:1:start=s2", "the text encoders know no sigma: they carry what is due at the beginning"),
    ("ink:1:step=2-5:stop=9", "step= says start and stop already; theirs were ignored"),
    ("ink:1:0@0.5,1@12", "0.5, 12 are all taken as step numbers"),
    ("ink:1:0.5,1@1", "the first point of '0.5,1@1' has no position: the weight is 0.5 all the time"),
    ("ink:1:0@0,1@10,0.5", "0.5 of '0@0,1@10,0.5' has no position and stands at 1"),
    ("ink:1:0@s9,1", "1 of '0@s9,1' has no position and stands at s0"),
    ("ink:0@0,1@1", "the text encoders get 0, what the curve begins with: they run before the first step"),
    ("ink:1:hr=1@0,0@1", "the text encoders get 1, what the curve begins with: they run before the first step"),
    ("ink:1:area=0.5,0,0.75,1", "area=0.5,0,0.75,1 reaches beyond the picture; the part within it counts"),
])  # fmt: skip
def test_what_is_read_otherwise_than_it_may_be_meant_is_said(body, note):
    (tag,) = read_prompt(f"<lora:{body}>").tags
    assert tag.notes == (f"<lora:{body}>: {note}",)


@pytest.mark.parametrize("body", ["ink:1:start=0.2:stop=1", "ink:1:0@0,1@1", "ink:0.8@s14.6,0.8@s2", "ink:1:lbw=MIDD",
                                  "ink:1:0@0,1@0.5,0", "ink:te=0:start=s5"])  # fmt: skip
def test_what_is_read_as_typed_needs_no_word(body):
    assert read_tag(body).notes == ()


@pytest.mark.parametrize(("text", "sentence"), [
    ("a <fromto[0.4]:cat,dog> <lora:ink:1>", "<fromto[0.4]:cat,dog>: is SwarmUI's and is not read; write "
     "[<lora:a:1>:<lora:b:1>:0.5], or start= and stop= in a tag"),
    ("[<lora:ink:1>#increment:10]",
     "#increment: is composable-lora's and is not read; write a curve: <lora:name:0@0,1@1>"),
    (r"[<lora:ink:1>#cmd\(warmup(0.5)\):10]",
     r"#cmd\(warmup(0.5)\): is composable-lora's and is not read; write a curve: <lora:name:0@0,1@1>"),
])  # fmt: skip
def test_what_other_programs_write_around_tags_is_named(text, sentence):
    read = read_prompt(text)
    assert [str(error) for error in read.errors] == [sentence]
    assert read.tags == (LoraTag("ink"),)


def test_without_a_tag_a_word_such_as_cmd_is_only_a_word():
    assert read_prompt("a terminal, #cmd, #increment").errors == ()


def test_tags_are_found_as_typed():
    assert list(find_tags("x <lora: a : 1 > <hypernet:b:1> <lyco:c>")) == ["<lora: a : 1 >", "<lyco:c>"]


WEIGHTS = st.floats(-10, 10) | st.floats(allow_nan=False, allow_infinity=False)
LETTERS = st.characters(exclude_characters=":：<>＜＞", exclude_categories=("Cc", "Cs", "Z", "Cf"))
NAMES = st.text(LETTERS, min_size=1, max_size=400)
PIECES = st.sampled_from([
    "<", "＜", "《", ">", "＞", "》", "lora", "LoRA", "ｌｏｒａ", "lyco", ":", "：", " ", "\t", "\u3000", "\u200b",
    "@", "~", "s", "0@0,1@1", "start=", "stop", "lbw=", "lbwe=", "area=0,0,1,1", "MIDD", "IN05", "hr=off",
    "ink", "墨", "😀", "0.8", "08", "0_8", "８", ".", ",", "-", "−", "e", "1e-3", "1e3", "inf", "nan", "=", "＝", "te",
    "dyn", "force", "(", "\\(", "٠", "a" * 150, "<lora:ink:", "<lora:", "1" * 400,
])  # fmt: skip
PROMPTS = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=40)


SHARES = st.floats(0, 1)
STEPS = st.floats(0, 150) | st.integers(0, 150).map(float)


@st.composite
def positions(draw, least, most):
    """`(unit, some positions of it)`."""
    unit = draw(st.sampled_from(["share", "step", "sigma"]))
    found = draw(st.lists(SHARES if unit == "share" else STEPS, min_size=least, max_size=most))
    if unit == "step":
        found[0] = draw(st.floats(1, 150, exclude_min=True))  # else they are shares
    return unit, found


@st.composite
def curves(draw):
    unit, places = draw(positions(1, 6))
    points = tuple((place, draw(WEIGHTS)) for place in places)
    return simple(Curve(points, unit))


@st.composite
def windows(draw):
    unit, places = draw(positions(1, 2))
    first, last = {"share": (0, 1), "step": (0, float("inf")), "sigma": (float("inf"), 0)}[unit]
    window = Window((tuple([*places, last][:2] if draw(st.booleans()) else [first, places[0]]),), unit)
    return ALWAYS if window.is_always else window


ANY_WEIGHT = WEIGHTS | curves()
NUMBERS_OF_BLOCKS = st.sampled_from(["1", "0.25", "R", "U", "X", "X+0.5", "-1"])
BLOCKS = st.builds(
    BlockWeights,
    st.sampled_from(["", "MIDD", "ALL0.5", "mine"]) | st.sampled_from([12, 17, 20, 26]).flatmap(
        lambda count: st.lists(NUMBERS_OF_BLOCKS, min_size=count, max_size=count)).map(",".join),
    st.sampled_from(["", "ATTNDEEPOFF", "IN05-OUT05:attn:0", "NOT IN00 M00:NOT proj to_q:.5,::1"]),
    WEIGHTS, ANY_WEIGHT, ANY_WEIGHT, ANY_WEIGHT,
)  # fmt: skip
AREAS = st.builds(Area, st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True),
                  st.floats(0, 1, exclude_min=True), st.floats(0, 1, exclude_min=True), SHARES)  # fmt: skip
TAGS = st.builds(
    LoraTag, NAMES, ANY_WEIGHT, ANY_WEIGHT, st.none() | st.integers(1, 999), st.booleans(), windows() | st.just(ALWAYS),
    BLOCKS | st.just(BlockWeights()), st.none() | ANY_WEIGHT, st.none() | ANY_WEIGHT, st.none() | ANY_WEIGHT,
    st.sampled_from([None, "cond", "uncond", "both"]), st.none() | AREAS,
)  # fmt: skip


@given(TAGS)
def test_a_written_tag_reads_back_as_itself(tag):
    read = read_prompt(str(tag))
    assert (read.tags, read.errors) == ((tag,), ())
    assert is_typable(tag.name)


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
    "<lora:a:1:lbw=" + "1," * 300_000 + ">", "<lora:a:1:" + "1," * 300_000 + ">", "<lora:a:" + "0@0," * 250_000 + "1>",
    "<lora:a:1:0@0," + "1@" * 300_000 + ">", "<lora:a:1:0," + "1@1" * 300_000 + ">", "<lora:a:1:start=" + "1" * 900_000,
    "<lora:a:1:start=" + "s" * 900_000 + ">", "<lora:a:1:lbwe=" + "IN00-OUT11 " * 90_000 + ":a:1>",
    "<lora:a:1:lbwe=x" + ":1" * 300_000 + ">", "<lora:a:1:lbwe=" + "z" * 500_000 + ":a:1>", "<fromto[" * 100_000,
    "<lora:a:1:area=" + "0," * 300_000 + ">", "<lora:a:1:step=" + "-" * 900_000 + ">", "<lora:a:1>" + "#cmd" * 200_000,
], ids=lambda text: f"{text[:12]}...")
def test_a_million_signs_are_read_at_once_and_told_in_short_sentences(text):
    started = time.perf_counter()
    read = read_prompt(text)
    assert time.perf_counter() - started < 5
    assert max((len(str(error)) for error in read.errors), default=0) < 400
    assert sum(len(note) for tag in read.tags for note in tag.notes) < 4000


@pytest.mark.parametrize("name", ["NieR：2", "a:b", "a>b", " a", "", "x" * 401, "a\u200b"])
def test_a_name_that_a_tag_would_read_differently_is_not_typed(name):
    assert not is_typable(name)


def test_an_error_names_the_tag_as_it_was_typed():
    (typed,) = typed_tags("a ＜LoRA：ink：0_8＞ b")
    assert str(typed.error) == "＜LoRA：ink：0_8＞: '0_8' is not a weight; write a number such as 0.8"
