"""Files that are no adapters: one sentence, in the list, in `info` and when somebody draws with them."""

# ruff: noqa: E501  (tables)

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lib_lora.adapters.adapter import read_adapter
from lib_lora.cli.inspection import inspect
from lib_lora.describe.survey import survey
from lib_lora.errors import LoraError
from lib_lora.formats.header import read_header
from lib_lora.library import Library
from tests.support import SHARED

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
TENSORS = {  # what it is called -> names of some of its tensors
    "a control LoRA": ["lora_controlnet", "input_blocks.1.0.in_layers.2.up"],
    "a ControlNet-LLLite": ["lllite_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.conditioning1.0.weight"],
    "a PhotoMaker": ["id_encoder.visual_projection.weight", f"lora_weights.unet.{BLOCK}.attn1.to_q.lora_A.weight"],
    "a PuLID": ["pulid_ca.0.norm1.weight", "pulid_encoder.latents"],
    "an IP-Adapter": ["image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"],
    "an IP-Adapter;": ["image_proj.norm.weight", *(f"ip_adapter.0.to_q_lora.{side}.weight" for side in ("up", "down"))],
    "a ControlNet;": ["controlnet_cond_embedding.conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"],
    "a ControlNet; use": ["control_model.zero_convs.0.0.weight"],
    "cloneofsimo": ["unet:0:up", "unet:0:down"],
    "a textual inversion embedding": ["emb_params"],
    "a textual inversion embedding;": ["clip_g", "clip_l"],
    "a GLIGEN": ["position_net.linears.0.weight", "output_blocks.3.1.transformer_blocks.0.fuser.alpha_attn"],
    "a motion module of AnimateDiff": ["down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"],
    "a checkpoint": ["model.diffusion_model.out.2.weight", "first_stage_model.decoder.conv_in.weight"],
    "a VAE": ["first_stage_model.decoder.conv_in.weight"],
    "a VAE;": ["encoder.down_blocks.0.resnets.0.conv1.weight", "decoder.conv_in.weight"],
    "a small VAE": ["decoder.layers.3.conv.0.weight"],
    "an upscaler": ["params_ema.conv_first.weight", "params_ema.body.0.rdb1.conv1.weight"],
    "an upscaler (ESRGAN": ["model.1.sub.0.RDB1.conv1.0.weight", "model.0.weight"],
    "a T2I-Adapter": ["adapter.body.0.block1.weight"],
    "a T2I-Adapter;": ["body.0.in_conv.weight", "body.0.block1.weight"],
    "a hypernetwork": ["768.0.linear.0.weight"],
    "an image encoder": ["vision_model.encoder.layers.0.mlp.fc1.weight"],
    "the weights of a text encoder": ["text_model.encoder.layers.0.mlp.fc1.weight"],
    "the weights of a text encoder, not": ["encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"],
    "the weights of a whole UNet": ["conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"],
    "the weights of a whole diffusion model": ["double_blocks.0.img_attn.qkv.weight"],
    "an IP-Adapter; use": ["double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight"],
    "a ControlNet; use it": ["input_hint_block.0.weight", "zero_convs.0.0.weight"],
    "no adapter that is known here": ["something"],
    "no adapter that is known here: not an adapter": ["layers.0.weight"],
    "an adapter with no usable module": ["unet.x.vera_lambda_b"],
    "an adapter with no usable module: unet.x: incomplete": ["unet.x.lora_A.weight"],
}  # fmt: skip
PICKLES = {
    "a hypernetwork": {768: [{"linear.0.weight": torch.zeros(4, 4)}] * 2, "step": 1, "name": "hyper"},
    "a textual inversion embedding": {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.zeros(1, 768)}},
    "a textual inversion embedding;": {"<cat>": torch.zeros(768)},
    "an IP-Adapter": {"image_proj": {"proj.weight": torch.zeros(2)}, "ip_adapter": {"1.to_k_ip.weight": torch.zeros(2)}},
    "an upscaler": {"params_ema": {"conv_first.weight": torch.zeros(2, 2)}},
    "a motion module of AnimateDiff": {"state_dict": {"module.up_blocks.0.motion_modules.0.x.weight": torch.zeros(2)}},
}  # fmt: skip


def said(path: Path) -> set[str]:
    """What the index, `info` and the drawing say of it."""
    entry = next(entry for entry in Library([path.parent]).entries() if entry.name == path.stem)
    told = [entry.broken]
    for read in (inspect, read_adapter):
        try:
            read(path)
        except LoraError as error:
            told.append(str(error))
        else:
            told.append(None)
    return set(told)


@pytest.mark.parametrize("what", TENSORS)
def test_all_say_the_same_of_a_file(tmp_path, what):
    path = tmp_path / "x.safetensors"
    save_file({name: torch.zeros(4, 4) for name in TENSORS[what]}, path)
    (sentence,) = said(path)
    assert sentence.startswith("x.safetensors is ")
    assert what in sentence


@pytest.mark.parametrize("what", PICKLES)
def test_all_say_the_same_of_a_pickle(tmp_path, what):
    path = tmp_path / "x.pt"
    torch.save(PICKLES[what], path)
    (sentence,) = said(path)
    assert what in sentence


def test_a_pickle_in_circles_ends(tmp_path):
    from lib_lora.formats.nested import named

    circle: dict = {"a": torch.zeros(1)}
    circle["b"] = [circle, circle]
    assert [name for name, _ in named(circle, torch.Tensor)] == ["a"]


SAME = {"LoCon": "LoRA", "diag-OFT": "OFT", "OFTv2": "OFT v2"}  # names that tell more than the drawing needs


