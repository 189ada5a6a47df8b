"""Pictures from the real WebUI: with tags, without, and beside those of a WebUI that has never seen us."""

from __future__ import annotations

import numpy as np
import pytest

from tests.webui.instance import difference, png

PROMPT = "a red circle, a cat"
FAMILIES = ("sd1", "sdxl", "sd2")
ROUNDING = 1  # of 255


@pytest.fixture(scope="session")
def untouched(plain):
    """{family: the picture without tags, from a WebUI without us}"""
    pictures = {}
    for family in FAMILIES[::-1]:
        plain.checkpoint(f"tiny-{family}")
        pictures[family] = plain.draw(PROMPT).picture
    return pictures


@pytest.fixture(autouse=True)
def first_checkpoint(webui):
    yield
    webui.checkpoint("tiny-sd1")


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_tag_the_picture_is_that_of_a_webui_without_us(webui, untouched, family):
    webui.checkpoint(f"tiny-{family}")
    assert difference(webui.draw(PROMPT).picture, untouched[family]) == 0
    assert difference(webui.draw(f"{PROMPT} <lora:{family}:1>").picture, untouched[family]) > 8
    assert difference(webui.draw(f"{PROMPT} <lora:{family}:0>").picture, untouched[family]) == 0
    assert difference(webui.draw(PROMPT).picture, untouched[family]) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_with_a_tag_the_picture_is_that_of_the_built_in_extension(webui, plain, family):
    plain.checkpoint(f"tiny-{family}")
    webui.checkpoint(f"tiny-{family}")
    for weight in ("1", "0.5", "-0.7", "0.4:0.9"):
        prompt = f"{PROMPT} <lora:{family}:{weight}>"
        ours, theirs = webui.draw(prompt), plain.draw(prompt)
        assert difference(ours.picture, theirs.picture) <= ROUNDING, weight
        assert ours.text == theirs.text


def test_two_adapters_are_what_the_built_in_makes_of_them(webui, plain):
    plain.checkpoint("tiny-sd1")
    prompt = f"{PROMPT} <lora:sd1:0.5> <lyco:second:0.4>"
    assert difference(webui.draw(prompt).picture, plain.draw(prompt).picture) <= ROUNDING


def test_text_encoder_and_unet_have_their_own_weight(webui, untouched):
    both = webui.draw(f"{PROMPT} <lora:sd1:0.6:0.6>").picture
    assert difference(both, webui.draw(f"{PROMPT} <lora:sd1:0.6>").picture) == 0
    assert difference(both, webui.draw(f"{PROMPT} <lora:sd1:te=0.6:unet=0.6>").picture) == 0
    assert difference(both, webui.draw(f"{PROMPT} <lora:sd1:0:0.6>").picture) > 0
    assert difference(both, webui.draw(f"{PROMPT} <lora:sd1:0.6:0>").picture) > 0
    assert difference(webui.draw(f"{PROMPT} <lora:text:0:1>").picture, untouched["sd1"]) == 0
    assert difference(webui.draw(f"{PROMPT} <lora:text:1:0>").picture, untouched["sd1"]) > 0


@pytest.mark.parametrize(
    "tag",
    [
        "<lora: sd1 : 0.8 >",
        "<lyco:sd1:0.8>",
        "<lora:the sd1 one:0.8>",
        "<lora:SD1:0.8>",
        "<lora:sd1:0.3><lora:sd1:0.5>",
        "<lora:sd1:0.8:0.8:dyn=4>",
    ],
)
def test_other_ways_to_write_the_same(webui, tag):
    expected = webui.draw(f"{PROMPT} <lora:sd1:0.8>").picture
    assert difference(webui.draw(f"{PROMPT} {tag}").picture, expected) <= ROUNDING


def test_a_path_picks_between_two_files_of_one_name(webui):
    pictures = [webui.draw(f"{PROMPT} <lora:{name}:0.8>").picture for name in ("styles/ink", "people/ink")]
    assert difference(*pictures) > 0


