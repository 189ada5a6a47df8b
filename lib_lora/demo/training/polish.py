"""The decoder's last lesson: latents with the UNet's own faults, so that it straightens what is crooked."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn
from transformers import CLIPTokenizer

from lib_lora.demo.training.autoencoder import (
    Recipe,
    add_noise,
    load_autoencoder,
    picture_loss,
    rate_at,
    study_pictures,
)
from lib_lora.demo.training.unet import SCHEDULE, TextToLatents, guess_clean, save_checkpoint, tokenize, update_average

RECIPE = Recipe(steps=700, constant_until=0.3, noise=0.06, seed=4)
NOISIEST = 300  # of 1000; beyond it the UNet's guess is no longer the same figure in the same place


def redrawn(model: TextToLatents, latents: Tensor, tokens: Tensor, generator: torch.Generator) -> Tensor:
    """The latents (N, 4, 16, 16) as the UNet guesses them after some noise."""
    times = torch.randint(20, NOISIEST, (len(latents),), generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    return guess_clean(model, DDPMScheduler(**SCHEDULE).add_noise(latents, noise, times), times, tokens)


def polish_decoder(
    trained: Path, polished: Path, model: TextToLatents, tokenizer: CLIPTokenizer, recipe: Recipe = RECIPE
) -> None:
    """Plain pictures from latents that went through the UNet, restyled ones (foreign to it) from noisy latents."""
    vae, average = load_autoencoder(trained), load_autoencoder(trained)
    decoder = [*vae.post_quant_conv.parameters(), *vae.decoder.parameters()]
    for parameter in decoder:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(decoder, lr=recipe.rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    began, smooth = time.time(), 0.0
    for step in range(recipe.steps):
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        pictures, latents, captions = study_pictures(f"polish {recipe.seed} {step}", recipe.plain)
        plain, restyled = latents.split(recipe.plain)
        crooked = redrawn(model, plain, tokenize(tokenizer, captions), generator)
        seen = vae.decode(torch.cat([crooked, add_noise(restyled, recipe.noise, generator)])).sample
        loss = picture_loss(seen, pictures)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, recipe)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(decoder, 1.0)
        optimizer.step()
        update_average(average, vae, min(recipe.average, (step + 1) / (step + 10)))
        smooth += (loss.item() - smooth) * max(0.02, 1 / (step + 1))
        if step % 50 == 0:
            print(f"polish {step}/{recipe.steps} {(time.time() - began) / 60:.1f} min loss {smooth:.4f}", flush=True)
    save_checkpoint(polished, {"step": recipe.steps, "average": average.state_dict()})
