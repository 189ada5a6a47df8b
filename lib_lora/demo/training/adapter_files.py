"""One adapter on disk: tensors, the header that kohya's trainer would write, and the user's notes beside it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from lib_lora.demo.training.adapters import AdapterRecipe
from lib_lora.demo.training.captions import batch
from lib_lora.demo.training.pictures import CANVAS

AUTHOR, LICENSE, DATE = "lib_lora", "MIT", "2026-11-21"
MODULES = {"lora": "networks.lora", "locon": "lycoris.kohya", "loha": "lycoris.kohya", "lokr": "lycoris.kohya"}


def write_adapter(folder: Path, recipe: AdapterRecipe, tensors: dict[str, Tensor], pictures: int) -> Path:
    """Write `<name>.safetensors` and `<name>.json`; returns the path of the former."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{recipe.name}.safetensors"
    metadata = header(recipe, pictures)
    metadata["sshs_model_hash"] = hashlib.sha256(tensor_bytes(save(tensors))).hexdigest()
    path.write_bytes(save(tensors, metadata))
    path.with_suffix(".json").write_text(json.dumps(sidecar(recipe), indent=4) + "\n", "utf-8")
    return path


def tensor_bytes(file: bytes) -> bytes:
    """All that follows the header of a safetensors file; it is the same whatever the header says."""
    return file[8 + int.from_bytes(file[:8], "little") :]


def header(recipe: AdapterRecipe, pictures: int) -> dict[str, str]:
    """Metadata as kohya's trainer writes it: every value a string."""
    arguments = {"algo": recipe.algorithm, **recipe.options} if recipe.algorithm != "lora" else {}
    if recipe.has_convolutions:
        arguments |= {"conv_dim": recipe.rank, "conv_alpha": recipe.rank}
    return {
        "ss_output_name": recipe.name,
        "ss_network_module": MODULES[recipe.algorithm],
        "ss_network_dim": str(recipe.rank),
        "ss_network_alpha": str(float(recipe.rank)),
        "ss_network_args": json.dumps({key: str(value) for key, value in arguments.items()}),
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "ss_sd_model_name": "lib_lora demo",
        "ss_tag_frequency": json.dumps({f"1_{recipe.name}": tag_frequency(recipe)}),
        "ss_num_train_images": str(pictures),
        "ss_resolution": f"({CANVAS}, {CANVAS})",
        "ss_steps": str(recipe.steps),
        "ss_training_comment": recipe.notes,
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": recipe.title,
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.description": recipe.description,
        "modelspec.author": AUTHOR,
        "modelspec.date": DATE,
        "modelspec.license": LICENSE,
        "modelspec.trigger_phrase": recipe.trigger,
        "modelspec.resolution": f"{CANVAS}x{CANVAS}",
    }


def tag_frequency(recipe: AdapterRecipe) -> dict[str, int]:
    """How often the 1000 first captions say each word, most frequent first."""
    _, captions = batch(f"{recipe.name} tags", 1000, shape=recipe.shape)
    words = Counter(word for caption in captions for word in caption.replace(",", "").split())
    if recipe.trigger:
        words = Counter({recipe.trigger: words.pop("circle", 0) + words.pop("disc", 0) + words.pop("moon", 0)}) + words
    return dict(words.most_common(30))


def sidecar(recipe: AdapterRecipe) -> dict[str, str | float]:
    """The keys of the WebUI's user metadata."""
    return {
        "description": recipe.description,
        "sd version": "SD1",
        "activation text": recipe.trigger,
        "preferred weight": recipe.preferred_weight,
        "negative text": "",
        "notes": recipe.notes,
    }
