"""A single-file checkpoint -> the configs that diffusers wants, read from its keys and shapes. Nothing is downloaded.

What shapes cannot tell (heads, prediction type) comes from the .yaml beside the file where there is one, else from
what all checkpoints of the family have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lib_lora.errors import CheckpointError
from lib_lora.keys.names import REFINER, SD1, SD2, SDXL_1, SDXL_2, Encoder

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT_TO_PICTURE = 4  # input channels; more of them: inpainting, depth, instructions
MAX_YAML = 1 << 18  # bytes
HEAD = 64  # width of one attention head, everywhere but in the UNet of SD1
SD1_HEADS = 8

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Config = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """What the checkpoints of one family have in common."""

    name: str
    pipeline: str  # class in diffusers
    encoders: Mapping[str, Encoder]
    latent_side: int
    scaling: float


SD1_FAMILY = Family("SD1", "StableDiffusionPipeline", {"text_encoder": SD1}, 64, 0.18215)
SD2_FAMILY = Family("SD2", "StableDiffusionPipeline", {"text_encoder": SD2}, 96, 0.18215)
SDXL_FAMILY = Family(
    "SDXL", "StableDiffusionXLPipeline", {"text_encoder": SDXL_1, "text_encoder_2": SDXL_2}, 128, 0.13025
)


@dataclass(frozen=True)
class Hints:
    """What the .yaml beside a checkpoint says; None where it says nothing."""

    heads: int | None = None
    head_width: int | None = None
    clip_folder: Path | None = None  # tokenizer and config of the first text encoder
    predicts_v: bool | None = None
    scaling: float | None = None


def family_of(shapes: Shapes, name: str) -> Family:
    """Raises CheckpointError if this is no complete text-to-image checkpoint of SD1, SD2 or SDXL."""
    if not any(key.startswith(UNET) for key in shapes):
        raise CheckpointError(f"{name}: not a Stable Diffusion checkpoint; it has no tensor named {UNET}…")
    if any(key.startswith(f"{REFINER.checkpoint}.") for key in shapes):
        raise CheckpointError(f"{name}: the SDXL refiner draws nothing alone; choose the base model")
    channels = (*shapes.get(f"{UNET}input_blocks.0.0.weight", ()), 0, TEXT_TO_PICTURE)[1]
    if channels != TEXT_TO_PICTURE:
        raise CheckpointError(
            f"{name}: made for inpainting or the like ({channels} channels); it does not draw from text alone"
        )
    for family in (SDXL_FAMILY, SD2_FAMILY, SD1_FAMILY):
        prefixes = tuple(f"{encoder.checkpoint}." for encoder in family.encoders.values())
        if any(key.startswith(prefixes[-1]) for key in shapes):
            for needed in (*prefixes, VAE):
                if not any(key.startswith(needed) for key in shapes):
                    raise CheckpointError(f"{name}: incomplete, it has no tensor named {needed}…")
            return family
    raise CheckpointError(f"{name}: only SD1, SD2 and SDXL checkpoints with their text encoders can be drawn with")


def read_hints(checkpoint: Path) -> Hints:
    """The .yaml beside `checkpoint`, as the CompVis and SGM code has them. Raises CheckpointError if it is broken."""
    path = checkpoint.with_suffix(".yaml")
    if not path.is_file():
        return Hints()
    try:
        if path.stat().st_size > MAX_YAML:
            raise CheckpointError(f"{path.name}: larger than {MAX_YAML >> 10} KB; take it away from the checkpoint")
        text = path.read_text("utf-8")
        content = {} if "<<" in text else yaml.safe_load(text)  # merged keys can grow without end
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path.name}: not a readable .yaml file ({str(error).splitlines()[0]})") from error
    unet = _at(content, "model", "params", "unet_config", "params") or _at(
        content, "model", "params", "network_config", "params"
    )
    clip = _at(content, "model", "params", "cond_stage_config", "params", "version") or _at(
        content, "model", "params", "conditioner_config", "params", "emb_models", 0, "params", "version"
    )
    scaling = _at(content, "model", "params", "denoiser_config", "params", "scaling_config", "target")
    stated = _at(content, "model", "params", "parameterization") or (
        scaling.rpartition(".")[2] if isinstance(scaling, str) else None
    )
    is_path = isinstance(clip, str) and "\0" not in clip
    folder = Path(clip) if is_path and (Path(clip) / "merges.txt").is_file() else None
    factor = _at(content, "model", "params", "scale_factor")
    return Hints(
        heads=_number(_at(unet, "num_heads")),
        head_width=_number(_at(unet, "num_head_channels")),
        clip_folder=folder,
        predicts_v=None if stated is None else stated in ("v", "VScaling"),
        scaling=factor if isinstance(factor, (int, float)) and 0 < factor < 1000 else None,
    )


def unet_config(shapes: Shapes, family: Family, hints: Hints) -> Config:
    """unet/config.json of diffusers."""
    levels: list[list[int]] = [[]]  # blocks (numbers) of each level
    for number in range(1, 1 + _count(shapes, rf"{UNET}input_blocks\.(\d+)\.")):
        if f"{UNET}input_blocks.{number}.0.op.weight" in shapes:
            levels.append([])
        elif f"{UNET}input_blocks.{number}.0.in_layers.2.weight" in shapes:
            levels[-1].append(number)
    widths = [shapes[f"{UNET}input_blocks.{level[0]}.0.in_layers.2.weight"][0] for level in levels]
    depths = [_count(shapes, rf"{UNET}input_blocks\.{level[0]}\.1\.transformer_blocks\.(\d+)\.") for level in levels]
    attention = next(key for key in shapes if key.startswith(UNET) and key.endswith("attn2.to_k.weight"))
    proj_in = next(key for key in shapes if key.startswith(UNET) and key.endswith("1.proj_in.weight"))
    heads = [_heads(width, family, hints) for width in widths]
    config: Config = {
        "_class_name": "UNet2DConditionModel",
        "in_channels": shapes[f"{UNET}input_blocks.0.0.weight"][1],
        "out_channels": shapes[f"{UNET}out.2.weight"][0],
        "block_out_channels": widths,
        "layers_per_block": len(levels[0]),
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)],
        "transformer_layers_per_block": [max(depth, 1) for depth in depths],
        "attention_head_dim": heads,  # diffusers calls the number of heads so
        "cross_attention_dim": shapes[attention][1],
        "use_linear_projection": len(shapes[proj_in]) == 2,
        "upcast_attention": family is SD2_FAMILY,  # overflows in fp16 otherwise
        "sample_size": family.latent_side,
    }
    middle = _count(shapes, rf"{UNET}middle_block\.1\.transformer_blocks\.(\d+)\.")
    if middle and middle != config["transformer_layers_per_block"][-1]:
        config["transformer_layers_per_block"][-1] = middle
    if (label := f"{UNET}label_emb.0.0.weight") in shapes:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": shapes[label][1],
        }
    return config


def vae_config(shapes: Shapes, family: Family, hints: Hints) -> Config:
    """vae/config.json of diffusers."""
    levels = _count(shapes, rf"{VAE}encoder\.down\.(\d+)\.")
    widths = [shapes[f"{VAE}encoder.down.{level}.block.0.conv2.weight"][0] for level in range(levels)]
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": widths,
        "layers_per_block": _count(shapes, rf"{VAE}encoder\.down\.0\.block\.(\d+)\."),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "latent_channels": shapes[f"{VAE}decoder.conv_in.weight"][1],
        "scaling_factor": hints.scaling or family.scaling,
        "force_upcast": family is SDXL_FAMILY,  # overflows in fp16 otherwise
        "sample_size": family.latent_side * 8,
    }


def text_config(shapes: Shapes, encoder: Encoder, hints: Hints, clip: Config) -> Config:
    """config.json of a text encoder; `clip` is the config.json in the folder that the .yaml names, or empty."""
    root = f"{encoder.checkpoint}."
    is_open_clip = f"{root}positional_embedding" in shapes
    embeddings = "" if is_open_clip else "text_model.embeddings."
    blocks, inner = ("transformer.resblocks", "mlp.c_fc") if is_open_clip else ("text_model.encoder.layers", "mlp.fc1")
    tokens, width = shapes[f"{root}{embeddings}token_embedding.weight"]
    positions = shapes[f"{root}{'positional_embedding' if is_open_clip else embeddings + 'position_embedding.weight'}"][
        0
    ]
    layers = _count(shapes, rf"{re.escape(root + blocks)}\.(\d+)\.")
    has_projection = encoder is SDXL_2
    projection = shapes.get(f"{root}text_projection", (width, width))[1]
    is_stated = not is_open_clip and clip.get("hidden_size") == width
    return {
        "architectures": ["CLIPTextModelWithProjection" if has_projection else "CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": tokens,
        "hidden_size": width,
        "intermediate_size": shapes[f"{root}{blocks}.0.{inner}.weight"][0],
        "num_hidden_layers": layers - 1 if encoder is SD2 else layers,  # SD2 reads the last layer but one
        "num_attention_heads": clip["num_attention_heads"] if is_stated else max(1, width // HEAD),
        "max_position_embeddings": positions,
        "hidden_act": "gelu" if is_open_clip else clip.get("hidden_act", "quick_gelu"),
        "projection_dim": projection,
        "bos_token_id": 0,
        "eos_token_id": 2,  # tells transformers to take the highest token, which is the end in every CLIP vocabulary
        "pad_token_id": 1,
        "dtype": "float32",
    }


def scheduler_config(predicts_v: bool, has_zero_terminal_snr: bool) -> Config:
    """scheduler/scheduler_config.json: Euler with the noise schedule of Stable Diffusion."""
    return {
        "_class_name": "EulerDiscreteScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction" if predicts_v else "epsilon",
        "rescale_betas_zero_snr": has_zero_terminal_snr,
        "timestep_spacing": "trailing" if has_zero_terminal_snr else "leading",
        "steps_offset": 1,
    }


def _heads(width: int, family: Family, hints: Hints) -> int:
    if hints.head_width:
        return max(1, width // hints.head_width)
    return hints.heads or (SD1_HEADS if family is SD1_FAMILY else max(1, width // HEAD))


def _count(shapes: Shapes, pattern: str) -> int:
    """How many numbers the group matches, from 0 on without a gap."""
    numbers = {int(match[1]) for key in shapes if (match := re.match(pattern, key)) and len(match[1]) < 6}
    return next(number for number in range(len(numbers) + 1) if number not in numbers)


def _at(content: Any, *path: str | int) -> Any:
    for step in path:
        try:
            content = content[step]
        except (KeyError, IndexError, TypeError):
            return None
    return content


def _number(value: Any) -> int | None:
    return value if type(value) is int and 0 < value < 10_000 else None
