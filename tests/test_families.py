"""Base-model families: shapes first, then metadata."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib_lora.describe.families import Family, chosen, compatible, detect, detect_checkpoint
from lib_lora.formats.header import read_header
from tests.support import SHARED

DF = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0"
CV = "lora_unet_input_blocks_4_1_transformer_blocks"
TE = "text_model_encoder_layers"


def lora(module: str, width: int = 64, *tail: int) -> dict[str, tuple[int, ...]]:
    return {f"{module}.lora_down.weight": (4, width, *tail), f"{module}.lora_up.weight": (64, 4, *tail)}


LISTINGS = [  # (what, tensors, family, whether it is sure)
    ("kohya SD 1.5", lora(f"{DF}_attn2_to_k", 768), "sd1", True),
    ("kohya SD 2", lora(f"{DF}_attn2_to_k", 1024), "sd2", True),
    ("kohya SDXL", lora(f"{CV}_0_attn2_to_k", 2048), "sdxl", True),
    ("SDXL refiner", lora(f"{CV}_0_attn2_to_k", 1280), "sdxl-refiner", True),
    (
        "diffusers SDXL",
        {"unet.mid_block.attentions.0.transformer_blocks.9.attn1.to_q.lora_A.weight": (4, 1280)},
        "sdxl",
        True,
    ),
    ("LoHa", {f"{DF}_attn2_to_v.hada_w1_a": (640, 4), f"{DF}_attn2_to_v.hada_w1_b": (4, 768)}, "sd1", True),
    (
        "LoKr, whose width is a product",
        {
            f"{CV}_0_attn2_to_v.lokr_w1": (8, 8),
            f"{CV}_0_attn2_to_v.lokr_w2_b": (4, 256),
            f"{CV}_0_attn2_to_v.lokr_w2_a": (80, 4),
        },
        "sdxl",
        True,
    ),
    ("full difference", {f"{DF}_attn2_to_k.diff": (640, 1024)}, "sd2", True),
    (
        "GLoRA",
        {
            f"{DF}_attn2_to_k.{part}.weight": shape
            for part, shape in {"a1": (768, 4), "a2": (4, 768), "b1": (4, 768), "b2": (640, 4)}.items()
        },
        "sd1",
        True,
    ),
    ("text encoder of SD 2", lora(f"lora_te_{TE}_3_self_attn_q_proj", 1024), "sd2", True),
    ("two text encoders", lora(f"lora_te2_{TE}_3_self_attn_q_proj", 1280), "sdxl", False),
    ("Flux, kohya", lora("lora_unet_double_blocks_3_img_attn_qkv", 3072), "flux", False),
    ("Flux, diffusers", lora("transformer.single_transformer_blocks.3.attn.to_q", 3072), "flux", False),
    ("SD 3, kohya", lora("lora_unet_joint_blocks_3_x_block_attn_qkv", 1536), "sd3", True),
    ("Stable Cascade", lora("lora_prior_unet_x"), "cascade", True),
    ("Wan", lora("diffusion_model.blocks.3.cross_attn.k"), "wan", True),
    ("tiny SD 1: a 1x1 convolution", lora("lora_unet_down_blocks_0_attentions_0_proj_in", 32, 1, 1), "sd1", True),
    (
        "tiny SD 1 or 2: outermost attention",
        lora("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"),
        "sd1",
        False,
    ),
    (
        "tiny SDXL: innermost attention",
        lora("lora_unet_up_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"),
        "sdxl",
        True,
    ),
    ("nothing known", lora("foo.bar"), "unknown", False),
]


@pytest.mark.parametrize(("shapes", "family", "sure"), [row[1:] for row in LISTINGS], ids=[row[0] for row in LISTINGS])
def test_names_and_shapes_alone_tell_the_family(shapes, family, sure):
    found = detect(shapes)
    assert (found.id, found.sure) == (family, sure)
    assert found.evidence


@pytest.mark.skipif(not SHARED.exists(), reason="needs the golden data")
def test_the_golden_files_are_told_apart_though_their_widths_are_tiny():
    cases = json.loads((SHARED / "golden/dev/index.json").read_text())["sets"]["dev"]["cases"]
    families = {case["file"]: case["family"].removesuffix("_inpaint").replace("_", "-") for case in cases}
    wrong = set()
    for name, family in families.items():
        if name.endswith(".safetensors"):
            header = read_header(SHARED / "golden" / name)
            found = detect(header.shapes, header.metadata)
            assert not found.sure or found.id == family, f"{name}: sure, and wrong"
            assert family in found.possible, name
            wrong |= {name} if found.id != family else set()
    assert len(wrong) <= 2, wrong  # one-encoder files without a single telling width, layer or word


TINY = lora("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q")


@pytest.mark.parametrize(
    ("metadata", "family"),
    [
        ({"ss_base_model_version": "sd_v1"}, "sd1"),
        ({"ss_base_model_version": "sd_v2_v"}, "sd2"),
        ({"ss_v2": "True"}, "sd2"),
        ({"ss_v2": "False"}, "sd1"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, "sd2"),
        ({"ot_config": '{"model_type": "STABLE_DIFFUSION_15"}'}, "sd1"),
        ({"ss_sd_model_name": "v2-1_768-ema-pruned.safetensors"}, "sd2"),
    ],
)
def test_metadata_decides_what_the_shapes_leave_open(metadata, family):
    found = detect(TINY, metadata)
    assert (found.id, found.sure) == (family, True)


def test_shapes_win_over_metadata_and_the_contradiction_is_told():
    found = detect(lora(f"{DF}_attn2_to_k", 768), {"ss_base_model_version": "sdxl_base_v1-0"})
    assert (found.id, found.sure) == ("sd1", True)
    assert "its metadata says SDXL, but its tensors do not fit that" in found.evidence


@pytest.mark.parametrize(
    ("civitai", "family", "label"),
    [
        ("SD 1.5", "sd1", "SD 1.5"),
        ("SD 2.1 768", "sd2", "SD 2"),
        ("SDXL 1.0", "sdxl", "SDXL"),
        ("Pony", "sdxl", "Pony (SDXL)"),
        ("Illustrious", "sdxl", "Illustrious (SDXL)"),
        ("NoobAI", "sdxl", "NoobAI (SDXL)"),
        ("SD 1.5 LCM", "sd1", "LCM (SD 1.5)"),
        ("SDXL Turbo", "sdxl", "Turbo (SDXL)"),
        ("SDXL Lightning", "sdxl", "Lightning (SDXL)"),
        ("Flux.1 D", "flux", "Flux.1"),
        ("SDXL Hyper", "sdxl", "Hyper (SDXL)"),
        ("SD 3.5 Large", "sd3", "SD 3"),
        ("Pony V7", "auraflow", "AuraFlow"),
        ("Wan Video 14B t2v", "wan", "Wan"),
        ("Other", "unknown", "unknown base model"),
    ],
)
def test_civitais_strings_are_understood(civitai, family, label):
    found = detect({}, {}, civitai)
    assert (found.id, found.label) == (family, label)


XL = lora(f"{CV}_0_attn2_to_k", 2048)


@pytest.mark.parametrize(
    ("metadata", "flavour"),
    [
        ({"ss_new_sd_model_hash": "67ab2fd8ec439a89b3fedb15cc65f54336af163c7eb5e4f2acc98f090a29b0b3"}, "pony"),
        ({"ss_sd_model_hash": "e577480d"}, "pony"),
        ({"ss_sd_model_name": "290640.safetensors"}, "pony"),
        ({"ss_sd_model_name": "ponyDiffusionV6XL.safetensors"}, "pony"),
        ({"ss_sd_model_name": "NoobAI-XL-v1.1(illustrious).safetensors"}, "noobai"),
        ({"ss_sd_model_name": "waiNSFWIllustrious_v110.safetensors"}, "illustrious"),
        ({"ss_sd_model_name": "animagine-xl-3.1.safetensors"}, "animagine"),
        ({"ss_sd_model_name": "dreamshaperXL_lightningDPMSDE.safetensors"}, "lightning"),
        ({"ss_tag_frequency": '{"1_x": {" score_9": 20, "cat": 3}}'}, "pony"),
        ({"ss_tag_frequency": '{"1_x": {"masterpiece": 20}}'}, None),
        ({"ss_sd_model_name": "sd_xl_base_1.0.safetensors"}, None),
    ],
)
def test_flavours_of_sdxl_come_from_the_metadata(metadata, flavour):
    assert detect(XL, metadata).flavour == flavour
    assert detect(XL, metadata).id == "sdxl"
    assert detect(lora(f"{DF}_attn2_to_k", 768), metadata).flavour in (None, "lightning")


def test_civitai_outvotes_the_name_of_the_base_checkpoint():
    assert detect(XL, {"ss_sd_model_name": "ponyXL.safetensors"}, "Illustrious").flavour == "illustrious"


@pytest.mark.parametrize(
    ("shapes", "family"),
    [
        ({"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768)}, "sd1"),
        ({"model.diffusion_model.input_blocks.1.1.proj_in.weight": (32, 32, 1, 1)}, "sd1"),
        (
            {
                "model.diffusion_model.input_blocks.1.1.norm.weight": (32,),
                "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight": (72, 24),
            },
            "sd2",
        ),
        ({"cond_stage_model.transformer.text_model.final_layer_norm.weight": (32,)}, "sd1"),
        (
            {
                "conditioner.embedders.1.model.ln_final.weight": (32,),
                "model.diffusion_model.label_emb.0.0.weight": (40, 30),
            },
            "sdxl",
        ),
        (
            {
                "conditioner.embedders.0.model.ln_final.weight": (32,),
                "model.diffusion_model.input_blocks.9.0.op.weight": (8, 8, 3, 3),
                "model.diffusion_model.label_emb.0.0.weight": (40, 30),
            },
            "sdxl-refiner",
        ),
        ({"down_blocks.0.attentions.0.proj_in.weight": (32, 32, 1, 1)}, "sd1"),
        ({"first_stage_model.decoder.conv_out.weight": (3, 8, 3, 3)}, "unknown"),
    ],
)
def test_a_checkpoint_is_known_by_its_keys_whatever_its_widths(shapes, family):
    assert detect_checkpoint(shapes).id == family


@pytest.mark.skipif(not SHARED.exists(), reason="needs the golden data")
@pytest.mark.parametrize("family", ["sd1", "sd1_inpaint", "sd2", "sdxl", "sdxl_refiner"])
def test_the_golden_checkpoints_are_told_apart_though_they_are_partial(family):
    path = SHARED / f"golden/dev/base/{family}.safetensors"
    assert detect_checkpoint(read_header(path).shapes).id == family.removesuffix("_inpaint").replace("_", "-")


@pytest.mark.parametrize(("version", "possible", "expected"), [
    ("SDXL", ("sd1",), ("sdxl", ("sdxl", "sdxl-refiner"), True)),
    ("SD2", ("sd1", "sd2"), ("sd2", ("sd2",), False)),  # the file says that it may be
    ("SDXL", ("sdxl",), ("sdxl", ("sdxl",), False)),
    ("SD1", (), ("sd1", ("sd1",), True)),
    ("Unknown", ("sd1",), ("sd1", ("sd1",), False)),
    ("", ("sd1", "sd2"), ("sd1", ("sd1", "sd2"), False)),
])  # fmt: skip
def test_what_the_user_says_is_believed(version, possible, expected):
    family = chosen(version, Family(possible[0] if possible else "unknown", evidence=("e",), possible=possible))
    assert (family.id, family.possible, family.evidence == ("the notes say so",)) == expected


def test_what_fits_is_known_only_where_both_sides_are():
    sure, guess, other = detect(lora(f"{DF}_attn2_to_k", 768)), detect(TINY), detect(XL)
    sd2 = Family("sd2", possible=("sd2",))
    assert sure.fits(sure) is True
    assert other.fits(sure) is False
    assert guess.fits(sd2) is None  # SD 1 by guess only: SD 2 is not ruled out
    assert guess.fits(other) is False
    assert (sure.fits("sd1"), sure.fits("sdxl"), sure.fits("unknown"), guess.fits("sd2")) == (True, False, None, None)
    assert Family("unknown").fits(sure) is None
    assert (compatible("sd1", "sd1"), compatible("sd1", "sdxl"), compatible("unknown", "sd1")) == (True, False, None)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(["ss_sd_model_name", "ss_base_model_version", "ss_v2", "ot_config", "modelspec.title"]),
        st.text(max_size=40),
    ),
    st.none() | st.text(max_size=20),
)
def test_no_metadata_can_change_what_the_shapes_say(metadata, civitai):
    assert detect(XL, metadata, civitai).id == "sdxl"


def test_a_line_break_in_a_value_does_not_forge_evidence():
    assert detect({}, {"ss_base_model_version": "x\nbase=sd_v1"}).id == "unknown"
