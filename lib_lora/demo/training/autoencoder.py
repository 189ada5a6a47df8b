"""The KL autoencoder, taught the formula latents; it starts as a plain thumbnail maker and upsampler."""

from __future__ import annotations

import math
import random
import time
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from lib_lora.demo.training.captions import batch
from lib_lora.demo.training.effects import EFFECTS
from lib_lora.demo.training.latents import MEAN, STD, latents_of
from lib_lora.demo.training.pictures import CANVAS, Drawing, draw
from lib_lora.demo.training.unet import save_checkpoint, update_average

CARRIED = 8  # channels that start as +r -r +g -g +b -b +C -C
CONSTANT = 5.0  # C: large against the colours, so it pins the scale of every group norm
LOG_VARIANCE = -6.0  # the encoder is deterministic but for this little noise


@dataclass(frozen=True)
class Recipe:
    steps: int = 4000
    plain: int = 3  # pictures per step as they are, and as many restyled
    rate: float = 5e-4  # 2e-3 destroys the start
    warm_up: int = 100
    constant_until: float = 0.5
    noise: float = 0.12  # most that is added to the latents: the UNet's are not perfect either
    average: float = 0.998
    seed: int = 2


RECIPE = Recipe()


def new_autoencoder() -> AutoencoderKL:
    """.86 M weights, initialised to pass the picture through: no residual branch speaks yet."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 48, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=CANVAS,
        scaling_factor=1.0,
    )
    with torch.no_grad():
        for name, module in vae.named_modules():
            if name.endswith(("conv2", "to_out.0")):
                module.weight.zero_()
                module.bias.zero_()
            elif name.endswith("conv_shortcut"):
                _carry(module, torch.ones(1, 1))
            elif name.endswith("upsamplers.0.conv"):
                _carry(module, F.pad(torch.ones(1, 1), (1, 1, 1, 1)))
            elif name.endswith("downsamplers.0.conv"):
                _carry(module, F.pad(torch.full((2, 2), 0.25), (0, 1, 0, 1)))
        _start_encoder(vae)
        _start_decoder(vae)
    return vae


def _carry(conv: nn.Conv2d, kernel: Tensor) -> None:
    """Channel i goes to channel i through `kernel`; later residual branches write their findings into the others."""
    conv.weight.zero_()
    _bias(conv).zero_()
    for i in range(min(conv.weight.shape[:2])):
        conv.weight[i, i] = kernel


def _spread(conv: nn.Conv2d, scale: Tensor, shift: Tensor, faint: float = 1.0) -> None:
    """Three colours to +r -r +g -g +b -b and the pair of constants; `colour = input * scale + shift`.

    The other channels begin as random filters of the input, times `faint`.
    """
    conv.weight.mul_(faint)
    _bias(conv).zero_()
    conv.weight[:CARRIED] = 0
    for i in range(3):
        for row, sign in ((2 * i, 1), (2 * i + 1, -1)):
            conv.weight[row, i, 1, 1] = sign * scale[i]
            _bias(conv)[row] = sign * shift[i]
    _bias(conv)[CARRIED - 2], _bias(conv)[CARRIED - 1] = CONSTANT, -CONSTANT


def _gather(conv: nn.Conv2d, group: int, scale: Tensor, shift: Tensor) -> None:
    """The pairs back to three colours: silu(x) - silu(-x) = x. `group` is the number of channels in a norm group."""
    norm_scale = CONSTANT * math.sqrt(2 / group)  # what the norm divided by: only the constants count
    conv.weight[:3] = 0
    for i in range(3):
        for column, sign in ((2 * i, 1), (2 * i + 1, -1)):
            conv.weight[i, column, 1, 1] = sign * norm_scale * scale[i]
        _bias(conv)[i] = shift[i]


def _bias(conv: nn.Conv2d) -> Tensor:
    """Each convolution of an autoencoder has one."""
    assert conv.bias is not None
    return conv.bias


def _start_encoder(vae: AutoencoderKL) -> None:
    mean, std = MEAN.flatten(), STD.flatten()
    _spread(vae.encoder.conv_in, torch.ones(3), torch.zeros(3), faint=0.3)
    out = vae.encoder.conv_out
    _gather(out, vae.encoder.conv_norm_out.num_channels // 2, 1 / std, -mean / std)
    out.weight[4:] = 0
    out.bias[4:] = LOG_VARIANCE
    vae.quant_conv.weight.copy_(torch.eye(8)[:, :, None, None])
    vae.quant_conv.bias.zero_()


def _start_decoder(vae: AutoencoderKL) -> None:
    _spread(vae.decoder.conv_in, STD.flatten(), MEAN.flatten())
    _gather(vae.decoder.conv_out, vae.decoder.conv_norm_out.num_channels // 2, torch.ones(3), torch.zeros(3))
    vae.post_quant_conv.weight.copy_(torch.eye(4)[:, :, None, None])
    vae.post_quant_conv.bias.zero_()


def study_pictures(seed: str, plain: int) -> tuple[Tensor, Tensor, list[str]]:
    """`plain` pictures as captioned and `plain` in some style or colour, (N, 3, 128, 128).

    Returns them, their latents, and the captions of the plain ones, which come first.
    """
    rng = random.Random(seed)
    effect, strength = rng.choice(list(EFFECTS.values())), rng.uniform(-1, 1.5)
    scenes, captions = batch(seed, 2 * plain)
    restyled = draw([effect.move(scene, strength) for scene in scenes[plain:]])
    if rng.random() < 0.4:
        generator = torch.Generator().manual_seed(rng.getrandbits(32))
        figure, background = torch.rand(2, plain, 3, 1, 1, generator=generator)
        restyled = replace(restyled, figure=figure, background=background)
    drawings: list[Drawing] = [draw(scenes[:plain]), effect.paint(restyled, strength)]
    pictures = torch.cat([d.picture() for d in drawings])
    return pictures, torch.cat([latents_of(d) for d in drawings]), captions[:plain]


def add_noise(latents: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """A different amount for each picture, from nothing to `most`."""
    amount = most * torch.rand(len(latents), 1, 1, 1, generator=generator)
    return latents + amount * torch.randn(latents.shape, generator=generator)


def picture_loss(seen: Tensor, wanted: Tensor) -> Tensor:
    """L1 + MSE + half the L1 of the differences between neighbouring pixels, which is what keeps edges crisp."""
    across = F.l1_loss(seen.diff(dim=3), wanted.diff(dim=3))
    down = F.l1_loss(seen.diff(dim=2), wanted.diff(dim=2))
    return F.l1_loss(seen, wanted) + F.mse_loss(seen, wanted) + 0.5 * (across + down)


def latent_loss(vae: AutoencoderKL, pictures: Tensor, latents: Tensor) -> Tensor:
    mean, log_variance = vae.quant_conv(vae.encoder(pictures)).chunk(2, dim=1)
    return F.mse_loss(mean, latents) + 0.01 * (log_variance - LOG_VARIANCE).square().mean()


def rate_at(step: int, recipe: Recipe) -> float:
    """Warm-up, constant, then a cosine down to 2%."""
    fall = max(0.0, (step / recipe.steps - recipe.constant_until) / (1 - recipe.constant_until))
    return recipe.rate * min(1.0, (step + 1) / recipe.warm_up) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fall)))


def train_autoencoder(checkpoint: Path, recipe: Recipe = RECIPE, *, save_every: int = 100) -> None:
    """Decoder every step, encoder every third; resumes from `checkpoint` where it exists."""
    torch.manual_seed(recipe.seed)
    vae = new_autoencoder()
    average = deepcopy(vae).requires_grad_(False)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=recipe.rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        vae.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    began, error, miss = time.time(), 0.0, 0.0
    for step in range(first, recipe.steps):
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        pictures, latents, _ = study_pictures(f"autoencoder {recipe.seed} {step}", recipe.plain)
        seen = vae.decode(add_noise(latents, recipe.noise, generator)).sample
        loss = picture_loss(seen, pictures)
        error += (F.mse_loss(seen, pictures).item() - error) * max(0.02, 1 / (step - first + 1))
        if step % 3 == 0:
            encoder_loss = latent_loss(vae, pictures, latents)
            miss += (encoder_loss.item() - miss) * 0.04
            loss = loss + encoder_loss
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, recipe)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        update_average(average, vae, min(recipe.average, (step + 1) / (step + 10)))
        if step % 50 == 0:
            decibel = 10 * math.log10(4 / max(error, 1e-9))
            minutes = (time.time() - began) / 60
            progress = f"autoencoder {step}/{recipe.steps} {minutes:.1f} min"
            print(f"{progress} decoder {decibel:.1f} dB encoder {miss:.4f}", flush=True)
        if (step + 1) % save_every == 0 or step + 1 == recipe.steps:
            save_checkpoint(
                checkpoint,
                {
                    "step": step + 1,
                    "model": vae.state_dict(),
                    "average": average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                },
            )


def load_autoencoder(checkpoint: Path) -> AutoencoderKL:
    """The averaged weights, ready for use."""
    vae = new_autoencoder()
    vae.load_state_dict(torch.load(checkpoint, weights_only=True)["average"])
    return vae.eval().requires_grad_(False)
