"""The WebUI's page in headless Chromium, and what the tests do with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Error, Locator, Page, sync_playwright

import install
from tests.webui.instance import WebUI

PROMPT = "#txt2img_prompt textarea"
NEGATIVE = "#txt2img_neg_prompt textarea"
CHROMIUM = next(filter(None, map(shutil.which, install.CHROMIUM)), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PATIENCE = 120_000  # milliseconds: a busy machine takes a minute for the page


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser without a page."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, webui: WebUI) -> Iterator[Page]:
    """The WebUI's page, the network cut off; any script error fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: None if is_of_gradio(error) else failures.append(f"{error}\n{error.stack}"))
    page.on("dialog", lambda dialog: (failures.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    here = (webui.url, "data:", "blob:")
    context.route("**/*", lambda each: each.continue_() if each.request.url.startswith(here) else each.abort())
    open_page(page, webui)
    yield page
    context.close()
    assert not failures, failures


def is_of_gradio(error: Error) -> bool:
    """Gradio 3.41 complains after each picture, also in a WebUI without this extension."""
    return "reading 'props'" in error.message and "/assets/Blocks-" in (error.stack or "")


def open_page(page: Page, webui: WebUI) -> None:
    page.goto(webui.url, wait_until="domcontentloaded")
    page.wait_for_selector("#txt2img_generate")
    page.wait_for_function("opts.extra_networks_add_text_separator !== undefined")  # the page has read its options
    page.wait_for_function("document.querySelectorAll('#txt2img_lora_cards .card').length > 3")


def cards(page: Page) -> Locator:
    page.locator("#txt2img_extra_tabs > .tab-nav button", has_text="Lora").first.click()
    return page.locator("#txt2img_lora_cards .card")


def card(page: Page, name: str) -> Locator:
    return page.locator(f'#txt2img_lora_cards .card[data-name="{name}"]')


def prompt(page: Page) -> str:
    page.wait_for_timeout(300)
    return page.locator(PROMPT).input_value()


def refreshed(page: Page, text: str) -> None:
    """The cards after a press on "Refresh", which the WebUI asks for; `text` stands somewhere in one of them."""
    cards(page)
    page.locator("#txt2img_lora_extra_refresh:visible").click()
    all_cards = "[...document.querySelectorAll('#txt2img_lora_cards > .card')]"
    page.wait_for_function(f"text => {all_cards}.some(card => card.outerHTML.includes(text))", arg=text)
