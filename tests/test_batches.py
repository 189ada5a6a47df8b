"""A batch whose prompts have different tags: each picture is the one that it would be alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib_lora.engine.plan import Plan
from lib_lora.errors import PatchError
from lib_lora.hosts.diffusers import DiffusersHost, attach
from lib_lora.library import Library
from lib_lora.model.targets import TargetIndex, index_checkpoint
from lib_lora.session.session import Session
from lib_lora.session.wanted import Wanted
from tests.checkpoints import small_pipeline
from tests.support import Folder, fingerprint, kohya_shapes, write_lora
from tests.test_bypass import dora, lora

SIZE = dict(num_inference_steps=2, width=32, height=32, output_type="np")
NEAR = 5e-4  # of 1: rounding, which seven times the guidance makes larger


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def drawing(request, tmp_path_factory):
    """A pipeline with adapters `one`, `two`, `both` (LoRA), and `turned` (DoRA, of one layer)."""
    folder = tmp_path_factory.mktemp(request.param)
    pipe = small_pipeline(request.param, folder)
    pipe.set_progress_bar_config(disable=True)
    shapes = {name: shape for name, shape in kohya_shapes(DiffusersHost(pipe).targets()).items() if len(shape) > 1}
    for seed, name in enumerate(("one", "two", "both")):
        write_lora(folder / f"{name}.safetensors", shapes, seed=seed)
    from safetensors.torch import save_file

    first = next(name for name in shapes if name.endswith("attn1_to_q"))
    save_file(dora(first, shapes[first]) | {f"{first}.alpha": torch.tensor(0.5)}, folder / "turned.safetensors")
    return attach(pipe, folder)


def noise(count: int) -> torch.Tensor:
    return torch.randn(count, 4, 4, 4, generator=torch.Generator().manual_seed(5))


def draw(drawing, prompt, count, *, begin=0, **options):
    latents = noise(8)[begin : begin + count]
    return drawing(prompt, latents=latents, num_images_per_prompt=options.pop("each", 1), **SIZE, **options).images


PROMPTS = ["a cat <lora:one:0.4><lora:both:0.2>", "a dog <lora:both:0.2>", "a bird <lora:both:0.2><lora:two:-0.3:0.2>"]


@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize("guidance", [1.0, 7.0])
def test_each_picture_is_the_one_that_it_would_be_alone(drawing, each, guidance):
    together = draw(drawing, PROMPTS, 3 * each, each=each, guidance_scale=guidance)
    assert drawing.host.patcher.bypassed
    assert drawing.report.sentences() == []
    alone = [draw(drawing, prompt, each, each=each, begin=place * each, guidance_scale=guidance)
             for place, prompt in enumerate(PROMPTS)]
    assert not drawing.host.patcher.bypassed
    assert np.abs(together - np.concatenate(alone)).max() < NEAR
    plain = draw(drawing, ["a cat", "a dog", "a bird"], 3 * each, each=each, guidance_scale=guidance)
    assert np.abs(together - plain).reshape(3 * each, -1).max(axis=1).min() > 40 * NEAR


def test_an_algorithm_that_needs_the_weight_can_be_one_pictures_own(drawing):
    together = draw(drawing, ["a cat <lora:turned:0.7>", "a cat"], 2)
    alone = [draw(drawing, "a cat <lora:turned:0.7>", 1), draw(drawing, "a cat", 1, begin=1)]
    assert np.abs(together - np.concatenate(alone)).max() < NEAR


def test_what_all_prompts_share_is_merged_and_everything_goes_away(drawing):
    drawing.clear()
    before = fingerprint(drawing.pipe.unet.named_parameters())
    drawing.activate(["a <lora:both:0.5><lora:turned:1>", "b <lora:both:0.5>"])
    patcher = drawing.host.patcher
    assert len(patcher.bypassed) == 1
    assert len(patcher.patched) > 20
    drawing.activate(["a <lora:both:0.5>", "b <lora:both:0.5>"])
    assert not patcher.bypassed
    drawing.clear()
    assert fingerprint(drawing.pipe.unet.named_parameters()) == before
    assert not any(module._forward_hooks for module in drawing.pipe.unet.modules())


def test_a_bad_tag_is_told_and_takes_no_other_with_it(drawing):
    drawing.activate(["a <lora:one:1>", "b <lora:nowhere:1>", "c <lora:two:x>"])
    assert [each.name for each in drawing.report.applied] == ["one"]
    assert len(drawing.report.sentences()) == 2
    assert drawing.host.patcher.bypassed
    drawing.clear()


def test_a_batch_of_another_size_is_an_error_and_no_wrong_picture(drawing):
    drawing.clear()
    before = fingerprint(drawing.pipe.unet.named_parameters())

    def one_row_more(pipe, step, timestep, values):
        return pipe.unet(noise(3), timestep, encoder_hidden_states=None)

    with pytest.raises(PatchError, match="a batch of 3 cannot be told apart into 2 pictures"):
        draw(drawing, ["a <lora:one:1>", "b"], 2, callback_on_step_end=one_row_more)
    assert fingerprint(drawing.pipe.unet.named_parameters()) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in drawing.pipe.unet.modules())


def test_called_past_us_a_batch_of_several_tags_is_an_error(drawing):
    assert drawing.activate(["a <lora:one:1>", "b"]) == ["a", "b"]
    with pytest.raises(PatchError, match="cannot be told apart"):
        drawing.pipe(["a", "b"], latents=noise(2), **SIZE)
    drawing.clear()


def test_a_host_that_cannot_do_it_says_so(tmp_path):
    class Plain:
        def targets(self) -> TargetIndex:
            return index_checkpoint({"model.diffusion_model.input_blocks.1.1.proj_in.weight": (8, 8)})

        def apply(self, plan: Plan) -> None:
            assert not any(term.is_restricted for terms in plan.terms.values() for term in terms)

    write_lora(tmp_path / "ink.safetensors", {"lora_unet_down_blocks_0_attentions_0_proj_in": (8, 8)})
    session = Session(Plain(), Library([tmp_path]))
    assert session.activate(Wanted((_tags("<lora:ink:1>"),) * 2)).sentences() == []
    with pytest.raises(TypeError, match="Plain makes all pictures of a batch with the same adapters"):
        session.activate(Wanted((_tags("<lora:ink:1>"), ())))


def test_arithmetic_that_fails_leaves_the_base_weights(drawing, tmp_path, monkeypatch):
    from safetensors.torch import save_file

    shapes = kohya_shapes(drawing.host.targets(), limit=1)
    name, shape = next(iter(shapes.items()))
    save_file(lora(name, shape), tmp_path / "bad.safetensors")
    monkeypatch.setattr("lib_lora.algorithms.lora.Lora.low_rank", lambda *_: 1 / 0)
    session = Session(drawing.host, Folder(tmp_path))
    before = fingerprint(drawing.pipe.unet.named_parameters())
    with pytest.raises(ZeroDivisionError):
        session.activate(Wanted((_tags("<lora:bad:1>"), ())))
    assert fingerprint(drawing.pipe.unet.named_parameters()) == before
    monkeypatch.undo()
    monkeypatch.setattr("lib_lora.algorithms.lora.Lora.low_rank", _fail)
    report = session.activate(Wanted((_tags("<lora:bad:1>"), ())))
    assert [each.name for each in report.adapters if each.problem] == ["bad"]
    assert not drawing.host.patcher.planned()


def _tags(prompt: str):
    from lib_lora.grammar.tag import read_prompt

    return read_prompt(prompt).tags


def _fail(*_):
    raise RuntimeError("the matrices do not agree")