def drawn_by(name: str) -> set[str]:
    """ "DoRA (LoHa)" -> {"DoRA", "LoHa"}."""
    if not name.startswith("DoRA"):
        return {name}
    return {"DoRA", name.removeprefix("DoRA").strip(" ()") or "LoRA"}


@pytest.mark.skipif(not SHARED.exists(), reason="needs the golden data")
def test_the_list_and_the_drawing_agree_on_every_golden_file():
    files = sorted((SHARED / "golden/dev").rglob("*.safetensors"))
    for path in files:
        told = survey(read_header(path).shapes)
        if told.refused:
            with pytest.raises(LoraError, match=re.escape(f"{path.name} is {told.refused}")):
                read_adapter(path)
            continue
        adapter = read_adapter(path)
        assert told.modules == len(adapter.modules), path.name
        listed = {SAME.get(name, name) for name in told.algorithms}
        assert listed == set().union(*map(drawn_by, adapter.algorithms)), path.name
    assert len(files) > 50


# values: nothing but zeros, and what is no number

Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
ZEROS = {
    "LoRA": {"lora_up.weight": torch.zeros(8, 2), "lora_down.weight": torch.ones(2, 8), "alpha": torch.tensor(2.0)},
    "LoHa": {f"hada_w{n}_{side}": torch.ones(8, 2) if side == "a" else torch.zeros(2, 8) * (n - 2) + (n == 2)
             for n in (1, 2) for side in "ab"},
    "LoKr": {"lokr_w1": torch.ones(2, 2), "lokr_w2_a": torch.zeros(4, 1), "lokr_w2_b": torch.ones(1, 4)},
    "GLoRA": {"a1.weight": torch.zeros(8, 2), "a2.weight": torch.ones(2, 8), "b1.weight": torch.zeros(8, 2),
              "b2.weight": torch.ones(2, 8)},
    "OFT": {"oft_blocks": torch.zeros(2, 4, 4)},
    "BOFT": {"oft_blocks": torch.zeros(1, 2, 4, 4)},
    "OFT v2": {"oft_R.weight": torch.zeros(2, 6)},
    "IA3": {"weight": torch.zeros(8), "on_input": torch.tensor(1)},
    "Norm": {"w_norm": torch.zeros(8), "b_norm": torch.zeros(8)},
    "Full": {"diff": torch.zeros(8, 8), "diff_b": torch.zeros(8)},
}  # fmt: skip
ACTING = {
    "LoRA": {**ZEROS["LoRA"], "lora_up.weight": torch.eye(8, 2)},
    "DoRA": {**ZEROS["LoRA"], "dora_scale": torch.ones(8, 1)},
    "GLoRA": {**ZEROS["GLoRA"], "a1.weight": torch.ones(8, 2)},
    "OFT": {"oft_blocks": torch.zeros(2, 4, 4), "rescale": torch.ones(8, 1) * 2},
    "Full": {"diff": torch.zeros(8, 8), "diff_b": torch.ones(8)},
}
SENTENCE = "all its values are zero: it changes nothing"


def stored(folder: Path, parts: dict[str, torch.Tensor]) -> Path:
    save_file({f"{Q}.{part}": tensor.clone() for part, tensor in parts.items()}, folder / "x.safetensors")
    return folder / "x.safetensors"


@pytest.mark.parametrize("algorithm", ZEROS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_an_adapter_of_zeros_is_told(tmp_path, algorithm, dtype):
    path = stored(tmp_path, {part: tensor.to(dtype) for part, tensor in ZEROS[algorithm].items()})
    assert read_adapter(path).notes[0] == SENTENCE
    assert inspect(path)["warnings"] == [SENTENCE]


@pytest.mark.parametrize("algorithm", ACTING)
def test_one_that_does_something_is_not(tmp_path, algorithm):
    path = stored(tmp_path, ACTING[algorithm])
    assert SENTENCE not in read_adapter(path).notes
    assert inspect(path)["warnings"] == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("part", ["lora_up.weight", "alpha"])
def test_what_is_no_number_is_told_alike(tmp_path, value, dtype, part):
    tensors = {part: tensor.to(dtype).clone() for part, tensor in ACTING["LoRA"].items()}
    tensors[part].reshape(-1)[-1] = value
    path = stored(tmp_path, {**tensors})
    name = {"lora_up.weight": "up"}.get(part, part)
    sentence = f"{Q}: {name} holds values that are not finite numbers"
    assert inspect(path)["warnings"] == [sentence]
    with pytest.raises(LoraError, match=f"no usable module: {sentence}"):
        read_adapter(path)


@pytest.mark.parametrize("parts", [
    {"lora_up.weight": torch.full((8, 2), 1e30)},
    {"alpha": torch.tensor(3e8)},
    {"scalar": torch.tensor(5e8), "alpha": torch.tensor(5e8)},
], ids=["factor", "alpha", "scalar"])  # fmt: skip
def test_what_would_only_make_black_pictures_is_refused(tmp_path, parts):
    with pytest.raises(LoraError, match="black pictures"):
        read_adapter(stored(tmp_path, {**ACTING["LoRA"], **parts}))


def test_an_alpha_in_the_header_that_is_no_number_is_told(tmp_path):
    header = {"lora_adapter_metadata": json.dumps({"unet.r": 2, "unet.lora_alpha": float("inf")})}
    tensors = {"unet.conv_in.lora_A.weight": torch.ones(2, 4), "unet.conv_in.lora_B.weight": torch.ones(4, 2)}
    save_file(tensors, tmp_path / "x.safetensors", metadata=header)
    (note,) = read_adapter(tmp_path / "x.safetensors").notes
    assert note == "unet.conv_in: the alpha in its metadata is no finite number; taken as alpha = rank"