def test_names_with_dots_spaces_and_other_letters_are_names(webui, untouched):
    drawn = webui.draw(f"{PROMPT} <lora:墨 v1.5 (final):0.8>")
    assert difference(drawn.picture, untouched["sd1"]) > 0
    assert "problems" not in drawn.text


def test_a_hash_is_a_name(webui):
    text = webui.draw(f"{PROMPT} <lora:sd1:0.8>").text
    short = text.split('Lora hashes: "sd1: ')[1][:12]
    one, other = (webui.draw(f"{PROMPT} <lora:{name}:0.8>").picture for name in ("sd1", short))
    assert difference(one, other) == 0


def test_another_weight_starts_from_the_untouched_model(webui):
    direct = webui.draw(f"{PROMPT} <lora:sd1:0.35>").picture
    for prompt in ("<lora:sd1:2>", "<lora:second:1>", "", "<lora:sd1:-1><lora:second:1>"):
        webui.draw(f"{PROMPT} {prompt}")
    assert difference(webui.draw(f"{PROMPT} <lora:sd1:0.35>").picture, direct) == 0


def test_switching_the_checkpoint_and_back_leaves_nothing_behind(webui, plain, untouched):
    tagged = webui.draw(f"{PROMPT} <lora:sd1:1>").picture
    plain.checkpoint("other-sd1")
    other = plain.draw(PROMPT).picture
    plain.checkpoint("tiny-sd1")
    for name, expected in (("other-sd1", other), ("tiny-sd1", untouched["sd1"]), ("tiny-sdxl", untouched["sdxl"])):
        webui.checkpoint(name)
        assert difference(webui.draw(PROMPT).picture, expected) == 0
        webui.draw(f"{PROMPT} <lora:{'sdxl' if 'xl' in name else 'sd1'}:1>")
    webui.checkpoint("tiny-sd1")
    assert difference(webui.draw(f"{PROMPT} <lora:sd1:1>").picture, tagged) == 0
    assert difference(webui.draw(PROMPT).picture, untouched["sd1"]) == 0


def test_several_checkpoints_loaded_at_once_do_not_meet(webui, untouched):
    webui.request("/sdapi/v1/options", {"sd_checkpoints_limit": 2})
    try:
        first = webui.draw(f"{PROMPT} <lora:sd1:1>").picture
        webui.checkpoint("tiny-sdxl")
        webui.draw(f"{PROMPT} <lora:sdxl:1>")
        webui.checkpoint("tiny-sd1")
        assert difference(webui.draw(PROMPT).picture, untouched["sd1"]) == 0
        assert difference(webui.draw(f"{PROMPT} <lora:sd1:1>").picture, first) == 0
        webui.checkpoint("tiny-sdxl")
        assert difference(webui.draw(PROMPT).picture, untouched["sdxl"]) == 0
    finally:
        webui.request("/sdapi/v1/options", {"sd_checkpoints_limit": 1})


HIRES = {
    "enable_hr": True,
    "hr_scale": 2,
    "hr_upscaler": "Latent",
    "denoising_strength": 0.7,
    "hr_second_pass_steps": 3,
}


def test_hires_fix_has_tags_of_its_own(webui, plain, untouched):
    plain.checkpoint("tiny-sd1")
    for first, second in (
        ("<lora:sd1:0.5>", ""),
        ("<lora:sd1:0.5>", "cat <lora:second:0.8>"),
        ("", "cat <lora:sd1:0.5>"),
    ):
        options = {**HIRES, "hr_prompt": second}
        ours, theirs = webui.draw(f"{PROMPT} {first}", **options), plain.draw(f"{PROMPT} {first}", **options)
        assert ours.picture.shape == (128, 128, 3)
        assert difference(ours.picture, theirs.picture) <= 2 * ROUNDING
        assert ours.text == theirs.text
    assert difference(webui.draw(PROMPT).picture, untouched["sd1"]) == 0


