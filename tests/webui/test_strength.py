"""What a tag says beyond one number, in the real WebUI: over steps, sides, pictures of a batch, passes and places.

Each feature is held to pictures that are made without it: by the built-in extension whose weight a probe changes before
each call of the UNet, by pictures made one by one, by a guidance that leaves one side out, by numbers.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time

import numpy as np
import pytest

from tests.webui.files import index_of, write_adapter
from tests.webui.instance import FULL, WebUI, difference, png

PROMPT = "a red circle, a cat"
ROUNDING = 1  # of 255
SIX = {"steps": 6}
HIRES = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7,
         "hr_second_pass_steps": 4}  # fmt: skip
INIT = png(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3))


@pytest.fixture(autouse=True)
def first_checkpoint(webui):
    webui.checkpoint("tiny-sd1")
    yield
    webui.checkpoint("tiny-sd1")


def close(one, other, limit=ROUNDING) -> bool:
    return difference(one, other) <= limit


def apart(*pictures) -> bool:
    return all(difference(one, other) > 4 for number, one in enumerate(pictures) for other in pictures[:number])


def by_call(plain, weights, **options):
    """The picture of an adapter for the UNet with these weights, by the built-in extension."""
    plain.checkpoint("tiny-sd1")
    plain.request("/probe/by-call", {"weights": weights})
    try:
        return plain.draw(f"{PROMPT} <lora:sd1:0:0.5>", **options).picture
    finally:
        plain.request("/probe/by-call", {"weights": []})


@pytest.mark.parametrize("tag", ["<lora:sd1:0.6@0>", "<lora:sd1:0.6@0.2,0.6@0.9>", "<lora:sd1:0.6:start=0:stop=1>",
                                 "<lora:sd1:0.6:on=both>", "<lora:sd1:0.6:in=1:mid=1@0,1@1>"])
def test_what_never_changes_is_the_number(webui, tag):
    expected = webui.draw(f"{PROMPT} <lora:sd1:0.6>", steps=4).picture
    assert difference(webui.draw(f"{PROMPT} {tag}", steps=4).picture, expected) == 0


CURVES = {  # the UNet's part of a tag -> its weight in each of six steps
    "0@0,1@1": [0, 0.2, 0.4, 0.6, 0.8, 1],
    "0.9:start=0.5": [0, 0, 0, 0.9, 0.9, 0.9],
    "0.9:stop=0.5": [0.9, 0.9, 0.9, 0, 0, 0],
    "0.9:step=1-3": [0, 0.9, 0.9, 0, 0, 0],
    "0@0,1@0.4,0@1": [0, 0.5, 1, 2 / 3, 1 / 3, 0],
    "-1@2,1@4": [-1, -1, -1, 0, 1, 1],
    "0.9:in=0@0,1@1:mid=0@0,1@1:out=0@0,1@1": [0, 0.18, 0.36, 0.54, 0.72, 0.9],
}


@pytest.mark.parametrize("unet", CURVES)
def test_a_curve_and_a_window_are_their_weight_in_each_step(webui, plain, unet):
    weights = CURVES[unet]
    drawn = webui.draw(f"{PROMPT} <lora:sd1:0:{unet}>", **SIX).picture
    if unet.startswith("0.9:in"):  # time_embed and the layers outside of blocks keep 0.9
        assert apart(drawn, by_call(plain, [0.9], **SIX))
    else:
        assert close(drawn, by_call(plain, weights, **SIX))


@pytest.mark.parametrize(("sampler", "calls"), [("DDIM", 1), ("DPM++ 2M", 1), ("Heun", 2), ("UniPC", 1), ("DPM2", 2),
                                                ("PLMS", 1), ("DPM++ SDE", 2)])  # fmt: skip
@pytest.mark.parametrize("kind", ["txt2img", "img2img"])
def test_with_any_sampler_the_end_of_a_curve_is_the_last_step_that_it_makes(webui, plain, sampler, calls, kind):
    """DDIM makes fewer than it is asked for; how many there were is counted."""
    options = {"steps": 5, "sampler_name": sampler}
    if kind == "img2img":
        options |= {"init_images": [INIT], "denoising_strength": 0.8}
    drawn = webui.draw(f"{PROMPT} <lora:sd1:0:0@0,1@1>", **options).picture
    steps = -(-len(webui.request("/probe/noise")) // calls)
    weights = [step / (steps - 1) for step in range(steps) for _ in range(calls)]
    assert steps in (3, 4, 5)
    assert close(drawn, by_call(plain, weights, **options))


def test_sigma_means_the_same_for_every_sampler(webui, plain):
    """A window that opens below so much noise: the number of steps in it follows from the sampler's schedule."""
    for sampler, late in (("Euler", 3), ("DDIM", None)):
        options = {"steps": 6, "sampler_name": sampler}
        drawn = webui.draw(f"{PROMPT} <lora:sd1:0:0.9:start=s2>", **options).picture
        found = [first for first in range(7)
                 if close(drawn, by_call(plain, [0.0] * first + [0.9] * (6 - first), **options))]  # fmt: skip
        assert len(found) == 1
        assert late is None or found == [late]


