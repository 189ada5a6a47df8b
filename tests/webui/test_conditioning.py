"""An encoded prompt is used again exactly where a new encoding gives the same, and nowhere else."""

from __future__ import annotations

import itertools
import os
import shutil

import pytest

from tests.webui.files import index_of, write_adapter
from tests.webui.instance import difference

PROMPT = "a red circle, a cat"
BOTH = 2  # the prompt and the negative prompt
HIRES = {"enable_hr": True, "hr_upscaler": "Latent", "denoising_strength": 0.7, "hr_second_pass_steps": 2}


@pytest.fixture(autouse=True)
def adapters_of_one_part(webui, checkpoints):
    """`unet` leaves the text encoder alone."""
    index = index_of(checkpoints / "tiny-sd1.safetensors")
    if not (webui.loras / "unet.safetensors").exists():
        write_adapter(webui.loras / "unet.safetensors", index, seed=20, only="lora_unet")
    webui.checkpoint("tiny-sd1")
    webui.request("/probe/forget-encodings", {})


def draw(webui, prompt, **options):
    """The picture, and how many prompts were encoded for it."""
    before = webui.request("/probe")["encodings"]
    drawn = webui.draw(prompt, **options)
    return drawn, webui.request("/probe")["encodings"] - before


def encoded(webui, prompt, **options):
    return draw(webui, prompt, **options)[1]


def anew(webui, prompt, **options):
    webui.request("/probe/forget-encodings", {})
    drawn, count = draw(webui, prompt, **options)
    assert count >= BOTH
    return drawn


@pytest.mark.parametrize("tags", ["<lora:unet:0.7>", "<lora:sd1:0:0.7>", "<lora:nobody:1>", "<lora:text:0>"])
def test_a_tag_that_leaves_the_text_encoder_alone_encodes_nothing(webui, tags):
    assert encoded(webui, PROMPT) == BOTH
    again, count = draw(webui, f"{PROMPT}{tags}")
    assert count == 0
    assert difference(again.picture, anew(webui, f"{PROMPT}{tags}").picture) == 0


def test_another_weight_for_the_unet_alone_encodes_nothing(webui):
    assert encoded(webui, f"{PROMPT}<lora:sd1:0.5:1>") == BOTH
    pictures = []
    for unet in (0.8, 0.2):
        drawn, count = draw(webui, f"{PROMPT}<lora:sd1:0.5:{unet}>")
        assert count == 0
        pictures.append(drawn.picture)
    assert difference(*pictures) > 0
    assert difference(pictures[1], anew(webui, f"{PROMPT}<lora:sd1:0.5:0.2>").picture) == 0


@pytest.mark.parametrize("tags", ["<lora:sd1:0.6:1>", "<lora:second:0.5:1>", "<lora:sd1:0.5:1:dyn=2>",
                                  "<lora:sd1:0.5:1><lora:text:1>"])
def test_whatever_else_the_text_encoder_carries_is_encoded(webui, tags):
    encoded(webui, f"{PROMPT}<lora:sd1:0.5:1>")
    assert encoded(webui, f"{PROMPT}{tags}") == BOTH


def test_the_same_weights_written_otherwise_are_the_same(webui):
    encoded(webui, f"{PROMPT}<lora:sd1:0.8>")
    for tag in ("<lyco:sd1:0.8>", "<lora: sd1 : 0.80 >", "<lora:the sd1 one:0.8>"):
        assert encoded(webui, f"{PROMPT}{tag}") == 0


def test_there_and_back_encodes_once(webui):
    first = {}
    for weight in ("", "<lora:sd1:1>", "<lora:sd1:0.5>"):
        first[weight], count = draw(webui, f"{PROMPT}{weight}")
        assert count == BOTH
    for weight in ("", "<lora:sd1:0.5>", "<lora:sd1:1>", ""):
        again, count = draw(webui, f"{PROMPT}{weight}")
        assert count == 0
        assert difference(again.picture, first[weight].picture) == 0


