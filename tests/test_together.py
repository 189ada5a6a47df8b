"""Several adapters at any weights, in closed form: the figures are those of the sum built whole, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_lora.adapters.adapter import read_adapter
from lib_lora.analysis.conflicts import Conflicts, weighed
from lib_lora.analysis.gram import Grams, Member
from lib_lora.analysis.load import layers_of, load_of, scale_of, usual_scale
from lib_lora.browser.together import TagWeights, strongest
from lib_lora.engine.active import Active
from lib_lora.engine.schedule import plan
from lib_lora.grammar.blocks import Place
from lib_lora.grammar.tag import read_prompt
from lib_lora.keys.blocks import block_of
from lib_lora.model.usual import usual_index
from tests.support import kohya_shapes, write_lora
from tests.support_golden import OWN, folded, index_of, own_file
from tests.support_webui import tiny_sd_model, webui_host

BASE = OWN / "base.safetensors"


def member(name, dyn=None, asked=None):
    def read():
        if asked is not None:
            asked.append(name)
        return read_adapter(own_file(name))

    return Member(name, read, dyn)


def norms_of_blocks(base, index, tags, find=own_file):
    """{block: norm of all that the tags add}, float64, as the engine adds it."""
    active = [Active(tag, read_adapter(find(tag.name))) for tag in tags]
    made = plan(active, index)
    after = folded(base, made, torch.float64)
    squares: dict[str, float] = {}
    for key, terms in made.terms.items():
        target = terms[0].target
        block = block_of(target.path, target.component)
        squares[block] = squares.get(block, 0.0) + float((after[key] - base[key].double()).square().sum())
    return {block: math.sqrt(square) for block, square in squares.items()}


PROMPTS = [
    "<lora:lora:0.8:force=1><lora:loha:-0.5:force=1>",
    "<lora:lora:0.8:0.3:force=1><lora:lokr:0.5:force=1><lora:full:0.2:force=1>",
    "<lora:lora:0.8:lbw=OUTALL:force=1><lora:locon_tucker:0.5:lbw=INALL:force=1>",
    "<lora:lora:0.8:lbwe=:attn1:0.25:force=1><lora:peft_lora:0.5:in=0.1:mid=2:force=1>",
    "<lora:lora:0.8:force=1><lora:loha:1:force=1><lora:lora:0.4:force=1>",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_sum_at_any_weights_is_that_of_the_changes_built_whole(prompt):
    base = load_file(BASE)
    index = index_of(base)
    tags = read_prompt(prompt).tags
    names = list(dict.fromkeys(tag.name for tag in tags))
    layers = Grams(index).of([member(name) for name in names])
    weights = [TagWeights([tag for tag in tags if tag.name == name], index.family.is_xl) for name in names]
    found = weighed(layers, weights)
    expected = norms_of_blocks(base, index, tags)
    assert found.together == pytest.approx(math.hypot(*expected.values()), rel=1e-6)


@pytest.mark.parametrize("prompt", [
    "<lora:a:0.8><lora:b:-0.5>", "<lora:a:0.8:0.3><lora:b:0.2:0.9><lora:a:0.1>",
    "<lora:a:1:lbw=OUTALL><lora:b:1:in=0.1:mid=2:out=0.5>", "<lora:a:1:lbwe=IN05-OUT05:attn:0.25><lora:b:0.5:lbw=MIDD>",
])  # fmt: skip
def test_it_is_so_in_each_block_of_a_whole_model(prompt, tmp_path):
    model = tiny_sd_model("sd1")
    host = webui_host(model)
    index, base = host.targets(), {key: slot.parameter.data for key, slot in host.bound.slots.items()}
    for seed, name in enumerate("ab"):
        write_lora(tmp_path / f"{name}.safetensors", kohya_shapes(index), seed=seed)
    tags = read_prompt(prompt).tags
    members = [Member(name, lambda name=name: read_adapter(tmp_path / f"{name}.safetensors")) for name in "ab"]
    weights = [TagWeights([tag for tag in tags if tag.name == name], False) for name in "ab"]
    found = weighed(Grams(index).of(members), weights)
    expected = norms_of_blocks(base, index, tags, lambda name: tmp_path / f"{name}.safetensors")
    assert len(expected) > 12
    for block, products in found.products.items():
        assert math.sqrt(sum(map(sum, products))) == pytest.approx(expected.get(block, 0.0), rel=1e-6, abs=1e-9)


def test_ranks_that_are_cut_off_do_not_count():
    base = load_file(BASE)
    index = index_of(base)
    tags = read_prompt("<lora:lora:1:dyn=1:force=1>").tags
    found = weighed(Grams(index).of([member("lora", 1)]), [lambda _: 1.0])
    assert found.together == pytest.approx(math.hypot(*norms_of_blocks(base, index, tags).values()), rel=1e-6)
    assert found.together < weighed(Grams(index).of([member("lora")]), [lambda _: 1.0]).together


def test_a_pair_of_files_is_multiplied_once():
    asked: list[str] = []
    grams = Grams(index_of(load_file(BASE)))
    both = [member(name, asked=asked) for name in ("lora", "loha")]
    before = grams.of(both)
    assert sorted(asked) == ["loha", "lora"]
    assert torch.equal(grams.of(both).products, before.products)
    assert torch.equal(grams.of(both[::-1]).products.sum(0), before.products.sum(0).flip(0, 1))
    assert sorted(asked) == ["loha", "lora"]
    grams.of([*both, member("full", asked=asked)])
    assert asked.count("full") == 1


def test_what_only_a_base_weight_could_tell_is_counted_and_weighs_nothing():
    layers = Grams(index_of(load_file(BASE))).of([member("lora"), member("dora_output")])
    assert layers.untold[0] == 0
    assert layers.untold[1] > 0
    found = weighed(layers, [lambda _: 1.0, lambda _: 1.0])
    assert found.together == pytest.approx(weighed(layers, [lambda _: 1.0, lambda _: 0.0]).together)


UNET = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1"


@pytest.mark.parametrize(("family", "packed", "apart", "width"), [
    ("sd1", f"{UNET}_to_qkv", f"{UNET}_to_{{}}", 320),  # the model has three parameters
    ("sd2", "lora_te_transformer_resblocks_0_attn_in_proj", "lora_te_text_model_encoder_layers_0_self_attn_{}_proj",
     1024),  # the model has one
])  # fmt: skip
def test_a_layer_that_one_file_packs_and_another_keeps_apart_is_one_layer(family, packed, apart, width, tmp_path):
    torch.manual_seed(0)
    up, down = torch.randn(3 * width, 2), torch.randn(2, width)
    files = {"packed": {f"{packed}.lora_up.weight": up, f"{packed}.lora_down.weight": down}, "apart": {}}
    for row, name in enumerate("qkv"):
        files["apart"] |= {f"{apart.format(name)}.lora_up.weight": up[row * width : (row + 1) * width].clone(),
                           f"{apart.format(name)}.lora_down.weight": down.clone()}  # fmt: skip
    members = []
    for name, tensors in files.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        members.append(Member(name, lambda name=name: read_adapter(tmp_path / f"{name}.safetensors")))
    found = weighed(Grams(usual_index(family)).of(members), [lambda _: 1.0, lambda _: 1.0])
    assert found.cosine()[0][1] == pytest.approx(1)
    assert found.together == pytest.approx(2 * float((up.double() @ down.double()).norm()))


def test_times_in_numbers_that_one_can_do_in_the_head():
    nothing_in_common = Conflicts({"IN01": ((4.0, 0.0), (0.0, 4.0))})
    assert load_of(nothing_in_common, nothing_in_common, {"IN01": 10.0}).times == pytest.approx(math.sqrt(2))
    the_same = Conflicts({"IN01": ((4.0, 4.0), (4.0, 4.0))})
    assert load_of(the_same, the_same, {"IN01": 10.0}).times == pytest.approx(2)
    undone = Conflicts({"IN01": ((4.0, -4.0), (-4.0, 4.0))})
    assert load_of(undone, the_same, {}).times == 0
    half = Conflicts({"IN01": ((1.0, 1.0), (1.0, 1.0))})  # both at 0.5
    assert load_of(half, the_same, {}).times == pytest.approx(1)
    assert load_of(Conflicts({}), Conflicts({}), {}).times == 0


def test_a_block_counts_in_proportion_to_its_own_weights():
    """The same change is a tenth of a small block and a hundredth of a large one."""
    moved = Conflicts({"IN01": ((1.0, 0.0), (0.0, 0.0)), "OUT03": ((0.0, 0.0), (0.0, 1.0))})
    load = load_of(moved, moved, {"IN01": 10.0, "OUT03": 100.0})
    assert load.blocks == {"IN01": pytest.approx(0.1), "OUT03": pytest.approx(0.01)}
    assert load.alone == (pytest.approx(0.1), pytest.approx(0.01))
    assert load.times == pytest.approx(math.hypot(0.1, 0.01) / 0.1)


def test_the_scale_of_a_model_is_the_norm_of_the_weights_of_its_layers():
    base = load_file(BASE)
    index = index_of(base)
    found = scale_of(index, lambda target: target.view(base[target.key]))
    targets = list(layers_of(index))
    assert len({(target.key, target.rows) for target in targets}) == len(targets)
    whole = math.hypot(*(float(target.view(base[target.key]).double().norm()) for target in targets))
    assert math.hypot(*found.values()) == pytest.approx(whole, rel=1e-5)
    assert set(usual_scale(index)) == set(found)


@pytest.mark.parametrize(("tag", "expected"), [
    ("<lora:a:0.5>", 0.5), ("<lora:a:0@0,0.8@0.5,0@1>", 0.8), ("<lora:a:0.2@0,-0.9@1>", -0.9),
    ("<lora:a:0.5:start=0.5>", 0.5), ("<lora:a:0.5:in=0@0,2@1>", 1.0), ("<lora:a:1:start=0.9:stop=0.1>", 0.0),
])  # fmt: skip
def test_what_changes_over_the_steps_counts_at_its_strongest(tag, expected):
    (read,) = read_prompt(tag).tags
    assert strongest(read.strength(Place("unet", "IN01", "input_blocks.1.1.proj_in"))) == pytest.approx(expected)
