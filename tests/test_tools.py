"""Adapter files made of others: in effect they are what was asked for, delta against delta."""

from __future__ import annotations

import hashlib
import json
import re
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lib_lora.adapters.adapter import read_adapter
from lib_lora.algorithms.forms import Factors, Kronecker, Whole
from lib_lora.cli import main
from lib_lora.describe.recipe import PARENTS, RECIPE, read_recipe, recipe_of
from lib_lora.engine.active import Active
from lib_lora.engine.schedule import plan
from lib_lora.errors import LoraError
from lib_lora.grammar.editing import edited
from lib_lora.grammar.named import named_moment
from lib_lora.grammar.tag import LoraTag, read_prompt
from lib_lora.model.base_weights import BaseWeights
from lib_lora.tools import leading
from lib_lora.tools.bake import MergeRefused
from lib_lora.tools.convert import convert
from lib_lora.tools.edit import cover, edit
from lib_lora.tools.extract import extract
from lib_lora.tools.factors import Limit, Singular, completed
from lib_lora.tools.keep import save
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
    recipe = recipe_of(made.out)
    assert read_prompt(recipe.prompt).tags == read_prompt(
        "<lora:lora:0.7><lora:locon_tucker:-0.4><lora:lokr:0.5><lora:lora:0.2>").tags
    assert set(recipe.parents) == {"lora", "locon_tucker", "lokr"}
    assert all(recipe.parents[name]["sha256"] == hashlib.sha256(own_file(name).read_bytes()).hexdigest()
               for name in recipe.parents)
    assert verify(made.out).is_right
    assert len(verify(made.out).statements) == 2


def test_saved_to_a_rank_the_error_that_is_told_is_the_error_that_it_has(tmp_path):
    made = saved(tmp_path, "<lora:lora:0.7><lora:lokr:0.5>", limit=Limit(rank=2))
    together = changes((own_file("lora"), 0.7), (own_file("lokr"), 0.5))
    assert 0 < made.built.error < 1
    assert distance(changes((made.out, 1.0)), together) == pytest.approx(made.built.error, rel=1e-4)
    assert max(made.built.ranks) == 2


OVER_TIME = {  # (tags, moment, steps) -> tags that are the same at all moments
    ("<lora:lora:0:0@0,1@1>", "0.5", None): "<lora:lora:0:0.5>",
    ("<lora:lora:0.2@0,1@1>", "0.5", None): "<lora:lora:0.2:0.6>",  # text encoders get what it begins with
    ("<lora:lora:0.3><lora:locon_tucker:1:0@0,1@10>", "4", None): "<lora:lora:0.3><lora:locon_tucker:1:0.4>",
    ("<lora:lora:0:0@0,1@1>", "5", 11): "<lora:lora:0:0.5>",
    ("<lora:lora:0:0@0,1@1>", "0.49", 3): "<lora:lora:0:0.5>",  # the second of three steps is the nearest
    ("<lora:lora:1:start=0.5><lora:lokr:0.5:stop=0.5>", "0.2", None): "<lora:lokr:0.5>",
    ("<lora:lora:1:start=0.5><lora:lokr:0.5:stop=0.5>", "0.7", None): "<lora:lora:1>",
    ("<lora:lora:1:out=0@0,1@1>", "0.25", None): "<lora:lora:1:out=0.25>",
    ("<lora:lora:0:1@s10,0@s2>", "s4", None): "<lora:lora:0:0.25>",
    ("[<lora:lora:1>:<lora:lokr:0.5>:0.5]", "3", 20): "<lora:lora:1>",
    ("[<lora:lora:1>:<lora:lokr:0.5>:0.5]", "15", 20): "<lora:lokr:0.5>",
}


@pytest.mark.parametrize("asked", OVER_TIME)
def test_what_changes_over_time_is_kept_as_it_is_at_the_moment_that_is_named(tmp_path, asked):
    prompt, moment, steps = asked
    read = edited(prompt, steps or 20)
    with BaseWeights(BASE) as base:
        made = save(tmp_path / "then.safetensors", read.tags, Own(), base=base, at=named_moment(moment, steps),
                    typed=prompt)  # fmt: skip
    always = saved(tmp_path, OVER_TIME[asked])
    assert distance(changes((made.out, 1.0)), changes((always.out, 1.0))) < 1e-6
    recipe = recipe_of(made.out)
    assert (recipe.prompt, recipe.at, recipe.steps) == (prompt, moment, steps)


