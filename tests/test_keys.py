"""Spellings: every name that a tool writes for a module leads to the parameter that it means, and to no other."""

from __future__ import annotations

import gzip
import json
from functools import cache

import pytest

from lib_lora.keys import ModuleName, layout, spellings, split_key
from lib_lora.model.targets import UNET_ROOT, TargetIndex, index_checkpoint, index_diffusers
from tests.support_golden import GIVEN

BLOCK = "transformer_blocks.0"
HF = "cond_stage_model.transformer.text_model.encoder.layers.0"
OPEN = "cond_stage_model.model"
XL_1 = "conditioner.embedders.0.transformer.text_model.encoder.layers.0"
XL_2 = "conditioner.embedders.1.model"
CHECKPOINTS: dict[str, dict[str, tuple[int, ...]]] = {  # some parameters of each family
    "sd1": {
        f"{UNET_ROOT}.input_blocks.0.0.weight": (8, 4, 3, 3),
        f"{UNET_ROOT}.input_blocks.1.1.{BLOCK}.attn1.to_q.weight": (8, 8),
        f"{UNET_ROOT}.input_blocks.1.1.{BLOCK}.attn1.to_out.0.weight": (8, 8),
        f"{UNET_ROOT}.input_blocks.1.0.emb_layers.1.weight": (8, 8),
        f"{UNET_ROOT}.input_blocks.3.0.op.weight": (8, 8, 3, 3),
        f"{UNET_ROOT}.output_blocks.2.1.conv.weight": (8, 8, 3, 3),
        f"{UNET_ROOT}.output_blocks.5.2.conv.weight": (8, 8, 3, 3),
        f"{UNET_ROOT}.out.2.weight": (4, 8, 3, 3),
        f"{HF}.self_attn.q_proj.weight": (6, 6),
        f"{HF}.self_attn.q_proj.bias": (6,),
        f"{HF}.mlp.fc1.weight": (12, 6),
    },
    "sd2": {
        f"{OPEN}.transformer.resblocks.0.attn.in_proj_weight": (18, 6),
        f"{OPEN}.transformer.resblocks.0.attn.in_proj_bias": (18,),
        f"{OPEN}.transformer.resblocks.0.mlp.c_fc.weight": (12, 6),
        f"{OPEN}.ln_final.weight": (6,),
        f"{OPEN}.positional_embedding": (7, 6),
    },
    "sdxl": {
        f"{UNET_ROOT}.label_emb.0.0.weight": (8, 8),
        f"{UNET_ROOT}.input_blocks.4.1.transformer_blocks.1.attn2.to_k.weight": (8, 8),
        f"{UNET_ROOT}.output_blocks.2.2.conv.weight": (8, 8, 3, 3),
        f"{XL_1}.self_attn.k_proj.weight": (6, 6),
        f"{XL_2}.transformer.resblocks.0.attn.in_proj_weight": (18, 6),
        f"{XL_2}.text_projection": (6, 5),
    },
}
# family, as the file spells the module, part, what it means (rows: "name[6:12]", a transposed one: "name.T")
SPELLED = f"""
sd1   lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q            weight  {UNET_ROOT}.input_blocks.1.1.{BLOCK}.attn1.to_q.weight
sd1   lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q                      weight  {UNET_ROOT}.input_blocks.1.1.{BLOCK}.attn1.to_q.weight
sd1   lycoris_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q              weight  {UNET_ROOT}.input_blocks.1.1.{BLOCK}.attn1.to_q.weight
sd1   oft_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0         weight  {UNET_ROOT}.input_blocks.1.1.{BLOCK}.attn1.to_out.0.weight
sd1   unet.down_blocks.0.attentions.0.{BLOCK}.attn1.to_q                              weight  {UNET_ROOT}.input_blocks.1.1.{BLOCK}.attn1.to_q.weight
sd1   down_blocks.0.attentions.0.{BLOCK}.attn1.to_q                                   weight  {UNET_ROOT}.input_blocks.1.1.{BLOCK}.attn1.to_q.weight
sd1   base_model.model.down_blocks.0.attentions.0.{BLOCK}.attn1.to_q                  weight  {UNET_ROOT}.input_blocks.1.1.{BLOCK}.attn1.to_q.weight
sd1   unet.base_model.model.down_blocks.0.attentions.0.{BLOCK}.attn1.to_q             weight  {UNET_ROOT}.input_blocks.1.1.{BLOCK}.attn1.to_q.weight
sd1   diffusion_model.input_blocks.1.1.{BLOCK}.attn1.to_q                             weight  {UNET_ROOT}.input_blocks.1.1.{BLOCK}.attn1.to_q.weight
sd1   model.diffusion_model.input_blocks.1.1.{BLOCK}.attn1.to_q                       weight  {UNET_ROOT}.input_blocks.1.1.{BLOCK}.attn1.to_q.weight
sd1   input_blocks.1.1.{BLOCK}.attn1.to_q                                             weight  {UNET_ROOT}.input_blocks.1.1.{BLOCK}.attn1.to_q.weight
sd1   diffusion_model_input_blocks_1_1_transformer_blocks_0_attn1_to_q                weight  {UNET_ROOT}.input_blocks.1.1.{BLOCK}.attn1.to_q.weight
sd1   unet.module.down_blocks.0.attentions.0.{BLOCK}.attn1.to_q                       weight  {UNET_ROOT}.input_blocks.1.1.{BLOCK}.attn1.to_q.weight
sd1   unet._orig_mod.down_blocks.0.attentions.0.{BLOCK}.attn1.to_q                    weight  {UNET_ROOT}.input_blocks.1.1.{BLOCK}.attn1.to_q.weight
sd1   lora_unet_conv_in                                                               weight  {UNET_ROOT}.input_blocks.0.0.weight
sd1   lora_unet_down_blocks_0_resnets_0_time_emb_proj                                 weight  {UNET_ROOT}.input_blocks.1.0.emb_layers.1.weight
sd1   lora_unet_down_blocks_0_downsamplers_0_conv                                     weight  {UNET_ROOT}.input_blocks.3.0.op.weight
sd1   lora_unet_up_blocks_0_upsamplers_0_conv                                         weight  {UNET_ROOT}.output_blocks.2.1.conv.weight
sd1   lora_unet_up_blocks_1_upsamplers_0_conv                                         weight  {UNET_ROOT}.output_blocks.5.2.conv.weight
sd1   lora_unet_conv_out                                                              weight  {UNET_ROOT}.out.2.weight
sd1   lora_te_text_model_encoder_layers_0_self_attn_q_proj                            bias    {HF}.self_attn.q_proj.bias
sd1   lora_te1_text_model_encoder_layers_0_mlp_fc1                                    weight  {HF}.mlp.fc1.weight
sd1   lora_te_encoder_layers_0_mlp_fc1                                                weight  {HF}.mlp.fc1.weight
sd1   text_encoder.text_model.encoder.layers.0.mlp.fc1                                weight  {HF}.mlp.fc1.weight
sd1   text_encoder.encoder.layers.0.mlp.fc1                                           weight  {HF}.mlp.fc1.weight
sd1   text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1            weight  {HF}.mlp.fc1.weight
sd2   lora_te_text_model_encoder_layers_0_self_attn_k_proj                            weight  {OPEN}.transformer.resblocks.0.attn.in_proj_weight[6:12]
sd2   lora_te_text_model_encoder_layers_0_self_attn_v_proj                            bias    {OPEN}.transformer.resblocks.0.attn.in_proj_bias[12:18]
sd2   text_encoders.clip_h.transformer.text_model.encoder.layers.0.mlp.fc1            weight  {OPEN}.transformer.resblocks.0.mlp.c_fc.weight
sd2   lora_te1_text_model_final_layer_norm                                            weight  {OPEN}.ln_final.weight
sd2   text_encoder.text_model.embeddings.position_embedding                           weight  {OPEN}.positional_embedding
sd2   cond_stage_model.model.transformer.resblocks.0.attn.in_proj                     weight  {OPEN}.transformer.resblocks.0.attn.in_proj_weight
sdxl  lora_unet_add_embedding_linear_1                                                weight  {UNET_ROOT}.label_emb.0.0.weight
sdxl  lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn2_to_k            weight  {UNET_ROOT}.input_blocks.4.1.transformer_blocks.1.attn2.to_k.weight
sdxl  lora_unet_up_blocks_0_upsamplers_0_conv                                         weight  {UNET_ROOT}.output_blocks.2.2.conv.weight
sdxl  lora_te_text_model_encoder_layers_0_self_attn_k_proj                            weight  {XL_1}.self_attn.k_proj.weight
sdxl  lora_te1_text_model_encoder_layers_0_self_attn_k_proj                           weight  {XL_1}.self_attn.k_proj.weight
sdxl  text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj                     weight  {XL_2}.transformer.resblocks.0.attn.in_proj_weight[0:6]
sdxl  lora_te2_text_projection                                                        weight  {XL_2}.text_projection.T
"""  # noqa: E501
SD3 = {
    f"{UNET_ROOT}.joint_blocks.0.x_block.attn.qkv.weight": (12, 4),
    f"{UNET_ROOT}.joint_blocks.0.x_block.attn.qkv.bias": (12,),
    f"{UNET_ROOT}.joint_blocks.0.context_block.attn.proj.weight": (4, 4),
    f"{UNET_ROOT}.joint_blocks.0.context_block.adaLN_modulation.1.weight": (24, 4),
    f"{UNET_ROOT}.joint_blocks.1.context_block.adaLN_modulation.1.weight": (8, 4),
    f"{UNET_ROOT}.context_embedder.weight": (4, 4),
    "text_encoders.clip_g.transformer.text_model.encoder.layers.0.mlp.fc1.weight": (8, 4),
    "text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q.weight": (4, 4),
}
BLOCK_0 = f"{UNET_ROOT}.joint_blocks.0"
SD3_SPELLED = f"""
transformer.transformer_blocks.0.attn.to_k                            {BLOCK_0}.x_block.attn.qkv.weight[4:8]
transformer_blocks.0.attn.to_v                                        {BLOCK_0}.x_block.attn.qkv.weight[8:12]
base_model.model.transformer_blocks.0.attn.to_q                       {BLOCK_0}.x_block.attn.qkv.weight[0:4]
lora_transformer_transformer_blocks_0_attn_to_q                       {BLOCK_0}.x_block.attn.qkv.weight[0:4]
lora_unet_joint_blocks_0_x_block_attn_qkv                             {BLOCK_0}.x_block.attn.qkv.weight
diffusion_model.joint_blocks.0.context_block.attn.proj                {BLOCK_0}.context_block.attn.proj.weight
transformer.transformer_blocks.0.attn.to_add_out                      {BLOCK_0}.context_block.attn.proj.weight
transformer.transformer_blocks.0.norm1_context.linear                 {BLOCK_0}.context_block.adaLN_modulation.1.weight
lora_unet_joint_blocks_1_context_block_adaLN_modulation_1             {UNET_ROOT}.joint_blocks.1.context_block.adaLN_modulation.1.weight
transformer.context_embedder                                          {UNET_ROOT}.context_embedder.weight
lora_te2_text_model_encoder_layers_0_mlp_fc1                          text_encoders.clip_g.transformer.text_model.encoder.layers.0.mlp.fc1.weight
lora_te3_encoder_block_0_layer_0_SelfAttention_q                      text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q.weight
"""  # noqa: E501
KEYS = """
lora_unet_x.lora_up.weight                            lora_unet_x                 up
lora_unet_x.alpha                                     lora_unet_x                 alpha
unet.a.b.lora_A.weight                                unet.a.b                    down
unet.a.b.lora_B.default_0.weight                      unet.a.b                    up
unet.a.b.lora_B.bias                                  unet.a.b                    lora_bias
a.b.lora_A                                            a.b                         down
a.b.lora_magnitude_vector                             a.b                         magnitude
a.b.lora_magnitude_vector.default.weight              a.b                         magnitude
a.attn1.to_q.lora.down.weight                         a.attn1.to_q                down
a.q_proj.lora_linear_layer.up.weight                  a.q_proj                    up
a.attn1.processor.to_q_lora.down.weight               a.attn1.to_q                down
a.attn2.processor.to_out_lora.up.weight               a.attn2.to_out.0            up
a.self_attn.to_out_lora.up.weight                     a.self_attn.out_proj        up
a.attn1.to_out.lora.up.weight                         a.attn1.to_out.0            up
x.oft_R.default.weight                                x                           oft_r
x.oft_R.scaled_oft                                    x                           scaled_oft
x.a1.weight                                           x                           a1
x.hada_t1                                             x                           hada_t1
"""


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.strip().splitlines()]


