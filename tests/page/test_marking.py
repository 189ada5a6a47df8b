"""What a user marks: favourites, tags, previews, several adapters at once; duplicates and broken files."""

from __future__ import annotations

import io
import shutil

import pytest
from PIL import Image

from tests.page.hands import (
    SUBJECT,
    card,
    choose,
    count_cards,
    generate,
    open_details,
    open_listing,
    put_steps,
    text,
    write,
)


@pytest.fixture(autouse=True)
def unmarked(studio, address, page):
    """Marks last longer than a page: each test begins without any."""
    cards = page.request.get(f"{address}/lora/v1/adapters").json()["items"]
    tags = sorted({tag for card in cards for tag in card["user_tags"]})
    change = {"ids": [card["id"] for card in cards], "favorite": False, "remove_tags": tags}
    page.request.post(f"{address}/lora/v1/marks", data=change)


def titles(page):
    """Of the cards, in the order in which they are seen."""
    page.wait_for_function(
        """() => document.querySelectorAll(".lora-card:not(.lora-ghost)").length
        === Number(document.querySelector(".lora-card")?.getAttribute("aria-setsize"))"""
    )
    found = page.locator(".lora-card:not(.lora-ghost)").evaluate_all(
        """cards => cards.map((card) =>
        [Number(card.getAttribute('aria-posinset')), card.querySelector('.lora-title').textContent])"""
    )
    return [title for _, title in sorted(found)]


def test_a_favourite_by_click_or_key_comes_first(page):
    open_listing(page)
    assert titles(page)[0] == "bend"
    card(page, "ink wash").hover()
    card(page, "ink wash").locator(".lora-star").click()
    page.locator(".lora-favorite").wait_for()
    assert text(page) != ""  # and the click did nothing else
    page.reload()
    open_listing(page)
    assert titles(page)[0] == "ink wash"
    choose(page, "state", "Favourites")
    count_cards(page, 1)
    page.locator(".lora-window").focus()
    page.keyboard.press("f")
    page.locator(".lora-favorite").wait_for(state="detached")


def test_tags_are_added_and_removed_as_chips_and_are_a_filter(page):
    open_listing(page)
    panel = open_details(page, "bend")
    for tag in ("lines", "<i>soft</i>"):
        panel.get_by_label("Add a tag").fill(tag)
        panel.get_by_label("Add a tag").press("Enter")
        panel.locator(".lora-tag-large", has_text=tag).wait_for()
        card(page, "bend").locator(".lora-tag", has_text=tag).wait_for()  # the card follows with the next frame
    assert card(page, "bend").locator(".lora-tag").all_inner_texts() == ["lines", "<i>soft</i>"]
    choose(page, "tag", "lines")
    count_cards(page, 1)
    panel.get_by_label("Remove the tag lines").click()
    panel.locator(".lora-tag-large", has_text="lines").wait_for(state="detached")
    card(page, "bend").locator(".lora-tag", has_text="lines").wait_for(state="detached")
    assert card(page, "bend").locator(".lora-tag").all_inner_texts() == ["<i>soft</i>"]


def test_tags_that_exist_are_suggested(page):
    open_listing(page)
    panel = open_details(page, "bend")
    panel.get_by_label("Add a tag").fill("lines")
    panel.get_by_label("Add a tag").press("Enter")
    panel.locator(".lora-tag-large").wait_for()
    panel = open_details(page, "ink wash")
    panel.get_by_label("Add a tag").focus()
    page.wait_for_function("document.querySelector('.lora-listing datalist').options.length === 1")
    assert page.evaluate("document.querySelector('.lora-listing datalist').options[0].value") == "lines"


def test_several_are_marked_at_once(page):
    open_listing(page)
    prompt = text(page)
    order = titles(page)
    card(page, order[0]).click(modifiers=["Control"])
    card(page, order[2]).click(modifiers=["Shift"])
    bar = page.get_by_role("toolbar", name="Selected adapters")
    assert bar.locator(".lora-picked").inner_text() == "3 selected"
    assert page.locator(".lora-card[aria-checked=true]").count() == 3
    bar.get_by_label("Tag for the selected adapters").fill("batch")
    bar.get_by_role("button", name="Add tag").click()
    page.locator(".lora-told", has_text="3 adapters changed").wait_for()
    bar.get_by_role("button", name="Select all shown").click()
    page.locator(".lora-picked", has_text="4 selected").wait_for()
    bar.get_by_role("button", name="Favourite", exact=True).click()
    page.wait_for_function("document.querySelectorAll('.lora-favorite').length === 4")
    bar.get_by_label("Tag for the selected adapters").fill("batch")
    bar.get_by_role("button", name="Remove tag").click()
    page.locator(".lora-card .lora-tag").first.wait_for(state="detached")
    bar.get_by_role("button", name="Unfavourite").click()
    page.locator(".lora-favorite").first.wait_for(state="detached")
    bar.get_by_role("button", name="Clear selection").click()
    assert bar.is_hidden()
    assert text(page) == prompt


def test_the_selection_has_a_key_and_a_mode_in_which_a_plain_click_selects(page):
    open_listing(page)
    prompt = text(page)
    page.locator(".lora-window").focus()
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    assert page.locator(".lora-picked").inner_text() == "2 selected"
    page.keyboard.press("Escape")
    assert page.locator(".lora-card[aria-checked]").count() == 0
    page.get_by_label("Select several").click()
    page.locator(".lora-card").first.click()
    assert page.locator(".lora-picked").inner_text() == "1 selected"
    assert text(page) == prompt


