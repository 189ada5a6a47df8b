"""What a picture must be, slowly: the weights of each row and step merged alone in float64, the UNet called row by row.

Written from the grammar's definitions, with nothing of lib_lora in it. A `Tag` is what somebody means; `Tag.text` is
how it is typed, and `Reference` is what it does.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.support_graphs import Graphs

Effect = Callable[[Tensor], Tensor]  # (weight in float64) -> what an adapter adds to it at 1
Points = tuple[tuple[float, float], ...]  # (position, weight)
BLOCKS = {  # of the small pipelines, written down by hand: the module in diffusers -> its block
    "sd1": {
        "down_blocks.0.resnets.0.conv1": "IN01",
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": "IN01",
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": "IN01",
        "down_blocks.1.resnets.0.conv2": "IN03",
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_v": "M00",
        "up_blocks.0.resnets.1.conv1": "OUT01",
        "up_blocks.1.attentions.0.transformer_blocks.0.ff.net.2": "OUT02",
        "up_blocks.1.attentions.1.transformer_blocks.0.attn1.to_out.0": "OUT03",
        "conv_out": "",
    },
    "sdxl": {
        "down_blocks.0.resnets.0.conv1": "IN01",
        "down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k": "IN03",
        "down_blocks.1.attentions.0.proj_in": "IN03",
        "mid_block.attentions.0.transformer_blocks.0.attn1.to_v": "M00",
        "up_blocks.0.attentions.0.transformer_blocks.0.ff.net.2": "OUT00",
        "up_blocks.0.attentions.1.transformer_blocks.0.attn2.to_q": "OUT01",
        "up_blocks.1.resnets.1.conv2": "OUT03",
        "conv_out": "",
    },
}
ENCODER = ("encoder.layers.0.self_attn.q_proj", "encoder.layers.1.mlp.fc1")
INPUT = tuple(f"IN{number:02d}" for number in range(12))
OUTPUT = tuple(f"OUT{number:02d}" for number in range(12))
VECTORS = {  # how many numbers -> their blocks
    26: ("BASE", *INPUT, "M00", *OUTPUT),
    20: ("BASE", *INPUT[:9], "M00", *OUTPUT[:9]),
    17: ("BASE", "IN01", "IN02", "IN04", "IN05", "IN07", "IN08", "M00", *OUTPUT[3:]),
    12: ("BASE", "IN04", "IN05", "IN07", "IN08", "M00", *OUTPUT[:6]),
}


@dataclass(frozen=True)
class When:
    """One call of the UNet."""

    step: int
    steps: int
    sigma: float

    def position(self, unit: str) -> float:
        if unit == "sigma":
            return self.sigma
        if unit == "step":
            return self.step
        return self.step / (self.steps - 1) if self.steps > 1 else 0.0


@dataclass(frozen=True)
class Line:
    """A weight over time; one point is a number."""

    points: Points
    unit: str = "share"

    @property
    def text(self) -> str:
        if len(self.points) == 1:
            return f"{self.points[0][1]:g}"
        sign = "s" if self.unit == "sigma" else ""
        return ",".join(f"{weight:g}@{sign}{position:g}" for position, weight in self.points)

    def at(self, when: When) -> float:
        positions, weights = zip(*self.points, strict=True)
        return float(np.interp(when.position(self.unit), positions, weights))

    @property
    def first(self) -> float:
        return self.points[-1 if self.unit == "sigma" else 0][1]


ONE = Line(((0.0, 1.0),))


@dataclass(frozen=True)
class Tag:
    """One tag as it is meant."""

    name: str
    te: Line = ONE
    unet: Line = ONE
    start: float | None = None
    stop: float | None = None
    unit: str = "share"  # of start and stop
    vector: tuple[float, ...] = ()  # lbw=
    groups: tuple[tuple[str, Line], ...] = ()  # in=, mid=, out=
    hires: Line | None = None
    refiner: Line | None = None
    on: str | None = None

    @property
    def text(self) -> str:
        sign = "s" if self.unit == "sigma" else ""
        ends = [(key, value) for key, value in (("start", self.start), ("stop", self.stop)) if value is not None]
        named = [f"{key}={sign}{value:g}" for key, value in ends]
        named += [f"lbw={','.join(f'{number:g}' for number in self.vector)}"] if self.vector else []
        named += [f"{key}={line.text}" for key, line in self.groups]
        named += [f"{key}={line.text}" for key, line in (("hr", self.hires), ("refiner", self.refiner)) if line]
        named += [f"on={self.on}"] if self.on else []
        return f"<lora:{':'.join([self.name, self.te.text, self.unet.text, *named])}>"

    def is_active(self, when: When) -> bool:
        place = when.position(self.unit)
        if self.unit == "sigma":
            return place <= (math.inf if self.start is None else self.start) and place > (self.stop or 0.0)
        if self.start is not None and place < self.start:
            return False
        if self.stop is None or (self.unit == "share" and self.stop >= 1):
            return True
        return place < self.stop

    def share_of(self, block: str) -> float:
        """The factor of a block, all the time."""
        if not self.vector or not block:
            return 1.0
        return dict(zip(VECTORS[len(self.vector)], self.vector, strict=True)).get(block, 0.0)

    def strength(self, component: str, block: str, when: When, stage: str) -> float:
        if not self.is_active(when):
            return 0.0
        line = self.unet if component == "unet" else self.te
        line = {"hires": self.hires, "refiner": self.refiner}.get(stage) or line
        weight = line.at(when) if component == "unet" else line.first
        weight *= self.share_of(block)
        for key, group in self.groups:
            if block.startswith({"in": "IN", "mid": "M", "out": "OUT"}[key]):
                weight *= group.at(when)
        return weight


@dataclass(frozen=True)
class Picture:
    """What one prompt and its negative prompt ask for."""

    tags: tuple[Tag, ...] = ()
    negative: tuple[Tag, ...] = ()
    words: str = "a cat"

    @property
    def prompt(self) -> str:
        return self.words + "".join(tag.text for tag in self.tags)

    @property
    def negative_prompt(self) -> str:
        return "a dog" + "".join(tag.text for tag in self.negative)

    def of(self, side: str) -> list[Tag]:
        asked = [(tag, tag.on or "both") for tag in self.tags] + [(tag, tag.on or "uncond") for tag in self.negative]
        return [tag for tag, on in asked if on in ("both", side)]


Effects = Mapping[str, Mapping[str, Mapping[str, Effect]]]  # {adapter: {component: {module: what it does}}}
Names = Mapping[str, Mapping[str, tuple[str, str]]]  # {component: {module: (its whole name, its block)}}


class Reference:
    """A pipeline of its own, whose UNet makes each row with weights that are merged for it alone."""

    def __init__(self, pipe: Any, family: str, effects: Effects, names: Names | None = None) -> None:
        """`names`: of the modules that have any, if they are others than those of the small pipelines."""
        self.pipe, self.family, self.effects = pipe, family, effects
        self.plain = type(pipe.unet).forward
        components = ("unet", "text_encoder", "text_encoder_2")
        self.names = names or {component: self._names(component) for component in components}
        self._encoded: dict[Any, tuple[Tensor, Tensor | None]] = {}
        names_in_unet = [name for name, _ in self.names["unet"].values()]
        self._own = {f"{name}.weight": pipe.unet.get_parameter(f"{name}.weight") for name in names_in_unet}
        self._graphs = Graphs(self._unet, [(pipe.unet.get_submodule(name), "weight") for name in names_in_unet])
        self._merged: dict[Any, Tensor] = {}  # of one `draw`, in which rows and steps ask for the same again
        pipe.unet.requires_grad_(False)

    def drawing_with(self, pipe: Any) -> Reference:
        """The same models, texts and graphs, in another pipeline of them."""
        other = copy.copy(self)
        other.pipe = pipe
        return other

    @torch.no_grad()
    def draw(
        self, pictures: Sequence[Picture], *, stage: str, when: Callable[[int, Tensor], When],
        num_images_per_prompt: int, guidance_scale: float, **options: Any,
    ) -> Tensor:
        """The latents. `when(number of the call, timestep)`."""
        self._merged.clear()
        each, sides = num_images_per_prompt, ["uncond", "cond"] if guidance_scale > 1 else ["cond"]
        calls = iter(range(10**6))
        unet = self.pipe.unet

        def forward(sample: Tensor, timestep: Tensor, *, encoder_hidden_states: Tensor, **named: Any) -> Any:
            moment = when(next(calls), timestep)
            rows = [(picture, side) for side in sides for picture in pictures for _ in range(each)]
            assert len(rows) == len(sample)
            made = []
            for number, (picture, side) in enumerate(rows):
                some = slice(number, number + 1)
                states, pooled = self.encode(picture, side, moment, stage)
                added = [] if pooled is None else [pooled, named["added_cond_kwargs"]["time_ids"][some]]
                weights = self.weights("unet", picture.of(side), moment, stage)
                made.append(self.call(weights, sample[some], timestep, states, *added))
            return (torch.cat(made),)

        encoded = [self.encode(picture, side, When(0, 1, math.inf), stage)
                   for side in ("cond", "uncond") for picture in pictures]  # fmt: skip
        half = len(pictures)
        given = {"prompt_embeds": torch.cat([states for states, _ in encoded[:half]]),
                 "negative_prompt_embeds": torch.cat([states for states, _ in encoded[half:]])}  # fmt: skip
        if self.family == "sdxl":
            pooled = [pooled for _, pooled in encoded if pooled is not None]
            given |= {"pooled_prompt_embeds": torch.cat(pooled[:half]),
                      "negative_pooled_prompt_embeds": torch.cat(pooled[half:])}  # fmt: skip
        unet.forward = forward
        try:
            return self.pipe(**given, num_images_per_prompt=each, guidance_scale=guidance_scale, **options).images
        finally:
            del unet.forward

    def call(self, weights: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """The UNet with these weights instead of its own."""
        return self._graphs([weights.get(name, own) for name, own in self._own.items()], *inputs)

    def _unet(self, sample: Tensor, timestep: Tensor, states: Tensor, *added: Tensor) -> Tensor:
        told = {"added_cond_kwargs": dict(zip(("text_embeds", "time_ids"), added, strict=True))} if added else {}
        return self.plain(self.pipe.unet, sample, timestep, states, return_dict=False, **told)[0]

    def _names(self, component: str) -> dict[str, tuple[str, str]]:
        """Each module's whole name, and its block."""
        model = getattr(self.pipe, component, None)
        blocks = BLOCKS[self.family] if component == "unet" else dict.fromkeys(ENCODER, "BASE")
        names = [] if model is None else [name for name, _ in model.named_modules()]
        return {module: (next(name for name in names if name.endswith(module)), block)
                for module, block in blocks.items() if names}  # fmt: skip

    def weights(self, component: str, tags: Sequence[Tag], when: When, stage: str) -> dict[str, Tensor]:
        """The parameters that are not the base weights.

        Tags work one after another; the same adapter several times adds up at the place of the first.
        """
        model = getattr(self.pipe, component)
        found = {}
        for module, (name, block) in self.names[component].items():
            strengths: dict[Effect, float] = {}
            for tag in tags:
                effect = self.effects[tag.name].get(component, {}).get(module)
                if effect is not None and tag.share_of(block):
                    strengths[effect] = strengths.get(effect, 0.0) + tag.strength(component, block, when, stage)
            if any(strengths.values()):
                asked = component, name, *strengths.items()
                if asked not in self._merged:
                    self._merged[asked] = self._merge(model.get_parameter(f"{name}.weight"), strengths)
                found[f"{name}.weight"] = self._merged[asked]
        return found

    @staticmethod
    def _merge(base: Tensor, strengths: Mapping[Effect, float]) -> Tensor:
        weight = base.double()
        for effect, strength in strengths.items():
            weight = weight + strength * effect(weight)
        return weight.to(base)

    def encode(self, picture: Picture, side: str, when: When, stage: str) -> tuple[Tensor, Tensor | None]:
        """One text, by encoders that carry what it asks for at that step."""
        when = When(when.step, when.steps, math.inf)
        strengths = tuple(tag.strength("te", "BASE", when, stage) for tag in picture.of(side))
        key = picture, side, stage, strengths
        if key not in self._encoded:
            names = [name for name in ("text_encoder", "text_encoder_2") if getattr(self.pipe, name, None) is not None]
            weights = {name: self.weights(name, picture.of(side), when, stage) for name in names}
            kept = {name: {part: getattr(self.pipe, name).get_parameter(part).data for part in weights[name]}
                    for name in names}  # fmt: skip
            for name in names:
                for part, weight in weights[name].items():
                    getattr(self.pipe, name).get_parameter(part).data = weight
            found = self.pipe.encode_prompt(picture.words if side == "cond" else "a dog", device="cpu",
                                            num_images_per_prompt=1, do_classifier_free_guidance=False)  # fmt: skip
            self._encoded[key] = found[0], found[2] if len(found) > 2 else None
            for name in names:
                for part, weight in kept[name].items():
                    getattr(self.pipe, name).get_parameter(part).data = weight
        return self._encoded[key]

