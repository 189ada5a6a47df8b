"""What our cards have beyond the WebUI's: badges, filter, dimming, favourites, order, clicks, hostile names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.webui.browser import NEGATIVE, PROMPT, card, cards, open_page, opened, prompt, refreshed

BAR = "#txt2img_lora_pane .lora-card-bar"
ODD = "it's \"odd\" \\ <b onclick=hurt()>&amp; {x} (1)"
WRITINGS = (  # of one tag, as a user may have changed it
    "<lora:second:-0.7>", "<lora:second:0.3:0.9>", "<lora:second:te=0.5:unet=-1>", "<lyco:second:1>",
    "<lora: second : 1 >", "<lora:second>", "<lora:SECOND:1>", "<lora:./second.safetensors:1>", "<lora:second:abc>",
)  # fmt: skip


def names(page: Page) -> list[str]:
    """Of the cards in sight, in order."""
    shown = "each => each.filter(card => card.checkVisibility()).map(card => card.dataset.name)"
    return page.locator("#txt2img_lora_cards > .card").evaluate_all(shown)


def dimmed(page: Page) -> set[str]:
    reason = "all => all.map(card => [card.dataset.name, card.title, card.querySelector('.lora-reason').textContent])"
    told = page.locator("#txt2img_lora_cards > .card.lora-other").evaluate_all(reason)
    assert all(title and title == text for _, title, text in told)
    return {name for name, _, _ in told}


def settled(page: Page, condition: str) -> None:
    page.wait_for_function(condition)


def reloaded(page: Page, webui) -> None:
    open_page(page, webui)
    cards(page)
    page.locator(f"{BAR} .lora-chip").first.wait_for()


def fits(name: str, is_fitting: bool) -> str:
    this = f"document.querySelector('#txt2img_lora_cards .card[data-name=\"{name}\"]').classList"
    return f"{'!' * is_fitting}{this}.contains('lora-other')"


@pytest.fixture
def notes(webui) -> Iterator[None]:
    """`second` brings words for both prompts."""
    path = webui.loras / "second.json"
    path.write_text(
        json.dumps({"activation text": 'two, "2"', "preferred weight": 0.7, "negative text": "b[ad], (x)"})
    )
    webui.request("/sdapi/v1/refresh-loras", {})
    yield
    path.unlink()
    webui.request("/sdapi/v1/refresh-loras", {})


@pytest.fixture
def options(webui) -> Iterator[None]:
    """Options are as before afterwards."""
    before = webui.request("/sdapi/v1/options")
    yield
    after = webui.request("/sdapi/v1/options")
    webui.request("/sdapi/v1/options", {name: value for name, value in before.items() if value != after[name]})


def test_a_card_names_its_family_and_is_dimmed_with_the_reason_where_it_does_not_fit(page):
    cards(page)
    settled(page, fits("sdxl", False))
    assert dimmed(page) == {"sdxl", "sd2", "broken"}
    assert card(page, "sdxl").get_attribute("title") == "made for SDXL, the checkpoint is SD 1.5"
    assert card(page, "sd1").locator(".lora-badge").text_content() == "SD 1.5"
    assert card(page, "sdxl").locator(".lora-badge").text_content() == "SDXL"
    assert set(names(page)[-3:]) == {"sdxl", "sd2", "broken"}
    assert "SD 1.5" in page.locator(f"{BAR} [role=status]").inner_text()


def test_a_broken_file_says_what_is_wrong_with_it(page):
    cards(page)
    settled(page, fits("broken", False))
    reason = card(page, "broken").locator(".lora-reason").text_content()
    assert "download" in reason
    assert card(page, "broken").locator(".lora-badge").text_content() == "broken"
    before = prompt(page)
    card(page, "broken").click(position={"x": 20, "y": 20})
    assert page.locator(f"{BAR} [role=status]").inner_text() == reason
    assert prompt(page) == before


def test_the_cards_follow_the_checkpoint_without_being_written_anew(webui, page):
    cards(page)
    settled(page, fits("sdxl", False))
    page.evaluate("document.querySelector('#txt2img_lora_cards').mine = true")
    order = names(page)
    try:
        page.locator("#setting_sd_model_checkpoint input").click()
        page.locator("#setting_sd_model_checkpoint li", has_text="tiny-sdxl").click()
        settled(page, fits("sdxl", True))
        assert {"sd1", "second", "sd2", "broken"} <= dimmed(page)
        assert names(page)[0] == "sdxl"
        webui.checkpoint("tiny-sd1")  # by the API: the page itself hears nothing of it
        settled(page, fits("sdxl", False))
        assert dimmed(page) == {"sdxl", "sd2", "broken"}
        assert names(page) == order
        assert page.evaluate("document.querySelector('#txt2img_lora_cards').mine")
    finally:
        webui.checkpoint("tiny-sd1")


def test_those_that_do_not_fit_can_be_hidden_or_be_like_all_others(options, webui, page):
    cards(page)
    settled(page, fits("sdxl", False))
    webui.request("/sdapi/v1/options", {"lora_other_base_models": "hide"})
    card(page, "sdxl").wait_for(state="hidden")
    assert "broken" in names(page)
    webui.request("/sdapi/v1/options", {"lora_show_all": True})
    card(page, "sdxl").wait_for()
    settled(page, fits("sdxl", True))
    assert dimmed(page) == {"broken"}


def test_the_filter_leaves_the_chosen_families_is_remembered_and_reached_with_the_keyboard(webui, page):
    cards(page)
    chip = page.get_by_role("group", name="Filter").get_by_role("button", name="SDXL")
    chip.click()
    assert names(page) == ["sdxl"]
    assert chip.get_attribute("aria-pressed") == "true"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")  # the family before it
    page.wait_for_timeout(300)
    both = names(page)
    assert len(both) > 1
    reloaded(page, webui)
    assert names(page) == both
    page.locator("#txt2img_lora_extra_search:visible").fill("sdxl")
    page.wait_for_timeout(500)
    assert names(page) == ["sdxl"]


def test_favourites_stand_first_and_stay_so(webui, page):
    cards(page)
    settled(page, fits("sdxl", False))
    last = names(page)[-4]
    star = card(page, last).get_by_role("button", name="Favourite")
    try:
        card(page, last).hover()
        with page.expect_response("**/lora/v1/marks"):
            star.click()
        assert prompt(page) == ""
        assert names(page)[0] == last
        star = card(page, last).get_by_role("button", name="Favourite")
        assert star.get_attribute("aria-pressed") == "true"
        reloaded(page, webui)
        settled(page, fits("sdxl", False))
        assert names(page)[0] == last
        page.get_by_role("group", name="Filter").get_by_role("button", name="Favourites").click()
        assert names(page) == [last]
    finally:
        card(page, last).focus()
        for _ in range(card(page, last).locator(".card-button").count()):  # the star is the last of them
            page.keyboard.press("Tab")
        with page.expect_response("**/lora/v1/marks"):
            page.keyboard.press("Enter")
    assert names(page) == []


def test_the_order_is_remembered(webui, page):
    cards(page)
    settled(page, fits("sdxl", False))
    page.locator("#txt2img_lora_extra_sort_name:visible").click()
    page.locator("#txt2img_lora_extra_sort_dir:visible").click()
    page.wait_for_timeout(300)
    order = [name.rpartition("/")[2].lower() for name in names(page)]
    assert order[:-3] == sorted(order[:-3], reverse=True)
    reloaded(page, webui)
    settled(page, fits("sdxl", False))
    assert [name.rpartition("/")[2].lower() for name in names(page)] == order


def test_the_first_click_writes_what_the_webui_itself_writes(notes, webui, plain, page):
    shutil.copy(webui.loras / "second.json", plain.loras / "second.json")
    plain.request("/sdapi/v1/refresh-loras", {})
    starts = ("", "a cat", "a cat, ", "a cat\n", "<lora:sd1:1>, (dog:1.2)")

    def written(page: Page) -> list[tuple[str, str]]:
        found = []
        refreshed(page, "b[ad]")
        for name in ("second", "words", "墨 v1.5 (final)"):
            for start in starts:
                page.locator(PROMPT).fill(start)
                page.locator(NEGATIVE).fill(start)
                card(page, name).click()
                found.append((prompt(page), page.locator(NEGATIVE).input_value()))
        return found

    try:
        with opened(page.context.browser, plain) as theirs:
            expected = written(theirs)
    finally:
        (plain.loras / "second.json").unlink()
    assert written(page) == expected


def test_a_second_click_finds_the_tag_however_it_was_changed(notes, page):
    refreshed(page, "b[ad]")
    for start in ("", "a cat"):
        page.locator(PROMPT).fill(start)
        page.locator(NEGATIVE).fill("ugly")
        card(page, "second").click()
        assert page.locator(NEGATIVE).input_value() == "ugly (b[ad], (x):1)"
        card(page, "second").click()
        assert prompt(page) == start
        assert page.locator(NEGATIVE).input_value() == "ugly"
    for writing in WRITINGS:
        page.locator(PROMPT).fill(f'a cat, {writing} two, "2", a dog <lora:sd1:0.5>')
        card(page, "second").click()
        assert prompt(page) == "a cat, a dog <lora:sd1:0.5>", writing
    page.locator(PROMPT).fill("a cat <lora:sd1:-1> <lora:people/ink:1>")
    card(page, "styles/ink").click()
    assert prompt(page) == "a cat <lora:sd1:-1> <lora:people/ink:1> <lora:styles/ink:1>"
    card(page, "sd1").click()
    assert prompt(page) == "a cat <lora:people/ink:1> <lora:styles/ink:1>"


def test_a_negative_preferred_weight_goes_in_and_out(webui, page):
    path = webui.loras / "墨 v1.5 (final).json"
    path.write_text(json.dumps({"preferred weight": -0.5, "activation text": "(a [b"}))
    try:
        webui.request("/sdapi/v1/refresh-loras", {})
        refreshed(page, "-0.5")
        card(page, "墨 v1.5 (final)").click()
        assert prompt(page) == " <lora:墨 v1.5 (final):-0.5> (a [b"
        card(page, "墨 v1.5 (final)").click()
        assert prompt(page) == ""
    finally:
        path.unlink()
        webui.request("/sdapi/v1/refresh-loras", {})


def test_cards_and_their_buttons_are_reached_with_the_keyboard(page):
    cards(page)
    card(page, "sd1").focus()
    page.keyboard.press("Enter")
    assert prompt(page) == " <lora:the sd1 one:1>"
    page.keyboard.press("Space")
    assert prompt(page) == ""
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.title") == "Show internal metadata"
    page.keyboard.press("Enter")
    page.locator(".global-popup").get_by_text("the sd1 one").wait_for()


@pytest.fixture
def odd(webui, options) -> Iterator[None]:
    """A name and notes with markup and quotes in them; folders as a tree, where the WebUI escapes nothing."""
    folder = webui.loras / "<i onclick=hurt()>"
    folder.mkdir()
    shutil.copy(webui.loras / "text.safetensors", folder / f"{ODD}.safetensors")
    markup = "</script><img src=x onerror=hurt()>'\"\\"
    (folder / f"{ODD}.json").write_text(json.dumps({"activation text": markup, "description": markup}))
    webui.request("/sdapi/v1/options", {"extra_networks_tree_view_style": "Tree"})
    webui.request("/sdapi/v1/refresh-loras", {})
    yield
    shutil.rmtree(folder)
    webui.request("/sdapi/v1/refresh-loras", {})


def test_what_stands_in_names_and_notes_is_text(odd, webui, page):
    page.evaluate("() => { window.hurt = () => { window.isHurt = true; }; }")
    refreshed(page, "it's")
    mine = page.locator("#txt2img_lora_cards .card").filter(has_text="it's")
    assert mine.locator(".name").text_content() == ODD
    assert page.locator("#txt2img_lora_pane :is(b, i[onclick], img[src=x])").count() == 0
    tree = page.locator("#txt2img_lora_tree")
    assert tree.get_by_text("<i onclick=hurt()>", exact=True).count() == 1
    assert tree.get_by_text(ODD, exact=True).count() == 1
    mine.click()
    words = "</script><img src=x onerror=hurt()>'\"\\"
    assert words in prompt(page)
    mine.click()
    assert prompt(page) == ""
    mine.hover()
    mine.locator(".edit-button").click()
    box = page.locator("#txt2img_lora_edit_user_metadata")
    box.get_by_label("Activation text").wait_for(state="visible")
    assert ODD in box.inner_text()
    box.get_by_label("Description").fill("<u>mine</u>")
    box.get_by_role("button", name="Save").click()
    mine.get_by_text("<u>mine</u>").wait_for()  # the card was found by its name and drawn anew
    assert not page.evaluate("window.isHurt")