def test_only_the_last_few_are_kept_and_none_where_the_user_wants_none(webui):
    encoded(webui, PROMPT)
    for weight in range(1, 7):
        encoded(webui, f"{PROMPT}<lora:sd1:0.{weight}>")
    assert encoded(webui, PROMPT) == BOTH
    webui.request("/sdapi/v1/options", {"persistent_cond_cache": False})
    try:
        encoded(webui, PROMPT)
        assert encoded(webui, f"{PROMPT}<lora:unet:1>") == BOTH
    finally:
        webui.request("/sdapi/v1/options", {"persistent_cond_cache": True})


def test_emptied_caches_stay_empty(webui):
    """Other extensions do that where they change how prompts are encoded."""
    encoded(webui, PROMPT)
    encoded(webui, f"{PROMPT}<lora:sd1:1>")
    webui.request("/probe/forget-encodings", {})
    assert encoded(webui, f"{PROMPT}<lora:sd1:1>") == BOTH
    assert encoded(webui, PROMPT) == BOTH


def test_other_words_and_another_negative_prompt_are_encoded(webui):
    encoded(webui, PROMPT, negative_prompt="ugly")
    assert encoded(webui, "a blue circle<lora:unet:1>", negative_prompt="ugly") == 1
    assert encoded(webui, "a blue circle<lora:unet:1>", negative_prompt="bad") == 1
    assert encoded(webui, "a blue circle", negative_prompt="ugly") == 0


def test_another_file_under_the_same_name_is_encoded(webui):
    target = webui.loras / "exchanged.safetensors"
    try:
        counts = []
        for source in ("text", "second", "second"):
            shutil.copy(webui.loras / f"{source}.safetensors", target)
            os.utime(target)
            drawn, count = draw(webui, f"{PROMPT}<lora:exchanged:0.8>")
            counts.append(count)
            assert difference(drawn.picture, webui.draw(f"{PROMPT}<lora:{source}:0.8>").picture) == 0
        assert counts[:2] == [BOTH, BOTH]
    finally:
        target.unlink()


def test_the_adapter_that_an_option_adds_is_encoded(webui):
    plainly = webui.draw(PROMPT)
    webui.request("/sdapi/v1/options", {"sd_lora": "text"})
    try:
        added, count = draw(webui, PROMPT)
        assert count == BOTH
        assert difference(added.picture, plainly.picture) > 0
    finally:
        webui.request("/sdapi/v1/options", {"sd_lora": "None"})
    again, count = draw(webui, PROMPT)
    assert (difference(again.picture, plainly.picture), count) == (0, 0)


@pytest.mark.parametrize("option", [{"CLIP_stop_at_last_layers": 2}, {"comma_padding_backtrack": 3}])
def test_another_way_to_encode_is_encoded(webui, option):
    before = webui.request("/sdapi/v1/options")
    encoded(webui, PROMPT)
    webui.request("/sdapi/v1/options", option)
    try:
        assert encoded(webui, f"{PROMPT}<lora:unet:1>") == BOTH
    finally:
        webui.request("/sdapi/v1/options", {name: before[name] for name in option})


def test_every_checkpoint_has_encodings_of_its_own(webui):
    for checkpoint in ("other-sd1", "tiny-sd1"):  # the WebUI's key has the checkpoint as it was when it was loaded,
        webui.checkpoint(checkpoint)  # and whatever listed checkpoints anew since then has made another one of it
    first = webui.draw(f"{PROMPT}<lora:sd1:1>").picture
    for checkpoint in ("other-sd1", "tiny-sdxl"):
        webui.checkpoint(checkpoint)
        assert encoded(webui, f"{PROMPT}<lora:sd1:1>") == BOTH
    webui.checkpoint("tiny-sd1")
    again, count = draw(webui, f"{PROMPT}<lora:sd1:1>")
    assert count == 0  # the file was not read again, and the same weights encode the same
    assert difference(again.picture, first) == 0


