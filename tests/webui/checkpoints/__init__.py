"""Random checkpoints that the WebUI loads, in the layouts of SD1, SD2 and SDXL: a few megabytes, or of the real size.

    python -m tests.webui.checkpoints sd15 FOLDER     (2.1 GB: benchmarks.webui can be measured with it)

Beside each lies the .yaml from which the WebUI builds its modules; it guesses them for the real sizes only. The .yaml
names a folder with CLIP's tokenizer and sizes, for which the WebUI would ask the network. OpenCLIP's text towers are
known to open_clip by name, so theirs have the sizes of the smallest one that it knows.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import save_file

from lib_lora.drawing.vocabulary import SIZE, write_tokenizer
from tests.webui.checkpoints.layout import layout
from tests.webui.checkpoints.recipes import POSITIONS, RECIPES, Encoder, Recipe
from tests.webui.checkpoints.settings import settings

__all__ = ["RECIPES", "write_checkpoint"]


def write_checkpoint(path: Path, recipe: Recipe, *, seed: int = 0) -> Path:
    """`path` in fp16, its .yaml and the folder that this names; the same values on every machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    tensors = {}
    for key, part in layout(recipe).items():
        values = rng.standard_normal(part.shape, dtype=np.float32)
        tensors[key] = np.asarray(part.centre + part.spread * values, np.float16)
    clip = path.with_name("no CLIP")
    for encoder in recipe.encoders:
        if not encoder.arch:
            tensors[f"{encoder.root}text_model.embeddings.position_ids"] = np.arange(POSITIONS)[None]
            clip = _write_clip(path.with_name(f"clip-{encoder.width}"), encoder)
    save_file(tensors, path, metadata={"format": "pt"})
    path.with_suffix(".yaml").write_text(yaml.safe_dump(settings(recipe, clip), sort_keys=False), "utf-8")
    return path


def _write_clip(folder: Path, encoder: Encoder) -> Path:
    """What `transformers` reads from a folder: tokenizer and sizes."""
    write_tokenizer(folder)
    sizes = {"hidden_size": encoder.width, "intermediate_size": 4 * encoder.width,
             "num_hidden_layers": encoder.layers, "num_attention_heads": encoder.heads}  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"model_type": "clip_text_model", "vocab_size": SIZE, **sizes}))
    return folder