def shown(target) -> str:
    cut = f"[{target.rows[0]}:{target.rows[1]}]" if target.rows else ""
    return f"{target.key}{cut}{'.T' if target.transposed else ''}"


@pytest.mark.parametrize(("family", "spelling", "part", "meant"), rows(SPELLED))
def test_a_spelling_leads_to_what_it_means(family, spelling, part, meant):
    found = index_checkpoint(CHECKPOINTS[family]).find(spelling)
    assert found is not None
    assert shown(found[part]) == meant


@pytest.mark.parametrize(("spelling", "meant"), rows(SD3_SPELLED))
def test_a_spelling_of_sd3_leads_to_what_it_means(spelling, meant):
    found = index_checkpoint(SD3).find(spelling)
    assert found is not None
    assert shown(found["weight"]) == meant


def test_of_sd3_what_diffusers_has_the_other_way_round_is_not_found_under_its_name():
    assert index_checkpoint(SD3).find("transformer.transformer_blocks.1.norm1_context.linear") is None
    assert index_checkpoint(SD3).family.id == "sd3"


@pytest.mark.parametrize(("key", "module", "part"), rows(KEYS))
def test_a_key_is_split_from_the_right(key, module, part):
    assert split_key(key) == (module, part)


@pytest.mark.parametrize("key", ["global_step", "model.diffusion_model.x.running_mean", "x.up.weight", ""])
def test_other_keys_are_no_parts(key):
    assert split_key(key) is None


