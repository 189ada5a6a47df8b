"""What the documents of loractl and lora-block-weight show, and what it means: the same text means the same here.

loractl: https://github.com/cheald/sd-webui-loractl, its README and its tests; lora-block-weight:
https://github.com/hako-mikan/sd-webui-lora-block-weight, its README in English and in Japanese.
"""

from __future__ import annotations

import pytest

from lib_lora.grammar.blocks import Place
from lib_lora.grammar.curve import write_weight
from lib_lora.grammar.elements import ORDER
from lib_lora.grammar.moment import Moment
from lib_lora.grammar.presets import VECTORS, read_presets
from lib_lora.grammar.tag import read_prompt
from lib_lora.grammar.who import FIRST_PASS, Stage

STEPS = 21  # so that every twentieth has a step
HIRES = Stage(hires=True)


def read(text, presets=None):
    prompt = read_prompt(text)
    assert prompt.errors == ()
    return [tag.settled(presets) if presets else tag for tag in prompt.tags]


def at(tag, step, component="unet", stage=FIRST_PASS, steps=STEPS):
    strength = tag.strength(Place(component), stage)
    return pytest.approx(strength.at(Moment(step, steps)))


@pytest.mark.parametrize(("text", "te", "unet", "hires"), [  # unet: {step of 21: weight}; hires: the same, te first
    ("<lora:network_name:0.7:0.8:4>", 0.7, {0: 0.8, 20: 0.8}, (0.7, {0: 0.8})),
    ("<lora:network_name:te=0:unet=1:dyn=256>", 0, {0: 1, 20: 1}, (0, {0: 1})),
    ("<lora:network:1.0>", 1, {0: 1, 10: 1, 20: 1}, (1, {0: 1})),
    # up until half of the steps, and down again
    ("<lora:network:0@0,1@0.5,0@1>", 0, {0: 0, 5: 0.5, 10: 1, 15: 0.5, 20: 0}, (0, {10: 1})),
    # from the first weight that is given, until half of the steps
    ("<lora:network:0.25@0.5,1@1>", 0.25, {0: 0.25, 10: 0.25, 15: 0.625, 20: 1}, (0.25, {0: 0.25})),
    ("<loractl:network:0.5:hr=1.0>", 0.5, {0: 0.5, 20: 0.5}, (1, {0: 1, 20: 1})),
    ("<lora:network:0.5:hr=1.0>", 0.5, {0: 0.5, 20: 0.5}, (1, {0: 1, 20: 1})),
    ("<lora:network:0@0,1@1:hr=1@0,0@1>", 0, {0: 0, 10: 0.5, 20: 1}, (1, {0: 1, 10: 0.5, 20: 0})),
    ("<lora:st4rw4ar5at4t:0@0,1@0.4>", 0, {0: 0, 4: 0.5, 8: 1, 20: 1}, (0, {8: 1})),
    ("<lora:MechanicalBird:1@0,0.5@0.5>", 1, {0: 1, 5: 0.75, 10: 0.5, 20: 0.5}, (1, {10: 0.5})),
    ("<lora:pixel:0>", 0, {0: 0, 20: 0}, (0, {0: 0})),
    # nothing in the first five steps
    ("<lora:pixel:1:0@5,1@6>", 1, {0: 0, 5: 0, 6: 1, 20: 1}, (1, {5: 0, 6: 1})),
    ("<lora:pixel:te=1:unet=0@0,1@1>", 1, {0: 0, 10: 0.5, 20: 1}, (1, {20: 1})),
    ("<lora:pixel:te=0@0,1@1:unet=1>", 0, {0: 1, 20: 1}, (0, {0: 1})),
    # its tests
    ("<lora:loraname:1@0,0.5@3,1@6>", 1, {0: 1, 3: 0.5, 6: 1, 9: 1}, (1, {3: 0.5})),
    ("<lora:loraname:0.5@3,1@6,1@0>", 1, {0: 1, 3: 0.5, 6: 1, 9: 1}, (1, {3: 0.5})),
    ("<lora:loraname:0.5@0,0.5@0.5,0@1>", 0.5, {0: 0.5, 10: 0.5, 15: 0.25, 20: 0}, (0.5, {20: 0})),
    ("<lora:loraname:1@0;0.5@3;1@6>", 1, {0: 1, 3: 0.5, 6: 1, 9: 1}, (1, {3: 0.5})),
    ("<lora:loraname:0.75@0;0.5@3;1@6>", 0.75, {0: 0.75, 3: 0.5, 6: 1, 9: 1}, (0.75, {3: 0.5})),
    ("<lora:loraname:0.5@5,1.0@10>", 0.5, {0: 0.5, 5: 0.5, 8: 0.8, 15: 1}, (0.5, {8: 0.8})),
    ("<lora:loraname:0.5@0,1@1:hr=0.6>", 0.5, {0: 0.5, 10: 0.75, 20: 1}, (0.6, {0: 0.6, 20: 0.6})),
    ("<lora:loraname:te=0.5@0,1@1>", 0.5, {0: 0.5, 10: 0.75, 20: 1}, (0.5, {0: 0.5, 20: 1})),
    ("<lora:loraname:unet=0.5@0,1@1>", 1, {0: 0.5, 10: 0.75, 20: 1}, (1, {0: 0.5, 20: 1})),
    ("<lora:loraname:unet=0.5@0,1@1:hrte=0.5>", 1, {0: 0.5, 20: 1}, (0.5, {0: 0.5, 20: 1})),
    ("<lora:loraname:hr=0.6:hrte=0.5>", 1, {0: 1, 20: 1}, (0.5, {0: 0.6, 20: 0.6})),
    ("<lora:loraname:0.8@0.15,0@0.3:hr=0>", 0.8, {0: 0.8, 3: 0.8, 6: 0, 20: 0}, (0, {0: 0, 20: 0})),
])  # fmt: skip
def test_what_loractl_shows(text, te, unet, hires):
    (tag,) = read(text)
    for component, stage, expected in (("text_encoder", FIRST_PASS, {0: te}), ("unet", FIRST_PASS, unet),
                                       ("text_encoder", HIRES, {0: hires[0]}), ("unet", HIRES, hires[1])):  # fmt: skip
        assert {step: at(tag, step, component, stage) for step in expected} == expected, component
    (again,) = read(str(tag))
    assert again == tag