@pytest.mark.parametrize(("prompt", "moment", "steps", "told"), [
    ("<lora:lora:0:0@0,1@1>", None, None, r"changes over time \(unet=0@0,1@1\); name the"),
    ("<lora:lora:1:start=0.5>", None, None, r"changes over time \(start=0.5\); name the moment .* such as --at 0.5"),
    ("<lora:lora:0:0@0,1@1>", "12", None, r"it counts in shares of the steps: .*; 12 says nothing of it"),
    ("<lora:lora:0:0@0,1@10>", "0.5", None, r"it counts in steps: name one such as 12.*; 0.5 says nothing of it"),
    ("<lora:lora:0:0@0,1@1>", "s7", None, "it counts in shares"),
    ("<lora:lora:0:1@s10,0@s2>", "0.5", 20, "it counts in sigma: name the noise, such as s7.2"),
    ("[<lora:lora:1>:0.5]", "0.7", None, "prompt editing around it counts in steps; say how many"),
    ("<lora:lora:1:hr=0.5>", None, None, "no pictures, passes, sides and places, so that hr=0.5 cannot be kept"),
    ("<lora:lora:1:on=cond>", "0.5", None, "so that on=cond cannot be kept"),
    ("<lora:lora:1:area=0,0,0.5,1>", "0.5", None, "so that area=0,0,0.5,1 cannot be kept"),
])  # fmt: skip
def test_what_no_file_can_hold_is_refused_and_not_kept_as_it_begins(tmp_path, prompt, moment, steps, told):
    at = None if moment is None else named_moment(moment, steps)
    with BaseWeights(BASE) as base, pytest.raises(MergeRefused, match=told):
        save(tmp_path / "x.safetensors", edited(prompt, steps or 20).tags, Own(), base=base, at=at)
    assert not list(tmp_path.iterdir())


def test_words_that_an_adapter_brings_are_in_the_file_that_it_is_saved_to(tmp_path):
    words = {"bundle_emb.sumi.string_to_param.*": torch.arange(24.0).reshape(2, 12)}
    save_file(load_file(own_file("lora")) | words, tmp_path / "worded.safetensors")
    finder = SimpleNamespace(find=lambda typed: SimpleNamespace(path=tmp_path / "worded.safetensors"))
    with BaseWeights(BASE) as base:
        made = save(tmp_path / "out.safetensors", [LoraTag("worded", 0.5, 0.5, force=True)], finder, base=base)
    brought = read_adapter(made.out).embeddings
    assert {word: list(found) for word, found in brought.items()} == {"sumi": ["text"]}
    assert torch.equal(brought["sumi"]["text"], words["bundle_emb.sumi.string_to_param.*"])


@pytest.mark.parametrize("told", [
    "", "[]", "{", '{"prompt": 3}', "[" * 5000, '{"prompt": "\ud800", "at": [], "steps": true}', '{"steps": 1e400}',
])  # fmt: skip
def test_a_recipe_of_a_stranger_is_text_or_nothing(told):
    recipe = read_recipe({RECIPE: told, PARENTS: '{"a": {"sha256": 7, "license": "CC0"}, "b": 3}'})
    assert recipe.parents == {"a": {"sha256": "", "license": "CC0"}}
    assert (recipe.steps, recipe.at) == (None, "")
    recipe.prompt.encode()
    assert read_recipe({RECIPE: told}) is None or isinstance(read_recipe({RECIPE: told}).prompt, str)


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


