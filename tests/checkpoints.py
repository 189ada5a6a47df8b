"""Small pipelines of diffusers with CLIP's vocabulary, and the single-file checkpoints that hold the same weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from lib_lora.drawing.vocabulary import SIZE, write_tokenizer
from lib_lora.keys import layout

HEADS = {"sd1": 8, "sd2": (1, 1), "sdxl": (1, 1)}
TEXT_ROOTS = {
    "sd1": {"text_encoder": "cond_stage_model.transformer."},
    "sd2": {"text_encoder": "cond_stage_model.model."},
    "sdxl": {
        "text_encoder": "conditioner.embedders.0.transformer.",
        "text_encoder_2": "conditioner.embedders.1.model.",
    },
}
VAE_NAMES = (  # diffusers -> CompVis; LEVELS - 1 - n for the decoder's blocks
    (r"(en|de)coder\.conv_norm_out\.", r"\1coder.norm_out."),
    (r"encoder\.down_blocks\.(\d)\.resnets\.(\d)\.", r"encoder.down.\1.block.\2."),
    (r"encoder\.down_blocks\.(\d)\.downsamplers\.0\.", r"encoder.down.\1.downsample."),
    (r"(en|de)coder\.mid_block\.resnets\.0\.", r"\1coder.mid.block_1."),
    (r"(en|de)coder\.mid_block\.resnets\.1\.", r"\1coder.mid.block_2."),
    (r"(en|de)coder\.mid_block\.attentions\.0\.group_norm\.", r"\1coder.mid.attn_1.norm."),
    (r"(en|de)coder\.mid_block\.attentions\.0\.to_([qkv])\.", r"\1coder.mid.attn_1.\2."),
    (r"(en|de)coder\.mid_block\.attentions\.0\.to_out\.0\.", r"\1coder.mid.attn_1.proj_out."),
    (r"conv_shortcut\.", "nin_shortcut."),
)
VAE_LEVELS = 2
OPEN_CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
             "self_attn.out_proj": "attn.out_proj"}  # fmt: skip


def small_pipeline(family: str, folder: Path, *, predicts_v: bool = False) -> Any:
    """A pipeline with random weights that behave: of the structure of `family` ("sd1", "sd2", "sdxl"), 32 wide."""
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,  # fmt: skip
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    torch.manual_seed(1)
    is_xl = family == "sdxl"
    vae = AutoencoderKL(
        block_out_channels=(32, 64),
        layers_per_block=1,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        scaling_factor=0.13025 if is_xl else 0.18215,
        force_upcast=is_xl,
    )
    unet = UNet2DConditionModel(
        sample_size={"sd1": 64, "sd2": 96, "sdxl": 128}[family],
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=32 + 64 if is_xl else 64,
        attention_head_dim=HEADS[family],
        down_block_types=(
            ("DownBlock2D", "CrossAttnDownBlock2D") if is_xl else ("CrossAttnDownBlock2D", "DownBlock2D")
        ),
        up_block_types=(("CrossAttnUpBlock2D", "UpBlock2D") if is_xl else ("UpBlock2D", "CrossAttnUpBlock2D")),
        transformer_layers_per_block=(1, 2) if is_xl else 1,
        use_linear_projection=family != "sd1",
        upcast_attention=family == "sd2",
        **(
            {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 64 + 6 * 256,
            }
            if is_xl
            else {}
        ),
    )

    def encoder(width: int, *, is_open: bool, projection: bool = False) -> Any:
        config = CLIPTextConfig(
            vocab_size=SIZE, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=1,
            hidden_act="gelu" if is_open else "quick_gelu", projection_dim=width, eos_token_id=2,
        )  # fmt: skip
        return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()

    def tokenizer(padding: str) -> Any:
        write_tokenizer(folder / f"tokenizer-{ord(padding[0])}", padding=padding)
        return CLIPTokenizer.from_pretrained(folder / f"tokenizer-{ord(padding[0])}")

    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1,
        prediction_type="v_prediction" if predicts_v else "epsilon",
    )  # fmt: skip
    end = "<|endoftext|>"
    if is_xl:
        pipe = StableDiffusionXLPipeline(
            vae=vae,
            unet=unet,
            scheduler=scheduler,
            text_encoder=encoder(32, is_open=False),
            tokenizer=tokenizer(end),
            text_encoder_2=encoder(64, is_open=True, projection=True),
            tokenizer_2=tokenizer("!"),
            force_zeros_for_empty_prompt=False,
            add_watermarker=False,
        )
    else:
        pipe = StableDiffusionPipeline(
            vae=vae, unet=unet, scheduler=scheduler, text_encoder=encoder(64, is_open=family == "sd2"),
            tokenizer=tokenizer("!" if family == "sd2" else end), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def checkpoint_tensors(pipe: Any, family: str) -> dict[str, Tensor]:
    """The pipeline's weights under the names of a checkpoint."""
    found: dict[str, Tensor] = {}
    unet = pipe.unet.state_dict()
    paths = {key.rpartition(".")[0] for key in unet}
    layers = layout.resnets_per_block(paths)
    for key, tensor in unet.items():
        path, _, part = key.rpartition(".")
        found[f"model.diffusion_model.{layout.unet_to_native(path, paths, layers)}.{part}"] = tensor
    for key, tensor in pipe.vae.state_dict().items():
        found[f"first_stage_model.{_vae_name(key)}"] = tensor[..., None, None] if _is_vae_attention(key) else tensor
    for name, root in TEXT_ROOTS[family].items():
        tensors = {key.removeprefix("text_model."): value for key, value in getattr(pipe, name).state_dict().items()}
        if root.endswith("model."):
            found |= {
                f"{root}{key}": value for key, value in _open_clip(tensors, has_spare_layer=family == "sd2").items()
            }
        else:
            found |= {f"{root}text_model.{key}": value for key, value in tensors.items()}
    return {key: value.detach().clone().contiguous() for key, value in found.items()}


