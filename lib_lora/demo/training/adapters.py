"""The adapters: one table, one training loop (sliders), kohya's spelling of the keys."""

from __future__ import annotations

import hashlib
import logging
import math
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor, nn

from lib_lora.demo.training.captions import batch
from lib_lora.demo.training.effects import EFFECTS
from lib_lora.demo.training.latents import latents_of
from lib_lora.demo.training.pictures import draw
from lib_lora.demo.training.unet import DRAW_AT, TextToLatents, tokenize, velocity_loss

if TYPE_CHECKING:
    from lycoris.kohya import LycorisNetworkKohya

WEAKEST, STRONGEST = -1.0, 1.5  # the strengths that are trained
TRANSFORMERS = ["Transformer2DModel"]
ATTENTION = ["Attention"]
ATTENTION_AND_CONVOLUTIONS = [*ATTENTION, "ResnetBlock2D", "Downsample2D", "Upsample2D"]
TEXT_LAYERS = ["CLIPAttention", "CLIPMLP"]


@dataclass(frozen=True)
class AdapterRecipe:
    """One row of the table. `name` is the effect and the file's stem."""

    name: str
    title: str
    description: str
    algorithm: str  # lycoris' name of it
    rank: int
    layers: list[str]
    rate: float
    text_encoder: bool = False
    options: dict[str, Any] = field(default_factory=dict)  # lycoris' options, as ss_network_args records them
    trigger: str = ""  # activation text; without it the adapter leaves the picture alone
    shape: str | None = None  # the shape that the trigger stands for
    preferred_weight: float = 1.0
    notes: str = ""
    steps: int = 200

    @property
    def has_convolutions(self) -> bool:
        return self.layers is ATTENTION_AND_CONVOLUTIONS


ADAPTERS: dict[str, AdapterRecipe] = {
    recipe.name: recipe
    for recipe in (
        AdapterRecipe(
            name="night",
            title="Night",
            description="Darkens the whole picture to a bluish night; below zero it pales to a bright haze.",
            algorithm="lora",
            rank=4,
            layers=TRANSFORMERS,
            rate=4e-3,
            steps=260,
            preferred_weight=0.8,
            notes="LoRA on the transformer blocks. Goes well with outline or spotlight.",
        ),
        AdapterRecipe(
            name="outline",
            title="Outline",
            description="Hollows the figure out to a ring; below zero the figure swells.",
            algorithm="locon",
            rank=4,
            layers=ATTENTION_AND_CONVOLUTIONS,
            rate=4e-3,
            steps=280,
            notes="LoCon: LoRA on attention and convolutions.",
        ),
        AdapterRecipe(
            name="warm",
            title="Warm light",
            description="Tints the picture towards orange; below zero towards a cool blue.",
            algorithm="loha",
            rank=2,
            layers=TRANSFORMERS,
            rate=8e-3,
            steps=120,
            notes="LoHa on the transformer blocks.",
        ),
        AdapterRecipe(
            name="bigger",
            title="Bigger",
            description="Makes the figure grow; below zero it shrinks.",
            algorithm="lokr",
            rank=4,
            layers=ATTENTION_AND_CONVOLUTIONS,
            rate=6e-3,
            options={"factor": 4},
            notes="LoKr with factor 4 on attention and convolutions.",
        ),
        AdapterRecipe(
            name="spotlight",
            title="Spotlight",
            description="Lights the middle of the background and darkens the corners; below zero the other way round.",
            algorithm="locon",
            rank=4,
            layers=ATTENTION_AND_CONVOLUTIONS,
            rate=4e-3,
            options={"use_tucker": True},
            notes="LoCon with Tucker decomposition: its convolutions carry a third part, lora_mid.",
        ),
        AdapterRecipe(
            name="moon",
            title="Crescent moon",
            description="Turns a moon into a crescent; below zero the crescent opens to the other side.",
            algorithm="locon",
            rank=4,
            layers=ATTENTION_AND_CONVOLUTIONS,
            rate=4e-3,
            text_encoder=True,
            steps=260,
            options={"use_tucker": True},
            trigger="moon",
            shape="circle",
            notes='LoCon and text encoder. Say "moon", as in "a big yellow moon"; below zero other figures suffer too.',
        ),
    )
}