def test_the_last_picture_becomes_the_preview(page, studio):
    write(page, SUBJECT)
    put_steps(page, 1)
    drawn = generate(page)
    open_listing(page)
    panel = open_details(page, "bend")
    assert panel.locator(".lora-loaded").count() == 0
    panel.get_by_role("button", name="Preview from the last picture").click()
    panel.locator(".lora-status", has_text="This is the preview now").wait_for()
    panel.locator(".lora-loaded").wait_for()
    card(page, "bend").locator(".lora-loaded").wait_for()
    saved = studio.attached.library.folders[0] / "bend.png"
    with Image.open(saved) as preview:
        assert preview.size == Image.open(io.BytesIO(drawn)).size
    saved.unlink()
    studio.attached.library.refresh()


def test_a_picture_can_come_from_a_file_and_what_is_none_is_refused(page, studio, tmp_path, failures):
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "mine.jpg")
    (tmp_path / "text.png").write_bytes(b"no picture")
    open_listing(page)
    panel = open_details(page, "bend")
    panel.get_by_label("A picture as preview").set_input_files(tmp_path / "text.png")
    panel.locator(".lora-status", has_text="The picture cannot be used").wait_for()
    assert all("400" in line for line in failures)
    failures.clear()
    panel.get_by_label("A picture as preview").set_input_files(tmp_path / "mine.jpg")
    panel.locator(".lora-loaded").wait_for()
    [saved] = studio.attached.library.folders[0].glob("bend.*[gp]")
    with Image.open(saved) as preview:
        assert preview.size == (40, 30)
    saved.unlink()
    studio.attached.library.refresh()


def test_a_picture_is_dropped_on_the_panel_or_pasted(page, studio):
    open_listing(page)
    panel = open_details(page, "bend")
    give = """([selector, kind]) => new Promise((go) => {
        const canvas = Object.assign(document.createElement('canvas'), {width: 24, height: 16});
        canvas.getContext('2d').fillRect(0, 0, 9, 9);
        canvas.toBlob((blob) => {
            const data = new DataTransfer();
            data.items.add(new File([blob], 'x.png', {type: 'image/png'}));
            const more = kind === 'drop' ? {dataTransfer: data} : {clipboardData: data};
            const Kind = kind === 'drop' ? DragEvent : ClipboardEvent;
            document.querySelector(selector).dispatchEvent(new Kind(kind, {bubbles: true, cancelable: true, ...more}));
            go();
        });
    })"""
    for selector, kind in ((".lora-details .lora-thumb", "drop"), (".lora-details", "paste")):
        page.evaluate("document.querySelector('.lora-details .lora-status').textContent = ''")
        page.evaluate(give, [selector, kind])
        panel.locator(".lora-status", has_text="This is the preview now").wait_for()
        saved = studio.attached.library.folders[0] / "bend.png"
        with Image.open(saved) as picture:
            assert picture.size == (24, 16)
        saved.unlink()
    studio.attached.library.refresh()


def test_without_a_picture_there_is_a_sentence(page):
    open_listing(page)
    panel = open_details(page, "bend")
    panel.get_by_role("button", name="Preview from the last picture").click()
    assert panel.locator(".lora-status").inner_text() == "There is no picture yet: draw one first."


def test_duplicates_stand_in_groups_with_the_reason(page, studio, folder):
    shutil.copy(folder / "bend.safetensors", folder / "styles" / "bend again.safetensors")
    studio.attached.library.refresh()
    open_listing(page)
    page.get_by_label("Duplicates").first.click()
    group = page.locator(".lora-group")
    group.first.wait_for()
    assert group.count() == 1
    assert group.locator("h4").inner_text() != ""
    assert group.locator(".lora-line-name").all_inner_texts() == ["bend", "styles/bend again"]
    group.locator(".lora-line").last.click()
    panel = page.locator(".lora-details")
    panel.locator(".lora-also-one", has_text="bend").click()
    panel.locator("h3", has_text="bend").wait_for()
    page.get_by_role("button", name="Compute hashes").click()
    page.locator(".lora-duplicates [role=progressbar]").first.wait_for(state="hidden")
    page.get_by_role("button", name="Back to the listing").click()
    assert page.locator(".lora-window").is_visible()
    (folder / "styles" / "bend again.safetensors").unlink()
    studio.attached.library.refresh()


def test_broken_files_say_why_on_their_cards(page):
    open_listing(page)
    choose(page, "state", "Broken files")
    count_cards(page, 1)
    assert "half.safetensors is a text, not a model" in page.locator(".lora-card .lora-meta").inner_text()
    page.locator(".lora-card").click()
    assert "is a text, not a model" in page.locator(".lora-details .lora-problem").inner_text()


def test_hashes_are_computed_when_asked_for_and_copied(page):
    open_listing(page)
    panel = open_details(page, "ink wash")
    panel.get_by_role("button", name="Compute", exact=True).click()
    panel.get_by_label("Copy SHA-256").click()
    panel.locator(".lora-status", has_text="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert len(copied) == 64
    assert copied == panel.locator(".lora-hash code").first.get_attribute("title")
