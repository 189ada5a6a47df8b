"""The WebUI's page in headless Chromium: cards, editor, metadata, the tab LoRA, Reload UI."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from PIL import Image

from tests.webui.browser import NEGATIVE, PROMPT, browsing, card, cards, open_page, opened, prompt, refreshed
from tests.webui.instance import WebUI, difference


@pytest.fixture
def notes(webui) -> Iterator[None]:
    """`second` has notes, with a key that we do not know."""
    path = webui.loras / "second.json"
    path.write_text(json.dumps({"activation text": 'two, "2"', "preferred weight": 0.7, "modelId": 42}))
    webui.request("/sdapi/v1/refresh-loras", {})
    yield
    path.unlink(missing_ok=True)
    webui.request("/sdapi/v1/refresh-loras", {})


def test_a_click_on_a_card_writes_the_tag_and_another_takes_it_out(notes, page):
    refreshed(page, "two, ")
    card(page, "second").click()
    assert prompt(page) == ' <lora:second:0.7> two, "2"'
    card(page, "second").click()
    assert prompt(page) == ""
    card(page, "styles/ink").click()
    assert prompt(page) == " <lora:styles/ink:1>"
    card(page, "styles/ink").click()
    card(page, "sd1").click()
    assert prompt(page) == " <lora:the sd1 one:1>"


def test_the_search_finds_paths_and_names(page):
    cards(page)
    page.locator("#txt2img_lora_extra_search:visible").fill("people/")
    page.wait_for_timeout(500)
    visible = [each.get_attribute("data-name") for each in cards(page).all() if each.is_visible()]
    assert visible == ["people/ink"]


def test_the_editor_shows_and_saves_and_unknown_keys_survive(notes, webui, page):
    refreshed(page, "two, ")
    card(page, "second").hover()
    card(page, "second").locator(".edit-button").click()
    box = page.locator("#txt2img_lora_edit_user_metadata")
    box.get_by_label("Activation text").wait_for(state="visible")
    assert box.get_by_label("Activation text").input_value() == 'two, "2"'
    assert "SD 1.5" in box.inner_text()
    box.get_by_label("Description").fill("<b>mine</b>")
    box.get_by_label("Activation text").fill("deux")
    box.get_by_role("button", name="Save").click()
    box.wait_for(state="hidden")
    card(page, "second").get_by_text("<b>mine</b>").wait_for()
    saved = json.loads((webui.loras / "second.json").read_text())
    assert saved == {"description": "<b>mine</b>", "activation text": "deux", "preferred weight": 0.7, "modelId": 42}
    card(page, "second").click()
    assert prompt(page) == " <lora:second:0.7> deux"


def test_the_editor_refuses_to_save_over_what_another_window_wrote(notes, webui, page):
    refreshed(page, "two, ")
    card(page, "second").hover()
    card(page, "second").locator(".edit-button").click()
    box = page.locator("#txt2img_lora_edit_user_metadata")
    box.get_by_label("Activation text").wait_for(state="visible")
    other = json.dumps({"notes": "written meanwhile"})
    (webui.loras / "second.json").write_text(other)
    box.get_by_label("Activation text").fill("lost")
    box.get_by_role("button", name="Save").click()
    page.get_by_text("open it again").first.wait_for()
    assert (webui.loras / "second.json").read_text() == other


def test_a_preview_is_replaced_by_the_picture_just_drawn(notes, webui, page):
    """Also one of an ending that the WebUI would not look at first."""
    picture = webui.loras / "second.preview.png"
    Image.new("RGB", (8, 8)).save(picture)
    try:
        refreshed(page, "two, ")
        before = card(page, "second").locator("img").get_attribute("src")
        page.locator("#txt2img_extra_tabs > .tab-nav button", has_text="Generation").click()
        for field, value in (("steps", "1"), ("width", "64"), ("height", "64")):
            page.locator(f"#txt2img_{field} input[type=number]").fill(value)
        page.locator("#txt2img_generate").click()
        page.locator("#txt2img_gallery img").first.wait_for()
        cards(page)
        card(page, "second").hover()
        card(page, "second").locator(".edit-button").click()
        page.locator("#txt2img_lora_edit_user_metadata").get_by_role("button", name="Replace preview").click()
        drawn = "document.querySelector('#txt2img_lora_cards .card[data-name=second] img').getAttribute('src')"
        page.wait_for_function(f"before => {drawn} !== before", arg=before)
        with Image.open(picture) as saved:
            assert saved.size == (64, 64)
        assert not (webui.loras / "second.png").exists()
    finally:
        picture.unlink()


def test_the_metadata_button_shows_the_header(page):
    cards(page)
    card(page, "sd1").hover()
    card(page, "sd1").locator(".metadata-button").click()
    page.locator(".global-popup").get_by_text("the sd1 one").wait_for()


def test_the_tab_lists_the_adapters_and_writes_into_the_prompt(webui, page):
    page.locator("#tabs > .tab-nav button", has_text="LoRA").click()
    page.locator("#tab_lib_lora .lora-card").first.wait_for()
    names = [each.strip() for each in page.locator("#tab_lib_lora .lora-card").all_inner_texts()]
    assert any("SDXL" in text for text in names)
    assert any("broken" in text for text in names)
    page.locator("#tab_lib_lora .lora-card", has_text="second").click()
    assert "<lora:second:" in prompt(page)


def test_the_strip_below_the_prompt_follows_the_text_and_writes_into_it(webui, page):
    page.locator(PROMPT).fill("a red circle <lora:sd1:0.8> <lora:nobody:1>")
    rows = page.locator("#txt2img_prompt_container .lora-strip .lora-row")
    rows.first.wait_for()
    assert rows.count() == 2
    rows.nth(1).get_by_text("Lora not found: nobody").wait_for()
    number = rows.first.locator("input:not([type=range])").first
    number.fill("-0.5")
    number.press("Enter")
    assert "<lora:sd1:-0.5>" in prompt(page)
    page.locator(PROMPT).fill("a red circle")
    rows.first.wait_for(state="detached")


def test_the_editors_of_the_strip_write_curve_blocks_and_area_and_escape_interrupts_nothing(webui, page):
    page.locator(PROMPT).fill("a red circle <lora:sd1:0.8>")
    row = page.locator("#txt2img_prompt_container .lora-strip .lora-row").first
    row.locator(".lora-opener").click()
    row.locator("[data-lora-bar]").first.wait_for()
    row.locator("[data-lora-point='1']").first.press("Shift+ArrowDown")
    assert "<lora:sd1:0.8:0.8@0,0.55@1>" in prompt(page)
    row.get_by_label("Preset of block weights").select_option("OUTALL")
    row.locator("[data-lora-argument=area]").click()
    row.get_by_text("left half", exact=True).click()
    assert "<lora:sd1:0.8:0.8@0,0.55@1:lbw=OUTALL:area=0,0,0.5,1>" in prompt(page)
    page.evaluate("document.querySelector('#txt2img_interrupt').addEventListener('click', () => window.stopped = true)")
    row.locator("[data-lora-bar]").first.focus()
    page.keyboard.press("Escape")
    row.locator(".lora-panels").wait_for(state="hidden")
    assert page.evaluate("window.stopped") is None
    page.locator(NEGATIVE).fill("blurry <lora:second:0.5>")
    negative = page.locator("#txt2img_neg_prompt_row + .lora-strip .lora-row")
    negative.locator("input:not([type=range])").first.fill("0.25")
    assert page.locator(NEGATIVE).input_value() == "blurry <lora:second:0.25>"


def test_the_bars_are_the_blocks_of_the_checkpoint_that_is_chosen_in_the_page(webui, page):
    """The first choice after the page was opened is noticed like any later one."""
    page.locator(PROMPT).fill("a red circle <lora:sdxl:0.8> <lora:sd1:0.5>")
    rows = page.locator("#txt2img_prompt_container .lora-strip .lora-row")
    row, misfit = rows.first, "made for {}, the checkpoint is {}; it will not be applied".format
    row.locator(".lora-opener").click()

    def names() -> list[str | None]:
        row.locator(".lora-bar-block[aria-label=IN00]").wait_for()  # of adapters with convolutions
        return [each.get_attribute("aria-label") for each in row.locator("[data-lora-bar]").all()]

    try:
        assert len(names()) == 26
        row.get_by_text(misfit("SDXL", "SD 1.5")).wait_for()
        page.locator("#setting_sd_model_checkpoint input").click()
        page.locator("ul.options li", has_text="tiny-sdxl").click()
        rows.nth(1).get_by_text(misfit("SD 1.5", "SDXL")).wait_for()
        row.get_by_text(misfit("SDXL", "SD 1.5")).wait_for(state="detached")
        row.locator(".lora-bar-block[aria-label=OUT11]").wait_for(state="detached")
        blocks = names()
        assert blocks == ["BASE", *(f"IN0{n}" for n in range(9)), "M00", *(f"OUT0{n}" for n in range(9))]
        row.locator(".lora-bar-block[aria-label=IN08]").click()
        numbers = ",".join("0" if name == "IN08" else "1" for name in blocks)
        assert f"<lora:sdxl:0.8:lbw={numbers}>" in prompt(page)
        row.get_by_label("Preset of block weights").select_option("OUTALL")
        assert "<lora:sdxl:0.8:lbw=OUTALL>" in prompt(page)
        levels = [each.get_attribute("aria-valuenow") for each in row.locator("[data-lora-bar]").all()]
        assert levels == ["1", *"00000", *"111111"]  # 12 numbers: of the blocks with attention
    finally:
        webui.checkpoint("tiny-sd1")


def test_reload_ui_leaves_one_of_everything(webui, page):
    before = webui.draw("a red circle <lora:sd1:0.8>")
    starts = webui.log.read_text().count("Startup time:")
    page.locator("#tabs > .tab-nav button", has_text="Settings").click()
    page.locator("#settings_restart_gradio").click()
    webui.wait_for("Startup time:", starts + 1)
    after = webui.draw("a red circle <lora:sd1:0.8>")
    assert difference(before.picture, after.picture) == 0
    assert before.text == after.text
    log = webui.log.read_text()
    assert "is in the way" not in log
    assert "Error executing callback" not in log
    assert "already applied" not in log
    seen = webui.request("/probe")
    assert seen["torch is patched"] is False
    assert seen["pages"] == ["lib_lora.webui.cards.extra_page"]
    assert {"sd1", "second"} <= {each["name"] for each in webui.request("/sdapi/v1/loras")}
    fresh = page.context.new_page()
    page.close()  # it reloads itself at a time of its own; of two at once Gradio forgets one that is slow to answer
    open_page(fresh, webui)
    cards(fresh)
    card(fresh, "sd1").click()
    assert prompt(fresh) == " <lora:the sd1 one:1>"


def test_the_preferred_weight_can_be_negative_where_the_built_in_ran_before(checkpoints, adapters, tmp_path):
    """The WebUI remembers limits by the label; the built-in's slider with the same label ends at 0 and 2."""
    webui = WebUI(tmp_path, checkpoints)
    shutil.copytree(adapters, webui.loras, dirs_exist_ok=True)
    (webui.loras / "second.json").write_text(json.dumps({"preferred weight": -0.7}))
    label = "Preferred weight"
    limits = {"visible": True, "value": 0.0, "minimum": 0.0, "maximum": 2.0, "step": 0.01}
    left = {f"{tab}/{label}/{key}": value for tab in ("txt2img", "img2img") for key, value in limits.items()}
    (tmp_path / "ui-config.json").write_text(json.dumps(left | {"txt2img/Activation text/value": "left there"}))
    webui.start()
    try:
        made = [each["props"] for each in webui.request("/config")["components"]
                if each["props"].get("label") == label and each["type"] == "slider"]
        assert len(made) == 2
        assert all((each["minimum"], each["maximum"]) == (-2, 2) for each in made)
        kept = json.loads((tmp_path / "ui-config.json").read_text())
        assert {key: kept[key] for key in left} == left  # for the built-in, should it be back one day
    finally:
        webui.stop()


