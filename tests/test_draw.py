"""draw(): pictures of one prompt or of many, and the text that says how each was made."""

from __future__ import annotations

import numpy as np
import pytest

from lib_lora.drawing.draw import draw
from lib_lora.errors import LoraError
from lib_lora.hosts.diffusers import DiffusersHost, attach
from tests.checkpoints import small_pipeline
from tests.support import kohya_shapes, write_lora


@pytest.fixture(scope="module")
def attached(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd1")
    pipe = small_pipeline("sd1", folder)
    shapes = kohya_shapes(DiffusersHost(pipe).targets(), limit=6)
    for seed, name in enumerate(("ink", "wash")):
        write_lora(folder / f"{name}.safetensors", shapes, seed=seed)
    return attach(pipe, folder)


def pictures(attached, prompt, **options):
    return draw(attached, prompt, steps=2, guidance=2.0, size=(16, 16), seed=options.pop("seed", 5), **options).pictures


PROMPTS = ["a cat<lora:ink:0@0,1@1>", "a dog", "a bird<lora:wash:1:stop=0.5><lora:wash:x>"]


def test_each_of_many_prompts_has_the_next_seed_and_is_the_picture_that_it_is_alone(attached):
    together = pictures(attached, PROMPTS, count=2)
    assert [picture.seed for picture in together] == [5, 6, 7, 8, 9, 10]
    for number in (0, 3, 5):
        (alone,) = pictures(attached, PROMPTS[number // 2], seed=5 + number)
        assert np.array_equal(np.asarray(together[number].image), np.asarray(alone.image))
        assert together[number].parameters == alone.parameters


def test_the_text_of_a_picture_names_what_it_used_itself(attached):
    hashes = {name: attached.library.find(name).shorthash for name in ("ink", "wash")}
    first, second, third = pictures(attached, PROMPTS)
    assert first.parameters.splitlines()[0] == PROMPTS[0]
    assert f'Lora hashes: "ink: {hashes["ink"]}"' in first.parameters
    assert "Lora" not in second.parameters
    assert f'Lora hashes: "wash: {hashes["wash"]}"' in third.parameters
    assert "'x' is not a weight" in third.parameters
    assert "'x' is not a weight" not in first.parameters


def test_the_adapters_of_the_negative_prompt_are_named_too_and_act(attached):
    (plain,) = pictures(attached, "a cat", negative="a dog")
    (picture,) = pictures(attached, "a cat", negative="a dog<lora:ink:1>")
    assert "Negative prompt: a dog<lora:ink:1>" in picture.parameters
    assert f'Lora hashes: "ink: {attached.library.find("ink").shorthash}"' in picture.parameters
    assert not np.array_equal(np.asarray(plain.image), np.asarray(picture.image))


def test_the_report_of_all_pictures_says_each_thing_once(attached):
    report = draw(attached, [PROMPTS[2], PROMPTS[2], PROMPTS[0]], steps=1, size=(16, 16)).report
    assert [each.name for each in report.adapters] == ["wash", "ink"]
    assert len(report.problems) == 1


def test_letters_of_chance_among_block_weights_go_by_the_pictures_seed(attached):
    prompt = f"a cat<lora:ink:1:lbw={','.join('R' * 26)}>"
    first, again, other = (pictures(attached, prompt, seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(np.asarray(first.image), np.asarray(again.image))
    assert not np.array_equal(np.asarray(first.image), np.asarray(other.image))


def test_without_a_prompt_there_is_nothing_to_draw(attached):
    with pytest.raises(LoraError, match="there is no prompt"):
        draw(attached, [])
