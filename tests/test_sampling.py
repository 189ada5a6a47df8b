"""Where a diffusers pipeline is, found out at each call of its UNet: with every scheduler, also from a picture."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from lib_lora.errors import PatchError
from lib_lora.grammar.moment import Moment
from lib_lora.hosts.diffusers import DiffusersHost, attach
from lib_lora.hosts.sampling import Progress, Sampling
from tests.checkpoints import small_pipeline
from tests.support import fingerprint, kohya_shapes, write_lora

ONE_CALL = (0, 1, 2, 3, 4)  # the step of each call, of five
TWO_CALLS = (0, 0, 1, 1, 2, 2, 3, 3, 4)
STEPS = {
    "EulerDiscrete": ONE_CALL, "EulerAncestralDiscrete": ONE_CALL, "DDIM": ONE_CALL,
    "DDPM": ONE_CALL, "DPMSolverMultistep": ONE_CALL, "DPMSolverSinglestep": ONE_CALL, "UniPCMultistep": ONE_CALL,
    "DEISMultistep": ONE_CALL, "LCM": ONE_CALL, "TCD": ONE_CALL, "SASolver": ONE_CALL,
    "HeunDiscrete": TWO_CALLS, "KDPM2Discrete": TWO_CALLS, "KDPM2AncestralDiscrete": TWO_CALLS,
    "PNDM": (0, 0, 1, 2, 3, 4),
}  # fmt: skip


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return small_pipeline("sd1", tmp_path_factory.mktemp("sd1"))


@pytest.fixture(scope="module")
def of_image(pipe):
    return diffusers.StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)


def moments(pipe: Any, scheduler: str, *, steps: int = 5, options: Any = None, **call: Any) -> list[Moment]:
    """What Progress says, call by call, of pictures that are really made."""
    pipe.set_progress_bar_config(disable=True)
    config = {**pipe.scheduler.config, **(options or {})}
    pipe.scheduler = getattr(diffusers, f"{scheduler}Scheduler").from_config(config)
    progress, found = Progress(pipe), []
    hook = pipe.unet.register_forward_pre_hook(lambda _, args: found.append((progress.at(args[1]), float(args[1]))))
    try:
        pipe("a cat", num_inference_steps=steps, guidance_scale=1.0, output_type="latent", **call)
    finally:
        hook.remove()
    alphas = pipe.scheduler.alphas_cumprod.numpy()
    for moment, time in found:  # the noise that belongs to this timestep
        noise = np.interp(time, np.arange(len(alphas)), np.sqrt((1 - alphas) / alphas))
        assert moment.sigma == pytest.approx(noise, rel=0.02)
    return [moment for moment, _ in found]


@pytest.mark.parametrize("scheduler", STEPS)
def test_a_step_is_the_samplers_and_not_a_call(pipe, scheduler):
    found = moments(pipe, scheduler, width=8, height=8, options={"skip_prk_steps": True})
    assert tuple(moment.step for moment in found) == STEPS[scheduler]
    assert {moment.steps for moment in found} == {5}
    assert [moment.position("share") for moment in found] == [step / 4 for step in STEPS[scheduler]]


def test_runge_kutta_makes_four_calls_of_a_step(pipe):
    found = moments(pipe, "PNDM", width=8, height=8, options={"skip_prk_steps": False})
    assert [moment.step for moment in found] == [0] * 4 + [1] * 4 + [2] * 4 + [3, 4]


@pytest.mark.parametrize("scheduler", ["EulerDiscrete", "HeunDiscrete", "DDIM", "DPMSolverMultistep"])
@pytest.mark.parametrize(("strength", "made"), [(0.5, 2), (0.7, 3), (1.0, 5)])
def test_from_a_picture_the_steps_that_are_made_count(of_image, scheduler, strength, made):
    found = moments(of_image, scheduler, image=torch.zeros(1, 4, 4, 4), strength=strength)
    calls = 2 * made - 1 if scheduler == "HeunDiscrete" else made
    assert [moment.step for moment in found] == list(STEPS[scheduler])[:calls]
    assert {moment.steps for moment in found} == {made}


def test_once_more_with_the_same_scheduler_begins_anew(pipe):
    assert moments(pipe, "EulerDiscrete", width=8, height=8) == moments(pipe, "EulerDiscrete", width=8, height=8)


def test_a_time_that_the_scheduler_does_not_name_is_refused(pipe):
    pipe.scheduler.set_timesteps(5)
    with pytest.raises(PatchError, match="at a time that its scheduler does not name"):
        Progress(pipe).at(torch.tensor(17.25))


def test_several_calls_in_one_step_and_a_second_pass(pipe):
    pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.scheduler.set_timesteps(3)
    pipe._num_timesteps = 3
    progress, times = Progress(pipe), pipe.scheduler.timesteps
    assert [progress.at(time).step for time in times.repeat_interleave(2)] == [0, 0, 1, 1, 2, 2]
    assert [progress.at(time).step for time in times] == [0, 1, 2]


# the hook


CURVE, WINDOW, SIDE = "<lora:ink:0:0@0,1@1>", "<lora:ink:1:stop=0.8>", "<lora:ink:0:1:on=cond>"


@pytest.fixture
def drawing(pipe, tmp_path):
    write_lora(tmp_path / "ink.safetensors", kohya_shapes(DiffusersHost(pipe).targets(), limit=6), seed=1)
    drawing = attach(pipe, tmp_path)
    yield drawing
    drawing.clear()


def hooks(pipe) -> int:
    return len(pipe.unet._forward_pre_hooks)


def draw(drawing, prompt, **options):
    return drawing(prompt, width=8, height=8, num_inference_steps=3, output_type="latent",
                   generator=torch.Generator().manual_seed(0), **options).images  # fmt: skip


@pytest.mark.parametrize(("prompt", "expected"), [
    ("a", 0), ("a<lora:ink:1>", 0), (f"a{CURVE}", 1), (f"a{WINDOW}", 1), (f"a{SIDE}", 1), ("[a:b:0.5]", 1),
])  # fmt: skip
def test_there_is_a_hook_only_while_something_must_be_told(drawing, prompt, expected):
    seen = []

    def look(pipe, step, timestep, values):
        seen.append(hooks(pipe))
        return {}

    draw(drawing, prompt, callback_on_step_end=look)
    assert seen == [expected] * 3
    assert hooks(drawing.pipe) == 0


@pytest.mark.parametrize("prompt", [CURVE, WINDOW, SIDE])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_an_error_in_mid_picture_ends_in_the_untouched_model(drawing, prompt, error):
    def state():
        return [fingerprint(part.named_parameters()) for part in (drawing.pipe.unet, drawing.pipe.text_encoder)]

    drawing.clear()
    before = state()

    def fail(pipe, step, timestep, values):
        if step == 1:
            assert state() != before or drawing.host.patcher.bypassed
            raise error
        return {}

    with pytest.raises(error):
        draw(drawing, f"a{prompt}", callback_on_step_end=fail)
    assert state() == before
    assert hooks(drawing.pipe) == 0
    assert not any(module._forward_hooks for module in drawing.pipe.unet.modules())
    assert [each.name for each in drawing.report.applied] == ["ink"]  # what it had been made with


def test_arguments_of_the_unet_may_stand_without_their_names(drawing):
    drawing.activate(f"a{SIDE}")
    unet, scheduler = drawing.pipe.unet, drawing.pipe.scheduler
    scheduler.set_timesteps(3)
    sample, states = torch.ones(2, 4, 4, 4), torch.ones(2, 77, 64)
    sampling = Sampling(drawing.pipe, drawing.session, 1)
    with torch.no_grad(), sampling.told():
        by_place = unet(sample, scheduler.timesteps[0], states).sample
        by_name = unet(sample=sample, timestep=scheduler.timesteps[0], encoder_hidden_states=states).sample
    assert torch.equal(by_place, by_name)
    assert not torch.equal(by_place[0], by_place[1])  # the side counts