def test_what_loractl_shows_of_two_adapters_at_once():
    one, two = read("<lora:st4rw4ar5at4t:0.55> <lora:MechanicalBird:1> mechanical bird,  st4rw4ar5at4t")
    assert (one.te, one.unet, two.te, two.unet) == (0.55, 0.55, 1, 1)


def test_where_loractl_lets_points_fall_that_is_said():
    (tag,) = read("<lora:loraname:0.5,1@1>")
    assert write_weight(tag.unet) == "0.5"
    assert "has no position" in tag.notes[0]
    assert write_weight(read("<lora:loraname:1:0@0,0.5@10,0.25>")[0].unet) == "0@0,0.25@1,0.5@10"  # at 1, as there


PRESETS = read_presets("""\
IN02:0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0
MYSETS:1,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0
YOURSETS:0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,1
XYZ:1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1
ROUT:X,1,1,1,1,1,1,1,1,1,1,1,X,X,X,X,X
OUTR:1,1,1,1,1,1,1,1,R,R,R,R,R,R,R,R,R
""", """\
ATTNON:IN05-OUT04:attn:0.8

ALL0:::0

IN1:IN00-IN11::1

ATTNALL::attn:1

TWO:IN05-OUT05:attn:0
BASE:attn:0.5

XYZ:::1

ENCODER:encoder::1
""")  # fmt: skip
IN02 = {"IN02": 1}
FIRST, LAST = "1,1,1,1,1,1,1,1,1,1,1,1", "0,0,0,0,0,0,0,0,0,0,0,0,0,0"


def factors(tag, path="", is_xl=False):
    """{block: factor} where that is not 0."""
    found = {}
    for block in ORDER:
        place = Place("text_encoder" if block == "BASE" else "unet", block, path, is_xl)
        found[block] = tag.blocks.of(place)[0]
    return {block: factor for block, factor in found.items() if factor}


def ones(*numbers_of_17):
    return {VECTORS[17][number]: 1 for number in numbers_of_17}


