"""Pictures and weights equal those of diffusers' own `load_lora_weights` + `set_adapters`, to within rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lib_lora.drawing.draw import draw
from lib_lora.hosts.diffusers import attach
from tests.checkpoints import small_pipeline

ROUNDING = 2e-5  # of pixel values 0 ... 1, in float32
SIZE = 32  # pixels of a picture, in each direction


def write_adapter(path, pipe, *, seed: int, rank: int, encoders: bool) -> None:
    """A LoRA in PEFT's spelling, strong enough to change every pixel, on all attention layers and two convolutions."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    parts = {"unet": pipe.unet} | ({"text_encoder": pipe.text_encoder} if encoders else {})
    for component, model in parts.items():
        for name, layer in model.named_modules():
            if name.endswith(("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj", "conv1")):
                outputs, inputs, *kernel = layer.weight.shape
                down = torch.randn(rank, inputs, *kernel, generator=generator) * 0.3
                up = torch.randn(outputs, rank, *(1 for _ in kernel), generator=generator) * 0.1
                if component == "text_encoder" and not name.startswith("text_model."):
                    name = f"text_model.{name}"
                tensors[f"{component}.{name}.lora_A.weight"] = down
                tensors[f"{component}.{name}.lora_B.weight"] = up
    save_file(tensors, path)


def pixels(pipe, seed: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    options = {"num_inference_steps": 3, "guidance_scale": 3.0, "width": SIZE, "height": SIZE, "output_type": "np"}
    return pipe("a red circle", negative_prompt="", generator=generator, **options).images[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    pipe = small_pipeline("sd1", folder)
    write_adapter(folder / "one.safetensors", pipe, seed=1, rank=4, encoders=True)
    write_adapter(folder / "two.safetensors", pipe, seed=2, rank=3, encoders=False)
    return folder


@pytest.fixture(scope="module")
def untouched(folder):
    """What each of the equal pipelines draws without adapters."""
    return pixels(small_pipeline("sd1", folder), seed=5)


@pytest.mark.parametrize("weights", [{"one": 1.0}, {"one": -0.5}, {"one": 0.8, "two": -0.3}, {"two": 1.5, "one": 0.0}])
def test_pictures_equal_those_of_diffusers(folder, untouched, weights):
    theirs, ours = small_pipeline("sd1", folder), small_pipeline("sd1", folder)
    for name in weights:
        theirs.load_lora_weights(folder, weight_name=f"{name}.safetensors", adapter_name=name)
    theirs.set_adapters(list(weights), list(weights.values()))
    attached = attach(ours, folder)
    attached.activate("".join(f"<lora:{name}:{weight}>" for name, weight in weights.items()))
    assert not attached.report.sentences()
    ours_pixels, their_pixels = pixels(ours, seed=5), pixels(theirs, seed=5)
    assert np.abs(ours_pixels - untouched).max() > 0.1  # the adapters do something
    assert np.abs(ours_pixels - their_pixels).max() < ROUNDING
    attached.clear()
    assert np.array_equal(pixels(ours, seed=5), untouched)


def test_draw_makes_the_same_picture_as_the_pipeline_itself(folder):
    pipe = small_pipeline("sd1", folder)
    attached = attach(pipe, folder)
    drawing = draw(
        attached, "a red circle <lora:one:0.8>", seed=5, steps=3, guidance=3.0, size=(SIZE, SIZE), count=2
    )  # fmt: skip
    attached.activate("<lora:one:0.8>")
    for number, picture in enumerate(drawing.pictures):
        expected = (pixels(pipe, seed=5 + number) * 255).round().astype("uint8")
        assert picture.seed == 5 + number
        assert np.array_equal(np.asarray(picture.image), expected)