def test_a_batch_has_the_tags_of_its_first_prompt(webui, plain):
    plain.checkpoint("tiny-sd1")
    options = {"batch_size": 2, "n_iter": 2}
    ours, theirs = (each.draw(f"{PROMPT} <lora:sd1:0.5>", **options) for each in (webui, plain))
    assert len(ours.pictures) == len(theirs.pictures) >= 4
    assert all(difference(*pair) <= ROUNDING for pair in zip(ours.pictures, theirs.pictures, strict=True))
    assert ours.texts == theirs.texts


def test_img2img(webui, plain):
    plain.checkpoint("tiny-sd1")
    image = png(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3))
    options = {"init_images": [image], "denoising_strength": 0.8}
    prompt = f"{PROMPT} <lora:sd1:0.7>"
    ours, theirs = webui.draw(prompt, **options), plain.draw(prompt, **options)
    assert difference(ours.picture, theirs.picture) <= ROUNDING
    assert difference(ours.picture, webui.draw(PROMPT, **options).picture) > 0


def test_a_refiner_of_the_same_family_carries_the_adapters_too(webui, untouched):
    options = {"refiner_checkpoint": "other-sd1", "refiner_switch_at": 0.4, "steps": 5}
    for _ in range(2):
        tagged = webui.draw(f"{PROMPT} <lora:sd1:0:1>", **options)
        assert "Refiner: other-sd1" in tagged.text
        assert "problems" not in tagged.text
    plainly = webui.draw(PROMPT, **options).picture
    assert difference(tagged.picture, plainly) > 0
    assert difference(webui.draw(PROMPT).picture, untouched["sd1"]) == 0


def test_xyz_plot_replaces_weights_in_tags(webui, untouched):
    prompt = f"{PROMPT} <lora:sd1:0.8>"
    nothing = [0, "", []]
    axes = [7, "<lora:sd1:0.8>, <lora:sd1:0.3>, <lora:second:0.8>", [], *nothing, *nothing]
    options = {
        "script_name": "x/y/z plot",
        "script_args": [*axes, False, True, False, False, False, False, False, 0, False],
    }
    grid, *cells = webui.draw(prompt, **options).pictures
    assert grid.shape == (64, 192, 3)
    for cell, tag in zip(cells, ("<lora:sd1:0.8>", "<lora:sd1:0.3>", "<lora:second:0.8>"), strict=True):
        assert difference(cell, webui.draw(f"{PROMPT} {tag}").picture) == 0


def test_interrupting_leaves_the_model_clean(webui, untouched):
    import threading

    drawing = threading.Thread(target=webui.draw, args=(f"{PROMPT} <lora:sd1:1>",), kwargs={"steps": 60})
    drawing.start()
    webui.request("/sdapi/v1/interrupt", {})
    drawing.join()
    assert difference(webui.draw(PROMPT).picture, untouched["sd1"]) == 0


def test_an_embedding_inside_an_adapter_is_a_word_while_its_adapter_is_active(webui, plain):
    plain.checkpoint("tiny-sd1")
    for prompt in ("a sprinkle of stardust <lora:words:1>", "a sprinkle of stardust"):
        ours, theirs = webui.draw(prompt), plain.draw(prompt)
        assert difference(ours.picture, theirs.picture) <= ROUNDING
        assert ours.text == theirs.text
    named = webui.draw("a sprinkle of stardust <lora:words:0:1>")
    assert "TI hashes: stardust: words" in named.text.replace('"', "")
    assert difference(named.picture, webui.draw("a sprinkle of glitter <lora:words:0:1>").picture) > 0
    assert webui.draw("a sprinkle of stardust <lora:sd1:0>").text.count("TI hashes") == 0
    webui.checkpoint("tiny-sdxl")
    assert "nothing was applied" in webui.draw("stardust <lora:words:1>").text
