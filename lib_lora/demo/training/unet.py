"""The denoiser and its text encoder, trained together on formula latents."""

from __future__ import annotations

import math
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from lib_lora.demo.training.captions import batch
from lib_lora.demo.training.latents import SIDE, latents_of
from lib_lora.demo.training.pictures import draw
from lib_lora.demo.training.tokenizer import LENGTH

SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}
DRAW_AT = 64  # px; figures are pooled to 16 anyway


@dataclass(frozen=True)
class Recipe:
    steps: int = 3400
    batch: int = 48
    rate: float = 1.6e-3
    warm_up: int = 150
    constant_until: float = 0.55  # share of the steps; then a cosine down to `last_rate` of `rate`
    last_rate: float = 0.02
    decay: float = 1e-3
    average: float = 0.998  # of the weights that are exported
    seed: int = 1


RECIPE = Recipe()


class TextToLatents(nn.Module):
    """Text encoder and UNet as one module, so that both are trained, averaged and saved together."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(
            sample_size=SIDE,
            block_out_channels=(32, 64, 96, 96),
            layers_per_block=1,
            cross_attention_dim=64,
            attention_head_dim=2,
            norm_num_groups=4,  # 32 groups would erase flat colour at these widths
        )
        self.text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=64,
                intermediate_size=256,
                projection_dim=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=LENGTH,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        # Words far apart from the start: with CLIP's .02 the colours stay confused for thousands of pictures.
        nn.init.normal_(self.text.get_input_embeddings().weight, std=0.5)
        nn.init.normal_(self.text.get_parameter(position_table(self.text)), std=0.2)

    def forward(self, noisy: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
        """noisy (N, 4, 16, 16), times (N,), tokens (N, 77) -> v (N, 4, 16, 16)."""
        return self.unet(noisy, times, self.text(tokens)[0]).sample


def position_table(text: CLIPTextModel) -> str:
    return next(name for name, _ in text.named_parameters() if name.endswith("position_embedding.weight"))


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """(N, 77) token ids."""
    return tokenizer(captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids


def draw_times(size: int, generator: torch.Generator) -> Tensor:
    """Timesteps spread evenly over the batch; high noise is favoured because shape and place are decided there."""
    even = (torch.arange(size) + torch.rand(size, generator=generator)) / size
    times = (1000 * even**0.8).long().clamp(0, 999)
    return times[torch.randperm(size, generator=generator)]


@torch.no_grad()
def guess_clean(model: TextToLatents, noisy: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
    """The clean latents that the model sees in noisy ones, in one step. Shapes as in `TextToLatents.forward`."""
    signal = DDPMScheduler(**SCHEDULE).alphas_cumprod[times][:, None, None, None]
    return signal.sqrt() * noisy - (1 - signal).sqrt() * model(noisy, times, tokens)


def velocity_loss(model: TextToLatents, clean: Tensor, tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Mean squared error of v for one random noise level per sample."""
    scheduler = DDPMScheduler(**SCHEDULE)
    noise = torch.randn(clean.shape, generator=generator)
    times = draw_times(len(clean), generator)
    target = scheduler.get_velocity(clean, noise, times)
    return F.mse_loss(model(scheduler.add_noise(clean, noise, times), times, tokens), target)


def rate_at(step: int, recipe: Recipe) -> float:
    progress = step / recipe.steps
    fall = max(0.0, (progress - recipe.constant_until) / (1 - recipe.constant_until))
    cosine = recipe.last_rate + (1 - recipe.last_rate) * 0.5 * (1 + math.cos(math.pi * fall))
    return recipe.rate * min(1.0, (step + 1) / recipe.warm_up) * cosine


def train_unet(checkpoint: Path, tokenizer: CLIPTokenizer, recipe: Recipe = RECIPE, *, save_every: int = 100) -> None:
    """Train for `recipe.steps`, going on from `checkpoint` where it exists; it holds raw and averaged weights."""
    torch.manual_seed(recipe.seed)
    model = TextToLatents(tokenizer)
    average = deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.rate, betas=(0.9, 0.99), weight_decay=recipe.decay, fused=True
    )
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    began, smooth = time.time(), 1.0
    for step in range(first, recipe.steps):
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        scenes, captions = batch(f"unet {recipe.seed} {step}", recipe.batch)
        loss = velocity_loss(model, latents_of(draw(scenes, DRAW_AT)), tokenize(tokenizer, captions), generator)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, recipe)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        # A young average forgets faster, else it would keep the random start for 500 steps.
        update_average(average, model, min(recipe.average, (step + 1) / (step + 10)))
        smooth += (loss.item() - smooth) * max(0.02, 1 / (step - first + 1))
        if step % 20 == 0:
            print(f"unet {step}/{recipe.steps} loss {smooth:.4f} {(time.time() - began) / 60:.1f} min", flush=True)
        if (step + 1) % save_every == 0 or step + 1 == recipe.steps:
            save_checkpoint(
                checkpoint,
                {
                    "step": step + 1,
                    "model": model.state_dict(),
                    "average": average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                },
            )


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, keep: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)


def save_checkpoint(path: Path, state: dict[str, object]) -> None:
    """Write beside, then swap, so that an interrupt leaves a whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def load_trained(checkpoint: Path, tokenizer: CLIPTokenizer) -> TextToLatents:
    """The averaged weights, ready for use."""
    model = TextToLatents(tokenizer)
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["average"])
    return model.eval().requires_grad_(False)
