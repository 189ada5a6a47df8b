"""The WebUI's page in headless Chromium: cards, editor, metadata, the tab LoRA, Reload UI."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.webui.instance import difference

PROMPT = "#txt2img_prompt textarea"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PATIENCE = 30_000  # milliseconds


@pytest.fixture
def page(webui) -> Iterator[Page]:
    """The WebUI's page, the network cut off; any script error fails the test."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
        page.set_default_timeout(PATIENCE)
        failures: list[str] = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("dialog", lambda dialog: (failures.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        here = (webui.url, "data:", "blob:")
        page.context.route("**/*", lambda each: each.continue_() if each.request.url.startswith(here) else each.abort())
        open_page(page, webui)
        yield page
        browser.close()
    assert failures == []


def open_page(page: Page, webui) -> None:
    page.goto(webui.url, wait_until="domcontentloaded")
    page.wait_for_selector("#txt2img_generate")
    page.wait_for_function("opts.extra_networks_add_text_separator !== undefined")  # the page has read its options
    page.wait_for_function("document.querySelectorAll('#txt2img_lora_cards .card').length > 3")


def cards(page: Page):
    page.locator("#txt2img_extra_tabs > .tab-nav button", has_text="Lora").first.click()
    return page.locator("#txt2img_lora_cards .card")


def card(page: Page, name: str):
    return page.locator(f'#txt2img_lora_cards .card[data-name="{name}"]')


def prompt(page: Page) -> str:
    page.wait_for_timeout(300)
    return page.locator(PROMPT).input_value()


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
    assert "sdxl" not in {each.get_attribute("data-name") for each in cards(page).all()}
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
    cards(page)
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
    cards(page)
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
    assert seen["pages"] == ["lib_lora.webui.page"]
    assert {"sd1", "second"} <= {each["name"] for each in webui.request("/sdapi/v1/loras")}
    fresh = page.context.new_page()  # the old one is reloading itself, at a time of its own
    open_page(fresh, webui)
    cards(fresh)
    card(fresh, "sd1").click()
    assert prompt(fresh) == " <lora:the sd1 one:1>"
