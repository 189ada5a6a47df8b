"""Look at what was trained: 24 unpicked prompts measured from their pixels, and every adapter at every weight."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch import Tensor, nn

from lib_lora.demo.training.captions import SPELLINGS, make_scene
from lib_lora.demo.training.pictures import CANVAS, COLOURS, POSITIONS, SHAPES, SIZES, Scene, draw, place

STEPS, GUIDANCE = 12, 2.0
WEIGHTS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
ROWS = {  # adapter, or sum of adapters: the prompt that its row is drawn from
    "night": "a big yellow star on a blue background",
    "outline": "a big red circle, white background",
    "warm": "a medium purple heart, white background",
    "bigger": "a medium green square on a yellow background",
    "spotlight": "a medium orange star on a purple background",
    "moon": "a big yellow moon on a blue background",
    "night+outline": "a big red heart on an orange background",
    "spotlight+bigger": "a small white circle on a red background",
    "warm+outline": "a big blue star, white background",
}
ASPECTS = ("shape", "colour", "size", "position", "background")


@dataclass(frozen=True)
class Seen:
    """What one picture shows: asked for by a prompt, or measured."""

    shape: str
    colour: str
    size: str
    position: str
    background: str

    def prompt(self) -> str:
        where = SPELLINGS[self.position][0]
        return f"a {self.size} {self.colour} {self.shape} {where} on a {self.background} background"


def fixed_prompts(count: int, seed: int = 2026) -> list[Seen]:
    """Every aspect drawn blindly; the only rule is that figure and background differ in colour."""
    rng = random.Random(seed)
    asked = []
    for _ in range(count):
        colour = rng.choice(list(COLOURS))
        asked.append(
            Seen(
                shape=rng.choice(list(SHAPES)),
                colour=colour,
                size=rng.choice(list(SIZES)),
                position=rng.choice(list(POSITIONS)),
                background=rng.choice([name for name in COLOURS if name != colour]),
            )
        )
    return asked


def nearest_colour(rgb: Tensor) -> str:
    return min(COLOURS, key=lambda name: float((rgb - torch.tensor(COLOURS[name])).norm()))


def figure_mask(picture: Tensor, background: Tensor) -> Tensor:
    """(H, W) bool: pixels nearer to the figure's colour than to the background's, by two rounds of 2-means."""
    away = (picture - background[:, None, None]).norm(dim=0)
    mask = away > 0.6 * away.max()
    for _ in range(2):
        figure = picture[:, mask].median(dim=1).values
        mask = (picture - figure[:, None, None]).norm(dim=0) < away
    return mask


def measure(picture: Tensor) -> Seen:
    """picture (3, 128, 128) in 0..1.

    Background: median colour of the 4 px frame, nearest name. Colour: median of the figure's pixels, nearest name.
    Shape and size: each shape is drawn with the figure's centroid and area, three radii each; the greatest overlap
    (intersection over union) tells the shape, and its radius the size, by the nearest ratio. Position: the nearest
    place where a figure of that size may stand.
    """
    frame = torch.ones(CANVAS, CANVAS, dtype=torch.bool)
    frame[4:-4, 4:-4] = False
    background = picture[:, frame].median(dim=1).values
    mask = figure_mask(picture, background)
    best = max(fits(mask), key=lambda fit: fit[0])
    _, shape, x, y, radius = best
    size = min(SIZES, key=lambda name: abs(np.log(SIZES[name] / radius)))

    def miss(position: str) -> float:
        px, py = place(size, position)
        return (px - x) ** 2 + (py - y) ** 2

    return Seen(
        shape=shape,
        colour=nearest_colour(picture[:, mask].median(dim=1).values),
        size=size,
        position=min(POSITIONS, key=miss),
        background=nearest_colour(background),
    )


def fits(mask: Tensor) -> Iterator[tuple[float, str, float, float, float]]:
    """Overlap, shape, x, y and radius of every shape laid over the mask."""
    rows, columns = mask.nonzero(as_tuple=True)
    x, y, area = columns.float().mean().item() + 0.5, rows.float().mean().item() + 0.5, float(mask.sum())
    model = make_scene(random.Random(0), "circle", "red", "big", "center", "white")
    for shape in SHAPES:
        unit = stencil(model, shape, CANVAS / 2, CANVAS / 2, SIZES["big"])
        unit_rows, unit_columns = unit.nonzero(as_tuple=True)
        for stretch in (0.95, 1.0, 1.05):
            ratio = (area / float(unit.sum())) ** 0.5 * stretch
            # The centroid of a heart or a triangle is not its centre.
            cx = x - (unit_columns.float().mean().item() + 0.5 - CANVAS / 2) * ratio
            cy = y - (unit_rows.float().mean().item() + 0.5 - CANVAS / 2) * ratio
            laid = stencil(model, shape, cx, cy, SIZES["big"] * ratio)
            overlap = float((laid & mask).sum()) / float((laid | mask).sum())
            yield overlap, shape, cx, cy, SIZES["big"] * ratio


def stencil(model: Scene, shape: str, x: float, y: float, radius: float) -> Tensor:
    """(128, 128) bool: one shape, upright."""
    return draw([replace(model, shape=shape, x=x, y=y, radius=radius, angle=0.0)]).distance[0] < 0


def load_pipeline(folder: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def paint(pipeline: StableDiffusionPipeline, prompt: str, seed: int) -> Tensor:
    """(3, 128, 128) in 0..1."""
    return pipeline(
        prompt,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(seed),
        output_type="pt",
    ).images[0]


def with_adapters(pipeline: StableDiffusionPipeline, adapters: list[tuple[Path, float]]) -> StableDiffusionPipeline:
    """A copy of the pipeline with the adapters merged into its weights by lycoris."""
    from lycoris.modules import get_module, make_module

    merged = copy(pipeline)
    merged.unet, merged.text_encoder = deepcopy(pipeline.unet), deepcopy(pipeline.text_encoder)
    for path, weight in adapters:
        tensors = {key: value.float() for key, value in load_file(path).items()}
        for name, module in kohya_names(merged):
            if f"{name}.alpha" in tensors:
                with torch.no_grad():
                    make_module(*get_module(tensors, name), name, module).merge_to(weight)
    return merged


def kohya_names(pipeline: StableDiffusionPipeline) -> Iterator[tuple[str, nn.Module]]:
    for path, module in pipeline.unet.named_modules():
        yield "lora_unet_" + path.replace(".", "_"), module
    for path, module in pipeline.text_encoder.named_modules():
        yield "lora_te_text_model_" + re.sub(r"^text_model\.", "", path).replace(".", "_"), module


def contact_sheet(path: Path, cells: list[tuple[Tensor, list[str]]], columns: int) -> None:
    """Pictures in rows of `columns`, each with its lines of text below."""
    line, width = 12, CANVAS + 32
    height = CANVAS + 8 + line * max(len(text) for _, text in cells)
    sheet = Image.new("RGB", (columns * width, -(-len(cells) // columns) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (picture, text) in enumerate(cells):
        x, y = i % columns * width, i // columns * height
        pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        sheet.paste(Image.fromarray(pixels), (x + 16, y + 4))
        for row, words in enumerate(text):
            pen.text((x + 4, y + CANVAS + 5 + row * line), words, fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def check_prompts(model: Path, sheet: Path, count: int = 24) -> dict[str, int]:
    """Draw the fixed prompts, write the sheet, and count how many pictures show what was asked, aspect by aspect."""
    pipeline = load_pipeline(model)
    right = dict.fromkeys((*ASPECTS, "all"), 0)
    cells = []
    for i, asked in enumerate(fixed_prompts(count)):
        picture = paint(pipeline, asked.prompt(), seed=i)
        shown = measure(picture)
        wrong = [aspect for aspect in ASPECTS if getattr(asked, aspect) != getattr(shown, aspect)]
        for aspect in ASPECTS:
            right[aspect] += aspect not in wrong
        right["all"] += not wrong
        verdict = ", ".join(f"{aspect}: {getattr(shown, aspect)}" for aspect in wrong) or "ok"
        words = asked.prompt().split()
        cells.append((picture, [f"{i}", " ".join(words[:4]), " ".join(words[4:-4]), " ".join(words[-4:]), verdict]))
    contact_sheet(sheet, cells, columns=8)
    return right


def check_adapters(model: Path, adapters: Path, sheet: Path) -> None:
    """One row per adapter (or sum of adapters), one column per weight; the same prompt and seed along a row."""
    pipeline = load_pipeline(model)
    cells = []
    for name, prompt in ROWS.items():
        for weight in WEIGHTS:
            files = [(adapters / f"{part}.safetensors", weight) for part in name.split("+")]
            cells.append((paint(with_adapters(pipeline, files), prompt, seed=1), [f"{name} {weight:g}"]))
    contact_sheet(sheet, cells, columns=len(WEIGHTS))
