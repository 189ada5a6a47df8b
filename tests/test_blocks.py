"""Block weights: which factor the module of a block gets."""

from __future__ import annotations

import random

import pytest

from lib_lora.errors import TagError
from lib_lora.grammar.blocks import BlockWeights, Place
from lib_lora.grammar.elements import ORDER, BlocksError
from lib_lora.grammar.moment import Moment
from lib_lora.grammar.presets import BLOCK_NAMES, BUILT_IN, VECTORS, read_presets
from lib_lora.grammar.tag import read_tag
from lib_lora.keys.blocks import block_of
from lib_lora.session.wanted import Wanted

SD1 = ("BASE", "IN01", "IN02", "IN04", "IN05", "IN07", "IN08", "M00", *(f"OUT{n:02d}" for n in range(3, 12)))
COMPONENT = {"BASE": "text_encoder"}


def factors(blocks, names=ORDER, is_xl=False):
    """{block: factor} where it is not 0."""
    found = {name: blocks.of(Place(COMPONENT.get(name, "unet"), name, is_xl=is_xl))[0] for name in names}
    return {name: factor for name, factor in found.items() if factor}


@pytest.mark.parametrize(("native", "component", "block"), [
    ("input_blocks.0.0", "unet", "IN00"), ("input_blocks.11.0.in_layers.2", "unet", "IN11"),
    ("middle_block.1.proj_in", "unet", "M00"), ("output_blocks.3.1.transformer_blocks.0.attn1.to_q", "unet", "OUT03"),
    ("time_embed.0", "unet", ""), ("label_emb.0.0", "unet", ""), ("out.2", "unet", ""),
    ("transformer.text_model.encoder.layers.0.mlp.fc1", "text_encoder", "BASE"),
    ("model.transformer.resblocks.0.mlp.c_fc", "text_encoder_2", "BASE"),
])  # fmt: skip
def test_the_block_of_a_module(native, component, block):
    assert block_of(native, component) == block


@pytest.mark.parametrize("count", VECTORS)
def test_each_number_is_for_one_block_and_the_others_become_0(count):
    assert len(VECTORS[count]) == len({*VECTORS[count]}) == count
    blocks = BlockWeights(",".join(str(number) for number in range(1, count + 1)))
    assert factors(blocks) == {name: number for number, name in enumerate(VECTORS[count], 1)}
    assert blocks.of(Place("unet", ""))[0] == 1  # time_embed and its like


def test_the_numbers_of_17_and_26_and_of_12_and_20():
    assert VECTORS[17] == SD1
    assert VECTORS[26] == ORDER
    assert " ".join(VECTORS[12]) == "BASE IN04 IN05 IN07 IN08 M00 OUT00 OUT01 OUT02 OUT03 OUT04 OUT05"
    assert " ".join(VECTORS[20]) == (
        "BASE IN00 IN01 IN02 IN03 IN04 IN05 IN06 IN07 IN08 M00 OUT00 OUT01 OUT02 OUT03 OUT04 OUT05 OUT06 OUT07 OUT08")


