"""The checkpoints that the tests' WebUI draws with have the layouts of the real ones."""

from __future__ import annotations

import json
from math import prod

import pytest
import yaml
from safetensors import safe_open

from benchmarks.models import attention_layers
from lib_lora.drawing.checkpoint_layout import read_hints
from lib_lora.model.targets import index_checkpoint
from tests.webui.checkpoints import RECIPES, write_checkpoint
from tests.webui.checkpoints.layout import layout


@pytest.mark.parametrize(
    ("name", "family", "layers"),
    [("tiny-sd1", "sd1", 192), ("tiny-sd2", "sd2", 192), ("tiny-sdxl", "sdxl", 722), ("sd15", "sd1", 192)],
)
def test_the_unet_has_the_layers_that_kohyas_trainer_takes(name, family, layers):
    index = index_checkpoint({key: part.shape for key, part in layout(RECIPES[name]).items()})
    assert index.family.id == family
    assert sum(key.startswith("lora_unet") for key in attention_layers(index)) == layers


def test_sd15_has_the_size_of_sd15():
    sizes = {key: prod(part.shape) for key, part in layout(RECIPES["sd15"]).items()}
    roots = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")
    of_each = [sum(size for key, size in sizes.items() if key.startswith(root)) for root in roots]
    assert of_each == [859_520_964, 83_653_863, 123_060_480]


def test_the_file_is_the_same_each_time_and_its_yaml_names_a_folder_with_clip(tmp_path):
    one, other = (write_checkpoint(tmp_path / name / "a.safetensors", RECIPES["tiny-sd1"]) for name in "mn")
    assert one.read_bytes() == other.read_bytes()
    assert other.read_bytes() != write_checkpoint(tmp_path / "b.safetensors", RECIPES["tiny-sd1"], seed=1).read_bytes()
    with safe_open(one, "np") as file:
        assert set(file.keys()) > set(layout(RECIPES["tiny-sd1"]))
    settings = yaml.safe_load(one.with_suffix(".yaml").read_text("utf-8"))["model"]["params"]
    assert settings["unet_config"]["params"]["context_dim"] == 64
    folder = read_hints(one).clip_folder
    assert folder == tmp_path / "m" / "clip-64"
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 64
