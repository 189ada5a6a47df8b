"""draw(): the one place where a picture is made, for the commands, the contact sheet and the page; and its PNG.

Picture i of several, of one prompt or of many, has seed + i and is the very picture that this seed gives alone. Noise
comes from the CPU whatever the device, so a seed means the same everywhere. The text in the PNG is the WebUI's
`parameters`, which it reads back.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from lib_lora import __version__
from lib_lora.drawing.demo_files import MODEL
from lib_lora.drawing.pipelines import model_name
from lib_lora.errors import LoraError
from lib_lora.formats.png import png_of
from lib_lora.formats.text import encodable
from lib_lora.formats.write import write_file
from lib_lora.hosts.diffusers import Attached
from lib_lora.library import Entry
from lib_lora.session.session import Report

MAX_SEED = 2**32 - 1
MAX_SIDE = 4096  # pixels
SAMPLERS = {  # class of the scheduler, less "Scheduler" -> the WebUI's name
    "EulerDiscrete": "Euler",
    "EulerAncestralDiscrete": "Euler a",
    "DPMSolverMultistep": "DPM++ 2M",
    "DPMSolverSinglestep": "DPM++ 2S",
    "DDIM": "DDIM",
    "PNDM": "PLMS",
    "HeunDiscrete": "Heun",
    "LMSDiscrete": "LMS",
    "UniPCMultistep": "UniPC",
}


class Defaults(NamedTuple):
    """What a model draws well with."""

    steps: int
    guidance: float
    size: tuple[int, int]  # width, height


@dataclass(frozen=True)
class Picture:
    """One picture; `parameters` is the text that belongs into its PNG."""

    image: Image.Image
    seed: int
    parameters: str
    report: Report  # what became of its own tags


@dataclass(frozen=True)
class Drawing:
    """What one call made, and what became of the tags of its prompts."""

    pictures: tuple[Picture, ...]

    @property
    def report(self) -> Report:
        """Of all pictures, what is said of several once."""
        reports = [picture.report for picture in self.pictures]
        adapters = {(each.tag, each.who.side, tuple(each.sentences())): each
                    for report in reports for each in report.adapters}  # fmt: skip
        problems = dict.fromkeys(problem for report in reports for problem in report.problems)
        return Report(tuple(adapters.values()), tuple(problems))


def defaults(pipe: Any) -> Defaults:
    """The usual steps, guidance and size of the pipeline's model."""
    side = pipe.unet.config.sample_size * pipe.vae_scale_factor
    is_demo = getattr(pipe, "name_or_path", None) == str(MODEL)
    return Defaults(16, 2.5, (side, side)) if is_demo else Defaults(25, 7.0, (side, side))


def draw(
    attached: Attached,
    prompt: str | Sequence[str],
    *,
    negative: str = "",
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = -1,
    size: tuple[int, int] | None = None,
    count: int = 1,
    on_step: Callable[[int, int], object] | None = None,
) -> Drawing:
    """`count` pictures of each prompt, its tags activated, and those of the negative prompt on its side.

    None stands for the model's default, seed -1 for a random one.

    `on_step(done, total)` is called after every step of every picture; an exception that it raises ends the drawing and
    comes out here. Raises LoraError for numbers that cannot be drawn with, never for a bad tag: that is in the report.
    """
    usual = defaults(attached.pipe)
    steps = usual.steps if steps is None else steps
    guidance = usual.guidance if guidance is None else guidance
    size = _checked_size(size or usual.size, attached.pipe.vae_scale_factor)
    given = [prompt] if isinstance(prompt, str) else prompt
    if not given:
        raise LoraError("there is no prompt to draw a picture of")
    if steps < 1 or count < 1:
        raise LoraError(f"{steps} steps and {count} pictures cannot be drawn; both are whole numbers from 1 up")
    seed = random.randint(0, MAX_SEED) if seed < 0 else seed

    negative = encodable(negative)  # a shell passes bytes of any kind
    attached.pipe.set_progress_bar_config(disable=True)
    pictures = []
    prompts = [each for each in given for _ in range(count)]
    for number, each in enumerate(prompts):
        own = (seed + number) % (MAX_SEED + 1)
        try:
            image = attached(
                each,
                negative_prompt=negative,
                num_inference_steps=steps,
                guidance_scale=guidance,
                width=size[0],
                height=size[1],
                generator=torch.Generator("cpu").manual_seed(own),
                callback_on_step_end=_reporter(on_step, number, len(prompts)),
            ).images[0]
        except (torch.cuda.OutOfMemoryError, MemoryError) as error:
            raise LoraError(f"not enough memory for a picture of {size[0]}x{size[1]}; try a smaller one") from error
        said = parameters_text(attached, each, negative=negative, steps=steps, guidance=guidance, seed=own, size=size)
        pictures.append(Picture(image, own, said, attached.report))
    return Drawing(tuple(pictures))


def parameters_text(
    attached: Attached, prompt: str, *, negative: str, steps: int, guidance: float, seed: int, size: tuple[int, int]
) -> str:
    """How the picture was made, as the WebUI writes it; adapters that were left out are named with the reason."""
    scheduler = type(attached.pipe.scheduler).__name__.removesuffix("Scheduler")
    values = {
        "Steps": steps,
        "Sampler": SAMPLERS.get(scheduler, scheduler),
        "CFG scale": f"{guidance:g}",
        "Seed": seed,
        "Size": f"{size[0]}x{size[1]}",
        "Model": model_name(attached.pipe),
        "Lora hashes": ", ".join(f"{name}: {hash_}" for name, hash_ in lora_hashes(attached).items()),
        "Lora problems": "; ".join(attached.report.sentences()),
        "Version": f"lib_lora {__version__}",
    }
    lines = [prompt, *([f"Negative prompt: {negative}"] if negative else [])]
    return "\n".join(
        [*lines, ", ".join(f"{key}: {_quoted(str(value))}" for key, value in values.items() if value != "")]
    )


def lora_hashes(attached: Attached) -> dict[str, str]:
    """{name as typed: the WebUI's short hash} of the active adapters."""
    found = {}
    for report in attached.report.applied:
        if isinstance(report.entry, Entry) and (shorthash := report.entry.shorthash):
            found[report.name.replace(":", "").replace(",", "")] = shorthash
    return found


def save_png(picture: Picture, path: Path) -> None:
    """Write the PNG with its text; the file appears whole or not at all. Raises OSError."""
    write_file(path, png_of(picture.image, picture.parameters))


def _checked_size(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    if any(side < multiple or side > MAX_SIDE or side % multiple for side in size):
        near = "x".join(str(min(max(round(side / multiple), 1) * multiple, MAX_SIDE)) for side in size)
        raise LoraError(
            f"a picture of {size[0]}x{size[1]} cannot be drawn; sides are multiples of {multiple}, such as {near}"
        )
    return size


def _reporter(
    on_step: Callable[[int, int], object] | None, number: int, count: int
) -> Callable[..., dict[str, Any]] | None:
    if on_step is None:
        return None

    def report(pipe: Any, step: int, timestep: int, values: dict[str, Any]) -> dict[str, Any]:
        on_step(number * pipe.num_timesteps + step + 1, count * pipe.num_timesteps)
        return values

    return report


def _quoted(value: str) -> str:
    """In quotes if it has what separates values, as the WebUI does."""
    return json.dumps(value, ensure_ascii=False) if any(sign in value for sign in ",:\n") else value
