"""Checkpoints and adapters for a test WebUI: real layouts, random values, a few megabytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from lib_lora.model.targets import TargetIndex, index_checkpoint
from tests.support import kohya_shapes
from tests.webui.checkpoints import RECIPES, write_checkpoint

NOT_IN_KOHYA_FILES = ("in_proj", "text_projection")  # q, k and v stand there one by one
SDXL = tuple(f"lora_unet_{part}" for part in ("input_", "middle_", "output_", "out_", "time_embed_"))
Shapes = dict[str, tuple[int, ...]]


def make_checkpoints(folder: Path) -> Path:
    """tiny-sd1, tiny-sdxl, tiny-sd2, and other-sd1 with other weights; each with its .yaml."""
    for name in ("tiny-sd1", "tiny-sdxl", "tiny-sd2"):
        write_checkpoint(folder / f"{name}.safetensors", RECIPES[name])
    write_checkpoint(folder / "other-sd1.safetensors", RECIPES["tiny-sd1"], seed=1)
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


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    scale = 0.02 if len(shape) == 1 else 1 / shape[-1] ** 0.5
    return (scale * rng.standard_normal(shape)).astype(np.float16)
