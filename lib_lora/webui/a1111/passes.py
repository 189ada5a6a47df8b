"""How long a pass of a picture is: the steps that its sampler really makes, and how prompt editing counts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modules import processing, prompt_parser, sd_samplers, sd_samplers_common, shared

from lib_lora.grammar.editing import Lettered, segments
from lib_lora.grammar.tag import LoraTag
from lib_lora.webui.names.protocols import Processing

TIME_STEPS = 1000  # of a model's training
# Samplers that go by time steps, at even distances, so that there may be one more than was asked for; and how many
# more time steps than steps they have. (The first step of PLMS calls the UNet twice; that counts as two.)
BY_TIME_STEPS = {"DDIM": 1, "DDIM CFG++": 1, "PLMS": 0, "UniPC": 0}


@dataclass(frozen=True)
class Pass:
    """The first pass, or the hires pass."""

    steps: int  # that the sampler makes; img2img leaves the first ones out
    calls: int  # of the UNet in a step: 2 of a second-order sampler, whose last step may have one
    planned: int  # calls in all steps of the first pass: prompt editing counts by them
    hires: int | None = None  # calls in the hires pass, if this is it

    @classmethod
    def of(cls, p: Processing, *, is_hires: bool) -> Pass:
        planned = _calls(p.sampler_name, p.steps)
        if is_hires:
            name, steps = p.hr_sampler_name or p.sampler_name, p.hr_second_pass_steps or p.steps
            hires = _calls(name, steps)
            return cls(really_made(name, steps, is_img2img=True), max(hires // max(steps, 1), 1), planned, hires)
        steps, is_img2img = p.steps, isinstance(p, processing.StableDiffusionProcessingImg2Img)
        if is_img2img:
            steps = sd_samplers_common.setup_img2img_steps(p)[1] + 1
        made = really_made(p.sampler_name, steps, is_img2img=is_img2img)
        return cls(made, max(planned // max(p.steps, 1), 1), planned)

    def shown(self, prompt: Lettered, *, is_negative: bool = False) -> tuple[LoraTag, ...]:
        """The tags of `prompt`, each with the steps in which the WebUI would show a word in its place."""
        if "[" not in prompt.text:
            return tuple(prompt.tags.values())
        texts = [prompt.text] if is_negative else prompt_parser.get_multicond_prompt_list([prompt.text])[1]
        return prompt.shown(each for schedule in self._schedules(texts) for each in segments(schedule, self.calls))

    def _schedules(self, texts: Sequence[str]) -> Any:
        """For each text a list of [its last call, what is shown]."""
        return prompt_parser.get_learned_conditioning_prompt_schedules(
            texts, self.planned, self.hires, shared.opts.use_old_scheduling)


def really_made(sampler: str | None, steps: int, *, is_img2img: bool) -> int:
    """Steps of a pass for which the WebUI says `steps`."""
    if sampler not in BY_TIME_STEPS:
        return steps
    if is_img2img:
        times = steps - 1
    else:
        planned = steps + 1 if shared.opts.always_discard_next_to_last_sigma else steps
        times = len(range(0, TIME_STEPS, max(TIME_STEPS // max(planned, 1), 1)))
    return max(times - BY_TIME_STEPS[sampler], 1)


def _calls(sampler: str | None, steps: int) -> int:
    config = sd_samplers.find_sampler_config(sampler)
    return config.total_steps(steps) if config else steps
