"""Adapter files made of others: in effect they are what was asked for, delta against delta."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lib_lora.adapters.adapter import read_adapter
from lib_lora.algorithms.forms import Factors, Whole
from lib_lora.cli import main
from lib_lora.engine.active import Active
from lib_lora.engine.schedule import plan
from lib_lora.errors import LoraError
from lib_lora.grammar.tag import LoraTag, read_prompt
from lib_lora.model.base_weights import BaseWeights
from lib_lora.tools.adapter_file import PARENTS
from lib_lora.tools.bake import MergeRefused
from lib_lora.tools.convert import convert
from lib_lora.tools.edit import cover, edit
from lib_lora.tools.extract import extract
from lib_lora.tools.factors import Limit, Singular
from lib_lora.tools.keep import read_recipe, save
from lib_lora.tools.resize import resize
from lib_lora.tools.verify import verify
from tests.support_golden import OWN, folded, index_of, own_file

BASE = OWN / "base.safetensors"
PRODUCTS = ("lora", "lora_rs", "lora_scalar", "locon_tucker", "peft_lora", "peft_alpha", "peft_rslora")
WHOLE = ("full", "loha", "lokr", "lokr_full", "loha_tucker")
ASKING = ("dora_output", "oft", "glora", "ia3_input", "boft")


def changes(*pairs):
    """{parameter: how files with these weights change it}, float64, folded in order."""
    base = load_file(BASE)
    active = [Active(LoraTag(path.stem, weight, weight, force=True), read_adapter(path)) for path, weight in pairs]
    after = folded(base, plan(active, index_of(base)), torch.float64)
    return {key: after[key] - base[key].double() for key in base}


def distance(one, other):
    """||one - other|| / ||other|| over all parameters."""
    missed = sum(float((one[key] - other[key]).square().sum()) for key in other)
    return (missed / sum(float(each.square().sum()) for each in other.values())) ** 0.5


class Own:
    """Finds the golden files by name."""

    def find(self, name):
        return SimpleNamespace(path=own_file(name))


def saved(tmp_path, prompt, **options):
    read = read_prompt(prompt)
    with BaseWeights(BASE) as base:
        return save(tmp_path / "saved.safetensors", read.tags, Own(), errors=read.errors, base=base, **options)


@pytest.mark.parametrize("name", PRODUCTS + WHOLE + ASKING)
def test_one_tag_saved_does_the_same(tmp_path, name):
    made = saved(tmp_path, f"<lora:{name}:0.7:force=1>")
    assert made.built.error < 1e-6
    assert distance(changes((made.out, 1.0)), changes((own_file(name), 0.7))) < 1e-6


def test_several_tags_saved_do_what_they_do_together(tmp_path):
    made = saved(tmp_path, "<lora:lora:0.7><lora:locon_tucker:-0.4><lora:lokr:0.5><lora:lora:0.2>")
    together = changes((own_file("lora"), 0.9), (own_file("locon_tucker"), -0.4), (own_file("lokr"), 0.5))
    assert distance(changes((made.out, 1.0)), together) < 1e-6
    with safe_open(made.out, "pt") as file:
        metadata = file.metadata()
    assert read_recipe(metadata).startswith("<lora:lora:0.7>")
    assert set(json.loads(metadata[PARENTS])) == {"lora", "locon_tucker", "lokr"}
    assert verify(made.out).is_right
    assert len(verify(made.out).statements) == 2


def test_saved_to_a_rank_the_error_that_is_told_is_the_error_that_it_has(tmp_path):
    made = saved(tmp_path, "<lora:lora:0.7><lora:lokr:0.5>", limit=Limit(rank=2))
    together = changes((own_file("lora"), 0.7), (own_file("lokr"), 0.5))
    assert 0 < made.built.error < 1
    assert distance(changes((made.out, 1.0)), together) == pytest.approx(made.built.error, rel=1e-4)
    assert max(made.built.ranks) == 2


def test_a_tag_that_cannot_be_applied_is_no_file(tmp_path):
    with pytest.raises(MergeRefused):
        saved(tmp_path, "<lora:lora:x>")
    assert not list(tmp_path.iterdir())


def test_what_depends_on_the_weights_asks_for_the_checkpoint(tmp_path):
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    save_file({f"{name}.lora_up.weight": torch.ones(320, 2), f"{name}.lora_down.weight": torch.ones(2, 320),
               f"{name}.dora_scale": torch.ones(320, 1)}, tmp_path / "turned.safetensors")  # fmt: skip
    finder = SimpleNamespace(find=lambda typed: SimpleNamespace(path=tmp_path / "turned.safetensors"))
    with pytest.raises(LoraError, match=r"turned: DoRA depends on the base weights; name the checkpoint with --model"):
        save(tmp_path / "x.safetensors", [LoraTag("turned", force=True)], finder)
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (40, 5)])
def test_the_singular_values_of_a_product_are_those_of_the_matrix(shape):
    up, down = torch.randn(shape[0], 4, dtype=torch.float64), torch.randn(4, shape[1], dtype=torch.float64)
    found = Singular.of(Factors(up, down, 0.5))
    expected = torch.linalg.svdvals(up @ down * 0.5)[:4]
    assert torch.allclose(found.values, expected)
    assert torch.allclose(Singular.of(Whole(up @ down * 0.5)).values, expected)
    cut_up, cut_down = found.cut(2).factors()
    best = float(expected[2:].norm())  # no other product of rank 2 is nearer
    assert float((cut_up @ cut_down - up @ down * 0.5).norm()) == pytest.approx(best)


def test_limits_in_numbers_that_one_can_do_in_the_head():
    spectra = [torch.tensor([4.0, 2.0, 1.0, 1.0]), torch.tensor([3.0, 1.0])]  # squares 16 4 1 1 | 9 1: 32 in all
    assert Limit(rank=3).ranks(spectra) == [3, 2]
    assert Limit(energy=0.9).ranks(spectra) == [2, 1]  # 20 of 22; 9 of 10
    assert Limit(error=(3.5 / 32) ** 0.5).ranks(spectra) == [2, 1]  # the three ones go
    assert Limit(error=0.01).ranks(spectra) == [4, 2]
    assert Limit(error=0.999).ranks(spectra) == [1, 1]


@pytest.mark.parametrize("name", ["lora", "locon_tucker", "peft_lora", "lokr", "loha"])
@pytest.mark.parametrize("limit", [Limit(rank=2), Limit(energy=0.8), Limit(error=0.3)])
def test_resized_the_error_is_what_is_told_and_within_the_limit(tmp_path, name, limit):
    out = tmp_path / "small.safetensors"
    with BaseWeights(BASE) as base:
        made = resize(own_file(name), out, limit, base=base)
    found = distance(changes((out, 1.0)), changes((own_file(name), 1.0)))
    assert found <= made.built.error * 1.01 + 1e-6
    if limit.error is not None:
        assert found <= limit.error
    if limit.rank is not None:
        assert max(made.built.ranks) <= 2


def test_what_cannot_be_cut_is_refused_by_name(tmp_path):
    with pytest.raises(LoraError, match="no layer that could be cut: diag-OFT"):
        resize(own_file("oft"), tmp_path / "x.safetensors", Limit(rank=2))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [*PRODUCTS, "dora_output"])
@pytest.mark.parametrize("to", ["kohya", "diffusers", "onetrainer"])
def test_converted_it_does_the_same_under_other_names(tmp_path, name, to):
    out = tmp_path / "other.safetensors"
    with BaseWeights(BASE) as base:
        if to == "diffusers" and name == "dora_output":
            with pytest.raises(LoraError, match="diffusers has no names"):
                convert(own_file(name), out, to, base=base)
            return
        convert(own_file(name), out, to, base=base)
    assert distance(changes((out, 1.0)), changes((own_file(name), 1.0))) < 1e-6
    keys = load_file(out).keys()
    start = {"kohya": ("lora_",), "diffusers": ("unet.", "text_encoder"), "onetrainer": ("unet.", "clip_")}[to]
    assert all(key.startswith(start) for key in keys)


@pytest.mark.parametrize("name", ["loha", "lokr"])
def test_kinds_of_lycoris_keep_their_parts(tmp_path, name):
    out = tmp_path / "other.safetensors"
    with BaseWeights(BASE) as base:
        convert(own_file(name), out, "onetrainer", base=base)
    assert distance(changes((out, 1.0)), changes((own_file(name), 1.0))) < 1e-7


def test_extracted_it_makes_the_one_checkpoint_of_the_other(tmp_path):
    base = load_file(BASE)
    learned = changes((own_file("lora"), 0.8), (own_file("locon_tucker"), 0.3))
    tuned, out = tmp_path / "tuned.safetensors", tmp_path / "out.safetensors"
    save_file({key: (tensor.double() + learned[key]).float() for key, tensor in base.items()}, tuned)
    made = extract(BASE, tuned, out, Limit(energy=0.999999), dtype=torch.float32)
    assert made.left_out == 0
    assert made.built.error < 0.01
    assert distance(changes((out, 1.0)), learned) == pytest.approx(made.built.error, abs=1e-4)
    rough = extract(BASE, tuned, out, Limit(error=0.2), dtype=torch.float32, overwrite=True)
    assert distance(changes((out, 1.0)), learned) <= 0.2
    assert sum(rough.built.ranks) < sum(made.built.ranks)
    with pytest.raises(LoraError, match="have the same weights"):
        extract(BASE, BASE, tmp_path / "none.safetensors", Limit(rank=4))


def test_an_edit_changes_no_byte_of_the_tensors(tmp_path):
    file = tmp_path / "ink.safetensors"
    file.write_bytes(own_file("lora").read_bytes())

    def tensor_bytes():
        content = file.read_bytes()
        return hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()

    before = tensor_bytes()
    edit(file, {"modelspec.title": "Tusche 墨", "ss_x": "1"})
    edit(file, {"ss_x": None})
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["modelspec.title"] == "Tusche 墨"
        assert "ss_x" not in opened.metadata()
    assert tensor_bytes() == before
    (tmp_path / "no.png").write_bytes(b"nothing")
    with pytest.raises(LoraError, match="a cover is a PNG"):
        cover(tmp_path / "no.png")


def test_a_file_that_was_changed_does_not_pass(tmp_path):
    made = saved(tmp_path, "<lora:lora:1>")
    content = bytearray(made.out.read_bytes())
    content[-1] ^= 1
    made.out.write_bytes(content)
    assert not verify(made.out).is_right


def test_the_commands(tmp_path, capsys):
    from lib_lora.drawing.demo_files import ADAPTERS, MODEL

    outline, out = str(ADAPTERS / "outline.safetensors"), tmp_path / "out.safetensors"
    assert main(["save", str(out), "--prompt", "<lora:outline:0.7><lora:night:0.3>", "--model", str(MODEL)]) == 0
    assert "relative error" in capsys.readouterr().out
    assert main(["save", str(out), "--prompt", "<lora:outline:0.7>", "--model", str(MODEL)]) == 1
    assert "exists already; nothing was written" in capsys.readouterr().err
    assert main(["verify", str(out)]) == 0
    assert main(["edit", str(out), "--title", "Mixed", "--license", "CC0"]) == 0
    assert main(["info", str(out)]) == 0
    assert "Mixed" in capsys.readouterr().out
    assert main(["resize", outline, str(out), "--rank", "2", "--force"]) == 0
    assert "ranks 2 to 2" in capsys.readouterr().out
    assert main(["resize", outline, outline, "--rank", "2", "--force"]) == 1
    assert "that is the adapter itself" in capsys.readouterr().err
    assert main(["convert", outline, str(out), "--to", "diffusers", "--model", str(MODEL), "--force"]) == 0
    capsys.readouterr()
    assert main(["edit", str(out)]) == 1
    assert "nothing to change" in capsys.readouterr().err
    for wrong in (["resize", outline, str(out)], ["resize", outline, str(out), "--rank", "0"]):
        assert main(wrong) == 2
