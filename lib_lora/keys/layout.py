"""UNet and text-encoder module names: diffusers layout <-> checkpoint (CompVis / SGM, OpenCLIP) layout.

Closed rules, no tables of models: with L resnets in a down block (2 in SD1, SD2 and SDXL),

    down_blocks.b.resnets.l      input_blocks.(1 + (L+1)b + l).0
    down_blocks.b.attentions.l   input_blocks.(1 + (L+1)b + l).1
    up_blocks.b.resnets.l        output_blocks.((L+1)b + l).0
    up_blocks.b.attentions.l     output_blocks.((L+1)b + l).1
    down_blocks.b.downsamplers.0.conv   input_blocks.((L+1)(b+1)).0.op
    up_blocks.b.upsamplers.0.conv       output_blocks.((L+1)b + L).U.conv     U = 2 after an attention, else 1
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from lib_lora.keys import motion

FIXED = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OPEN_CLIP_LAYER = {  # of one layer; q, k and v are thirds of one packed parameter
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
}
OPEN_CLIP_ROOT = {
    "text_model.final_layer_norm": "ln_final",
    "text_model.embeddings.token_embedding": "token_embedding",
}

FIXED_BACK = {native: name for name, native in FIXED.items()}
RESNET_BACK = {native: name for name, native in RESNET.items()}
OPEN_CLIP_LAYER_BACK = {native: name for name, native in OPEN_CLIP_LAYER.items()}
OPEN_CLIP_ROOT_BACK = {native: name for name, native in OPEN_CLIP_ROOT.items()}

BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")
NATIVE_MIDDLE = re.compile(r"middle_block\.(\d+)\.(.+)")
NATIVE_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.(\d+)\.(.+)")
NATIVE_MOTION = re.compile(r"(input_blocks|output_blocks|middle_block)\.(\d+)(?:\.\d+)?\.(temporal_transformer\..+)")
NATIVE_DOWNSAMPLER = re.compile(r"input_blocks\.(\d+)\.0\.op")


def resnets_per_block(names: Collection[str]) -> int:
    """L of a UNet, from its module names in either layout; 2 where they do not tell (a partial checkpoint)."""
    ends = {int(match[1]) for name in names if (match := NATIVE_DOWNSAMPLER.match(name))}
    if ends:
        return 2 if all(end % 3 == 0 for end in ends) else min(ends) - 1
    numbers = [
        int(match[4]) + (match[1] == "down")  # an up block has one more
        for name in names
        if (match := BLOCK.match(name)) and match[3] in ("resnets", "attentions")
    ]
    return max(numbers, default=0) or 2


def unet_to_native(name: str, names: Collection[str], layers: int) -> str | None:
    """The CompVis name of a diffusers UNet module; `names`: all of that UNet. None if it has none."""
    if motion.MARK in name:
        return motion.original(name)
    if name in FIXED:
        return FIXED[name]
    if middle := MIDDLE.fullmatch(name):
        if middle[1] == "attentions":
            return f"middle_block.1.{middle[3]}"
        return f"middle_block.{2 * int(middle[2])}.{RESNET.get(middle[3], middle[3])}"
    match = BLOCK.fullmatch(name)
    if not match:
        return None
    side, kind, rest = match[1], match[3], match[5]
    block, index = int(match[2]), int(match[4])
    if kind == "downsamplers":
        return f"input_blocks.{(layers + 1) * (block + 1)}.0.op"
    if kind == "upsamplers":
        has_attention = any(other.startswith(f"up_blocks.{block}.attentions.") for other in names)
        return f"output_blocks.{(layers + 1) * block + layers}.{2 if has_attention else 1}.conv"
    number = (layers + 1) * block + index + (1 if side == "down" else 0)
    root = f"{'input' if side == 'down' else 'output'}_blocks.{number}"
    return f"{root}.0.{RESNET.get(rest, rest)}" if kind == "resnets" else f"{root}.1.{rest}"


def unet_from_native(name: str, layers: int) -> str | None:
    """The diffusers name of a CompVis UNet module, or None."""
    if name in FIXED_BACK:
        return FIXED_BACK[name]
    if match := NATIVE_MOTION.fullmatch(name):
        return motion.injected(match[1], int(match[2]), match[3], layers)
    if middle := NATIVE_MIDDLE.fullmatch(name):
        if middle[1] == "1":
            return f"mid_block.attentions.0.{middle[2]}"
        return f"mid_block.resnets.{int(middle[1]) // 2}.{RESNET_BACK.get(middle[2], middle[2])}"
    match = NATIVE_BLOCK.fullmatch(name)
    if not match:
        return None
    side, number, child, rest = match[1], int(match[2]), match[3], match[4]
    if side == "input" and rest == "op":
        return f"down_blocks.{number // (layers + 1) - 1}.downsamplers.0.conv"
    block, index = divmod(number - (1 if side == "input" else 0), layers + 1)
    root = f"{'down' if side == 'input' else 'up'}_blocks.{block}"
    if side == "output" and rest == "conv":
        return f"{root}.upsamplers.0.conv"
    if child == "0":
        return f"{root}.resnets.{index}.{RESNET_BACK.get(rest, rest)}"
    return f"{root}.attentions.{index}.{rest}"


def text_from_open_clip(name: str) -> str | None:
    """The Hugging Face name of an OpenCLIP module that is not packed, or None."""
    if name in OPEN_CLIP_ROOT_BACK:
        return OPEN_CLIP_ROOT_BACK[name]
    match = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", name)
    if match and match[2] in OPEN_CLIP_LAYER_BACK:
        return f"text_model.encoder.layers.{match[1]}.{OPEN_CLIP_LAYER_BACK[match[2]]}"
    return None


def text_to_open_clip(name: str) -> str:
    """The OpenCLIP name of a Hugging Face CLIP module; packed and unknown ones keep theirs."""
    if name in OPEN_CLIP_ROOT:
        return OPEN_CLIP_ROOT[name]
    match = re.fullmatch(r"text_model\.encoder\.layers\.(\d+)\.(.+)", name)
    if match and match[2] in OPEN_CLIP_LAYER:
        return f"transformer.resblocks.{match[1]}.{OPEN_CLIP_LAYER[match[2]]}"
    return name


@dataclass(frozen=True)
class Packed:
    """A module whose rows are those of several others, one below the other."""

    name: str
    parts: tuple[str, ...]

    def name_beside(self, first: str) -> str:
        """The name of the packed module in the layout in which its first part is `first`."""
        return f"{first.rpartition('.')[0]}.{self.name.rpartition('.')[2]}"


def packed_from(name: str) -> tuple[Packed, ...]:
    """The modules that other layouts have instead of `name` and those after it."""
    match = re.fullmatch(r"text_model\.encoder\.layers\.(\d+)\.self_attn\.q_proj", name)
    if match:
        parts = tuple(name.removesuffix("q_proj") + part for part in ("q_proj", "k_proj", "v_proj"))
        return (Packed(f"transformer.resblocks.{match[1]}.attn.in_proj", parts),)
    return tuple(packed for packed in packed_around(name) if packed.parts[0] == name)


def packed_around(name: str) -> tuple[Packed, ...]:
    """The modules into which diffusers' `fuse_qkv_projections` packs `name`: `to_qkv` of attn1, `to_kv` of attn2."""
    match = re.fullmatch(r"(.+\.attn([12]))\.to_[qkv]", name)
    if not match:
        return ()
    letters = "qkv" if match[2] == "1" else "kv"
    packed = Packed(f"{match[1]}.to_{letters}", tuple(f"{match[1]}.to_{letter}" for letter in letters))
    return (packed,) if name in packed.parts else ()
