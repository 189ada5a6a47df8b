"""Spellings that tools and their converters really write: each leads to the layer that it means."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from lib_lora.adapters.adapter import read_adapter
from lib_lora.describe.survey import survey
from lib_lora.engine.active import Active
from lib_lora.engine.schedule import plan
from lib_lora.grammar.tag import LoraTag
from lib_lora.keys import sort_keys
from lib_lora.model.targets import UNET_ROOT, index_checkpoint, index_diffusers

ATTENTION = "transformer_blocks.0.attn1.to_q"
XL = {
    f"{UNET_ROOT}.input_blocks.4.1.{ATTENTION}.weight": (640, 640),
    f"{UNET_ROOT}.input_blocks.4.0.in_layers.2.weight": (640, 320, 3, 3),
    "conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768),
    "conditioner.embedders.1.model.transformer.resblocks.0.mlp.c_fc.weight": (5120, 1280),
    "conditioner.embedders.1.model.text_projection": (1280, 1280),
}
SD1 = {
    f"{UNET_ROOT}.input_blocks.1.1.{ATTENTION}.weight": (320, 320),
    f"{UNET_ROOT}.input_blocks.1.1.transformer_blocks.0.attn1.to_out.0.weight": (320, 320),
    "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768),
}
SD2 = {"cond_stage_model.model.transformer.resblocks.0.mlp.c_fc.weight": (4096, 1024)}
SD3 = {
    f"{UNET_ROOT}.joint_blocks.0.x_block.mlp.fc1.weight": (6144, 1536),
    "text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096),
}
FC1 = "text_model.encoder.layers.0.mlp.fc1"
MEANT = [  # (model, module as the file spells it, end of the parameter's name)
    (XL, f"unet.input_blocks.4.1.{ATTENTION}", f"input_blocks.4.1.{ATTENTION}.weight"),
    (XL, "unet.input_blocks.4.0.in_layers.2", "input_blocks.4.0.in_layers.2.weight"),
    (XL, f"clip_l.{FC1}", "embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.weight"),
    (XL, f"clip_g.{FC1}", "resblocks.0.mlp.c_fc.weight"),
    (XL, "clip_g.text_projection", "text_projection"),
    (SD1, f"unet.input_blocks.1.1.{ATTENTION}", f"input_blocks.1.1.{ATTENTION}.weight"),
    (SD1, f"clip_l.{FC1}", "mlp.fc1.weight"),
    (SD2, f"clip_l.{FC1}", "resblocks.0.mlp.c_fc.weight"),
    (SD3, "transformer.joint_blocks.0.x_block.mlp.fc1", "x_block.mlp.fc1.weight"),
    (SD3, "t5.encoder.block.0.layer.0.SelfAttention.q", "SelfAttention.q.weight"),
    (SD1, f"lora_unet_down_blocks.0.attentions.0.{ATTENTION}", f"input_blocks.1.1.{ATTENTION}.weight"),
    (SD1, f"lora_unet.down_blocks.0.attentions.0.{ATTENTION}", f"input_blocks.1.1.{ATTENTION}.weight"),
    (SD1, "unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", f"input_blocks.1.1.{ATTENTION}.weight"),
    (SD1, "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out", "attn1.to_out.0.weight"),
    (SD1, f"lora_te.{FC1}", "mlp.fc1.weight"),
    (SD1, f"base_model.model.{FC1}", "mlp.fc1.weight"),
    (SD1, "encoder.layers.0.mlp.fc1", "mlp.fc1.weight"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "spelling", "meant"), MEANT, ids=[row[1] for row in MEANT])
def test_a_spelling_leads_to_its_layer(model, spelling, meant):
    found = index_checkpoint(model).find_all(spelling)
    assert [place["weight"].key.endswith(meant) for place in found] == [True]


def test_the_components_of_onetrainers_names_are_told():
    names = (f"unet.input_blocks.4.1.{ATTENTION}", f"clip_l.{FC1}", f"clip_g.{FC1}")
    told = survey({f"{name}.lora_{part}.weight": (4, 4) for name in names for part in ("down", "up")})
    assert told.components == ("unet", "text_encoder", "text_encoder_2")


def lora(module: str, out: int, width: int) -> dict[str, torch.Tensor]:
    return {f"{module}.lora_A.weight": torch.ones(2, width), f"{module}.lora_B.weight": torch.ones(out, 2)}


@pytest.mark.parametrize(("sizes", "meant"), [((3072, 768), "embedders.0"), ((5120, 1280), "embedders.1")])
def test_a_folder_of_pefts_with_one_text_encoder_is_told_by_its_width(tmp_path, sizes, meant):
    tensors = lora(f"base_model.model.{FC1}", *sizes)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    made = plan([Active(LoraTag("te"), read_adapter(tmp_path / "adapter_model.safetensors"))], index_checkpoint(XL))
    assert made.reports[0].matched == 1
    assert [meant in key for key in made.terms] == [True]
    component = survey({key: tuple(tensor.shape) for key, tensor in tensors.items()}).components
    assert component == (("text_encoder",) if sizes[1] == 768 else ("text_encoder_2",))


def test_what_a_converter_left_dotted_belongs_to_the_flat_module_beside_it():
    flat = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    dotted = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2.to_k"
    keys = [f"{dotted}.lora_magnitude_vector", f"{flat}.lora_down.weight", f"{flat}.lora_up.weight"]
    assert sort_keys(keys).modules == {flat: {"down": keys[1], "up": keys[2], "magnitude": keys[0]}}


def test_a_module_in_two_whole_spellings_stays_two_of_which_one_counts():
    keys = [f"{module}.lora_{part}.weight" for module in ("a.b", "a_b") for part in ("up", "down")]
    assert set(sort_keys(keys).modules) == {"a.b", "a_b"}


def test_diffusers_own_converter_of_dora_gives_what_its_own_names_give(tmp_path):
    convert = pytest.importorskip("diffusers.utils").convert_state_dict_to_kohya
    torch.manual_seed(0)
    name, spelled = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0", "unet.down_blocks.0.attentions.0"
    own = {
        f"{spelled}.transformer_blocks.0.attn1.to_out.0.lora_A.weight": torch.randn(4, 32),
        f"{spelled}.transformer_blocks.0.attn1.to_out.0.lora_B.weight": torch.randn(32, 4),
        f"{spelled}.transformer_blocks.0.attn1.to_out.0.lora_magnitude_vector": torch.rand(32) + 0.5,
    }
    save_file(own, tmp_path / "own.safetensors")
    save_file({key: value.contiguous() for key, value in convert(dict(own)).items()}, tmp_path / "kohya.safetensors")
    weight = torch.randn(32, 32)
    values = []
    for file in ("own", "kohya"):
        adapter = read_adapter(tmp_path / f"{file}.safetensors")
        assert (adapter.algorithms, adapter.refused) == (("LoRA", "DoRA"), ())
        made = plan([Active(LoraTag(file), adapter)], index_diffusers({"unet": {f"{name}.weight": (32, 32)}}))
        values.append(next(iter(made.terms.values()))[0].delta.value(weight))
    assert torch.equal(*values)


@pytest.mark.parametrize("part", ["lora_magnitude_vector", "lora_magnitude_vector.weight", "magnitude", "dora_scale",
                                  "lora_magnitude_vector.default.weight", "lora_magnitude_vector.default"])  # fmt: skip
def test_every_name_of_a_magnitude_makes_a_dora(tmp_path, part):
    shape = (32, 1) if part == "dora_scale" else (32,)
    tensors = {**lora("unet.mid_block.x", 32, 16), f"unet.mid_block.x.{part}": torch.ones(shape)}
    save_file(tensors, tmp_path / "x.safetensors")
    assert read_adapter(tmp_path / "x.safetensors").algorithms == ("LoRA", "DoRA")


@pytest.mark.parametrize("key", ["x.lora_A.default.weight", "x.lora_B.default_0.weight", "x.hada_w1_a.default",
                                 "x.lokr_w1.default_1", "x.lora_B.style.bias", "x.hira_A.default", "x.gralora_A",
                                 "x.lora_embedding_A.default", "x.delora_lambda"])  # fmt: skip
def test_the_adapters_name_inside_of_a_key_is_no_part_of_the_module(key):
    assert list(sort_keys([key]).modules) == ["x"]


@pytest.mark.parametrize(("part", "why"), [("hira_A", "HiRA"), ("lora_diag", "KaSA"), ("bias", "trained bias"),
                                           ("lora_embedding_A", "embeddings")])  # fmt: skip
def test_half_of_a_module_is_never_used(tmp_path, part, why):
    tensors = {**lora("unet.mid_block.x", 4, 4), f"unet.mid_block.x.{part}": torch.ones(4), **lora("unet.y", 4, 4)}
    save_file(tensors, tmp_path / "x.safetensors")
    adapter = read_adapter(tmp_path / "x.safetensors")
    assert list(adapter.modules) == ["unet.y"]
    assert len(adapter.refused) == 1
    assert why in adapter.refused[0]


# AnimateDiff

TEMPORAL = "temporal_transformer.transformer_blocks.0.attention_blocks"


def active(path):
    return Active(LoraTag(path.stem), read_adapter(path))


def motion_lora(block: str) -> dict[str, torch.Tensor]:
    key = f"{block}.motion_modules.0.{TEMPORAL}.1.processor.to_out_lora"
    return {f"{key}.down.weight": torch.ones(2, 4), f"{key}.up.weight": torch.ones(4, 2)}


@pytest.mark.parametrize(("block", "injected"), [
    ("down_blocks.0", "input_blocks.1.2"), ("down_blocks.3", "input_blocks.10.1"), ("up_blocks.0", "output_blocks.0.1"),
    ("up_blocks.1", "output_blocks.3.2"), ("mid_block", "middle_block.2"),
])  # fmt: skip
def test_a_motion_lora_finds_the_motion_module_that_the_webuis_extension_put_in(tmp_path, block, injected):
    save_file(motion_lora(block), tmp_path / "pan.safetensors")
    key = f"{UNET_ROOT}.{injected}.{TEMPORAL}.1.to_out.0.weight"
    made = plan([active(tmp_path / "pan.safetensors")], index_checkpoint({**SD1, key: (4, 4)}))
    assert list(made.terms) == [key]


def test_a_motion_lora_finds_diffusers_motion_modules(tmp_path):
    save_file(motion_lora("up_blocks.1"), tmp_path / "pan.safetensors")
    name = "up_blocks.1.motion_modules.0.transformer_blocks.0.attn2.to_out.0.weight"
    index = index_diffusers({"unet": {name: (4, 4), "conv_in.weight": (4, 4, 3, 3)}})
    assert list(plan([active(tmp_path / "pan.safetensors")], index).terms) == [f"unet.{name}"]


def test_without_a_motion_module_it_is_called_what_it_is(tmp_path):
    save_file(motion_lora("down_blocks.0"), tmp_path / "pan.safetensors")
    report = plan([active(tmp_path / "pan.safetensors")], index_checkpoint(SD1)).reports[0]
    (sentence,) = report.sentences()
    assert sentence.startswith("pan is a motion LoRA of AnimateDiff: its 1 layers belong into a motion module, which")
