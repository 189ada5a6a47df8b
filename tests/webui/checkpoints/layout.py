"""Every key of a checkpoint with its shape: the UNet, the VAE and the text encoders, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib_lora.drawing.vocabulary import SIZE
from tests.webui.checkpoints.recipes import LATENT, POSITIONS, RESNETS, VAE_LEVELS, Encoder, Recipe


@dataclass(frozen=True)
class Part:
    """A tensor of random values."""

    shape: tuple[int, ...]
    centre: float
    spread: float


class Layout(dict[str, Part]):
    """{key: tensor}, written down layer by layer. Spreads are such that values neither vanish nor grow on their way."""

    def weight(self, key: str, *shape: int) -> None:
        self[key] = Part(shape, 0, float(np.prod(shape[1:])) ** -0.5)

    def bias(self, key: str, width: int) -> None:
        self[key] = Part((width,), 0, 0.02)

    def linear(self, name: str, outputs: int, inputs: int, *, bias: bool = True) -> None:
        self.weight(f"{name}.weight", outputs, inputs)
        if bias:
            self.bias(f"{name}.bias", outputs)

    def conv(self, name: str, outputs: int, inputs: int, kernel: int = 3) -> None:
        self.weight(f"{name}.weight", outputs, inputs, kernel, kernel)
        self.bias(f"{name}.bias", outputs)

    def norm(self, name: str, width: int) -> None:
        self[f"{name}.weight"] = Part((width,), 1, 0.1)
        self[f"{name}.bias"] = Part((width,), 0, 0.05)

    def table(self, key: str, *shape: int) -> None:
        """One row for each token or position."""
        self[key] = Part(shape, 0, 0.02)


def layout(recipe: Recipe) -> Layout:
    """Every key of the checkpoint."""
    found = Layout()
    _unet(found, recipe)
    _vae(found, recipe.vae)
    for encoder in recipe.encoders:
        (_open_clip if encoder.arch else _clip)(found, encoder)
    return found


def _unet(found: Layout, recipe: Recipe) -> None:
    """The way down keeps what it comes by, the way up takes it back in turn."""
    root = "model.diffusion_model."
    first, time = recipe.width, 4 * recipe.width
    widths = [first * factor for factor in recipe.levels]

    def resnet(name: str, inputs: int, outputs: int) -> None:
        found.norm(f"{name}.in_layers.0", inputs)
        found.conv(f"{name}.in_layers.2", outputs, inputs)
        found.linear(f"{name}.emb_layers.1", outputs, time)
        found.norm(f"{name}.out_layers.0", outputs)
        found.conv(f"{name}.out_layers.3", outputs, outputs)
        if inputs != outputs:
            found.conv(f"{name}.skip_connection", outputs, inputs, 1)

    def attention(name: str, width: int, depth: int) -> None:
        found.norm(f"{name}.norm", width)
        for around in ("proj_in", "proj_out"):
            if recipe.is_linear:
                found.linear(f"{name}.{around}", width, width)
            else:
                found.conv(f"{name}.{around}", width, width, 1)
        for number in range(depth):
            block = f"{name}.transformer_blocks.{number}"
            for attn, inputs in (("attn1", width), ("attn2", recipe.context)):
                found.linear(f"{block}.{attn}.to_q", width, width, bias=False)
                found.linear(f"{block}.{attn}.to_k", width, inputs, bias=False)
                found.linear(f"{block}.{attn}.to_v", width, inputs, bias=False)
                found.linear(f"{block}.{attn}.to_out.0", width, width)
            found.linear(f"{block}.ff.net.0.proj", 8 * width, width)  # half of it opens and shuts the other half
            found.linear(f"{block}.ff.net.2", width, 4 * width)
            for norm in ("norm1", "norm2", "norm3"):
                found.norm(f"{block}.{norm}", width)

    for name, inputs in {"time_embed": first, "label_emb.0": recipe.told}.items():
        if inputs:
            found.linear(f"{root}{name}.0", time, inputs)
            found.linear(f"{root}{name}.2", time, time)
    found.conv(f"{root}input_blocks.0.0", first, LATENT)
    kept, number, before = [first], 0, first
    for level, (width, depth) in enumerate(zip(widths, recipe.depths, strict=True)):
        for _ in range(RESNETS):
            number += 1
            resnet(f"{root}input_blocks.{number}.0", before, width)
            if depth:
                attention(f"{root}input_blocks.{number}.1", width, depth)
            kept.append(before := width)
        if level + 1 < len(widths):
            number += 1
            found.conv(f"{root}input_blocks.{number}.0.op", width, width)
            kept.append(width)
    resnet(f"{root}middle_block.0", before, before)
    attention(f"{root}middle_block.1", before, recipe.middle)
    resnet(f"{root}middle_block.2", before, before)
    for number in range(len(kept)):
        level = len(widths) - 1 - number // (RESNETS + 1)
        width, depth = widths[level], recipe.depths[level]
        resnet(f"{root}output_blocks.{number}.0", before + kept.pop(), width)
        if depth:
            attention(f"{root}output_blocks.{number}.1", width, depth)
        if level and number % (RESNETS + 1) == RESNETS:
            found.conv(f"{root}output_blocks.{number}.{2 if depth else 1}.conv", width, width)
        before = width
    found.norm(f"{root}out.0", first)
    found.conv(f"{root}out.2", LATENT, first)


def _vae(found: Layout, first: int) -> None:
    root = "first_stage_model."
    widths = [first * factor for factor in VAE_LEVELS]

    def resnet(name: str, inputs: int, outputs: int) -> None:
        found.norm(f"{name}.norm1", inputs)
        found.conv(f"{name}.conv1", outputs, inputs)
        found.norm(f"{name}.norm2", outputs)
        found.conv(f"{name}.conv2", outputs, outputs)
        if inputs != outputs:
            found.conv(f"{name}.nin_shortcut", outputs, inputs, 1)

    def side(name: str, path: str, inputs: int, outputs: int, *, resnets: int, sample: str) -> None:
        """`path`: "down" goes through the levels from the first, "up" from the last; "mid" stands at the widest."""
        order = range(len(widths)) if path == "down" else range(len(widths))[::-1]
        middle, before = f"{root}{name}.mid", widths[order[0]]
        found.conv(f"{root}{name}.conv_in", before, inputs)
        for level in order:
            for number in range(resnets):
                resnet(f"{root}{name}.{path}.{level}.block.{number}", before, widths[level])
                before = widths[level]
            if level != order[-1]:
                found.conv(f"{root}{name}.{path}.{level}.{sample}.conv", before, before)
        for number in (1, 2):
            resnet(f"{middle}.block_{number}", widths[-1], widths[-1])
        found.norm(f"{middle}.attn_1.norm", widths[-1])
        for layer in ("q", "k", "v", "proj_out"):
            found.conv(f"{middle}.attn_1.{layer}", widths[-1], widths[-1], 1)
        found.norm(f"{root}{name}.norm_out", before)
        found.conv(f"{root}{name}.conv_out", outputs, before)

    side("encoder", "down", 3, 2 * LATENT, resnets=RESNETS, sample="downsample")
    side("decoder", "up", LATENT, 3, resnets=RESNETS + 1, sample="upsample")
    found.conv(f"{root}quant_conv", 2 * LATENT, 2 * LATENT, 1)
    found.conv(f"{root}post_quant_conv", LATENT, LATENT, 1)


def _clip(found: Layout, encoder: Encoder) -> None:
    root, width = f"{encoder.root}text_model.", encoder.width
    found.table(f"{root}embeddings.token_embedding.weight", SIZE, width)
    found.table(f"{root}embeddings.position_embedding.weight", POSITIONS, width)
    for number in range(encoder.layers):
        layer = f"{root}encoder.layers.{number}"
        for letter in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found.linear(f"{layer}.self_attn.{letter}", width, width)
        found.linear(f"{layer}.mlp.fc1", 4 * width, width)
        found.linear(f"{layer}.mlp.fc2", width, 4 * width)
        for norm in ("layer_norm1", "layer_norm2"):
            found.norm(f"{layer}.{norm}", width)
    found.norm(f"{root}final_layer_norm", width)


def _open_clip(found: Layout, encoder: Encoder) -> None:
    root, width = encoder.root, encoder.width
    found.table(f"{root}token_embedding.weight", SIZE, width)
    found.table(f"{root}positional_embedding", POSITIONS, width)
    for number in range(encoder.layers):
        layer = f"{root}transformer.resblocks.{number}"
        found.weight(f"{layer}.attn.in_proj_weight", 3 * width, width)
        found.bias(f"{layer}.attn.in_proj_bias", 3 * width)
        found.linear(f"{layer}.attn.out_proj", width, width)
        found.linear(f"{layer}.mlp.c_fc", 4 * width, width)
        found.linear(f"{layer}.mlp.c_proj", width, 4 * width)
        for norm in ("ln_1", "ln_2"):
            found.norm(f"{layer}.{norm}", width)
    found.norm(f"{root}ln_final", width)
    found.weight(f"{root}text_projection", width, width)
    found[f"{root}logit_scale"] = Part((), 4.6, 0)
