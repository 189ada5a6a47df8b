"""Beside other extensions: everything is as without them, and they do what they do.

`WEBUI_NEIGHBOURS` names a folder with those of NEIGHBOURS; without it this file is not collected. The tests of
pictures, problems and interfaces are here once more, in a WebUI that has all of them, enabled.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.webui.browser import CHROMIUM, FLAGS
from tests.webui.conftest import BUILT_IN
from tests.webui.environment import ENVIRONMENT, NEIGHBOURS
from tests.webui.instance import LOCAL, WebUI, difference
from tests.webui.test_interfaces import *  # noqa: F403
from tests.webui.test_pictures import *  # noqa: F403
from tests.webui.test_problems import *  # noqa: F403

OURS = "lib_lora.webui.network"
PAGES = ["lib_lora.webui.cards.extra_page"]
PROMPT = "a red circle, a cat"
TAG = "<lora:sd1:0.8>"
STRENGTH = ("<lora:sd1:0@0,1@1>", "<lora:sd1:te=1:unet=0@0,1@0.5,0@1>", "<lora:sd1:0.5:hr=1.0>",
            "<lora:sd1:1:0:start=0.5>", "<lora:sd1:1:1:lbw=IND:stop=2>",
            "<lora:sd1:0.8:lbwe=ATTNDEEPOFF:step=1-2>", "<lora:sd1:1:on=cond>")
TOLD = "sd-webui-loractl wants to handle <lora:...> too"
OPTIONS = {
    # Dynamic Prompts (2024-03) registers its options too late for WebUI 1.9 and later; those of older ones are kept
    **dict.fromkeys(("dp_ignore_whitespace", "dp_write_raw_template", "dp_write_prompts_to_file",
                     "dp_limit_jinja_prompts", "dp_auto_purge_cache", "dp_wildcard_manager_no_dedupe",
                     "dp_wildcard_manager_no_sort", "dp_wildcard_manager_shuffle"), False),
    "dp_parser_variant_start": "{", "dp_parser_variant_end": "}", "dp_parser_wildcard_wrap": "__",
    "dp_magicprompt_default_model": "", "dp_magicprompt_batch_size": 1,
}  # fmt: skip


def folders(*names: str) -> list[Path]:
    assert ENVIRONMENT.neighbours, "WEBUI_NEIGHBOURS is not set"
    return [ENVIRONMENT.neighbours / NEIGHBOURS[name] for name in names or NEIGHBOURS]


@pytest.fixture(scope="session", params=BUILT_IN)
def webui(request, checkpoints, adapters, tmp_path_factory) -> Iterator[WebUI]:
    """With all of them, instead of the WebUI of the other files."""
    webui = WebUI(tmp_path_factory.mktemp("neighbours"), checkpoints, disabled=BUILT_IN[request.param],
                  neighbours=folders(), options=OPTIONS)
    shutil.copytree(adapters, webui.loras, dirs_exist_ok=True)
    yield webui.start()
    webui.stop()


@pytest.fixture(autouse=True)
def first_checkpoint(webui):
    yield
    webui.checkpoint("tiny-sd1")


@pytest.fixture(scope="session")
def expected(checkpoints, adapters, tmp_path_factory):
    """{prompt: picture} of a WebUI that has this extension only."""
    webui = WebUI(tmp_path_factory.mktemp("alone"), checkpoints, options=OPTIONS)
    shutil.copytree(adapters, webui.loras, dirs_exist_ok=True)
    webui.start()
    prompts = [f"{PROMPT} {tag}".strip() for tag in ("", TAG, "<lora:second:0.5>", *STRENGTH)]
    pictures = {prompt: webui.draw(prompt).picture for prompt in prompts}
    webui.stop()
    return pictures


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_beside_each_alone_the_pictures_are_ours(name, checkpoints, adapters, tmp_path, expected):
    webui = WebUI(tmp_path, checkpoints, neighbours=folders(name), options=OPTIONS)
    shutil.copytree(adapters, webui.loras, dirs_exist_ok=True)
    webui.start()
    try:
        for _ in range(2):
            for prompt, picture in expected.items():
                assert difference(webui.draw(prompt).picture, picture) == 0
        seen = webui.request("/probe")
        assert (seen["registry"], seen["pages"], seen["torch is patched"]) == (OURS, PAGES, False)
        log = webui.log.read_text()
        assert "is in the way" not in log
        assert log.count(TOLD) == (name == "loractl")
    finally:
        webui.stop()


def test_other_extensions_find_what_they_read(webui):
    """Without the list of active adapters, which lora-block-weight empties after each picture."""
    webui.draw(f"{PROMPT} <lora:second:0.8:0.5>")
    seen = webui.request("/probe")
    assert {"second", "sd1", "styles/ink"} <= set(seen["available"])
    assert "the sd1 one" in seen["aliases"]
    assert seen["loaded"] == []
    assert (seen["same objects"], seen["torch is patched"]) == (True, False)
    assert seen["layers"] > 300


def titles(webui) -> str:
    return " ".join(webui.request("/sdapi/v1/scripts")["txt2img"])


def test_the_tags_are_ours_at_every_picture_and_who_wanted_them_is_told_once(webui):
    for _ in range(3):
        webui.draw(f"{PROMPT} {TAG}")
        assert webui.request("/probe")["registry"] == OURS
    is_there = "dynamic lora weights" in titles(webui)  # loractl does not start where it cannot find the built-in
    assert webui.log.read_text().count(TOLD) == is_there


def test_loractl_switched_off_changes_nothing(webui):
    good = webui.draw(f"{PROMPT} {TAG}").picture
    if "dynamic lora weights" in titles(webui):
        off = {"alwayson_scripts": {"Dynamic Lora Weights": {"args": [False, False]}}}
        for _ in range(3):
            assert difference(webui.draw(f"{PROMPT} {TAG}", **off).picture, good) == 0
            assert webui.request("/probe")["registry"] == OURS
    assert difference(webui.draw(f"{PROMPT} {TAG}").picture, good) == 0


def test_an_alias_that_another_brings_means_ours(webui):
    expected = webui.draw(f"{PROMPT} {TAG}")
    drawn = webui.draw(f"{PROMPT} <loractl:sd1:0.8>")
    assert difference(drawn.picture, expected.picture) == 0
    assert "Lora hashes" in drawn.text


def test_nobody_else_works_on_what_a_tag_says(webui):
    """lora-block-weight would read `lbw=` and put other weights into layers; it would stop at `start=0.5`."""
    for tag in STRENGTH:
        webui.draw(f"{PROMPT} {tag}")
    log = webui.log.read_text()
    assert "LoRA Block weight (" not in log
    assert 'lora_block_weight.py", line' not in log  # in a traceback


def test_the_presets_of_lora_block_weight_are_known(webui):
    presets = webui.data / "extensions" / NEIGHBOURS["lora-block-weight"] / "scripts" / "lbwpresets.txt"
    before = presets.read_text("utf-8")
    numbers = "1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0"
    presets.write_text(f"{before}\nMINE:{numbers}\n", "utf-8")
    try:
        named = webui.draw(f"{PROMPT} <lora:sd1:0.8:lbw=MINE>")
        numbered = webui.draw(f"{PROMPT} <lora:sd1:0.8:lbw={numbers}>")
        told, of_numbers = (webui.parse(drawn.text)["Lora problems"] for drawn in (named, numbered))
        assert told.startswith("sd1: the 17 numbers of lbw=MINE do not name IN00, ")  # of an adapter with all blocks
        assert told.replace("MINE", numbers) == of_numbers  # and nothing else is wrong with either
        assert difference(named.picture, numbered.picture) == 0
        assert difference(named.picture, webui.draw(f"{PROMPT} {TAG}").picture) > 0
    finally:
        presets.write_text(before, "utf-8")
    assert "MINE" in webui.parse(webui.draw(f"{PROMPT} <lora:sd1:0.8:lbw=MINE>").text)["Lora problems"]


def test_tagcomplete_is_told_the_hashes_that_are_known(webui):
    webui.draw(f"{PROMPT} <lora:second:0.5>")
    short = webui.parse(webui.draw(f"{PROMPT} <lora:second:0.5>").text)["Lora hashes"].removeprefix("second: ")
    told = webui.request("/tacapi/v1/lora-cached-hash/second")
    assert (len(told), told[:12]) == (64, short)
    assert webui.request("/tacapi/v1/lora-cached-hash/ink") is None  # two files of that name
    assert webui.request("/tacapi/v1/lora-cached-hash/nobody") is None


def test_tagcomplete_lists_the_adapters(webui):
    listed = webui.data / "extensions" / NEIGHBOURS["tagcomplete"] / "tags" / "temp" / "lora.txt"
    names = listed.read_text("utf-8")
    assert all(name in names for name in ("sd1", "second", "墨 v1.5 (final)"))


def test_dynamic_prompts_choose_among_tags(webui):
    expected = webui.draw(f"{PROMPT} {TAG}")
    drawn = webui.draw(PROMPT + " {" + TAG + "|" + TAG + "}")
    assert difference(drawn.picture, expected.picture) == 0
    assert "Lora hashes" in drawn.text
    two = [webui.draw(PROMPT + " {" + TAG + "|<lora:second:0.5>}", seed=seed) for seed in range(6)]
    names = {webui.parse(each.text)["Lora hashes"].partition(":")[0] for each in two}
    assert names == {"sd1", "second"}


def test_dynamic_prompts_choose_for_each_picture_of_a_batch(webui):
    choice = " {<lora:sd1:0.8>|<lora:second:0.5:0@0,1@1>|<lora:text:0.9:stop=0.5>|}"
    drawn = webui.draw(PROMPT + choice, batch_size=4, steps=4)
    texts, pictures = drawn.texts[-4:], drawn.pictures[-4:]
    said = [webui.parse(text) for text in texts]
    assert len({each["Prompt"] for each in said}) > 1
    for each, text, picture in zip(said, texts, pictures, strict=True):
        alone = webui.draw(each["Prompt"], seed=int(each["Seed"]), steps=4)
        assert difference(alone.picture, picture) <= 1
        assert webui.parse(alone.text).get("Lora hashes") == each.get("Lora hashes")
        assert "Lora problems" not in text


def regions(mode: str) -> dict:
    """Two columns, everything else as the page has it."""
    args = [True, False, "Matrix", "Columns", "Mask", "Prompt", "1,1", "0.2", False, False, False, mode, [],
            "0", "0", "0.4", None, "0", "0", False]
    return {"alwayson_scripts": {"Regional Prompter": {"args": args}}}


@pytest.mark.parametrize("mode", ["Attention", "Latent"])
def test_regional_prompter_draws_and_leaves_the_weights_alone(webui, mode):
    prompt = "a red circle BREAK a cat"
    plain = webui.draw(prompt)
    before = webui.request("/probe/weights")["bits"]
    drawn = webui.draw(prompt, **regions(mode))
    assert difference(drawn.picture, plain.picture) > 0
    tagged = webui.draw(f"{prompt} {TAG}", **regions(mode))
    assert difference(tagged.picture, drawn.picture) > 0
    assert difference(webui.draw(f"{prompt} {TAG}", **regions(mode)).picture, tagged.picture) == 0
    assert difference(webui.draw(f"{prompt} <lora:second:0.5>", **regions(mode)).picture, tagged.picture) > 0
    assert difference(webui.draw(prompt, **regions(mode)).picture, drawn.picture) == 0
    assert difference(webui.draw(prompt).picture, plain.picture) == 0
    assert webui.request("/probe/weights")["bits"] == before
    assert webui.request("/probe")["torch is patched"] is False
    if mode == "Latent":
        assert webui.log.read_text().count("adapters act on the whole picture") == 1


def test_the_page_has_all_of_them_and_no_script_of_ours_fails(webui):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        here = (webui.url, "data:", "blob:")
        context.route("**/*", lambda each: each.continue_() if each.request.url.startswith(here) else each.abort())
        page = context.new_page()
        page.set_default_timeout(60_000)
        failures: list[str] = []
        page.on("pageerror", lambda error: failures.append(f"{error}\n{error.stack}"))
        page.goto(webui.url, wait_until="domcontentloaded")
        page.wait_for_function("document.querySelectorAll('#txt2img_lora_cards .card').length > 3")
        page.locator("#txt2img_prompt textarea").fill(f"a cat {TAG}")
        page.locator("#txt2img_prompt_container .lora-strip .lora-row").first.wait_for()
        page.locator("#txt2img_extra_tabs > .tab-nav button", has_text="Lora").first.click()
        page.locator('#txt2img_lora_cards .card[data-name="second"]').click(position={"x": 20, "y": 20})
        page.wait_for_timeout(500)
        assert "<lora:second:1>" in page.locator("#txt2img_prompt textarea").input_value()
        tabs = " ".join(page.locator("#tabs > .tab-nav button").all_inner_texts())
        assert "Civitai Helper" in tabs
        assert "LoRA" in tabs
        assert page.locator("#physton-prompt-all-in-one, [id^=phystonPrompt_], .physton-prompt").count() > 0
        browser.close()
    ours = [each for each in failures if "lora_" in each and "/lib_lora/" in each]
    assert not ours, ours


def test_the_others_answer(webui):
    for title in ("lora block weight", "dynamic prompts", "regional prompter"):
        assert title in titles(webui)
    with LOCAL.open(f"{webui.url}/physton_prompt/get_version", timeout=60) as answer:
        assert answer.status == 200
