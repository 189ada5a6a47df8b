"""What a person does on the page, and sees."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

SUBJECT = "a large red circle on a white background"
PROMPT = "#lora-prompt textarea"
SLIDER = ".lora-row input[type=range]:visible"
NUMBER = ".lora-row .lora-number:visible"
PICTURE = "#lora-gallery img"
CARDS = ".lora-card:not(.lora-ghost)"


def write(page: Page, text: str) -> None:
    page.fill(PROMPT, text)


def text(page: Page) -> str:
    return page.input_value(PROMPT)


def wait_for_text(page: Page, wanted: str) -> None:
    page.wait_for_function("([area, wanted]) => document.querySelector(area).value === wanted", arg=[PROMPT, wanted])


def drawn(page: Page, action) -> bytes:
    """The picture that `action` brings, as the browser loads it."""
    before = page.locator(PICTURE).first.get_attribute("src") if page.locator(PICTURE).count() else None
    action()
    page.wait_for_function(
        "([name, before]) => {"
        " const image = document.querySelector(name);"
        " return image && image.getAttribute('src') !== before && image.complete; }",
        arg=[PICTURE, before],
    )
    return page.request.get(page.locator(PICTURE).first.evaluate("image => image.src")).body()


def generate(page: Page) -> bytes:
    return drawn(page, lambda: page.click("#lora-generate"))


def put_seed(page: Page, seed: int) -> None:
    page.fill("#lora-seed input", str(seed))
    page.locator("#lora-seed input").blur()


def put_steps(page: Page, steps: int) -> None:
    """A picture is not looked at closely everywhere."""
    page.fill("#lora-steps input[type=number]", str(steps))
    page.locator("#lora-steps input[type=number]").blur()


def open_listing(page: Page) -> Locator:
    """The tab with the listing; its cards."""
    page.get_by_role("tab", name="Adapters").click()
    page.locator(CARDS).first.wait_for()
    return page.locator(CARDS)


def count_cards(page: Page, wanted: int) -> None:
    page.wait_for_function("([cards, n]) => document.querySelectorAll(cards).length === n", arg=[CARDS, wanted])


def card(page: Page, title: str) -> Locator:
    return page.locator(CARDS).filter(has=page.locator(".lora-title", has_text=title))


def choose(page: Page, facet: str, value: str) -> None:
    """Open a facet, turn one of its values on or off, close it."""
    page.click(f".lora-facet[data-lora-facet={facet}]")
    page.locator(".lora-choice", has_text=value).click()
    page.keyboard.press("Escape")


def open_details(page: Page, title: str) -> Locator:
    card(page, title).locator(".lora-open").click()
    panel = page.locator(".lora-details")
    panel.locator(".lora-facts").first.wait_for()  # everything is here
    return panel


def focus_is_in(page: Page, selector: str) -> bool:
    return page.evaluate("name => Boolean(document.activeElement.closest(name))", selector)
