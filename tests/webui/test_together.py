"""Several adapters in the real WebUI: the line below the prompt, one file of them, the loaded model beside its file."""

from __future__ import annotations

import re

import pytest

from tests.webui.browser import PROMPT, open_page
from tests.webui.instance import difference

TAGS = "<lora:sd1:0.9> <lora:second:0.8>"
STRIP = "#txt2img_prompt_container .lora-strip:not(.lora-empty)"


@pytest.fixture(autouse=True)
def first_checkpoint(webui):
    webui.checkpoint("tiny-sd1")


def test_a_mixture_is_saved_from_the_strip_and_draws_what_its_tags_draw(webui, page):
    expected = webui.draw(f"a cat {TAGS}")
    page.locator(PROMPT).fill(f"a cat {TAGS}")
    line = page.locator(f"{STRIP} .lora-together")
    line.get_by_text(re.compile(r"Together 1\.\d times what one does")).wait_for()
    line.get_by_role("button", name="Save as one adapter").click()
    line.get_by_label("Name of the new adapter").fill("my mix")
    page.keyboard.press("Enter")
    line.get_by_text("my mix is saved: <lora:my mix:1>").wait_for()
    try:
        assert (webui.loras / "my mix.safetensors").exists()
        drawn = webui.draw("a cat <lora:my mix:1>")
        assert "Lora problems" not in drawn.text
        assert difference(drawn.picture, expected.picture) <= 1
        page.locator("#tabs > .tab-nav button", has_text="LoRA").click()
        page.locator("#tab_lib_lora .lora-card", has_text="my mix").locator(".lora-open").click()
        made = page.locator("#tab_lib_lora .lora-section", has_text="Made of")
        made.get_by_text("<lora:sd1:0.9><lora:second:0.8>").wait_for()
    finally:
        (webui.loras / "my mix.safetensors").unlink()
        webui.request("/sdapi/v1/refresh-loras", {})


def test_the_loaded_model_is_compared_with_its_file_and_put_right(webui, page):
    untouched = webui.draw("a cat")
    with_tag = webui.draw(f"a cat {TAGS}")  # whose adapters stay in the weights
    page.locator("#tabs > .tab-nav button", has_text="LoRA").click()
    button = page.get_by_role("button", name="Check the loaded model against its file")
    button.click()
    told = page.locator("#tab_lib_lora .lora-checked")
    told.get_by_text(re.compile(r"^([\d,]+) of \1 weights are the bits of tiny-sd1.safetensors; \d+ carry")).wait_for()
    webui.draw("a cat")
    webui.request("/probe/damage", {})
    button.click()
    told.get_by_text("time_embed.0.weight").wait_for()
    told.get_by_role("button", name="Repair").click()
    told.get_by_text("1 were put right").wait_for()
    assert difference(webui.draw("a cat").picture, untouched.picture) == 0
    assert difference(webui.draw(f"a cat {TAGS}").picture, with_tag.picture) == 0


def test_the_warning_begins_where_the_settings_say(webui, page):
    webui.request("/sdapi/v1/options", {"lora_together_limit": 1.05})
    try:
        open_page(page, webui)
        page.locator(PROMPT).fill(f"a cat {TAGS}")
        page.locator(f"{STRIP} .lora-is-much").get_by_text("from 1.05 on").wait_for()
    finally:
        webui.request("/sdapi/v1/options", {"lora_together_limit": 1.5})
