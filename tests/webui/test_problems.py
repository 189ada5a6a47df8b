"""What cannot be done switches off only itself, and is said where people look: picture text, page, console."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from tests.webui.instance import difference

PROMPT = "a red circle, a cat"
GOOD = "<lora:sd1:0.8>"


@pytest.fixture(scope="module")
def good(webui):
    return webui.draw(f"{PROMPT} {GOOD}").picture


CASES = {
    "<lora:second:abc>": "<lora:second:abc>: 'abc' is not a weight; write a number such as 0.8",
    "<lora:secnd:1>": "Lora not found: secnd; did you mean second?",
    "<lora::1>": "<lora::1>: the name is missing",
    "<lora:broken:1>": "broken.safetensors",
    "<lora:sdxl:1>": "made for SDXL, the checkpoint is SD 1.5; nothing was applied",
    "<lora:second:nan>": "'nan' is not a weight",
}


@pytest.mark.parametrize("tag", CASES)
def test_one_bad_tag_is_named_and_the_others_work(webui, good, tag):
    drawn = webui.draw(f"{PROMPT} {tag} {GOOD}")
    assert difference(drawn.picture, good) == 0
    said = webui.parse(drawn.text)["Lora problems"]
    assert CASES[tag] in said
    assert f"Lora: {said}" in webui.log.read_text()
    assert webui.parse(drawn.text)["Lora hashes"].startswith("sd1: ")


def test_the_console_says_it_once(webui):
    for _ in range(2):
        webui.draw(f"{PROMPT} <lora:nobody knows this:1>", n_iter=2)
    assert webui.log.read_text().count("Lora: Lora not found: nobody knows this") == 1


def test_all_problems_stand_in_the_text_and_it_can_still_be_pasted(webui):
    drawn = webui.draw(f'{PROMPT} <lora:x"y, z:1> <lora:second:1,5> <lora:broken:1>')
    parsed = webui.parse(drawn.text)
    assert parsed["Seed"] == "1"
    assert parsed["Lora problems"].count(";") >= 2
    assert 'Lora not found: x"y, z' in parsed["Lora problems"]
    assert "write a number such as 1.5" in parsed["Lora problems"]


def test_without_problems_the_text_has_no_word_of_them(webui):
    webui.draw(f"{PROMPT} <lora:nobody:1>")
    assert "problems" not in webui.draw(f"{PROMPT} {GOOD}").text
    assert "Lora" not in webui.draw(PROMPT).text


def test_force_applies_what_fits_of_another_base_model(webui):
    drawn = webui.draw(f"{PROMPT} <lora:sd2:1:force=1>")
    assert difference(drawn.picture, webui.draw(PROMPT).picture) > 0
    assert "Lora hashes: \"sd2: " in drawn.text


def test_a_tag_in_the_negative_prompt_is_no_word_and_acts_however_it_is_typed(webui):
    expected = webui.draw(f"{PROMPT} <lora:sd1:1:on=uncond>", negative_prompt="ugly ")
    drawn = webui.draw(PROMPT, negative_prompt="ugly <LoRA:sd1:1>")
    assert difference(drawn.picture, expected.picture) == 0
    parsed = webui.parse(drawn.text)
    assert parsed["Negative prompt"] == "ugly <LoRA:sd1:1>"
    assert "Lora problems" not in parsed
    bad = webui.draw(PROMPT, negative_prompt="ugly <lora:nobody:1> <lora:sd1:abc>")
    assert difference(bad.picture, webui.draw(PROMPT, negative_prompt="ugly  ").picture) == 0
    assert "Lora not found: nobody" in bad.text
    assert "'abc' is not a weight" in bad.text


def test_a_tag_in_the_negative_prompt_of_the_hires_pass_acts_there(webui):
    hires = {"enable_hr": True, "hr_upscaler": "Latent", "denoising_strength": 0.7, "hr_second_pass_steps": 2}
    expected = webui.draw(PROMPT, negative_prompt="ugly ", hr_prompt=f"{PROMPT}<lora:sd1:1:on=uncond>",
                          hr_negative_prompt="bad ", **hires)  # fmt: skip
    drawn = webui.draw(PROMPT, negative_prompt="ugly ", hr_negative_prompt="bad <lora:sd1:1>", **hires)
    assert difference(drawn.picture, expected.picture) == 0
    plain = webui.draw(PROMPT, negative_prompt="ugly ", hr_negative_prompt="bad ", **hires)
    assert difference(drawn.picture, plain.picture) > 0


TYPED = ("<LoRA:sd1:0.8>", "< lora:sd1:0.8>", "<lora :sd1:0.8>", "<lora：sd1：0.8>", "＜ＬＯＲＡ：sd1：０．８＞",
         "《lora:sd1:0.8》", "<LYCO:sd1:.8>")  # fmt: skip


@pytest.mark.parametrize("tag", TYPED)
def test_a_tag_counts_however_it_is_typed_and_the_picture_says_what_was_typed(webui, good, tag):
    drawn = webui.draw(f"{PROMPT} {tag}")
    assert difference(drawn.picture, good) == 0
    assert webui.parse(drawn.text)["Prompt"] == f"{PROMPT} {tag}"
    assert webui.parse(drawn.text)["Lora hashes"].startswith("sd1: ")


def test_the_hires_prompt_is_read_as_it_is_typed_too(webui):
    hires = {"enable_hr": True, "hr_upscaler": "Latent", "denoising_strength": 0.7, "hr_second_pass_steps": 2}
    one, other = (webui.draw(PROMPT, hr_prompt=f"{PROMPT} {tag}", **hires).picture
                  for tag in (GOOD, "＜LoRA：sd1：０．８＞"))  # fmt: skip
    assert difference(one, other) == 0


OPEN = {
    f"{PROMPT} {GOOD} <lora:second:1": "<lora:second:1: the closing > is missing",
    f"{PROMPT} {GOOD} <lora second:1>": "<lora second:1>: the colon after lora is missing",
    f"{PROMPT} <lora:second {GOOD}": "<lora:second: the closing > is missing",
    f"{PROMPT} {GOOD} {'<lora:second:0>' * 5000}": "a prompt can have 128 tags",
    f"{PROMPT} {GOOD} {'<lora:' * 20_000}": "the closing > is missing",
}


@pytest.mark.parametrize("prompt", OPEN, ids=lambda prompt: prompt[:60])
def test_what_is_only_half_a_tag_is_no_word_and_is_told(webui, good, prompt):
    started = time.monotonic()
    drawn = webui.draw(prompt)
    assert time.monotonic() - started < 60
    assert difference(drawn.picture, good) == 0
    assert OPEN[prompt] in drawn.text



def test_a_new_file_is_found_without_a_refresh_and_a_changed_one_is_read_again(webui):
    target = webui.loras / "late.safetensors"
    try:
        shutil.copy(webui.loras / "text.safetensors", target)
        one = webui.draw(f"{PROMPT} <lora:late:1>")
        assert "problems" not in one.text
        shutil.copy(webui.loras / "second.safetensors", target)
        os.utime(target)
        other = webui.draw(f"{PROMPT} <lora:late:1>")
        assert difference(one.picture, other.picture) > 0
        assert difference(other.picture, webui.draw(f"{PROMPT} <lora:second:1>").picture) == 0
    finally:
        target.unlink()
    assert "Lora not found: late" in webui.draw(f"{PROMPT} <lora:late:1>").text
