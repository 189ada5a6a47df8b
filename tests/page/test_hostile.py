"""Everything from a file is text: markup in names, headers, notes and tags is shown as typed, and no script runs."""

from __future__ import annotations

import json

import pytest

from tests.page.hands import card, count_cards, open_details, open_listing, write
from tests.support import write_lora

EVIL = "<img src=x onerror=alert(1)>"
NAME = "<b>&amp;<script>alert(2)<"  # as far as a file can be called so
KEY = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k"


@pytest.fixture
def evil(studio, folder, page, address):
    """An adapter whose every text is markup; page and dialog listeners fail the test if any of it comes alive."""
    path = folder / f"{NAME.replace('/', '')}.safetensors"
    metadata = {
        "ss_output_name": EVIL,
        "modelspec.title": EVIL,
        "modelspec.author": EVIL,
        "modelspec.license": EVIL,
        "modelspec.trigger_phrase": EVIL,
        "ss_sd_model_name": EVIL,
        "ss_tag_frequency": json.dumps({"x": {EVIL: 7, "</script><svg onload=alert(3)>": 3}}),
    }
    write_lora(path, {KEY: (320, 768)}, metadata=metadata)
    notes = {
        "description": EVIL,
        "notes": f"notes {EVIL}",
        "activation text": f"{EVIL}, javascript:alert(4)",
        "negative text": EVIL,
    }
    path.with_suffix(".json").write_text(json.dumps(notes))
    studio.attached.library.refresh()
    found = page.request.get(f"{address}/lora/v1/adapters?q=script").json()["items"][0]
    tagged = page.request.post(f"{address}/lora/v1/marks", data={"ids": [found["id"]], "add_tags": [EVIL, "'\"><u>"]})
    assert tagged.ok, tagged.text()
    yield found
    path.unlink()
    path.with_suffix(".json").unlink()
    studio.attached.library.refresh()


def test_cards_details_form_and_strip_show_markup_as_text(page, evil):
    open_listing(page)
    page.fill(".lora-search", "onerror")
    count_cards(page, 1)
    assert card(page, EVIL).locator(".lora-title").inner_text() == EVIL
    assert EVIL in card(page, EVIL).locator(".lora-card-tags").inner_text()
    panel = open_details(page, EVIL)
    shown = panel.inner_text()
    assert shown.count(EVIL) > 7
    assert "</script><svg onload=alert(3)>" in shown
    assert f"notes {EVIL}" in panel.locator(".lora-text").all_inner_texts()
    assert panel.locator(".lora-facts dd", has_text=EVIL).count() > 0
    page.click("[data-lora-facet=tag]")
    assert page.locator(".lora-choice-name", has_text=EVIL).inner_text() == EVIL
    page.keyboard.press("Escape")
    panel.get_by_label("Add a tag").focus()
    panel.locator("[data-lora-word]").first.click()
    panel.get_by_label("Edit the notes").first.click()
    assert panel.get_by_label("Notes", exact=True).input_value() == f"notes {EVIL}"
    page.get_by_label("Duplicates").first.click()
    page.wait_for_timeout(500)
    page.get_by_role("tab", name="Draw").click()
    write(page, f"a <lora:{evil['tag_name']}:1> <lora:{EVIL}")
    page.locator(".lora-row").first.wait_for()
    page.wait_for_timeout(500)
    assert page.locator(":is(.lora-listing, .lora-strip) :is(script, b, u, i:not([class]))").count() == 0
    assert page.locator(":is(.lora-listing, .lora-strip) img:not(.lora-picture)").count() == 0
    assert page.evaluate(
        "[...document.querySelectorAll('.lora-listing svg')].every((each) => !each.hasAttribute('onload'))"
    )