@pytest.mark.parametrize(("text", "weights", "blocks"), [
    ("<lora:lora name:1:0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0>", (1, 1), IN02),
    ("<lora:lora name:1:0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0>", (1, 1), {"IN01": 1}),
    ("<lyco:lora name:1:1:lbw=IN02>", (1, 1), IN02),
    (f"<lyco:lora name:1:1:lbw={FIRST},{LAST}>", (1, 1), dict.fromkeys(ORDER[:12], 1)),
    ("<lora:lora name:1:1:lbw=IN02>", (1, 1), IN02),
    ("<lora:lora name:1:lbw=IN02>", (1, 1), IN02),
    (f"<lora:lora name:1:1:lbw={FIRST},{LAST}>", (1, 1), dict.fromkeys(ORDER[:12], 1)),
    ("<lora:mylora:1:MYSETS>", (1, 1), ones(0, 1)),
    ("<lora:mylora:1:YOURSETS>", (1, 1), ones(15, 16)),
    ("<lora:mylora:1:XYZ>", (1, 1), ones(*range(17))),
    ("<lora:my_lore:0.5:ROUT:0.7>", (0.5, 0.5), ones(*range(1, 12)) | dict.fromkeys(
        ("BASE", "OUT07", "OUT08", "OUT09", "OUT10", "OUT11"), 0.7)),
    ("<lora:my_lore:0.5:lbw=ROUT>", (0.5, 0.5), ones(*range(17))),  # X is 1 where nothing is said
    ("<lora:my_lore:0.5:lbw=ROUT:x=0.7>", (0.5, 0.5), ones(*range(1, 12)) | dict.fromkeys(
        ("BASE", "OUT07", "OUT08", "OUT09", "OUT10", "OUT11"), 0.7)),
    # its own presets, as its settings list them
    ("<lora:n:1:lbw=NONE>", (1, 1), {}), ("<lora:n:1:lbw=ALL>", (1, 1), ones(*range(17))),
    ("<lora:n:1:lbw=INS>", (1, 1), ones(0, 1, 2, 3)), ("<lora:n:1:lbw=IND>", (1, 1), ones(0, 4, 5, 6)),
    ("<lora:n:1:lbw=INALL>", (1, 1), ones(*range(7))), ("<lora:n:1:lbw=MIDD>", (1, 1), ones(0, *range(4, 12))),
    ("<lora:n:1:lbw=OUTD>", (1, 1), ones(0, *range(8, 12))), ("<lora:n:1:lbw=OUTS>", (1, 1), ones(0, *range(12, 17))),
    ("<lora:n:1:lbw=OUTALL>", (1, 1), ones(0, *range(8, 17))),
    ("<lora:n:1:lbw=ALL0.5>", (1, 1), dict.fromkeys(VECTORS[17], 0.5)),
])  # fmt: skip
def test_what_lora_block_weight_shows_of_blocks(text, weights, blocks):
    (tag,) = read(text, PRESETS)
    assert (tag.te, tag.unet) == weights
    assert tag.notes == ()
    assert factors(tag) == blocks


@pytest.mark.parametrize(("count", "is_xl"), [(12, True), (17, False), (20, True), (26, False)])
def test_its_four_lengths_and_what_a_length_of_another_model_leaves_0(count, is_xl):
    (tag,) = read(f"<lora:n:1:lbw={','.join(['1'] * count)}>")
    assert factors(tag, is_xl=is_xl) == factors(tag, is_xl=not is_xl) == dict.fromkeys(VECTORS[count], 1)


def test_only_the_out_blocks_are_random_where_only_they_have_the_letter():
    (tag,) = read("<lora:n:1:lbw=OUTR>", PRESETS)
    found = factors(tag)
    assert {block for block, factor in found.items() if factor != 1} == {*VECTORS[17][8:]}
    assert all(0 < found[block] < 1 for block in VECTORS[17][8:])


