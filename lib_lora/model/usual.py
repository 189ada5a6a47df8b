"""The parameters of usual checkpoints by name and shape, for whoever asks about an adapter without loading a model.

Written down as their few numbers (width, levels, depth of the transformers, width of the text) and a walk through the
UNet in the order in which it is built; so are the text encoders.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from lib_lora.model.targets import TargetIndex, index_checkpoint

Shape = tuple[int, ...]
Named = Iterator[tuple[str, Shape]]
UNET = "model.diffusion_model"
TIME = 4  # times the width of the first level: the width of what carries the time


@dataclass(frozen=True)
class Encoder:
    """A CLIP text encoder."""

    root: str
    width: int
    layers: int
    is_open: bool  # OpenCLIP's layout: q, k and v in one parameter
    projects: bool = False


@dataclass(frozen=True)
class Usual:
    """A kind of checkpoint."""

    width: int
    levels: tuple[int, ...]  # times the width
    depths: tuple[int, ...]  # layers of each transformer on each level; 0: none
    middle: int
    context: int  # width of the encoded text
    label: int  # width of the size embedding; 0: none
    is_linear: bool  # the transformers' projections are matrices
    encoders: tuple[Encoder, ...]


CLIP_L, BIG_G = "conditioner.embedders.0.transformer", "conditioner.embedders.1.model"
USUAL: dict[str, Usual] = {  # id of the family -> its numbers
    "sd1": Usual(320, (1, 2, 4, 4), (1, 1, 1, 0), 1, 768, 0, False,
                 (Encoder("cond_stage_model.transformer", 768, 12, False),)),
    "sd2": Usual(320, (1, 2, 4, 4), (1, 1, 1, 0), 1, 1024, 0, True,
                 (Encoder("cond_stage_model.model", 1024, 24, True, True),)),
    "sdxl": Usual(320, (1, 2, 4), (0, 2, 10), 10, 2048, 2816, True,
                  (Encoder(CLIP_L, 768, 12, False), Encoder(BIG_G, 1280, 32, True, True))),
    "sdxl-refiner": Usual(384, (1, 2, 4, 4), (0, 4, 4, 0), 4, 1280, 2560, True,
                          (Encoder("conditioner.embedders.0.model", 1280, 32, True, True),)),
}  # fmt: skip
RESNETS = 2  # of each level
VOCABULARY, POSITIONS = 49408, 77


@lru_cache(maxsize=1)
def usual_index(family: str) -> TargetIndex | None:
    """The index of the usual checkpoint of that family, or None for one that is not written down here."""
    kind = USUAL.get(family)
    return None if kind is None else index_checkpoint(shapes_of(kind))


def shapes_of(kind: Usual) -> dict[str, Shape]:
    """{parameter: shape} of such a checkpoint, as far as adapters know it."""
    found = {f"{UNET}.{name}": shape for name, shape in _unet(kind)}
    for encoder in kind.encoders:
        found.update(_open_clip(encoder) if encoder.is_open else _clip(encoder))
    return found


def _unet(kind: Usual) -> Named:
    time = TIME * kind.width
    yield from _linear("time_embed.0", time, kind.width)
    yield from _linear("time_embed.2", time, time)
    if kind.label:
        yield from _linear("label_emb.0.0", time, kind.label)
        yield from _linear("label_emb.0.2", time, time)
    yield from _conv("input_blocks.0.0", kind.width, 4)
    channels, number = kind.width, 1
    skips = [channels]
    for level, (times, depth) in enumerate(zip(kind.levels, kind.depths, strict=True)):
        for _ in range(RESNETS):
            yield from _resnet(f"input_blocks.{number}.0", channels, channels := times * kind.width, time)
            yield from _transformer(f"input_blocks.{number}.1", channels, depth, kind)
            skips.append(channels)
            number += 1
        if level < len(kind.levels) - 1:
            yield from _conv(f"input_blocks.{number}.0.op", channels, channels)
            skips.append(channels)
            number += 1
    yield from _resnet("middle_block.0", channels, channels, time)
    yield from _transformer("middle_block.1", channels, kind.middle, kind)
    yield from _resnet("middle_block.2", channels, channels, time)
    number = 0
    for level in reversed(range(len(kind.levels))):
        for place in range(RESNETS + 1):
            before = channels + skips.pop()
            yield from _resnet(f"output_blocks.{number}.0", before, channels := kind.levels[level] * kind.width, time)
            yield from _transformer(f"output_blocks.{number}.1", channels, kind.depths[level], kind)
            if level and place == RESNETS:
                yield from _conv(f"output_blocks.{number}.{2 if kind.depths[level] else 1}.conv", channels, channels)
            number += 1
    yield from _norm("out.0", channels)
    yield from _conv("out.2", 4, channels)


def _resnet(name: str, before: int, after: int, time: int) -> Named:
    yield from _norm(f"{name}.in_layers.0", before)
    yield from _conv(f"{name}.in_layers.2", after, before)
    yield from _linear(f"{name}.emb_layers.1", after, time)
    yield from _norm(f"{name}.out_layers.0", after)
    yield from _conv(f"{name}.out_layers.3", after, after)
    if before != after:
        yield from _conv(f"{name}.skip_connection", after, before, 1)


def _transformer(name: str, width: int, depth: int, kind: Usual) -> Named:
    if not depth:
        return
    project = _linear if kind.is_linear else _pointwise
    yield from _norm(f"{name}.norm", width)
    yield from project(f"{name}.proj_in", width, width)
    for number in range(depth):
        layer = f"{name}.transformer_blocks.{number}"
        for attention, context in (("attn1", width), ("attn2", kind.context)):
            yield f"{layer}.{attention}.to_q.weight", (width, width)
            yield f"{layer}.{attention}.to_k.weight", (width, context)
            yield f"{layer}.{attention}.to_v.weight", (width, context)
            yield from _linear(f"{layer}.{attention}.to_out.0", width, width)
        yield from _linear(f"{layer}.ff.net.0.proj", 8 * width, width)
        yield from _linear(f"{layer}.ff.net.2", width, 4 * width)
        for norm in ("norm1", "norm2", "norm3"):
            yield from _norm(f"{layer}.{norm}", width)
    yield from project(f"{name}.proj_out", width, width)


def _clip(encoder: Encoder) -> Named:
    root, width = f"{encoder.root}.text_model", encoder.width
    yield f"{root}.embeddings.token_embedding.weight", (VOCABULARY, width)
    yield f"{root}.embeddings.position_embedding.weight", (POSITIONS, width)
    for number in range(encoder.layers):
        layer = f"{root}.encoder.layers.{number}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from _linear(f"{layer}.self_attn.{part}", width, width)
        yield from _norm(f"{layer}.layer_norm1", width)
        yield from _linear(f"{layer}.mlp.fc1", 4 * width, width)
        yield from _linear(f"{layer}.mlp.fc2", width, 4 * width)
        yield from _norm(f"{layer}.layer_norm2", width)
    yield from _norm(f"{root}.final_layer_norm", width)


def _open_clip(encoder: Encoder) -> Named:
    root, width = encoder.root, encoder.width
    yield f"{root}.token_embedding.weight", (VOCABULARY, width)
    yield f"{root}.positional_embedding", (POSITIONS, width)
    for number in range(encoder.layers):
        layer = f"{root}.transformer.resblocks.{number}"
        yield f"{layer}.attn.in_proj_weight", (3 * width, width)
        yield f"{layer}.attn.in_proj_bias", (3 * width,)
        yield from _linear(f"{layer}.attn.out_proj", width, width)
        yield from _norm(f"{layer}.ln_1", width)
        yield from _linear(f"{layer}.mlp.c_fc", 4 * width, width)
        yield from _linear(f"{layer}.mlp.c_proj", width, 4 * width)
        yield from _norm(f"{layer}.ln_2", width)
    yield from _norm(f"{root}.ln_final", width)
    if encoder.projects:
        yield f"{root}.text_projection", (width, width)


def _linear(name: str, outputs: int, inputs: int) -> Named:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _conv(name: str, outputs: int, inputs: int, kernel: int = 3) -> Named:
    yield f"{name}.weight", (outputs, inputs, kernel, kernel)
    yield f"{name}.bias", (outputs,)


def _pointwise(name: str, outputs: int, inputs: int) -> Named:
    yield from _conv(name, outputs, inputs, 1)


def _norm(name: str, width: int) -> Named:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)