def test_img2img_counts_the_steps_that_it_makes(webui, plain):
    options = {"init_images": [INIT], "denoising_strength": 0.5, "steps": 9}  # five of them are made
    drawn = webui.draw(f"{PROMPT} <lora:sd1:0:0@0,1@1>", **options).picture
    assert close(drawn, by_call(plain, [0, 0.25, 0.5, 0.75, 1], **options))


def test_prompt_editing_around_tags_acts_when_a_word_would_be_shown(webui, plain):
    for text, weights in {
        "[<lora:sd1:0:0.8>:2]": [0, 0, 0, 0.8, 0.8, 0.8],
        "[<lora:sd1:0:0.8>::2]": [0.8, 0.8, 0.8, 0, 0, 0],
        "[<lora:sd1:0:0.8>:<lora:sd1:0:0.3>:0.5]": [0.8, 0.8, 0.8, 0.8, 0.3, 0.3],
        "[<lora:sd1:0:0.8>|<lora:sd1:0:0.2>]": [0.8, 0.8, 0.2, 0.8, 0.2, 0.8],
        "[[<lora:sd1:0:0.8>:1]:<lora:sd1:0:0.1>:3]": [0, 0, 0.8, 0.8, 0.1, 0.1],
    }.items():
        assert close(webui.draw(f"{PROMPT} {text}", **SIX).picture, by_call(plain, weights, **SIX)), text
    heun = {"steps": 4, "sampler_name": "Heun"}  # it counts calls there
    drawn = webui.draw(f"{PROMPT} [<lora:sd1:0:0.8>:2]", **heun).picture
    assert close(drawn, by_call(plain, [0] * 3 + [0.8] * 5, **heun))


def test_windows_reach_the_text_encoder(webui, plain):
    """Its part alone: the prompt is encoded with and without, and the encodings change where the window does."""
    plain.checkpoint("tiny-sd1")
    early = webui.draw(f"{PROMPT} <lora:text:1:stop=0.5>", **SIX).picture
    assert close(early, webui.draw(f"{PROMPT} [<lora:text:1>::2]", **SIX).picture, 0)
    late = webui.draw(f"{PROMPT} <lora:text:1:start=0.5>", **SIX).picture
    assert close(late, webui.draw(f"{PROMPT} [<lora:text:1>:2]", **SIX).picture, 0)
    whole, nothing = (webui.draw(f"{PROMPT} {tag}", **SIX).picture for tag in ("<lora:text:1>", ""))
    assert difference(early, whole) > 0
    assert difference(late, nothing) > 0
    assert apart(early, late)
    edited = webui.draw("a [red:blue:3] circle <lora:text:1:stop=0.5>", **SIX).picture
    assert close(edited, webui.draw("a [red:blue:3] circle [<lora:text:1>::2]", **SIX).picture, 0)
    assert apart(edited, early)