def test_after_an_update_under_a_running_webui_the_page_says_so_and_starts_nothing(checkpoints, adapters, tmp_path):
    webui = WebUI(tmp_path, checkpoints)
    shutil.copytree(adapters, webui.loras, dirs_exist_ok=True)
    webui.start()
    script = tmp_path / "extensions" / "lib_lora" / "javascript" / "lora_strip.js"
    before = script.read_text("utf-8")
    try:
        assert webui.request("/lora/v1/page") == {"outdated": False}
        good = webui.draw("a cat <lora:sd1:0.8>").picture
        script.write_text(f"{before}\n// newer", "utf-8")
        assert webui.request("/lora/v1/page") == {"outdated": True}
        with browsing() as browser, opened(browser, webui) as page:
            page.locator("#txt2img_prompt_row ~ .lora-outdated").get_by_text("start the WebUI again").wait_for()
            page.locator(PROMPT).fill("a cat <lora:sd1:0.8>")
            page.wait_for_timeout(1000)
            assert page.locator(".lora-row, .lora-card-bar, .lora-listing > *").count() == 0
        assert difference(webui.draw("a cat <lora:sd1:0.8>").picture, good) == 0
        webui.reload()  # the modules stay as they are
        assert webui.request("/lora/v1/page") == {"outdated": True}
        script.write_text(before, "utf-8")
        with browsing() as browser, opened(browser, webui) as page:
            page.locator(PROMPT).fill("a cat <lora:sd1:0.8>")
            page.locator("#txt2img_prompt_container .lora-strip .lora-row").first.wait_for()
    finally:
        webui.stop()


def test_scripts_beside_a_python_that_did_not_start_do_nothing(checkpoints, adapters, tmp_path):
    """As in a program where the extension does not belong."""
    webui = WebUI(tmp_path, checkpoints)
    shutil.copytree(adapters, webui.loras, dirs_exist_ok=True)
    (tmp_path / "extensions" / "lib_lora" / "scripts" / "lora_adapters.py").write_text("")
    webui.start()
    try:
        with browsing() as browser, opened(browser, webui) as page:
            asked = []
            page.on("request", lambda request: asked.append(request.url))
            page.locator(PROMPT).fill("a cat <lora:sd1:0.8>")
            cards(page)
            page.wait_for_timeout(3500)
            assert page.locator(".lora-strip, .lora-card-bar, .lora-outdated").count() == 0
            assert not [url for url in asked if "/lora/v1" in url]
            card(page, "second").click()
            assert "<lora:second:1>" in prompt(page)
    finally:
        webui.stop()