def write_checkpoint(path: Path, pipe: Any, family: str, **metadata: str) -> Path:
    """`path`, with the pipeline's weights as they are."""
    save_file(checkpoint_tensors(pipe, family), path, metadata={"format": "pt", **metadata})
    return path


def _is_vae_attention(key: str) -> bool:
    """Stored as convolutions of 1 x 1."""
    return ".attentions." in key and key.endswith("weight") and "group_norm" not in key


def _vae_name(key: str) -> str:
    if match := re.match(r"decoder\.up_blocks\.(\d)\.(resnets|upsamplers)\.(\d)\.(.*)", key):
        level = VAE_LEVELS - 1 - int(match[1])
        inner = f"block.{match[3]}" if match[2] == "resnets" else "upsample"
        key = f"decoder.up.{level}.{inner}.{match[4]}"
    for pattern, name in VAE_NAMES:
        key = re.sub(pattern, name, key)
    return key


def _open_clip(tensors: dict[str, Tensor], *, has_spare_layer: bool) -> dict[str, Tensor]:
    """As OpenCLIP names and packs them; SD2 has one more layer, which is not used."""
    found = {
        "token_embedding.weight": tensors["embeddings.token_embedding.weight"],
        "positional_embedding": tensors["embeddings.position_embedding.weight"],
        "ln_final.weight": tensors["final_layer_norm.weight"],
        "ln_final.bias": tensors["final_layer_norm.bias"],
        "text_projection": tensors.get("text_projection.weight", torch.eye(64)).T,
        "logit_scale": torch.tensor(4.6),
    }
    layers = 1 + max(int(key.split(".")[2]) for key in tensors if key.startswith("encoder.layers."))
    for layer in range(layers + has_spare_layer):
        old, new = f"encoder.layers.{min(layer, layers - 1)}", f"transformer.resblocks.{layer}"
        for part in ("weight", "bias"):
            packed = torch.cat([tensors[f"{old}.self_attn.{letter}_proj.{part}"] for letter in "qkv"])
            found[f"{new}.attn.in_proj_{part}"] = packed
            for theirs, ours in OPEN_CLIP.items():
                found[f"{new}.{ours}.{part}"] = tensors[f"{old}.{theirs}.{part}"]
    return found