@pytest.mark.parametrize("tag", ["<lora:sd1:0:0.9", "<lora:sd1:0.9:0", "<lora:sd1:0.9"])
def test_one_side_is_seen_where_the_guidance_leaves_the_other_out(webui, tag):
    """Guidance 1 draws the prompt alone, 0 the negative prompt alone."""
    options = {"negative_prompt": "ugly, a dog", **SIX}
    for scale, side, other in ((1, "cond", "uncond"), (0, "uncond", "cond")):
        both = webui.draw(f"{PROMPT} {tag}>", cfg_scale=scale, **options).picture
        nothing = webui.draw(PROMPT, cfg_scale=scale, **options).picture
        assert apart(both, nothing)
        assert close(webui.draw(f"{PROMPT} {tag}:on={side}>", cfg_scale=scale, **options).picture, both)
        assert close(webui.draw(f"{PROMPT} {tag}:on={other}>", cfg_scale=scale, **options).picture, nothing)
    sides = [webui.draw(f"{PROMPT} {tag}:on={side}>", **options).picture for side in ("cond", "uncond", "both")]
    assert apart(*sides)


def test_a_tag_in_the_negative_prompt_acts_on_its_side(webui):
    expected = webui.draw(f"{PROMPT} <lora:sd1:0.8:on=uncond>", negative_prompt="ugly", **SIX)
    drawn = webui.draw(PROMPT, negative_prompt="ugly <lora:sd1:0.8>", **SIX)
    assert close(drawn.picture, expected.picture, 0)
    assert "Negative prompt: ugly <lora:sd1:0.8>\n" in drawn.text
    assert webui.parse(drawn.text)["Lora hashes"].startswith("sd1: ")
    assert "Lora problems" not in drawn.text
    assert apart(drawn.picture, webui.draw(PROMPT, negative_prompt="ugly", **SIX).picture)


def matrix(webui, *parts, batch, **options):
    """The pictures of "a|b|c": a, a+b, a+c, a+b+c, so many at once; with their texts."""
    script = {"script_name": "prompt matrix", "script_args": [False, False, "positive", "space", 0]}
    drawn = webui.draw("|".join(parts), batch_size=batch, **script, **options)
    return drawn.pictures[1:], drawn.texts[1:]


@pytest.mark.parametrize("tags", [("<lora:sd1:0.8>", "<lora:second:0.6>"),
                                  ("<lora:sd1:0:0@0,1@1>", "<lora:text:0.9:stop=0.5>"),
                                  ("<lora:sd1:0.7:on=cond>", "[<lora:second:0.9>:2]")])  # fmt: skip
def test_each_picture_of_a_batch_is_what_it_is_alone(webui, tags):
    pictures, texts = matrix(webui, PROMPT, *tags, batch=4, **SIX)
    alone = [PROMPT, f"{PROMPT} {tags[0]}", f"{PROMPT} {tags[1]}", f"{PROMPT} {tags[0]} {tags[1]}"]
    assert len(pictures) == len(alone)
    for picture, text, prompt in zip(pictures, texts, alone, strict=True):
        expected = webui.draw(prompt, **SIX)
        assert close(picture, expected.picture), prompt
        said, meant = webui.parse(text), webui.parse(expected.text)
        assert said["Prompt"] == prompt
        assert said.get("Lora hashes") == meant.get("Lora hashes"), prompt
        assert said.get("Lora problems") == meant.get("Lora problems") is None
    assert apart(*pictures)
    assert close(webui.draw(PROMPT, **SIX).picture, pictures[0])


def test_problems_are_told_of_the_picture_that_has_them(webui):
    _, texts = matrix(webui, PROMPT, "<lora:nobody:1>", "<lora:sd1:abc>", batch=2, **SIX)
    said = [webui.parse(text).get("Lora problems", "") for text in texts]
    assert ["nobody" in each for each in said] == [False, True, False, True]
    assert ["abc" in each for each in said] == [False, False, True, True]


