"""What a file contains, from names and shapes."""

from __future__ import annotations

import pytest

from lib_lora.describe.survey import survey
from lib_lora.formats.header import read_header
from tests.support import SHARED

M = "lora_unet_mid_block_attentions_0_proj_in"
PARTS = {  # algorithm -> ({part: shape} of one module, its rank)
    "LoRA": ({"lora_down.weight": (4, 32), "lora_up.weight": (32, 4), "alpha": ()}, 4),
    "LoCon": ({"lora_down.weight": (4, 32, 3, 3), "lora_up.weight": (32, 4, 1, 1)}, 4),
    "LoHa": ({f"hada_w{n}_a": (32, 4) for n in (1, 2)} | {f"hada_w{n}_b": (4, 32) for n in (1, 2)}, 4),
    "LoKr": ({"lokr_w1": (4, 4), "lokr_w2_a": (8, 2), "lokr_w2_b": (2, 8)}, 2),
    "IA3": ({"weight": (32, 1), "on_input": ()}, None),
    "Full": ({"diff": (32, 32), "diff_b": (32,)}, None),
    "Norm": ({"w_norm": (32,), "b_norm": (32,)}, None),
    "GLoRA": ({"a1.weight": (32, 4), "a2.weight": (4, 32), "b1.weight": (4, 32), "b2.weight": (32, 4)}, 4),
    "diag-OFT": ({"oft_blocks": (8, 4, 4)}, None),
    "BOFT": ({"oft_blocks": (3, 8, 4, 4)}, None),
    "OFTv2": ({"oft_R.weight": (8, 6)}, None),
    "T-LoRA": ({"q_layer.weight": (4, 32), "p_layer.weight": (32, 4), "lambda_layer": (1, 4)}, 4),
}


@pytest.mark.parametrize("name", PARTS)
def test_an_algorithm_is_known_by_its_parts(name):
    parts, rank = PARTS[name]
    found = survey({f"{M}.{part}": shape for part, shape in parts.items()})
    assert found.algorithms == (name,)
    assert (found.ranks, found.rank) == ((rank, rank) if rank else None, rank)
    assert (found.modules, found.components, found.unknown, found.refused) == (1, ("unet",), (), "")


def test_a_lora_with_magnitudes_is_a_dora():
    parts = {"lora_A.weight": (4, 32), "lora_B.weight": (32, 4), "lora_magnitude_vector": (32,)}
    assert survey({f"unet.mid_block.x.{part}": shape for part, shape in parts.items()}).algorithms == ("LoRA", "DoRA")


def test_several_algorithms_ranks_and_components_are_counted():
    found = survey(
        {
            "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (8, 32),
            "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": (32, 8),
            "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (2, 32),
            "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": (32, 2),
            f"{M}.lora_down.weight": (2, 32),
            f"{M}.lora_up.weight": (32, 2),
            "lora_unet_mid_block_attentions_0_norm.w_norm": (32,),
        }
    )
    assert found.algorithms == ("LoRA", "Norm")
    assert (found.ranks, found.rank, found.modules) == ((2, 8), 2, 4)
    assert found.components == ("unet", "text_encoder", "text_encoder_2")


def test_embeddings_are_listed_by_name_dots_and_spaces_included():
    found = survey({"bundle_emb.my style.v1.string_to_param.*": (3, 768), "bundle_emb.xl.clip_g": (1, 1280)})
    assert found.embeddings == ("my style.v1", "xl")
    assert not found.refused


def test_what_is_incomplete_or_foreign_is_named():
    found = survey(
        {f"{M}.lora_down.weight": (4, 32), "global_step": ()} | {f"x.{k}": v for k, v in PARTS["LoRA"][0].items()}
    )
    assert found.unknown == ("global_step", f"{M} (down)")


@pytest.mark.parametrize(
    ("shapes", "what"),
    [
        ({"model.diffusion_model.out.2.weight": (4, 320, 3, 3)}, "checkpoint"),
        ({"clip_l": (2, 768), "clip_g": (2, 1280)}, "textual inversion"),
        ({"lora_controlnet": ()}, "control LoRA"),
        ({"anything": (1,)}, "not an adapter"),
        ({}, "not an adapter"),
    ],
)
def test_a_file_that_is_no_adapter_is_called_by_what_it_is(shapes, what):
    assert what in survey(shapes).refused


@pytest.mark.skipif(not SHARED.exists(), reason="needs the golden data")
def test_no_golden_adapter_is_refused():
    for path in (SHARED / "golden/dev/adapters").glob("*.safetensors"):
        assert survey(read_header(path).shapes).refused == "", path.name