@pytest.mark.parametrize("kernel", [(), (3, 3)])
@pytest.mark.parametrize("rank", [None, 3])
def test_those_of_a_kronecker_product_are_had_from_its_two_factors(kernel, rank):
    form = Kronecker(torch.randn(3, 2, dtype=torch.float64), torch.randn(4, 5, *kernel, dtype=torch.float64), -0.5)
    expected = torch.linalg.svdvals(form.dense())[:8]  # 2 times 4; the others are 0
    found = Singular.of(form, rank)
    assert torch.allclose(found.values, expected[:rank])
    up, down = found.cut(3).factors()
    assert float((up @ down - form.dense()).norm()) == pytest.approx(float(expected[3:].norm()))
    assert torch.allclose(Singular.values_of(form), expected)


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
    vectors = {key: tensor + (tensor.dim() == 1) for key, tensor in base.items()}
    save_file(vectors, tuned)
    with pytest.raises(LoraError, match="differ in biases and norms only"):
        extract(BASE, tuned, tmp_path / "none.safetensors", Limit(rank=4))
    assert not (tmp_path / "none.safetensors").exists()


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
    told = capsys.readouterr().out
    assert "Mixed" in told
    assert re.search(r"^Made of: +<lora:outline:0.7><lora:night:0.3>$", told, re.MULTILINE)
    assert re.search(r"^from: +outline \([0-9a-f]{12}.*\); night \([0-9a-f]{12}", told, re.MULTILINE)
    curved = ["save", str(out), "--prompt", "<lora:outline:0:0@0,1@1>", "--model", str(MODEL), "--force"]
    assert main(curved) == 1
    assert "name the moment that shall be kept with --at" in capsys.readouterr().err
    assert main([*curved, "--at", "30", "--steps", "20"]) == 1
    assert "--at 30 is no step: of 20 the last is 19" in capsys.readouterr().err
    assert main([*curved, "--at", "10", "--steps", "20"]) == 0
    assert main(["info", str(out), "--json"]) == 0
    recipe = json.loads(capsys.readouterr().out.partition("\n")[2])["recipe"]
    assert (recipe["prompt"], recipe["at"], recipe["steps"]) == ("<lora:outline:0:0@0,1@1>", "10", 20)
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


@pytest.mark.parametrize(("shape", "decay"), [((500, 600), 0.0), ((320, 200), 0.5), ((200, 320), 3.0)])
def test_the_leading_values_alone_come_as_near_as_all_of_them(monkeypatch, shape, decay):
    """Of a matrix whose values are all alike, too: there the first are the hardest to tell from the others."""
    monkeypatch.setattr(leading, "SMALLEST", 100)
    monkeypatch.setattr(leading, "LARGEST", 0.9)
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(shape, generator=generator, dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values * torch.arange(1, len(values) + 1) ** -decay
    matrix = left * values @ right
    found = Singular.of(Whole(matrix), 8)
    assert len(found.values) == 8
    up, down = found.factors()
    best = float(values[8:].norm())
    assert float((matrix - up @ down).norm()) <= best * (1 + 1e-8)
    assert torch.allclose(found.values, values[:8], rtol=1e-5)


def test_where_the_leading_values_do_not_settle_all_of_them_are_had(monkeypatch):
    flat = torch.randn(200, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    monkeypatch.setattr(leading, "SMALLEST", 100)
    monkeypatch.setattr(leading, "LARGEST", 0.4)
    assert leading.leading(flat @ flat.T, 8) is None
    assert leading.leading((flat @ flat.T)[:99, :99], 8) is None  # too small to be worth it
    assert len(Singular.of(Whole(flat), 8).values) == 200
    assert not Singular.of(Whole(flat * 0), 8).values.numel()


@pytest.mark.parametrize("form", ["product", "whole"])
def test_beside_a_rounded_factor_the_other_comes_as_near_as_it_can(form):
    generator = torch.Generator().manual_seed(3)
    up, down = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((30, 6), (6, 20)))
    meant = Factors(up, down, 0.5) if form == "product" else Whole(up @ down * 0.5)
    first, second = Singular.of(meant).cut(3).factors()
    rounded = first.bfloat16().double()
    better = completed(meant, rounded, second)
    assert torch.allclose(better, torch.linalg.lstsq(rounded, meant.dense()).solution)
    assert (meant.dense() - rounded @ better).norm() < (meant.dense() - rounded @ second).norm()
    assert completed(meant, rounded * torch.tensor([1.0, 0.0, 0.0]), second) is second  # rounded to nothing