@pytest.mark.parametrize("family", CHECKPOINTS)
def test_no_spelling_means_two_modules(family):
    index = index_checkpoint(CHECKPOINTS[family])
    assert sum(len(set(spellings(name))) for name in modules_of(CHECKPOINTS[family])) == len(index.modules)


def modules_of(shapes) -> set[ModuleName]:
    from lib_lora.model.targets import _checkpoint_targets

    return {module for key, shape in shapes.items() for module, _, _ in _checkpoint_targets(key, shape, 2)}


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_block_names_go_there_and_back_whatever_the_number_of_resnets(layers):
    names = [f"{side}_blocks.{block}.{kind}.{index}.{rest}"
             for side, more in (("down", 0), ("up", 1)) for block in range(3) for index in range(layers + more)
             for kind, rest in (("resnets", "conv1"), ("attentions", "proj_in"))]  # fmt: skip
    names += [f"down_blocks.{block}.downsamplers.0.conv" for block in range(2)]
    names += [f"up_blocks.{block}.upsamplers.0.conv" for block in range(2)]
    assert layout.resnets_per_block(names) == layers
    native = {name: layout.unet_to_native(name, names, layers) for name in names}
    assert len(set(native.values())) == len(names)
    assert {name: layout.unet_from_native(other, layers) for name, other in native.items()} == {
        name: name for name in names
    }