def test_parts_of_a_prompt_and_skipped_sides_keep_each_its_adapters(webui):
    prompt = f"{PROMPT} AND a dog :0.6 AND blue :0.4"
    pictures, _ = matrix(webui, prompt, "<lora:sd1:0.8:on=cond>", "<lora:second:0.6>", batch=4, **SIX)
    for picture, tags in zip(pictures, ("", " <lora:sd1:0.8:on=cond>", " <lora:second:0.6>",
                                        " <lora:sd1:0.8:on=cond> <lora:second:0.6>"), strict=True):  # fmt: skip
        assert close(picture, webui.draw(f"{prompt}{tags}", **SIX).picture), tags
    before = webui.request("/sdapi/v1/options")
    for option in ({"skip_early_cond": 0.5}, {"s_min_uncond": 2.0, "s_min_uncond_all": True},
                   {"batch_cond_uncond": False}, {"pad_cond_uncond": True}):  # fmt: skip
        webui.request("/sdapi/v1/options", option)
        try:
            pictures, _ = matrix(webui, PROMPT, "<lora:sd1:0.8:on=cond>", batch=2, negative_prompt="ugly", **SIX)
            expected = webui.draw(f"{PROMPT} <lora:sd1:0.8:on=cond>", negative_prompt="ugly", **SIX)
        finally:
            webui.request("/sdapi/v1/options", {name: before[name] for name in option})
        assert "Lora problems" not in expected.text
        assert close(pictures[1], expected.picture), option


def test_the_hires_pass_has_strengths_of_its_own(webui):
    first = webui.draw(f"{PROMPT} <lora:sd1:0.8>", **HIRES).picture
    for own, hires in (("0.8:hr=0.3", "0.3"), ("0.8:hr=off", "0"), ("0.8:hrunet=0.3", "0.8:0.3"),
                       ("0.8:hrte=0.1", "0.1:0.8"), ("0.8:hr=0@0,1@1", "0:0@0,1@1"),
                       ("0.2@0,1@1:hr=0.5", "0.5")):  # fmt: skip
        expected = webui.draw(f"{PROMPT} <lora:sd1:{own.partition(':hr')[0]}>",
                              hr_prompt=f"{PROMPT} <lora:sd1:{hires}>", **HIRES).picture  # fmt: skip
        drawn = webui.draw(f"{PROMPT} <lora:sd1:{own}>", **HIRES).picture
        assert close(drawn, expected, 0), own
        assert difference(drawn, first) > 0
    late = webui.draw(f"{PROMPT} [<lora:sd1:0.8>:1.25]", **HIRES).picture  # in the hires pass, after two steps
    assert apart(late, first, webui.draw(PROMPT, **HIRES).picture)
    window = webui.draw(PROMPT, hr_prompt=f"{PROMPT} <lora:sd1:0.8:step=2-4>", **HIRES).picture
    assert close(late, window, 0)


def test_the_refiner_has_a_strength_of_its_own(webui):
    options = {"refiner_checkpoint": "other-sd1", "refiner_switch_at": 0.4, **SIX}
    same = webui.draw(f"{PROMPT} <lora:sd1:0.5>", **options).picture
    assert close(webui.draw(f"{PROMPT} <lora:sd1:0.5:refiner=0.5>", **options).picture, same, 0)
    off = webui.draw(f"{PROMPT} <lora:sd1:0.5:refiner=off>", **options)
    only = webui.draw(f"{PROMPT} <lora:sd1:0:refiner=0.5>", **options)
    assert apart(same, off.picture, only.picture, webui.draw(PROMPT, **options).picture)
    assert "Lora problems" not in off.text + only.text


def test_an_area_is_a_part_of_the_picture(webui, checkpoints):
    """One step of an adapter for layers that know places: near its left edge the picture is that of the adapter, near
    its right edge that of none, though the model mixes what stands side by side."""
    index = index_of(checkpoints / "tiny-sd1.safetensors")
    write_adapter(webui.loras / "places.safetensors", index, seed=30, only="ff_net")
    options = {"steps": 1, "width": 256}
    plainly, whole, left, everywhere = (
        webui.draw(f"{PROMPT} {tag}", **options)
        for tag in ("", "<lora:places:0.9>", "<lora:places:0.9:area=0,0,0.5,1>", "<lora:places:0.9:area=0,0,1,1>")
    )
    assert "Lora problems" not in left.text
    near_whole, near_plain = (np.abs(left.picture.astype(int) - other.picture).mean(axis=(0, 2))
                              for other in (whole, plainly))  # fmt: skip
    assert near_whole[:64].mean() < near_plain[:64].mean()
    assert near_plain[-64:].mean() < near_whole[-64:].mean()
    assert close(everywhere.picture, whole.picture)


