"""Random models of real size, and adapters for them: what the benchmarks measure on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lib_lora.model.targets import TargetIndex

RANK = 32
BLOCK = 1 << 22  # random values, which all weights repeat: ten times as fast as new ones

UNETS: dict[str, dict[str, Any]] = {
    "sd15": dict(cross_attention_dim=768, attention_head_dim=8),
    "sdxl": dict(
        cross_attention_dim=2048, attention_head_dim=[5, 10, 20], block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816, sample_size=128),
}
CLIP_L = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768)
CLIP_G = dict(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20,
              projection_dim=1280)


def random_pipe(size: str, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> SimpleNamespace:
    """The UNet and text encoder(s) of an SD1.5- or SDXL-size model with random weights."""
    parts: dict[str, nn.Module] = {"unet": _random(lambda: UNet2DConditionModel(**UNETS[size]), dtype, device)}
    parts["text_encoder"] = _random(lambda: CLIPTextModel(CLIPTextConfig(**CLIP_L)), dtype, device)
    if size == "sdxl":
        parts["text_encoder_2"] = _random(lambda: CLIPTextModelWithProjection(CLIPTextConfig(**CLIP_G)), dtype, device)
    return SimpleNamespace(**parts)


def random_unet(size: str, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> nn.Module:
    """That UNet alone."""
    return _random(lambda: UNet2DConditionModel(**UNETS[size]), dtype, device)


def step(pipe: SimpleNamespace) -> torch.Tensor:
    """One pass through the UNet, for one small picture (128x128)."""
    unet = pipe.unet
    weight = unet.conv_in.weight
    known: dict[str, Any] = {}
    if unet.config.addition_embed_type == "text_time":
        known["text_embeds"] = torch.zeros(1, 1280, dtype=weight.dtype, device=weight.device)
        known["time_ids"] = torch.zeros(1, 6, dtype=weight.dtype, device=weight.device)
    words = torch.zeros(1, 77, unet.config.cross_attention_dim, dtype=weight.dtype, device=weight.device)
    latents = torch.zeros(1, 4, 16, 16, dtype=weight.dtype, device=weight.device)
    with torch.no_grad():
        return unet(latents, 500, encoder_hidden_states=words, added_cond_kwargs=known).sample


def attention_layers(index: TargetIndex) -> dict[str, tuple[int, ...]]:
    """kohya's default layers (attention and feed-forward, all encoders) by their kohya name -> weight shape."""
    found: dict[str, tuple[int, ...]] = {}
    seen = set()
    for spelling, targets in index.modules.items():
        weight = targets.get("weight")
        is_kohya = spelling.startswith(("lora_unet_down", "lora_unet_mid", "lora_unet_up", "lora_te"))
        is_layer = any(word in spelling for word in ("attentions", "self_attn", "mlp"))
        if weight and is_kohya and is_layer and len(weight.shape) > 1 and weight.place not in seen:
            seen.add(weight.place)
            found[spelling] = weight.shape
    return found


def write_adapter(path: Path, layers: dict[str, tuple[int, ...]], *, seed: int, dora: bool = False) -> Path:
    """A kohya LoRA of rank 32 in fp16 for `layers`."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (outputs, *inputs) in layers.items():
        tail = (1, 1) if len(inputs) == 3 else ()
        tensors[f"{name}.lora_down.weight"] = _noise(generator, RANK, *inputs)
        tensors[f"{name}.lora_up.weight"] = _noise(generator, outputs, RANK, *tail)
        tensors[f"{name}.alpha"] = torch.tensor(float(RANK) / 2).half()
        if dora:
            tensors[f"{name}.dora_scale"] = torch.ones(outputs, 1, *tail).half()
    save_file(tensors, path)
    return path


def write_lokr(path: Path, layers: dict[str, tuple[int, ...]], *, seed: int, factor: int = 8) -> Path:
    """A LoKr with full factors, `factor` x `factor` outside."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (outputs, inputs, *kernel) in layers.items():
        tensors[f"{name}.lokr_w1"] = _noise(generator, factor, factor)
        tensors[f"{name}.lokr_w2"] = _noise(generator, outputs // factor, inputs // factor, *kernel)
    save_file(tensors, path)
    return path


def write_loha(path: Path, layers: dict[str, tuple[int, ...]], *, seed: int, rank: int = 8) -> Path:
    """A LoHa of rank 8."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (outputs, inputs, *_) in layers.items():
        for side in ("w1", "w2"):
            tensors[f"{name}.hada_{side}_a"] = _noise(generator, outputs, rank)
            tensors[f"{name}.hada_{side}_b"] = _noise(generator, rank, inputs)
        tensors[f"{name}.alpha"] = torch.tensor(float(rank)).half()
    save_file(tensors, path)
    return path


def write_oft(path: Path, layers: dict[str, tuple[int, ...]], *, seed: int, size: int = RANK) -> Path:
    """A LyCORIS Diag-OFT with blocks of the rank's size, as LyCORIS makes them."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (outputs, *_) in layers.items():
        tensors[f"{name}.oft_blocks"] = _noise(generator, outputs // size, size, size)
        tensors[f"{name}.alpha"] = torch.tensor(0.0).half()
    save_file(tensors, path)
    return path


def _noise(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return (torch.rand(shape, generator=generator) - 0.5).mul_(0.1).half()


def _random(make: Any, dtype: torch.dtype, device: str) -> nn.Module:
    with torch.device("meta"):
        model = make()
    model = model.to_empty(device=device).to(dtype).eval()
    with torch.no_grad():
        noise = torch.empty(BLOCK, device=device).uniform_(-0.05, 0.05).to(dtype)
        for parameter in model.parameters():
            for piece in parameter.view(-1).split(BLOCK):
                piece.copy_(noise[: piece.numel()])
        for name, buffer in model.named_buffers():
            if name.endswith("position_ids"):
                buffer.copy_(torch.arange(buffer.shape[-1]).expand(buffer.shape))
    return model
