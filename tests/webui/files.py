"""Checkpoints and adapters for a test WebUI: real layouts, random values, a few megabytes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from lib_lora.model.targets import TargetIndex, index_checkpoint
from tests.support import SHARED, kohya_shapes

RECIPES = SHARED / "webui-fixture"
FAMILIES = ("sd1", "sdxl", "sd2")
SD2_WIDTH, SD2_LAYERS = 256, 10  # the text tower of open_clip's ViT-S-32-alt
NOT_IN_KOHYA_FILES = ("in_proj", "text_projection")  # q, k and v stand there one by one
SDXL = tuple(f"lora_unet_{part}" for part in ("input_", "middle_", "output_", "out_", "time_embed_"))
Shapes = dict[str, tuple[int, ...]]


def make_checkpoints(folder: Path) -> Path:
    """tiny-sd1, tiny-sdxl, tiny-sd2, and other-sd1 with other weights; each with its .yaml."""
    for name in ("tiny-sd1", "tiny-sdxl"):
        subprocess.run(
            [sys.executable, str(RECIPES / "make_checkpoint.py"), name, str(folder)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    _make_sd2(folder)
    other = {
        key: np.roll(value, 1) if value.dtype == np.float16 else value
        for key, value in load_file(folder / "tiny-sd1.safetensors").items()
    }
    save_file(other, folder / "other-sd1.safetensors", metadata={"format": "pt"})
    (folder / "other-sd1.yaml").write_text((folder / "tiny-sd1.yaml").read_text())
    return folder


def index_of(checkpoint: Path) -> TargetIndex:
    """The index of a checkpoint file."""
    return index_checkpoint({key: value.shape for key, value in load_file(checkpoint).items()})


def write_adapter(
    path: Path,
    index: TargetIndex,
    *,
    seed: int = 0,
    rank: int = 4,
    only: str = "",
    words: Mapping[str, int] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A kohya LoRA for every layer of `index` (or those with `only` in the name), a third as strong as the weights.

    `words`: bundled embeddings, {word: width of the text encoder}.
    """
    rng = np.random.default_rng(seed)
    tensors = {f"bundle_emb.{word}.string_to_param.*": _noise(rng, (2, width)) for word, width in (words or {}).items()}
    for module, (outputs, *inputs) in layers(index).items():
        if only in module:
            tail = (1, 1) if len(inputs) == 3 else ()
            down = rng.standard_normal((rank, *inputs)) / np.prod(inputs) ** 0.5
            tensors[f"{module}.lora_down.weight"] = down.astype(np.float16)
            tensors[f"{module}.lora_up.weight"] = (0.15 * rng.standard_normal((outputs, rank, *tail))).astype(
                np.float16
            )
            tensors[f"{module}.alpha"] = np.array(rank, np.float16)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata=dict(metadata or {}))
    return path


def layers(index: TargetIndex) -> Shapes:
    """The layers as kohya's trainer spells them: SDXL's UNet by its own names, the others by those of diffusers."""
    found = {name: shape for name, shape in kohya_shapes(index).items() if not name.endswith(NOT_IN_KOHYA_FILES)}
    if index.family.id != "sdxl":
        return found
    own = {
        targets["weight"]: name
        for name, targets in index.modules.items()
        if name.startswith(SDXL) and "weight" in targets
    }
    return {own.get(index.modules[name]["weight"], name): shape for name, shape in found.items()}


def _make_sd2(folder: Path) -> None:
    """SD2's structure at SD1's tiny widths: OpenCLIP text tower, linear projections around the transformers."""
    rng = np.random.default_rng(2)
    source = load_file(folder / "tiny-sd1.safetensors")
    tensors = {}
    for key, value in source.items():
        if key.startswith("cond_stage_model."):
            continue
        if key.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
            value = _noise(rng, (value.shape[0], SD2_WIDTH))
        elif key.startswith("model.") and key.endswith(("proj_in.weight", "proj_out.weight")):
            value = value.reshape(value.shape[:2])
        tensors[key] = np.ascontiguousarray(value)
    for key, shape in _open_clip_shapes().items():
        is_norm = ".ln_" in key and key.endswith("weight")
        tensors[key] = np.ones(shape, np.float16) if is_norm else _noise(rng, shape)
    save_file(tensors, folder / "tiny-sd2.safetensors", metadata={"format": "pt"})
    lines = (folder / "tiny-sd1.yaml").read_text().replace("context_dim: 64", f"context_dim: {SD2_WIDTH}")
    lines = lines.replace("        legacy: false", "        legacy: false\n        use_linear_in_transformer: true")
    start = lines.index("    cond_stage_config:")
    (folder / "tiny-sd2.yaml").write_text(
        f"{lines[:start]}    cond_stage_config:\n"
        "      target: ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder\n"
        "      params: {arch: ViT-S-32-alt, freeze: true, layer: penultimate}\n"
    )


def _open_clip_shapes() -> Shapes:
    width, root = SD2_WIDTH, "cond_stage_model.model."
    shapes: Shapes = {
        f"{root}positional_embedding": (77, width),
        f"{root}text_projection": (width, width),
        f"{root}token_embedding.weight": (49408, width),
    }
    parts: Shapes = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width),
        "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width),
        "mlp.c_proj.bias": (width,),
        **{f"{norm}.{part}": (width,) for norm in ("ln_1", "ln_2") for part in ("weight", "bias")},
    }
    for layer in range(SD2_LAYERS):
        shapes |= {f"{root}transformer.resblocks.{layer}.{name}": shape for name, shape in parts.items()}
    return shapes | {f"{root}ln_final.weight": (width,), f"{root}ln_final.bias": (width,)}


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    scale = 0.02 if len(shape) == 1 else 1 / shape[-1] ** 0.5
    return (scale * rng.standard_normal(shape)).astype(np.float16)
