"""The prompts of a pipeline that are not its first: tags in them count, for the side on which they stand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib_lora.hosts.diffusers import DiffusersHost, attach
from tests.checkpoints import small_pipeline
from tests.support import kohya_shapes, write_lora

SIZE = dict(num_inference_steps=1, width=32, height=32, output_type="latent")
TAG = "<LoRA:ink:0.3>"
NEAR = 1e-4  # of latents of about 10


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def drawing(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    pipe = small_pipeline(request.param, folder)
    pipe.set_progress_bar_config(disable=True)
    write_lora(folder / "ink.safetensors", kohya_shapes(DiffusersHost(pipe).targets()), seed=1)
    return attach(pipe, folder)


def draw(drawing, prompt, *args, guidance=5.0, **options):
    latents = torch.ones(2 if isinstance(prompt, list) else 1, 4, 4, 4)
    return drawing(prompt, *args, latents=latents, guidance_scale=guidance, **SIZE, **options).images.numpy()


def sides(drawing, prompt, *args, **options):
    """What the model says without guidance, for the prompt and for the negative prompt, of a guided picture."""
    two, three = (draw(drawing, prompt, *args, guidance=scale, **options) for scale in (2.0, 3.0))
    return 2 * two - three, 3 * two - 2 * three  # guided = uncond + scale * (cond - uncond)


def test_a_tag_in_the_negative_prompt_acts_on_that_side(drawing):
    plain_cond, plain_uncond = sides(drawing, "a cat", negative_prompt="blurry dog")
    all_cond, all_uncond = sides(drawing, f"a cat {TAG}", negative_prompt="blurry dog")
    cond, uncond = sides(drawing, "a cat", negative_prompt=f"blurry {TAG} dog")
    assert [each.name for each in drawing.report.applied] == ["ink"]
    assert drawing.report.sentences() == []
    assert np.abs(cond - plain_cond).max() < NEAR
    assert np.abs(uncond - all_uncond).max() < NEAR
    assert np.abs(plain_uncond - all_uncond).max() > 100 * NEAR
    assert np.abs(plain_cond - all_cond).max() > 100 * NEAR


def test_a_tag_of_the_prompt_may_be_for_one_side(drawing):
    plain, _ = sides(drawing, "a cat", negative_prompt="dog")
    _, changed = sides(drawing, f"a cat {TAG}", negative_prompt="dog")
    cond, uncond = sides(drawing, "a cat <lora:ink:0.3:on=uncond>", negative_prompt="dog")
    assert np.abs(cond - plain).max() < NEAR
    assert np.abs(uncond - changed).max() < NEAR


def test_without_guidance_the_negative_prompt_counts_for_nothing(drawing):
    plain = draw(drawing, "a cat", guidance=1.0)
    assert np.abs(draw(drawing, "a cat", guidance=1.0, negative_prompt=TAG) - plain).max() < NEAR


def test_one_negative_prompt_or_one_for_each(drawing):
    prompts = ["a cat", "a dog"]
    both = draw(drawing, prompts, negative_prompt=[f"{TAG} blurry", "dark"])
    assert [each.who.images for each in drawing.report.adapters] == [frozenset({0})]
    assert drawing.report.of(0).applied
    assert not drawing.report.of(1).adapters
    alone = [draw(drawing, "a cat", negative_prompt=f"{TAG} blurry"), draw(drawing, "a dog", negative_prompt="dark")]
    assert np.abs(both - np.concatenate(alone)).max() < NEAR


def test_lists_of_other_lengths_are_refused(drawing):
    with pytest.raises(ValueError, match="negative_prompt has 1 texts for 2 prompts"):
        draw(drawing, ["a cat", "a dog"], negative_prompt=["blurry"])


@pytest.mark.parametrize("drawing", ["sdxl"], indirect=True)
def test_tags_of_the_second_encoders_prompts_count_with_the_first_by_place_and_by_name(drawing):
    first = draw(drawing, f"a cat {TAG}", "a dog", negative_prompt=f"a {TAG}", negative_prompt_2="dark")
    second = draw(drawing, "a cat", f"a dog {TAG}", negative_prompt="a", negative_prompt_2=f"dark {TAG}")
    assert np.abs(first - second).max() < NEAR
    without = draw(drawing, "a cat", "a dog", negative_prompt="a", negative_prompt_2="dark")
    assert np.abs(first - without).max() > 100 * NEAR


def test_what_cannot_be_read_is_told_of_its_picture(drawing):
    draw(drawing, ["a <lora:ink:x>", "b"], negative_prompt=["<lora:nowhere:1>", "<lora:ink:y>"])
    assert [sentence[:15] for sentence in drawing.report.of(0).sentences()] == ["<lora:ink:x>: '", "Lora not found:"]
    assert [sentence[:15] for sentence in drawing.report.of(1).sentences()] == ["<lora:ink:y>: '"]
    assert len(drawing.report.sentences()) == 3


def test_a_bracket_with_a_backslash_is_a_bracket(drawing):
    assert np.array_equal(draw(drawing, r"asuka \(evangelion\)"), draw(drawing, "asuka (evangelion)"))