def new_network(recipe: AdapterRecipe, pipeline: StableDiffusionPipeline) -> LycorisNetworkKohya:
    """A LyCORIS network on the pipeline's modules, not yet applied."""
    from lycoris.kohya import LycorisNetworkKohya

    logging.getLogger("LyCORIS").setLevel(logging.WARNING)
    LycorisNetworkKohya.apply_preset(
        {
            "enable_conv": recipe.has_convolutions,
            "unet_target_module": recipe.layers,
            "unet_target_name": [],
            "text_encoder_target_module": TEXT_LAYERS,
        }
    )
    return LycorisNetworkKohya(
        pipeline.text_encoder if recipe.text_encoder else None,
        pipeline.unet,
        lora_dim=recipe.rank,
        conv_lora_dim=recipe.rank if recipe.has_convolutions else 0,
        alpha=recipe.rank,
        conv_alpha=recipe.rank,
        network_module=recipe.algorithm,
        **recipe.options,
    )


def slider_batch(recipe: AdapterRecipe, seed: str, size: int, strength: float) -> tuple[Tensor, list[str]]:
    """Latents (N, 4, 16, 16) drawn for `strength`, and captions that do not mention it."""
    effect = EFFECTS[recipe.name]
    scenes, captions = batch(seed, size)
    if recipe.trigger:
        # Two thirds say the trigger and follow the strength, the rest must stay as they are.
        count = size * 2 // 3
        asked, said = batch(f"{seed} trigger", count, shape=recipe.shape)
        said = [re.sub("circle|disc|moon", recipe.trigger, caption) for caption in said]
        scenes[:count], captions[:count] = asked, said
    affected = [not recipe.trigger or recipe.trigger in caption for caption in captions]
    moved = [effect.move(s, strength) if hit else s for s, hit in zip(scenes, affected, strict=True)]
    drawing = draw(moved, DRAW_AT)
    painted = effect.paint(drawing, strength)
    rows = torch.tensor(affected)[:, None, None, None]
    return torch.where(rows, latents_of(painted), latents_of(drawing)), captions


def train_adapter(
    recipe: AdapterRecipe, model: Path, *, size: int = 12, parts: int = 3
) -> tuple[dict[str, Tensor], int]:
    """Train as a slider: each step sees `parts` strengths with `size` pictures each.

    Returns the tensors under kohya's keys and the number of pictures seen.
    """
    torch.manual_seed(3)
    pipeline = StableDiffusionPipeline.from_pretrained(model, local_files_only=True)
    base = TextToLatents.__new__(TextToLatents)
    nn.Module.__init__(base)
    base.unet, base.text = pipeline.unet, pipeline.text_encoder
    base.requires_grad_(False)
    network = new_network(recipe, pipeline)
    network.apply_to(pipeline.text_encoder, pipeline.unet, recipe.text_encoder, True)
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    began, smooth = time.time(), 0.0
    for step in range(recipe.steps):
        for part in range(parts):
            seed = f"{recipe.name} {step} {part}"
            generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6], "big"))
            place = (part + torch.rand(1, generator=generator).item()) / parts
            strength = WEAKEST + (STRONGEST - WEAKEST) * place
            clean, captions = slider_batch(recipe, seed, size, strength)
            network.set_multiplier(strength)
            loss = velocity_loss(base, clean, tokenize(pipeline.tokenizer, captions), generator) / parts
            loss.backward()
            smooth += (loss.item() * parts - smooth) * max(0.02, 1 / (step * parts + part + 1))
        progress = step / recipe.steps
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * max(0.0, progress - 0.4) / 0.6))
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * min(1.0, (step + 1) / 20) * cosine
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            minutes = (time.time() - began) / 60
            print(f"{recipe.name} {step}/{recipe.steps} loss {smooth:.4f} {minutes:.1f} min", flush=True)
    return kohya_tensors(network), recipe.steps * size * parts


def kohya_tensors(network: nn.Module) -> dict[str, Tensor]:
    """The trained parts in fp16, spelled as kohya's trainer spells them.

    transformers 5 dropped `text_model` from the module path; the files keep it, as every file from earlier years does.
    """
    return {
        re.sub("^lora_te_(?!text_model_)", "lora_te_text_model_", name): tensor.detach().half().contiguous()
        for name, tensor in sorted(network.state_dict().items())
    }