def test_several_tags_of_one_file_add_up_each_with_its_own_window(webui, plain):
    prompt = f"{PROMPT} <lora:sd1:0:0.3> <lora:sd1:0:0.5:start=0.5> <lora:sd1:0:0@0,0.2@1>"
    weights = [0.3, 0.34, 0.38, 0.92, 0.96, 1.0]
    assert close(webui.draw(prompt, **SIX).picture, by_call(plain, weights, **SIX))


def test_every_picture_pasted_back_is_the_same_picture(webui):
    pictures, texts = matrix(webui, PROMPT, "<lora:sd1:0:0@0,1@1>", "[<lora:second:0.6>:2]", batch=2,
                             negative_prompt="ugly <lora:text:0.5>", **SIX)  # fmt: skip
    for picture, text in zip(pictures, texts, strict=True):
        said = webui.parse(text)
        again = webui.draw(said["Prompt"], negative_prompt=said["Negative prompt"], seed=int(said["Seed"]),
                           steps=int(said["Steps"]))  # fmt: skip
        assert close(again.picture, picture)
        assert again.text == text


def test_afterwards_the_model_is_untouched(webui):
    webui.draw(PROMPT)
    before = webui.request("/probe/weights")
    for tag in ("0@0,1@1", "1:on=cond", "1:area=0,0,0.5,1", "1:start=0.2:stop=0.6"):
        webui.draw(f"{PROMPT} <lora:sd1:{tag}>", **SIX)
    webui.draw(PROMPT)
    assert webui.request("/probe/weights") == before


def test_an_interrupt_in_mid_schedule_leaves_nothing(webui):
    untouched, before = webui.draw(PROMPT).picture, webui.request("/probe/weights")
    for tag in ("0@0,1@1", "1:on=cond", "1:0:start=0.1"):
        drawing = threading.Thread(target=webui.draw, args=(f"{PROMPT} <lora:sd1:{tag}>",), kwargs={"steps": 100})
        drawing.start()
        while webui.request("/sdapi/v1/progress?skip_current_image=true")["state"]["sampling_step"] < 3:
            time.sleep(0.05)
        webui.request("/sdapi/v1/interrupt" if tag == "1:on=cond" else "/sdapi/v1/skip", {})
        drawing.join()
        good = webui.draw(f"{PROMPT} <lora:second:0.8>").picture
        assert difference(webui.draw(PROMPT).picture, untouched) == 0
        assert webui.request("/probe/weights") == before
        assert difference(webui.draw(f"{PROMPT} <lora:second:0.8>").picture, good) == 0


def test_an_error_in_mid_schedule_is_told_and_leaves_the_base_weights(webui):
    """The weight that fails is one that a later step puts in."""
    untouched, before = webui.draw(PROMPT, **SIX).picture, webui.request("/probe/weights")
    webui.draw(f"{PROMPT} <lora:sd1:0:0.5:start=0.5>", **SIX)
    webui.draw(PROMPT, **SIX)
    for error in ("out of memory", "a mistake"):
        webui.request("/probe/fail", {"at": 5, "error": error})
        try:
            drawn = webui.draw(f"{PROMPT} <lora:sd1:0:0.5:start=0.5>", **SIX)
        finally:
            webui.request("/probe/fail-no-more", {})
        assert "Lora problems" in drawn.text
        assert difference(drawn.picture, untouched) == 0  # the first half was without, and so is the rest
        assert webui.request("/probe/weights")["bits"] == before["bits"]
        assert difference(webui.draw(PROMPT, **SIX).picture, untouched) == 0


