"""The plan: what is bound to what, and what people are told about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_lora.adapters.adapter import read_adapter
from lib_lora.engine.active import Active
from lib_lora.engine.schedule import plan
from lib_lora.grammar.tag import LoraTag
from tests.support import write_lora
from tests.support_golden import (
    GIVEN,
    OWN,
    Carrier,
    checkpoint_session,
    diffusers_session,
    folded,
    given_base,
    index_of,
)

ATTENTION = "down_blocks_{}_attentions_{}_transformer_blocks_0_attn{}_to_{}"
UNET = "model.diffusion_model."


def sd1() -> dict[str, torch.Tensor]:
    """A part of an SD 1.5 checkpoint with its telling widths."""
    torch.manual_seed(0)
    base = {
        f"{UNET}input_blocks.{n}.1.transformer_blocks.0.attn2.to_{p}.weight": torch.randn(320, 768)
        for n in (1, 2)
        for p in "kv"
    }
    base |= {f"{UNET}input_blocks.{n}.1.transformer_blocks.0.attn1.to_q.weight": torch.randn(320, 320) for n in (1, 2)}
    return base


def sd1_shapes() -> dict[str, tuple[int, ...]]:
    shapes = {f"lora_unet_{ATTENTION.format(0, n, 2, p)}": (320, 768) for n in (0, 1) for p in "kv"}
    return {**shapes, **{f"lora_unet_{ATTENTION.format(0, n, 1, 'q')}": (320, 320) for n in (0, 1)}}


def report_of(base, path: Path, tag: LoraTag | None = None):
    made = plan([Active(tag or LoraTag("x"), read_adapter(path))], index_of(base))
    return made.reports[0], made


def test_all_that_matches_is_applied_and_nothing_is_told(tmp_path):
    report, made = report_of(sd1(), write_lora(tmp_path / "a.safetensors", sd1_shapes()))
    assert (report.matched, report.total, report.applied, report.sentences()) == (6, 6, True, [])
    assert len(made.terms) == 6


def test_an_adapter_for_another_base_model_is_not_applied_and_says_for_which(tmp_path):
    shapes = {f"lora_unet_{ATTENTION.format(1, n, 2, 'k')}": (640, 2048) for n in (0, 1)}
    report, made = report_of(sd1(), write_lora(tmp_path / "a.safetensors", shapes))
    assert made.terms == {}
    assert report.sentences() == [
        "x: 0 of 2 layers match: made for SDXL, the checkpoint is SD 1.5; nothing was applied"
    ]


def test_nor_is_the_part_of_it_that_would_fit_unless_one_insists(tmp_path):
    shapes = {**sd1_shapes(), f"lora_unet_{ATTENTION.format(1, 0, 2, 'k')}": (640, 2048)}
    del shapes[f"lora_unet_{ATTENTION.format(0, 0, 2, 'k')}"]
    shapes = {name: (shape[0], 2048) if "attn2" in name else shape for name, shape in shapes.items()}
    path = write_lora(tmp_path / "a.safetensors", shapes)
    report, made = report_of(sd1(), path)
    assert report.problem is not None
    assert "2 of 6 layers match: made for SDXL" in report.problem
    assert made.terms == {}
    report, made = report_of(sd1(), path, LoraTag("x", force=True))
    assert (report.matched, len(made.terms), report.applied) == (2, 2, True)
    assert "made for 320x2048, the model has 320x768" in report.sentences()[0]


@pytest.mark.parametrize(("module", "base"), [
    ("transformer.joint_blocks.0.x_block.attn.qkv", "SD 3"), ("lora_unet_double_blocks_0_img_attn_qkv", "Flux.1"),
])  # fmt: skip
def test_sd3_and_flux_are_recognised(tmp_path, module, base):
    report, _ = report_of(sd1(), write_lora(tmp_path / "a.safetensors", {module: (64, 64)}))
    assert report.problem == f"x: 0 of 1 layers match: made for {base}, the checkpoint is SD 1.5; nothing was applied"


def test_of_the_same_family_but_mostly_of_other_widths_nothing_is_applied(tmp_path):
    """A distilled or otherwise changed SD 1.5: four of six layers have other shapes."""
    wider = {name: (shape[0] * 2, shape[1]) if shape[1] == 768 else shape for name, shape in sd1_shapes().items()}
    path = write_lora(tmp_path / "a.safetensors", wider)
    report, made = report_of(sd1(), path)
    assert not made.terms
    assert "2 of 6 layers match" in (report.problem or "")
    report, made = report_of(sd1(), path, LoraTag("x", force=True))
    assert report.applied
    assert len(made.terms) == 2


def test_a_part_of_a_checkpoint_takes_the_part_that_it_has(tmp_path):
    path = write_lora(tmp_path / "a.safetensors", sd1_shapes())
    one = dict(list(sd1().items())[:1])
    report, made = report_of(one, path)
    assert (report.matched, len(made.terms)) == (1, 1)


def test_of_two_spellings_of_one_layer_the_first_counts(tmp_path):
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    path = write_lora(tmp_path / "a.safetensors", {**sd1_shapes(), f"unet.{name}": (320, 320)})
    report, made = report_of(sd1(), path)
    assert report.matched == 7
    assert [len(terms) for terms in made.terms.values()] == [1] * 6


def test_bad_modules_are_counted_and_named(tmp_path):
    tensors = load_file(write_lora(tmp_path / "a.safetensors", {**sd1_shapes(), "lora_unet_conv_out": (9, 9)}))
    tensors["lora_unet_nothing.lora_up.weight"] = torch.zeros(2, 2)
    tensors["rubbish"] = torch.zeros(2)
    save_file(tensors, tmp_path / "a.safetensors")
    base = {**sd1(), f"{UNET}out.2.weight": torch.zeros(4, 8, 3, 3)}
    report, _ = report_of(base, tmp_path / "a.safetensors")
    assert (report.matched, report.total) == (6, 7)
    assert report.sentences() == [
        "x: lora_unet_nothing: incomplete: up alone is not enough",
        "x: 1 of 7 layers do not fit this checkpoint (lora_unet_conv_out: made for 9x9, the model has 4x72)",
        "x: 1 tensors are not understood (such as 'rubbish')",
    ]


def test_weights_beyond_those_typed(tmp_path):
    path = write_lora(tmp_path / "a.safetensors", sd1_shapes())
    assert report_of(sd1(), path, LoraTag("x", 1.0, 0.0))[1].terms == {}
    term = next(iter(report_of(sd1(), path, LoraTag("x", 1.0, -2.5))[1].terms.values()))[0]
    assert term.multiplier == -2.5


# robust_*: files of which only a part is good, or nothing


def test_the_given_broken_files_do_no_harm():
    if not GIVEN.is_dir():
        return
    base = given_base("sd1")
    report, made = report_of(base, GIVEN / "adapters" / "robust_shape_mismatch.safetensors")
    assert made.terms == {}
    assert "the model has" in str(report.problem)
    report, made = report_of(base, GIVEN / "adapters" / "robust_partial_and_unknown_keys.safetensors")
    assert (report.matched, len(made.terms)) == (1, 1)
    assert any("incomplete: down alone" in sentence for sentence in report.sentences())
    assert any("global_step" in sentence for sentence in report.sentences())


# one module of the file, several of the model

LAYER = "text_encoder.text_model.encoder.layers.0.self_attn"
PACKED = "cond_stage_model.transformer.transformer.resblocks.0.attn.in_proj"


def encoder() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {f"{LAYER}.{name}_proj.{part}": torch.randn(4, 4) if part == "weight" else torch.randn(4)
            for name in "qkv" for part in ("weight", "bias")}  # fmt: skip


@pytest.mark.parametrize("extra", [{}, {"dora_scale": torch.rand(12, 1) + 1}, {"diff_b": torch.arange(12.0)}])
def test_a_packed_adapter_changes_the_parts_by_rows(tmp_path, extra):
    up, down = torch.randn(12, 2), torch.randn(2, 4)
    parts = {"lora_up.weight": up, "lora_down.weight": down, **extra}
    save_file({f"{PACKED}.{part}": tensor for part, tensor in parts.items()}, tmp_path / "a.safetensors")
    base = encoder()
    model = Carrier(base)
    session = diffusers_session(model, tmp_path / "a.safetensors")
    report = session.activate([LoraTag("x", force=True)])
    assert report.sentences() == []
    whole = torch.cat([base[f"{LAYER}.{name}_proj.weight"] for name in "qkv"])
    wanted = whole + up @ down
    if "dora_scale" in extra:
        wanted = wanted * extra["dora_scale"] / wanted.norm(dim=1, keepdim=True)
    after = model.tensors()
    assert torch.allclose(torch.cat([after[f"{LAYER}.{name}_proj.weight"] for name in "qkv"]), wanted, atol=1e-5)
    bias = torch.cat([after[f"{LAYER}.{name}_proj.bias"] - base[f"{LAYER}.{name}_proj.bias"] for name in "qkv"])
    assert torch.allclose(bias, extra.get("diff_b", torch.zeros(12)), atol=1e-6)
    session.activate([LoraTag("x", force=True)])
    session.clear()
    assert all(torch.equal(model.tensors()[key], tensor) for key, tensor in base.items())


def test_a_packed_adapter_that_mixes_rows_is_refused_by_name(tmp_path):
    save_file({f"{PACKED}.oft_blocks": torch.zeros(3, 4, 4)}, tmp_path / "a.safetensors")
    report = diffusers_session(Carrier(encoder()), tmp_path / "a.safetensors").activate([LoraTag("x", force=True)])
    assert "OFT mixes the rows of a layer that this model keeps apart" in report.sentences()[0]


def test_a_packed_and_an_unpacked_adapter_of_the_same_rows_do_not_add_up(tmp_path):
    packed, apart = (
        "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj",
        "lora_te2_text_model_encoder_layers_0_self_attn_q_proj",
    )
    base = {"conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight": torch.zeros(12, 4)}
    save_file({f"{packed}.diff": torch.ones(12, 4), f"{apart}.diff": torch.ones(4, 4)}, tmp_path / "a.safetensors")
    adapter = read_adapter(tmp_path / "a.safetensors")
    after = folded(base, plan([Active(LoraTag("x", force=True), adapter)], index_of(base)))
    assert after[next(iter(base))].unique().tolist() == [1.0]


# a bias where the model has none


def test_a_bias_is_made_for_the_adapter_and_unmade_after(tmp_path):
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    key = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q"
    base = load_file(OWN / "base.safetensors")
    save_file({f"{name}.diff_b": torch.arange(16.0)}, tmp_path / "a.safetensors")
    model = Carrier(base)
    layer = model.get_submodule(key)
    names = list(dict(model.named_parameters()))
    session = checkpoint_session(model, tmp_path / "a.safetensors")
    assert layer.bias is None
    report = session.activate([LoraTag("x", 0.5, 0.5)])
    assert report.sentences() == []
    assert torch.equal(layer.bias.data, torch.arange(16.0) / 2)
    made = layer.bias
    session.activate([LoraTag("x", 0.5, 0.5)])
    assert layer.bias is made  # nothing changed, nothing done
    session.activate([LoraTag("x", 2.0, 2.0)])
    assert torch.equal(layer.bias.data, torch.arange(16.0) * 2)
    session.clear()
    assert layer.bias is None
    assert list(dict(model.named_parameters())) == names
    assert "bias" in layer._parameters


def test_a_checkpoint_file_has_no_place_for_such_a_bias_and_that_is_told(tmp_path):
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    tensors = {
        f"{name}.diff_b": torch.ones(16),
        f"{name}.lora_up.weight": torch.ones(16, 1),
        f"{name}.lora_down.weight": torch.ones(1, 16),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    report, made = report_of(load_file(OWN / "base.safetensors"), tmp_path / "a.safetensors", LoraTag("x", force=True))
    assert len(made.terms) == 1
    assert report.misfits == (f"{name}: the model has no bias there",)
