"""What an adapter changes, in the panel of the listing."""

from __future__ import annotations

import math

import pytest

from tests.page.conftest import THEMES
from tests.page.hands import open_details, open_listing
from tests.page.test_looks import CONTRAST, ENOUGH, outside


@THEMES
def test_the_map_of_the_blocks_shows_what_the_server_measured(page, address):
    open_listing(page)
    panel = open_details(page, "bend")
    panel.get_by_role("button", name="See inside").focus()
    page.keyboard.press("Enter")
    panel.locator(".lora-inside").wait_for()
    cards = page.request.get(f"{address}/lora/v1/adapters").json()["items"]
    number = next(card["id"] for card in cards if card["name"] == "bend")
    told = page.request.get(f"{address}/lora/v1/adapters/{number}/inside").json()
    changed = {each["block"]: math.hypot(*each["kinds"].values()) for each in told["blocks"] if each["kinds"]}
    assert math.hypot(*changed.values()) == pytest.approx(told["delta"])
    shown = panel.locator(".lora-inside-block:not([data-lora-empty]) span:first-child").all_inner_texts()
    assert sorted(shown) == sorted(changed)
    strongest = max(changed, key=changed.get)
    share = panel.locator(f"[data-lora-block={strongest}]").evaluate("node => node.style.getPropertyValue('--share')")
    assert float(share) == 1
    weak = [each for each in page.evaluate(CONTRAST, [".lora-inside-block", ".lora-inside-place .lora-meta"])
            if each[2] < ENOUGH]  # fmt: skip
    assert weak == []
    assert outside(page, ".lora-inside-block") == []
