"""Tags in the prompts of a pipeline that are not its first: they have no effect yet, are left out, and that is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib_lora.hosts.diffusers import DiffusersHost, attach
from tests.checkpoints import small_pipeline
from tests.support import kohya_shapes, write_lora

SIZE = dict(num_inference_steps=1, width=32, height=32, output_type="np", guidance_scale=5.0)
TAG = "<LoRA:ink:1>"
SAID = f"{TAG} in the negative prompt has no effect yet; it was left out. Put it into the prompt"


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def drawing(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    pipe = small_pipeline(request.param, folder)
    pipe.set_progress_bar_config(disable=True)
    write_lora(folder / "ink.safetensors", kohya_shapes(DiffusersHost(pipe).targets(), limit=4), seed=1)
    return attach(pipe, folder)


def draw(drawing, prompt, *args, **options):
    latents = torch.ones(2 if isinstance(prompt, list) else 1, 4, 4, 4)
    return drawing(prompt, *args, latents=latents, **SIZE, **options).images


def test_a_tag_in_the_negative_prompt_changes_nothing_and_is_told(drawing):
    plain = draw(drawing, "a cat", negative_prompt="blurry dog")
    assert drawing.report.sentences() == []
    tagged = draw(drawing, "a cat", negative_prompt=f"blurry {TAG} dog")
    assert np.array_equal(plain, tagged)
    assert drawing.report.sentences() == [SAID]
    assert not drawing.host.patcher.patched


def test_the_tags_of_the_prompt_count_beside_it(drawing):
    draw(drawing, "a cat <lora:ink:1>", negative_prompt=TAG)
    assert [each.name for each in drawing.report.applied] == ["ink"]
    assert drawing.report.sentences() == [SAID]
    draw(drawing, "a cat")
    assert drawing.report.sentences() == []


def test_lists_of_negative_prompts_are_read_too(drawing):
    plain = draw(drawing, ["a cat", "a dog"], negative_prompt=["blurry", "dark"])
    tagged = draw(drawing, ["a cat", "a dog"], negative_prompt=[f"{TAG} blurry", f"dark {TAG}"])
    assert np.array_equal(plain, tagged)
    assert drawing.report.sentences() == [SAID]


@pytest.mark.parametrize("drawing", ["sdxl"], indirect=True)
def test_the_second_encoders_prompts_are_read_too_by_place_and_by_name(drawing):
    plain = draw(drawing, "a cat", "a dog", negative_prompt_2="dark")
    tagged = draw(drawing, "a cat", f"a dog {TAG}", negative_prompt_2=f"dark {TAG}")
    assert np.array_equal(plain, tagged)
    assert drawing.report.sentences() == [SAID.replace("the negative prompt", name)
                                          for name in ("prompt_2", "negative_prompt_2")]  # fmt: skip


def test_a_bracket_with_a_backslash_is_a_bracket(drawing):
    assert np.array_equal(draw(drawing, r"asuka \(evangelion\)"), draw(drawing, "asuka (evangelion)"))