def test_who_calls_the_unet_by_himself_is_refused(webui):
    """Where rows have adapters of their own; elsewhere it is nobody's business."""
    nothing, before = webui.draw(PROMPT, **SIX).picture, webui.request("/probe/weights")
    good = webui.draw(f"{PROMPT} <lora:sd1:0:0.8>", **SIX).picture
    for tag, expected in (("<lora:sd1:0:0.8>", good), ("<lora:sd1:0:0.8:on=cond>", nothing)):
        webui.request("/probe/call-the-unet", {"times": 1})
        drawn = webui.draw(f"{PROMPT} {tag}", **SIX)
        assert close(drawn.picture, expected)
        assert ("another extension calls the UNet" in drawn.text) == ("on=" in tag)
    webui.draw(PROMPT)
    assert webui.request("/probe/weights") == before


def test_a_reload_in_mid_schedule_leaves_nothing(webui):
    untouched, before = webui.draw(PROMPT).picture, webui.request("/probe/weights")
    good = webui.draw(f"{PROMPT} <lora:sd1:0@0,1@1>").picture

    def draw():
        with contextlib.suppress(OSError, AssertionError):  # the server goes away meanwhile
            webui.draw(f"{PROMPT} <lora:sd1:0@0,1@1:on=cond>", steps=60)

    drawing = threading.Thread(target=draw)
    drawing.start()
    while webui.request("/sdapi/v1/progress?skip_current_image=true")["state"]["sampling_step"] < 3:
        time.sleep(0.05)
    webui.reload()
    drawing.join()
    assert difference(webui.draw(PROMPT).picture, untouched) == 0
    assert webui.request("/probe/weights") == before
    assert difference(webui.draw(f"{PROMPT} <lora:sd1:0@0,1@1>").picture, good) == 0


def test_a_curve_encodes_nothing_and_a_window_does(webui):
    def encoded(tags):
        before = webui.request("/probe")["encodings"]
        webui.draw(f"{PROMPT} {tags}", **SIX)
        return webui.request("/probe")["encodings"] - before

    webui.request("/probe/forget-encodings", {})
    assert encoded("<lora:sd1:0.5:0@0,1@1>") == 2  # the prompt and the negative prompt
    assert encoded("<lora:sd1:0.5:1@0,0@1>") == 0
    assert encoded("<lora:sd1:0.5:0.3:in=0.5>") == 0
    assert encoded("<lora:sd1:0.5:stop=0.5>") == 4  # with and without, each
    assert encoded("<lora:sd1:0.5:unet=0@0,1@1:stop=0.5>") == 0
    assert encoded("<lora:sd1:0.5:stop=0.7>") == 4
    assert encoded("<lora:sd1:0.5:stop=0.5>") == 0


def test_words_of_one_picture_are_no_words_of_the_others(webui):
    prompt = "a sprinkle of stardust"
    pictures, texts = matrix(webui, prompt, "<lora:words:0:1>", batch=2, **SIX)
    for picture, text, tags in zip(pictures, texts, ("", " <lora:words:0:1>"), strict=True):
        alone = webui.draw(prompt + tags, **SIX)
        assert close(picture, alone.picture)
        assert ("TI hashes" in text) == ("TI hashes" in alone.text) == bool(tags)


@pytest.mark.parametrize("flag", ["--lowvram", "--medvram"])
def test_with_little_memory_the_pictures_are_the_same(flag, webui, checkpoints, adapters, tmp_path):
    small = WebUI(tmp_path, checkpoints, flags=f"{FULL} {flag}")
    shutil.copytree(adapters, small.loras, dirs_exist_ok=True)
    small.start()
    try:
        assert small.request("/probe/weights")["low VRAM"] is True
        for tag in ("0@0,1@1:hr=0.5", "0.8:hr=off", "0.8:stop=0.5:hrte=0.2", "0.8:on=cond"):
            prompt = f"{PROMPT} <lora:sd1:{tag}>"
            ours, expected = (each.draw(prompt, negative_prompt="ugly", **HIRES) for each in (small, webui))
            assert close(ours.picture, expected.picture), tag
            assert ours.text == expected.text
    finally:
        small.stop()
