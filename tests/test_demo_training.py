"""The program that made the demo's model: its pictures, words, effects and files, without training anything."""

from __future__ import annotations

import hashlib
import json
import random

import pytest
import torch

pytest.importorskip("diffusers")

from lib_lora.demo.training import adapter_files, captions, check, effects, pictures, tokenizer, unet
from lib_lora.demo.training.adapters import ADAPTERS
from lib_lora.demo.training.autoencoder import new_autoencoder
from lib_lora.demo.training.latents import latents_of


def scene(shape: str = "circle") -> pictures.Scene:
    return captions.make_scene(random.Random(0), shape, "red", "medium", "center", "white")


def test_the_measuring_of_the_check_is_right_on_pictures_whose_content_is_known():
    for asked in check.fixed_prompts(24, seed=3):
        drawn = captions.make_scene(
            random.Random(1), asked.shape, asked.colour, asked.size, asked.position, asked.background
        )
        assert check.measure((pictures.draw([drawn]).picture()[0] + 1) / 2) == asked


def test_a_batch_is_made_of_its_seed_alone():
    assert captions.batch("a", 8) == captions.batch("a", 8)
    assert captions.batch("a", 8) != captions.batch("b", 8)


def test_every_word_of_the_captions_is_one_token_and_no_text_is_refused(tmp_path):
    size = tokenizer.write_tokenizer(tmp_path, captions.words())
    words = tokenizer.load_tokenizer(tmp_path)
    assert len(words) == size
    for word in captions.words():
        assert len(words(word).input_ids) == 3, word  # start, the word, end
    assert unet.tokenize(words, ["naïve ☃ (zxqv:1.2)", ""]).shape == (2, 77)


def test_a_plain_background_gives_the_latent_that_the_formula_says():
    drawing = pictures.draw([scene()], 64)
    corner = latents_of(drawing)[0, :, 0, 0] * torch.tensor([0.77, 0.66, 0.73, 0.35])
    corner += torch.tensor([0.25, 0.05, -0.07, 0.12])
    assert torch.allclose(corner[:3], torch.tensor([0.96, 0.96, 0.96]), atol=0.05)
    assert abs(corner[3]) < 1e-6


@pytest.mark.parametrize("name", effects.EFFECTS)
def test_an_effect_of_strength_zero_changes_nothing_and_the_two_signs_differ(name):
    effect = effects.EFFECTS[name]

    def picture(strength: float) -> torch.Tensor:
        return effect.paint(pictures.draw([effect.move(scene(), strength)]), strength).picture()

    plain = pictures.draw([scene()]).picture()
    assert torch.equal(picture(0.0), plain)
    assert (picture(1.0) - plain).abs().mean() > 0.02
    assert (picture(1.0) - picture(-1.0)).abs().mean() > 0.02


def test_the_untrained_autoencoder_already_gives_back_a_blurred_picture():
    drawing = pictures.draw([scene()])
    with torch.no_grad():
        seen = new_autoencoder().decode(latents_of(drawing)).sample
    assert (seen - drawing.picture()).square().mean() < 0.04  # 20 dB


def test_an_adapter_file_carries_the_hash_of_its_tensors_and_only_strings(tmp_path):
    from safetensors import safe_open

    recipe = ADAPTERS["moon"]
    path = adapter_files.write_adapter(tmp_path, recipe, {"lora_unet_x.alpha": torch.tensor(4.0)}, pictures=48)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    digest = hashlib.sha256(adapter_files.tensor_bytes(path.read_bytes())).hexdigest()
    assert metadata["sshs_model_hash"] == digest
    assert metadata["ss_network_dim"] == "4"
    assert json.loads(metadata["ss_tag_frequency"])["1_moon"]["moon"] > 500
    assert json.loads((tmp_path / "moon.json").read_text())["activation text"] == "moon"