@pytest.mark.parametrize(("name", "numbers"), [  # in the order of 17
    ("NONE", "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0"), ("ALL", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1"),
    ("INS", "1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0"), ("IND", "1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0"),
    ("INALL", "1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0"), ("MIDD", "1,0,0,0,1,1,1,1,1,1,1,1,0,0,0,0,0"),
    ("OUTD", "1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0"), ("OUTS", "1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1"),
    ("OUTALL", "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1"), ("ALL0.5", ",".join(["0.5"] * 17)),
])  # fmt: skip
def test_the_built_in_presets(name, numbers):
    for typed in (name, name.lower()):
        assert factors(BlockWeights(typed)) == factors(BlockWeights(numbers))


@pytest.mark.parametrize(("name", "blocks"), [
    ("INS", "BASE IN04 IN05"), ("IND", "BASE IN07 IN08"), ("MIDD", "BASE IN07 IN08 M00 OUT00 OUT01 OUT02"),
    ("OUTD", "BASE OUT00 OUT01 OUT02"), ("OUTS", "BASE OUT03 OUT04 OUT05"),
    ("ALL", " ".join(VECTORS[12])), ("NONE", ""),
])  # fmt: skip
def test_on_sdxl_a_preset_means_the_blocks_that_do_the_same_there(name, blocks):
    assert factors(BlockWeights(name), is_xl=True) == dict.fromkeys(blocks.split(), 1)
    assert {*BLOCK_NAMES} < {*BUILT_IN.weights}


def test_in_mid_and_out_multiply_the_blocks_of_their_part_also_over_time():
    tag = read_tag("ink:0.5:lbw=ALL0.5:in=0@0,1@1:mid=0.2:out=-1")
    expected = {"IN04": [0, 0.125, 0.25], "M00": [0.05] * 3, "OUT04": [-0.25] * 3, "BASE": [0.25] * 3, "": [0.5] * 3}
    for block, weights in expected.items():
        strength = tag.strength(Place(COMPONENT.get(block, "unet"), block))
        assert [strength.at(Moment(step, 3)) for step in range(3)] == pytest.approx(weights), block


@pytest.mark.parametrize(("weights", "blocks", "is_xl", "told"), [
    ("ALL", SD1, False, ""),
    ("MIDD", ORDER, False, "the 17 numbers of lbw=MIDD do not name IN00, IN03, IN06, IN09, IN10, IN11, OUT00, OUT01, "
     "OUT02, which became 0; 26 numbers name all blocks of SD1 and SD2"),
    (",".join("1" * 17), ("BASE", "IN04", "OUT00", "OUT01"), True, f"the 17 numbers of lbw={','.join('1' * 17)} "
     "do not name OUT00, OUT01, which became 0; 12 or 20 numbers name all blocks of SDXL"),
    (",".join("1" * 12), SD1, False, "the 12 numbers of lbw=1,1,1,1,1,1,1,1,1,1,1,1 do not name IN01, IN02, OUT06, "
     "OUT07, OUT08, OUT09, OUT10, OUT11, which became 0; 17 or 26 numbers name all blocks of SD1 and SD2"),
    (",".join("1" * 26), ORDER, False, ""), ("", ORDER, False, ""), ("ALL", ("", "BASE"), False, ""),
])  # fmt: skip
def test_blocks_that_became_0_because_no_number_is_for_them_are_named(weights, blocks, is_xl, told):
    assert BlockWeights(weights).unlisted(blocks, is_xl) == told


ATTN, PROJ = "input_blocks.5.1.transformer_blocks.0.attn1.to_q", "input_blocks.5.1.proj_in"
FAR = "output_blocks.11.1.transformer_blocks.0.attn2.to_k"


@pytest.mark.parametrize(("weights", "elements", "expected"), [  # of ATTN, PROJ in IN05, FAR in OUT11, time_embed
    ("", "IN05-OUT05:attn:0", (0, 1, 1, 1)),
    ("", "OUT05-IN05:attn:0", (0, 1, 1, 1)),
    ("", "ATTNDEEPOFF", (0, 1, 1, 1)),
    ("NONE", "attndeepon", (1, 0, 0, 1)),
    ("", "PROJDEEPOFF", (1, 0, 1, 1)),
    ("", ":attn:0.5", (0.5, 1, 0.5, 1)),
    ("ALL0.5", "IN05::2", (2, 2, 0.5, 1)),
    ("", "::0", (0, 0, 0, 0)),
    ("", "NOT IN00-IN11:attn:0", (1, 1, 0, 1)),
    ("", "NOT IN00-IN11::0", (1, 1, 0, 0)),
    ("", "IN05:NOT proj:0", (0, 1, 1, 1)),
    ("", "IN05 OUT11:attn1 attn2:0", (0, 1, 0, 1)),
    ("", "in5:attn2:0,MID::0", (1, 1, 1, 1)),
    ("", "::0,IN05:attn:0.25", (0.25, 0, 0, 0)),  # the last that holds decides
    ("", "encoder::0", (1, 1, 1, 1)),
])  # fmt: skip
def test_elements_weigh_what_their_rule_says_instead_of_the_block(weights, elements, expected):
    blocks = BlockWeights(weights, elements)
    places = [("IN05", ATTN), ("IN05", PROJ), ("OUT11", FAR), ("", "time_embed.0")]
    assert tuple(blocks.of(Place("unet", block, path))[0] for block, path in places) == expected


def test_elements_reach_text_encoders_as_base():
    place = Place("text_encoder", "BASE", "transformer.text_model.encoder.layers.0.self_attn.q_proj")
    for elements, factor in {"BASE:attn:0.5": 0.5, "encoder::0": 0, "IN00-OUT11::0": 1, "BASE-IN00:mlp:0": 1}.items():
        assert BlockWeights(elements=elements).of(place)[0] == factor


MINE = """# my own, 17 numbers
MINE:1,0,0,0,0,0,0,0.5,0,0,0,0,0,0,0,0,0
MINE : 1,0,0,0,0,1,0,0,0,0,0,0
short:1,1
ROUT:1,1,1,1,1,1,1,1,R,R,R,R,R,R,R,R,U
IND:0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1
bad:1,1,1,z,1,1,1,1,1,1,1,1
just a line
"""
ELEMENTS = """ATTNON:IN05-OUT04:attn:0.8

TWO:IN05-OUT05:attn:0
BASE:attn:0.5

BAD:IN05:attn
"""


def test_a_users_presets_are_lines_and_all_else_is_a_comment():
    presets = read_presets(MINE, ELEMENTS)
    assert [*presets.weights][-2:] == ["MINE", "ROUT"]
    assert presets.problems == (
        "preset short has 2 numbers; it takes 12 or 20 for SDXL, 17 or 26 for SD1 and SD2",
        "preset bad has 'z' for a block, which is no number, nor R, U or X",
        "preset BAD: 'IN05:attn' is no blocks:elements:ratio; write IN05-OUT05:attn:0",
    )
    mine = BlockWeights("mine").settled(presets)
    assert factors(mine) == {"BASE": 1, "M00": 0.5}
    assert factors(mine, is_xl=True) == {"BASE": 1, "M00": 1}  # its own numbers for SDXL
    ind = BlockWeights("IND").settled(presets)
    assert factors(ind) == factors(ind, is_xl=True) == {"OUT11": 1}  # a built-in name may be taken
    two = BlockWeights(elements="TWO").settled(presets)
    assert two.of(Place("unet", "IN05", ATTN))[0] == 0
    assert two.of(Place("text_encoder", "BASE", "layers.0.self_attn.q_proj"))[0] == 0.5


def test_a_file_that_lists_the_built_in_presets_as_they_are_changes_nothing():
    """As lora-block-weight makes one: SDXL keeps its own numbers, and what is typed stays the same object."""
    presets = read_presets("\n".join(f"{name}:{','.join(vectors[0])}" for name, vectors in BUILT_IN.weights.items()))
    assert presets == BUILT_IN
    tag = read_tag("ink:1:lbw=MIDD")
    assert tag.settled(presets) is tag


def test_numbers_for_other_models_are_passed_over():
    """As the file that lora-block-weight makes has them for Flux."""
    presets = read_presets(f"FLUXALL:{','.join(['1'] * 61)}\nMINE:{','.join(['1'] * 17)}")
    assert ("FLUXALL" in presets.weights, "MINE" in presets.weights, presets.problems) == (False, True, ())


def test_what_pages_offer_is_what_each_name_stands_for_on_the_loaded_model():
    presets = read_presets(MINE)
    assert presets.of_model(is_xl=False)["MINE"] == tuple("1,0,0,0,0,0,0,0.5,0,0,0,0,0,0,0,0,0".split(","))
    assert len(presets.of_model(is_xl=True)["MINE"]) == len(presets.of_model(is_xl=True)["OUTALL"]) == 12


def test_an_unknown_preset_is_named_with_the_nearest_one():
    with pytest.raises(TagError) as caught:
        read_tag("ink:1:lbw=MIDDD").settled()
    assert str(caught.value) == (
        "<lora:ink:1:lbw=MIDDD>: 'MIDDD' is no preset of block weights (did you mean MIDD?); there are NONE, ALL, INS, "
        "IND, INALL, MIDD, OUTD, OUTS, OUTALL, ALL0.5")
    with pytest.raises(TagError, match=r"'ATTNOFF' is no preset of elements \(did you mean ATTNDEEPOFF\?\)"):
        read_tag("ink:1:lbwe=ATTNOFF").settled()
    with pytest.raises(BlocksError):
        BlockWeights("nosuch").of(Place("unet", "IN04"))


def test_letters_are_numbers_of_the_pictures_seed():
    tag = read_tag("ink:1:lbw=1,R,R,R,R,R,U,U,U,U,U,X:x=0.7")
    first, same, other = (tag.settled(seed=seed) for seed in (7, 7, 8))
    assert first == same != other
    assert (str(first), str(other)) == (str(tag), str(tag))
    numbers = [first.blocks.of(Place("unet", block))[0] for block in VECTORS[12][1:]]
    assert all(0 <= number <= 1 for number in numbers[:5])
    assert all(-0.5 <= number <= 1.5 for number in numbers[5:10])
    assert len({*numbers[:10]}) == 10
    assert numbers[-1] == 0.7
    assert all(round(number, 3) == number for number in numbers)
    assert tag.settled(seed=7) != read_tag("wash:1:lbw=1,R,R,R,R,R,U,U,U,U,U,X:x=0.7").settled(seed=7)
    assert BlockWeights("ALL0.5").letters == () != tag.blocks.letters


def test_letters_reach_their_whole_range():
    blocks = BlockWeights("R,U,1,1,1,1,1,1,1,1,1,1")
    settled = [blocks.settled(chance=random.Random(seed)).meaning.vectors[0] for seed in range(1, 300)]
    rs, us = zip(*(vector[:2] for vector in settled), strict=True)
    assert (min(rs) < 0.05, max(rs) > 0.95, min(us) < -0.4, max(us) > 1.4) == (True,) * 4


def test_x_is_1_unless_said_and_can_be_more_or_less():
    numbers = "X,X+0.5,X-0.25,1,1,1,1,1,1,1,1,1"
    for x, expected in {1: (1, 1.5, 0.75), 0.5: (0.5, 1, 0.25)}.items():
        blocks = BlockWeights(numbers, x=x)
        assert tuple(blocks.of(Place("unet", block))[0] for block in ("BASE", "IN04", "IN05")) == expected


def test_each_picture_of_a_batch_has_the_numbers_of_its_own_seed():
    tag, plain = read_tag("ink:1:lbw=R,R,R,R,R,R,R,R,R,R,R,R"), read_tag("wash:1:lbw=MIDD")
    wanted = Wanted(((tag, plain), (tag, plain)), seeds=(7, 8))
    (mine, _), (plain_again, everyone) = [each for each in wanted.each() if each[1].images != {1}]
    assert mine == Wanted(((tag,),), seeds=(7,)).each()[0][0]  # as it is alone
    assert [found for found, who in wanted.each() if who.images == {1}] == [tag.settled(seed=8)]
    assert plain_again is plain  # what is as typed stays the same object
    assert everyone.is_everyone
    assert [found for found, _ in Wanted(((tag,), (tag,)), seeds=(7, 7)).each()] == [mine]


@pytest.fixture(scope="module")
def sd1(tmp_path_factory):
    """A small SD1 pipeline as a host, and a folder with a LoCon for all of its layers."""
    from lib_lora.hosts.diffusers import DiffusersHost
    from tests.checkpoints import small_pipeline
    from tests.support import Folder, kohya_shapes, write_lora

    folder = tmp_path_factory.mktemp("sd1")
    host = DiffusersHost(small_pipeline("sd1", folder))
    write_lora(folder / "ink.safetensors", kohya_shapes(host.targets()), seed=1)
    return host, Folder(folder)


def activate(sd1, tags, **options):
    from lib_lora.session.session import Session

    session = Session(*sd1)
    return session, session.activate(Wanted((tuple(tags),), **options))


def test_a_models_layers_weigh_what_is_said_for_their_block_and_the_report_names_those_that_became_0(sd1):
    session, report = activate(sd1, [read_tag("ink:0.5:lbw=0.5,1,1,1,1,1,1,0,2,1,1,1,1,1,1,1,1:lbwe=OUT03:to_q:0.25")])
    weights: dict[str, set[float]] = {}
    for terms in session.schedule.at().terms.values():
        for term in terms:
            block = block_of(term.target.path, term.target.component)
            weights.setdefault(block, set()).add(term.multiplier)
    assert weights["BASE"] == {0.25}
    assert weights["OUT03"] == {1.0, 0.125}
    assert weights["IN01"] == {0.5}
    assert weights[""] == {0.5}  # time_embed
    assert {*weights} == {"BASE", "IN01", "OUT03", "IN02", ""}  # and neither M00 nor what no number is for
    (sentence,) = report.sentences()
    assert sentence == (
        "ink: the 17 numbers of lbw=0.5,1,1,1,1,1,1,0,2,1,1,1,1,1,1,1,1 do not name IN00, IN03, OUT00, OUT01, OUT02, "
        "which became 0; 26 numbers name all blocks of SD1 and SD2")
    session.clear()


def test_a_preset_that_there_is_not_leaves_out_its_adapter_alone(sd1):
    session, report = activate(sd1, [read_tag("ink:1:lbw=MIDDD"), read_tag("ink:0.5")])
    assert [each.applied for each in report.adapters] == [False, True]
    assert report.sentences() == [
        "<lora:ink:1:lbw=MIDDD>: 'MIDDD' is no preset of block weights (did you mean MIDD?); there are NONE, ALL, INS, "
        "IND, INALL, MIDD, OUTD, OUTS, OUTALL, ALL0.5"]  # fmt: skip
    mine = read_presets("MIDDD:" + ",".join("1" * 26))
    session, report = activate(sd1, [read_tag("ink:1:lbw=MIDDD")], presets=mine)
    assert (report.sentences(), len(report.applied)) == ([], 1)
    session.clear()