def test_the_thousands_of_names_of_the_given_list():
    """Where it lies beside the repository: every spelling of half of all modules of four families."""
    path = GIVEN / "keymap.jsonl.gz"
    listed = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()] if path.exists() else []
    wrong = [row for row in listed if not means(given_index(row["family"]), row)]
    assert wrong == []


def checkpoint_key(row) -> str:
    root = row["a1111"].replace(".wrapped", "")
    return f"{root}.{row['param']}"


@cache
def given_index(family: str) -> TargetIndex:
    with gzip.open(GIVEN / "keymap.jsonl.gz", "rt") as file:
        listed = [row for row in map(json.loads, file) if row["family"] == family]
    shapes = {"weight": (12, 12), "in_proj_weight": (12, 4), "text_projection": (4, 4)}
    found = {checkpoint_key(row): shapes[row["param"]] for row in listed}
    return index_checkpoint(found)


def means(index: TargetIndex, row) -> bool:
    found = (index.find(row["adapter_module"]) or {}).get("weight")
    block = row["row_block"]
    cut = None if block is None else (4 * block, 4 * block + 4)
    return found is not None and (found.key, found.rows, found.transposed) == (
        checkpoint_key(row),
        cut,
        row["transposed"],
    )


def test_a_diffusers_pipeline_understands_the_same_spellings_as_its_checkpoint():
    pytest.importorskip("diffusers")
    from tests.support import tiny_pipe

    for family in ("sd1", "sd2", "sdxl"):
        pipe = vars(tiny_pipe(family))
        components = {
            name: {key: tuple(value.shape) for key, value in part.state_dict().items()} for name, part in pipe.items()
        }
        index = index_diffusers(components)
        assert index.keys == {f"{name}.{key}" for name, part in components.items() for key in part}
        for spelling in ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
                         "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"):  # fmt: skip
            assert (
                index.find(spelling)["weight"].key
                == "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight"
            )
        assert (index.find("lora_te2_text_model_encoder_layers_0_mlp_fc1") is not None) == (family == "sdxl")


def test_packed_projections_are_found_in_a_model_that_keeps_them_apart():
    layer = "text_model.encoder.layers.0.self_attn"
    shapes = {f"{layer}.{name}.{part}": (4, 4) if part == "weight" else (4,)
              for name in ("q_proj", "k_proj", "v_proj") for part in ("weight", "bias")}  # fmt: skip
    index = index_diffusers({"text_encoder": shapes})
    pieces = index.find_all("cond_stage_model.transformer.transformer.resblocks.0.attn.in_proj")
    assert [shown(piece["weight"]) for piece in pieces] == [f"text_encoder.{layer}.{n}_proj.weight" for n in "qkv"]
    assert [piece["bias"].piece for piece in pieces] == [(0, 4, 12), (4, 8, 12), (8, 12, 12)]


def test_a_pipeline_with_fused_projections_is_changed_where_it_computes():
    attention = "down_blocks.0.attentions.0.transformer_blocks.0"
    shapes = {f"{attention}.attn1.to_{name}.weight": (4, 4) for name in "qkv"}
    fused = {**shapes, f"{attention}.attn1.to_qkv.weight": (12, 4)}
    spelling = f"unet.{attention}.attn1.to_v"
    assert shown(index_diffusers({"unet": shapes}).find(spelling)["weight"]) == f"unet.{attention}.attn1.to_v.weight"
    assert (
        shown(index_diffusers({"unet": fused}).find(spelling)["weight"])
        == f"unet.{attention}.attn1.to_qkv.weight[8:12]"
    )
