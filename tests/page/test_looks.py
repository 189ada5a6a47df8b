"""How the page looks and moves: contrast, narrow windows, no needless motion, another language, 10,000 cards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.page.conftest import THEMES
from tests.page.hands import CARDS, SUBJECT, choose, open_details, open_listing, write

ENOUGH = 4.5  # WCAG 2.2 AA for texts of this size
TEXTS = """
    .lora-title .lora-meta .lora-trigger .lora-badge .lora-told .lora-facet .lora-search .lora-select .lora-chosen-chip
    .lora-details_h3 .lora-details_h4 .lora-facts_dt .lora-facts_dd .lora-text .lora-details_.lora-chip .lora-primary
    .lora-input .lora-tag .lora-count .lora-picked .lora-details_.lora-caption
"""  # what must be readable while the details are open; "_" is a space
CONTRAST = Path(__file__).with_name("contrast.js").read_text("utf-8")


@pytest.fixture
def noted(studio, folder):
    """One of the adapters has notes of every kind."""
    (folder / "bend.json").write_text('{"notes": "soft", "description": "bends", "activation text": "bent"}')
    studio.attached.library.refresh()


@THEMES
def test_every_text_stands_out_from_its_ground(noted, page):
    open_listing(page)
    choose(page, "folder", "(top)")
    page.locator(".lora-chosen-chip").wait_for()
    open_details(page, "half")
    weak = [each for each in page.evaluate(CONTRAST, [".lora-details .lora-problem"]) if each[2] < ENOUGH]
    panel = open_details(page, "bend")
    panel.get_by_label("Add a tag").fill("lines")
    panel.get_by_label("Add a tag").press("Enter")
    panel.locator(".lora-tag-large", has_text="lines").wait_for()
    page.click("[data-lora-facet=family]")
    page.get_by_label("Select several").click()
    page.click("[data-lora-facet=family]")
    needed = [name.replace("_", " ") for name in TEXTS.split()]
    page.wait_for_timeout(300)
    weak += [each for each in page.evaluate(CONTRAST, needed) if each[2] < ENOUGH]
    panel.get_by_label("Edit the notes").first.click()
    weak += [each for each in page.evaluate(CONTRAST, [".lora-label", ".lora-secondary"]) if each[2] < ENOUGH]
    assert weak == []


def outside(page, selector):
    """What is seen of `selector` beyond the right border of the listing."""
    return page.evaluate(
        """selector => {
        const {right} = document.querySelector('.lora-listing').getBoundingClientRect();
        return [...document.querySelectorAll(selector)]
            .filter((node) => node.getBoundingClientRect().right > right + 1)
            .map((node) => node.outerHTML.slice(0, 200));
    }""",
        selector,
    )


@pytest.mark.parametrize("width", [375, 390, 820])
def test_nothing_is_wider_than_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 844})
    write(page, f"{SUBJECT} <lora:bend:0.8> <lora:ink wash:0.2:0.4> <lora:grain>")
    page.wait_for_timeout(400)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    open_listing(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(CARDS).first.bounding_box()["width"] > 120
    choose(page, "family", "SDXL")
    chip = page.locator(".lora-chosen-chip", has_text="SDXL")
    assert outside(page, ".lora-chosen-chip") == []
    chip.click()
    chip.wait_for(state="detached")
    page.get_by_label("Select several").click()
    page.locator(CARDS).first.click()
    assert outside(page, ".lora-listing :is(button, input, select)") == []
    open_details(page, "bend")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert outside(page, ".lora-details *") == []


def test_on_a_phone_the_details_cover_the_cards_and_take_the_focus(page):
    page.set_viewport_size({"width": 375, "height": 812})
    open_listing(page)
    page.locator(".lora-window").focus()
    page.keyboard.press("i")
    page.wait_for_function("document.activeElement.matches('.lora-details')")
    page.get_by_label("Close").click()
    page.wait_for_function("document.activeElement.matches('.lora-window')")


def test_who_wants_no_motion_gets_none(page):
    page.emulate_media(reduced_motion="reduce")
    write(page, "<lora:bend:1> <lora:ink wash:1>")
    open_listing(page)
    moving = page.evaluate("""() => [...document.querySelectorAll('.lora-listing *, .lora-strip *')].filter((node) => {
        const {transitionDuration, animationName} = getComputedStyle(node);
        return transitionDuration.split(', ').some((time) => time !== '0s') || animationName !== 'none';
    }).map((node) => node.className)""")
    assert moving == []


def test_what_has_the_focus_is_seen(page):
    open_listing(page)
    page.locator(".lora-search").focus()
    for _ in range(8):
        page.keyboard.press("Tab")
        style = page.evaluate("""() => {
            const {outlineStyle, outlineWidth} = getComputedStyle(document.activeElement);
            return [document.activeElement.className, outlineStyle, parseFloat(outlineWidth)];
        }""")
        assert style[1:] == ["solid", 2], style


def test_another_language_shows_through_the_webuis_dictionary(page, address):
    german = {
        "{n} adapters": "{n} Adapter",
        "Base model": "Basismodell",
        "Keys": "Tasten",
        "Search names, tags, words, notes …": "Namen, Stichwörter, Wörter, Notizen suchen …",
        "rank {n}": "Rang {n}",
    }
    page.add_init_script(f"window.localization = {json.dumps(german)}")
    page.goto(address)
    open_listing(page)
    assert page.locator(".lora-told").inner_text() == "4 Adapter"
    assert page.locator("[data-lora-facet=family]").inner_text().strip() == "Basismodell"
    assert page.locator(".lora-search").get_attribute("placeholder").startswith("Namen, Stichwörter")
    assert "Rang " in page.locator(".lora-card .lora-meta").first.inner_text()
    assert page.get_by_label("Tasten").count() > 0
    assert page.get_by_label("Look for new files").count() == 1  # not in the dictionary: English
    page.close()  # another would be German, too


def answer_with_many(route):
    """10,000 cards like the first of the real answer."""
    query = dict(pair.split("=") for pair in route.request.url.split("?")[1].split("&"))
    told = route.fetch(url=route.request.url.split("?")[0]).json()
    first = int(query.get("offset", 0))
    items = [
        told["items"][0] | {"id": n, "title": f"a{n}", "thumbnail": f"adapters/{n}/thumbnail"}
        for n in range(first, min(first + int(query["limit"]), 10_000))
    ]
    route.fulfill(json=told | {"total": 10_000, "installed": 10_000, "offset": first, "items": items})


def test_no_card_needs_a_layer_of_its_own_so_that_they_scroll_as_one_picture(page):
    """With such layers a browser without a GPU draws all cards in sight anew in every frame."""
    open_listing(page)
    page.locator(".lora-dim").first.wait_for()
    found = page.evaluate(
        """selector => [...document.querySelectorAll(selector)].flatMap((card) => [card, ...card.querySelectorAll('*')])
        .map((node) => [node.className, getComputedStyle(node)])
        .filter(([, style]) => style.filter !== 'none' || style.backdropFilter !== 'none' || Number(style.opacity) < 1
            || style.willChange !== 'auto' || style.animationName !== 'none'
            || parseFloat(style.transitionDuration) > 0)
        .map(([name]) => name)""",
        CARDS,
    )
    assert found == []
    assert page.locator(".lora-window").evaluate("node => getComputedStyle(node).willChange") == "scroll-position"


def test_ten_thousand_cards_scroll_and_only_those_in_sight_are_elements(page):
    page.route("**/lora/v1/adapters?*", answer_with_many)
    page.route("**/thumbnail", lambda route: route.fulfill(status=204))
    page.reload()
    open_listing(page)
    window = page.locator(".lora-window")
    tall = window.evaluate("node => node.scrollHeight")
    frames = window.evaluate("""async (node) => {
        const times = [];
        for (let step = 0; step < 60; step += 1) {
            const start = performance.now();
            node.scrollTop = node.scrollHeight * step / 60;
            await new Promise(requestAnimationFrame);
            times.push(performance.now() - start);
        }
        node.scrollTop = node.scrollHeight;
        return times.sort((a, b) => a - b);
    }""")
    page.locator(".lora-title", has_text="a9999").wait_for()
    assert tall > 300_000
    assert page.locator(".lora-card").count() < 80
    assert frames[len(frames) // 2] < 100  # milliseconds; on a quiet machine it is one frame