def test_sdxl_with_its_two_text_encoders(webui):
    webui.checkpoint("tiny-sdxl")
    assert encoded(webui, f"{PROMPT}<lora:sdxl:0.5:1>") == BOTH
    again, count = draw(webui, f"{PROMPT}<lora:sdxl:0.5:0.3>")
    assert count == 0
    assert encoded(webui, f"{PROMPT}<lora:sdxl:0.6:0.3>") == BOTH
    assert encoded(webui, f"{PROMPT}<lora:sdxl:0.6:0.3>", width=128) == BOTH  # the size is a part of the prompt
    assert difference(again.picture, anew(webui, f"{PROMPT}<lora:sdxl:0.5:0.3>").picture) == 0


def test_the_hires_pass_has_encodings_of_its_own(webui):
    options = {**HIRES, "hr_prompt": "a cat<lora:sd1:0.5:1>"}
    assert encoded(webui, f"{PROMPT}<lora:unet:1>", **options) == 2 * BOTH
    options["hr_prompt"] = "a cat<lora:sd1:0.5:0.2><lora:unet:0.5>"
    again, count = draw(webui, f"{PROMPT}<lora:unet:0.2>", **options)
    assert count == 0
    assert difference(again.picture, anew(webui, f"{PROMPT}<lora:unet:0.2>", **options).picture) == 0
    options["hr_prompt"] = "a cat<lora:sd1:0.9:0.2>"
    assert encoded(webui, f"{PROMPT}<lora:unet:0.2>", **options) == BOTH


def test_a_refiner_encodes_for_itself_and_finds_it_again(webui):
    options = {"refiner_checkpoint": "other-sd1", "refiner_switch_at": 0.4, "steps": 5}
    first, count = draw(webui, f"{PROMPT}<lora:sd1:0.5:1>", **options)
    assert count == 2 * BOTH
    again, count = draw(webui, f"{PROMPT}<lora:sd1:0.5:1>", **options)
    assert count == 0
    assert difference(first.picture, again.picture) == 0
    other, count = draw(webui, f"{PROMPT}<lora:sd1:0.6:1>", **options)
    assert count == 2 * BOTH
    assert difference(other.picture, anew(webui, f"{PROMPT}<lora:sd1:0.6:1>", **options).picture) == 0


def test_words_that_an_adapter_brings_are_encoded_and_named_each_time(webui):
    plainly, prompt = webui.draw("stardust"), "stardust <lora:words:1>"
    for tags in ("", "<lora:unet:0.5>", "<lora:unet:0.8>"):
        drawn, count = draw(webui, prompt + tags)
        assert (count == 0) == bool(tags)
        assert 'TI hashes: "stardust: words"' in drawn.text
    assert difference(drawn.picture, anew(webui, prompt + tags).picture) == 0
    assert difference(webui.draw("stardust").picture, plainly.picture) == 0


def test_what_encoding_says_is_said_once_for_each_picture(webui):
    """The WebUI itself names embeddings and emphasis in the first of several pictures of one encoding alone."""
    webui.request("/sdapi/v1/options", {"emphasis": "No norm"})
    try:
        prompt = "(stardust) <lora:words:1>"
        texts = [webui.draw(prompt).text, *webui.draw(prompt, n_iter=2).texts]
    finally:
        webui.request("/sdapi/v1/options", {"emphasis": "Original"})
    assert [text.count("stardust: words") for text in texts if "Steps" in text] == [1] * len(texts)
    assert all("Emphasis: No norm" in text for text in texts)


def test_any_walk_draws_what_each_picture_is_alone(webui):
    tags = ["", "<lora:sd1:0.5:1>", "<lora:sd1:0.5:0.2>", "<lora:unet:1>", "<lora:text:1><lora:unet:1>", "<lora:sd1:1>"]
    alone = {each: anew(webui, f"{PROMPT}{each}").picture for each in tags}
    for one, other in itertools.permutations(tags, 2):
        for each in (one, other):
            assert difference(webui.draw(f"{PROMPT}{each}").picture, alone[each]) == 0, (one, other)
