"""How long the peers take for the same change of weight, by their own public API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

Stopwatch = Callable[[Callable[[], Any]], float]


def measure(pipe: Any, adapter: Path, seconds: Stopwatch, *, repeat: int) -> dict[str, float]:
    """{"diffusers": s, "lycoris": s}: a change of weight of one adapter on the UNet and the text encoder(s)."""
    lycoris = _lycoris(pipe, adapter, seconds, repeat)
    return {"lycoris": lycoris, "diffusers": _diffusers(pipe, adapter, seconds, repeat)}


def _diffusers(pipe: Any, adapter: Path, seconds: Stopwatch, repeat: int) -> float:
    """`unfuse_lora`, `set_adapters`, `fuse_lora` of diffusers with the PEFT backend."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    common = dict(vae=AutoencoderKL(), text_encoder=pipe.text_encoder, tokenizer=None, unet=pipe.unet,
                  scheduler=DDIMScheduler())
    if hasattr(pipe, "text_encoder_2"):
        whole: Any = StableDiffusionXLPipeline(**common, text_encoder_2=pipe.text_encoder_2, tokenizer_2=None)
    else:
        whole = StableDiffusionPipeline(**common, safety_checker=None, feature_extractor=None,
                                        requires_safety_checker=False)
    whole.load_lora_weights(load_file(adapter), adapter_name="a")

    def change(weight: float) -> None:
        whole.unfuse_lora()
        whole.set_adapters(["a"], [weight])
        whole.fuse_lora()

    whole.fuse_lora()
    best = min(seconds(lambda number=number: change(0.5 + 0.1 * number)) for number in range(repeat))
    whole.unfuse_lora()
    whole.unload_lora_weights()
    return best


def _lycoris(pipe: Any, adapter: Path, seconds: Stopwatch, repeat: int) -> float:
    """`onfly_restore`, `onfly_merge` of lycoris-lora."""
    from lycoris import create_lycoris_from_weights

    networks = [create_lycoris_from_weights(1.0, "", part, weights_sd=weights)[0]
                for part, weights in _by_part(pipe, adapter)]

    def merge(weight: float) -> None:
        for network in networks:
            network.onfly_merge(weight)

    def change(weight: float) -> None:
        for network in networks:
            network.onfly_restore()
        merge(weight)

    with torch.no_grad():
        merge(1.0)
        best = min(seconds(lambda number=number: change(0.5 + 0.1 * number)) for number in range(repeat))
        for network in networks:
            network.onfly_restore()
    return best


def _by_part(pipe: Any, adapter: Path) -> list[tuple[torch.nn.Module, dict[str, torch.Tensor]]]:
    """The adapter's tensors for each part of the pipeline, named as lycoris names them: `lycoris_` + flat path."""
    is_sdxl = hasattr(pipe, "text_encoder_2")
    parts = {"lora_unet_": pipe.unet, "lora_te1_" if is_sdxl else "lora_te_": pipe.text_encoder}
    if is_sdxl:
        parts["lora_te2_"] = pipe.text_encoder_2
    tensors = load_file(adapter)
    found = []
    for prefix, part in parts.items():
        drop = "" if any(name.startswith("text_model") for name, _ in part.named_modules()) else "text_model_"
        renamed = {f"lycoris_{key.removeprefix(prefix).removeprefix(drop)}": tensor.float()
                   for key, tensor in tensors.items() if key.startswith(prefix)}
        found.append((part, renamed))
    return found
