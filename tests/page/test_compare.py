"""Compare on the page: cards that are marked, side by side, live; left, found again, cancelled, gone on with."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.page.conftest import PATIENCE
from tests.page.hands import CARDS, card, focus_is_in, generate, open_listing, put_steps, write

PICTURE = ".lora-compare-cell img"


def mark(page, *titles):
    """Mark these cards and press Compare; the panel."""
    open_listing(page)
    page.get_by_label("Select several").click()
    for title in titles:
        card(page, title).click()
    page.locator(".lora-picking").get_by_role("button", name="Compare").click()
    panel = page.locator(".lora-compare")
    expect(panel).to_be_visible()
    return panel


def fill(panel, **fields):
    for name, value in {"steps": "1", "size": "64x64", "prompts": "a red circle", **fields}.items():
        panel.locator(f"[name={name}]").fill(value)


def start(panel, name="Start"):
    button = panel.get_by_role("button", name=name, exact=True)
    expect(button).to_be_enabled()
    button.click()


def said(panel):
    return panel.locator(".lora-compare-said")


def reopen(page):
    page.reload()
    open_listing(page)
    page.locator(".lora-bar").get_by_label("Compare").click()
    return page.locator(".lora-compare")


def test_marked_cards_are_drawn_side_by_side_and_found_again(page, address):
    write(page, "a large red circle,\n<lora:bend:1>")
    panel = mark(page, "bend", "ink wash", "half")
    expect(panel.locator("[name=prompts]")).to_have_value("a large red circle,")
    assert sorted(panel.locator(".lora-chosen-chip").all_inner_texts()) == ["bend", "half", "ink wash"]
    fill(panel, weights="0 1", seeds="1-2")
    expect(panel.locator(".lora-compare-plan")).to_contain_text("8 pictures")
    expect(panel.locator(".lora-compare-plan .lora-problem")).to_have_count(1)  # the broken one
    panel.get_by_label("Leave half out").click()
    expect(panel.locator(".lora-compare-plan")).to_contain_text("6 pictures")  # weight 0 is one for both
    start(panel)
    expect(said(panel)).to_have_text("Done: 8 cells", timeout=PATIENCE)
    expect(panel.locator(PICTURE)).to_have_count(8)
    for picture in panel.locator(PICTURE).all():
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("naturalWidth", 64)
    assert panel.locator(".lora-compare-section h4").all_inner_texts() == [
        "a red circle · seed 1", "a red circle · seed 2"]  # fmt: skip
    assert panel.locator("tbody th").first.inner_text() == "bend"
    assert "bend: 0 0.0 %" in panel.locator(".lora-plot").get_attribute("aria-label")
    links = {name: panel.locator(f"[data-lora-file={name}]").get_attribute("href") for name in ("report", "sheet")}
    assert "Effect against weight" in page.request.get(links["report"]).text()
    assert page.request.get(links["sheet"]).headers["content-type"] == "image/png"
    large = panel.locator(".lora-compare-cell a").first.get_attribute("href")
    assert page.request.get(large).body().startswith(b"\x89PNG")

    panel = reopen(page)
    expect(said(panel)).to_have_text("Done: 8 cells", timeout=PATIENCE)
    expect(panel.locator(PICTURE)).to_have_count(8)
    assert panel.locator("[name=weights]").input_value() == "0 1"
    assert panel.locator("[name=seeds]").input_value() == "1 2"
    assert sorted(panel.locator(".lora-chosen-chip").all_inner_texts()) == ["bend", "styles/ink wash"]
    expect(panel.locator(".lora-compare-plan")).to_have_text(re.compile(r"6 pictures, about .+"))


def test_one_that_is_cancelled_goes_on_and_generate_comes_in_between(page):
    panel = mark(page, "bend")
    fill(panel, weights="0.5 1", seeds="1-4", steps="6")
    start(panel)
    panel.locator(".lora-compare-section", has_text="seed 4").wait_for()  # another one may have been there before
    panel.locator(PICTURE).first.wait_for()
    panel.get_by_role("button", name="Cancel").click()
    expect(said(panel)).to_contain_text("Cancelled", timeout=PATIENCE)
    drawn = panel.locator(PICTURE).count()
    assert 0 < drawn < 8
    panel = reopen(page)
    expect(panel.locator(PICTURE)).to_have_count(drawn)
    panel.locator("[name=prompts]").wait_for()
    start(panel, "Go on")
    expect(said(panel)).to_contain_text("of 8", timeout=PATIENCE)
    page.get_by_role("tab", name="Draw").click()
    put_steps(page, 2)
    assert generate(page).startswith((b"\x89PNG", b"RIFF", b"\xff\xd8"))
    page.get_by_role("tab", name="Adapters").click()
    expect(said(panel)).to_have_text("Done: 8 cells", timeout=PATIENCE)
    expect(panel.locator(PICTURE)).to_have_count(8)


def test_what_cannot_be_drawn_is_said_while_it_is_written(page):
    panel = mark(page, "bend")
    for fields, sentence in [({"weights": "0_5"}, "'0_5' is not a weight"), ({"seeds": "-1"}, "is no seed"),
                             ({"size": "65x64"}, "multiples of 8"), ({"prompts": ""}, "there are no prompts"),
                             ({"seeds": "1-900", "weights": "0 1 2"}, "cells are more than")]:  # fmt: skip
        fill(panel, **{"weights": "0 1", "seeds": "1", **fields})
        expect(panel.locator(".lora-compare-plan .lora-problem")).to_contain_text(sentence)
        expect(panel.get_by_role("button", name="Start", exact=True)).to_be_disabled()


def test_the_keyboard_leads_there_and_back(page):
    open_listing(page)
    page.locator(".lora-window").focus()
    page.keyboard.press("x")
    page.keyboard.press("c")
    panel = page.locator(".lora-compare")
    expect(panel.locator(".lora-chosen-chip")).to_have_count(1)
    panel.locator("[name=weights]").focus()
    page.keyboard.type("x f")  # letters are for the form
    assert panel.locator("[name=weights]").input_value().endswith("x f")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    assert focus_is_in(page, ".lora-bar")
    expect(page.locator(CARDS).first).to_be_visible()


def test_it_fits_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    panel = mark(page, "bend", "ink wash")
    fill(panel, weights="0 0.5 1 1.5", seeds="1")
    start(panel)
    expect(said(panel)).to_have_text("Done: 8 cells", timeout=PATIENCE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": 1280, "height": 900})