@pytest.mark.parametrize(("text", "acting"), [  # the steps of 21 in which it acts
    ("<lora:lora name:lbw=ALL:stop=10>", range(10)),
    ("<lora:lora name:1:1:lbw=IN02:stop=10>", range(10)),
    ("<lora:lora name:lbw=ALL:start=10>", range(10, 21)),
    ("<lora:lora name:lbw=ALL:step=5-10>", range(5, 10)),
    ("<lora:lora name:lbw=ALL:start=0.25:stop=0.5>", range(5, 10)),  # its newest version: shares
])  # fmt: skip
def test_what_lora_block_weight_shows_of_steps(text, acting):
    (tag,) = read(text, PRESETS)
    weights = [tag.strength(Place("unet", "IN02")).at(Moment(step, STEPS)) for step in range(STEPS)]
    assert weights == [float(step in acting) for step in range(STEPS)]
    encoder = tag.strength(Place("text_encoder", "BASE"))
    expected = 0 if "IN02" in text else 1
    assert [encoder.at(Moment(step, STEPS)) for step in range(STEPS)] == [
        float(step in acting) * expected for step in range(STEPS)]  # fmt: skip


ATTN, PROJ = "input_blocks.5.1.transformer_blocks.0.attn1.to_q", "input_blocks.5.1.proj_in"
ENCODER = "transformer.text_model.encoder.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(("text", "expected"), [  # {(block, module): factor}
    ("<lora:lora name:1:lbw=MIDD:lbwe=ATTNON>", {
        ("IN05", ATTN): 0.8, ("IN05", PROJ): 1, ("IN04", ATTN): 0, ("OUT04", ATTN): 0.8, ("OUT05", ATTN): 1}),
    ("<lora:n:1:lbwe=ALL0>", {("IN05", ATTN): 0, ("OUT11", PROJ): 0}),
    ("<lora:n:1:lbw=NONE:lbwe=IN1>", {("IN00", "input_blocks.0.0"): 1, ("IN11", ATTN): 1, ("OUT00", ATTN): 0}),
    ("<lora:n:1:lbw=NONE:lbwe=ATTNALL>", {("IN05", ATTN): 1, ("OUT11", ATTN): 1, ("IN05", PROJ): 0}),
    ("<lora:n:1:lbwe=ATTNDEEPON:lbw=NONE>", {("IN05", ATTN): 1, ("OUT05", ATTN): 1, ("OUT06", ATTN): 0}),
    ("<lora:n:1:lbwe=ATTNDEEPOFF>", {("IN05", ATTN): 0, ("OUT05", ATTN): 0, ("OUT06", ATTN): 1, ("IN05", PROJ): 1}),
    ("<lora:n:1:lbwe=PROJDEEPOFF>", {("IN05", PROJ): 0, ("IN05", ATTN): 1, ("OUT06", PROJ): 1}),
    ("<lora:n:1:lbwe=TWO>", {("IN05", ATTN): 0, ("BASE", ENCODER): 0.5, ("OUT06", ATTN): 1}),
    ("<lora:n:1:lbw=NONE:lbwe=XYZ>", {("IN05", ATTN): 1, ("OUT11", PROJ): 1, ("BASE", ENCODER): 1}),
    ("<lora:n:1:lbw=NONE:lbwe=ENCODER>", {("IN05", ATTN): 0, ("BASE", ENCODER): 1}),
    # as its fields take them, written into the tag
    ("<lora:n:1:lbw=NONE:lbwe=IN05-OUT05:attn:0.5>", {("IN05", ATTN): 0.5, ("IN05", PROJ): 0}),
    ("<lora:n:1:lbwe=NOT IN05-OUT05:attn:0>", {("IN05", ATTN): 1, ("IN04", ATTN): 0, ("OUT06", ATTN): 0}),
])  # fmt: skip
def test_what_lora_block_weight_shows_of_elements(text, expected):
    (tag,) = read(text, PRESETS)
    assert tag.notes == ()
    for (block, path), factor in expected.items():
        place = Place("text_encoder" if block == "BASE" else "unet", block, path)
        assert tag.blocks.of(place)[0] == factor, (block, path)


def test_the_strength_is_on_top_of_the_blocks():
    (tag,) = read("<lora:n:0.5:2:lbw=ALL0.5>")
    assert at(tag, 0) == 2  # in no block
    assert tag.strength(Place("unet", "IN04")).at(Moment(0, STEPS)) == 1
    assert tag.strength(Place("text_encoder", "BASE")).at(Moment(0, STEPS)) == 0.25
