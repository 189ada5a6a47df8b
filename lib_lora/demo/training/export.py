"""The trained parts as a diffusers folder in fp16 that `StableDiffusionPipeline.from_pretrained` loads offline."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from lib_lora.demo.training.tokenizer import FILES
from lib_lora.demo.training.unet import SCHEDULE, TextToLatents

# Euler keeps the last three for whoever swaps the sampler: DDIM and PNDM start from this config, as SD1's folders do.
SAMPLING = {
    "timestep_spacing": "trailing",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
}


def export_model(folder: Path, model: TextToLatents, vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> None:
    """Write the pipeline into `folder`; the tokenizer's own files there stay as `write_tokenizer` wrote them."""
    ours = {name: (folder / "tokenizer" / name).read_bytes() for name in FILES}
    scheduler = EulerDiscreteScheduler.from_config({**SCHEDULE, **SAMPLING})
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.to(torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    for path in (folder / "tokenizer").iterdir():
        path.unlink()
    for name, content in ours.items():
        (folder / "tokenizer" / name).write_bytes(content)
    settle_text_encoder(folder / "text_encoder")


def settle_text_encoder(folder: Path) -> None:
    """Make the text encoder load alike everywhere.

    Its keys keep `text_model.`, which transformers 5 dropped and accepts and transformers 4 needs. Its config names
    float32, else transformers 5 would load it in fp16 beside a UNet in fp32.
    """
    weights = folder / "model.safetensors"
    tensors = {re.sub(r"^(?!text_model\.)", "text_model.", key): value for key, value in load_file(weights).items()}
    save_file(tensors, weights, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config.pop("torch_dtype", None)
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
