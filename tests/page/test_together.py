"""Several adapters in the prompt: what they do together, one file of them, and the model that they act on."""

from __future__ import annotations

import pytest

from tests.page.conftest import THEMES
from tests.page.hands import PROMPT, card, open_details, open_listing, text, wait_for_text, write
from tests.page.test_looks import CONTRAST, ENOUGH

BEYOND = """() => [...document.querySelectorAll('.lora-together, .lora-together *')]
    .filter((node) => node.getBoundingClientRect().right > innerWidth + 1 && !node.closest('.lora-heat-scroll'))
    .map((node) => node.outerHTML.slice(0, 200))"""
BOTH = "a <lora:bend:1> b <lora:ink wash:1>"  # they are the same


@pytest.fixture(autouse=True)
def soon(page):
    page.set_default_timeout(20_000)


def line_of(page, prompt: str, says: str):
    """The line below the rows, once it says that."""
    write(page, prompt)
    found = page.locator("#lora-strip-holder .lora-together")
    found.get_by_text(says).wait_for(timeout=20_000)
    return found


def test_the_line_says_what_two_do_together_and_one_click_brings_them_back(page):
    line = line_of(page, BOTH, "Together 2.0 times what one does")
    assert "bend and ink wash pull the same way" in line.inner_text()
    assert "from 1.5 on" in line.inner_text()
    line.get_by_role("button", name="Scale all by 0.5").focus()
    page.keyboard.press("Enter")
    wait_for_text(page, "a <lora:bend:0.5> b <lora:ink wash:0.5>")
    line.get_by_text("Together 1.0 times what one does").wait_for()
    assert not line.get_by_role("button", name="Scale all").is_visible()
    assert "overdrawn" not in line.inner_text()
    page.locator(PROMPT).press("Control+z")  # one step
    wait_for_text(page, BOTH)
    write(page, "a <lora:bend:1>")
    line.wait_for(state="hidden")


def test_two_that_undo_each_other_are_named_with_the_blocks(page):
    line = line_of(page, "<lora:bend:1> <lora:ink wash:0:-0.8:mid=0:out=0>", "pull apart in the input blocks")
    assert "bend and ink wash" in line.inner_text()


@THEMES
def test_it_opens_into_a_map_of_all_blocks_and_of_each(page):
    line = line_of(page, BOTH, "Together 2.0 times what one does")
    line.locator(".lora-together-open").focus()
    page.keyboard.press("Enter")
    table = line.get_by_role("table")
    assert table.locator("th[scope=row]").all_inner_texts() == ["bend", "ink wash"]
    assert table.locator("td.lora-alike").all_inner_texts() == ["", "1.00", "1.00", ""]
    assert table.locator(".lora-heat-share").all_inner_texts() == ["50 %", "50 %"]
    line.get_by_role("button", name="IN01").click()
    pressed = line.locator(".lora-heat-block[aria-pressed=true]")
    assert pressed.inner_text() == "IN01"
    weak = [each for each in page.evaluate(CONTRAST, [".lora-together *"]) if each[2] < ENOUGH]
    assert weak == []
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate(BEYOND) == []
    page.set_viewport_size({"width": 1280, "height": 900})
    page.keyboard.press("Escape")
    table.wait_for(state="hidden")
    assert line.locator(".lora-together-open").evaluate("node => node === document.activeElement")


def test_a_mixture_is_kept_as_one_file_that_opens_as_its_recipe(page, folder, failures):
    line = line_of(page, "<lora:bend:0.8> <lora:ink wash:-0.3>", "Together")
    line.get_by_role("button", name="Save as one adapter").click()
    page.keyboard.press("Enter")
    line.get_by_text("needs a name").wait_for()
    line.get_by_label("Name of the new adapter").fill("../mix")
    page.keyboard.press("Enter")
    line.get_by_text("a name cannot have / in it").wait_for()
    line.get_by_label("Name of the new adapter").fill("my mix")
    page.keyboard.press("Enter")
    line.get_by_text("my mix is saved: <lora:my mix:1>").wait_for()
    assert (folder / "my mix.safetensors").exists()
    try:
        line.get_by_role("button", name="Save as one adapter").click()
        line.get_by_label("Name of the new adapter").fill("My Mix")
        line.get_by_role("button", name="Save", exact=True).click()
        line.get_by_text("called my mix already").wait_for()
        write(page, "a <lora:my mix:0.5> b")
        open_listing(page)
        card(page, "my mix").wait_for()
        panel = open_details(page, "my mix")
        made = panel.locator(".lora-section", has_text="Made of")
        assert "<lora:bend:0.8><lora:ink wash:-0.3>" in made.inner_text()
        made.get_by_role("button", name="Open as recipe").click()
        assert text(page) == "a <lora:bend:0.4><lora:ink wash:-0.15> b"
    finally:
        (folder / "my mix.safetensors").unlink()
        page.request.post(page.url.split("?")[0] + "lora/v1/rescan")
    refusals = [each for each in failures if "400" in each]  # the browser's console tells of both
    assert len(refusals) == 2
    failures[:] = [each for each in failures if each not in refusals]


def test_the_loaded_model_is_compared_with_its_file_and_put_right(page, studio):
    open_listing(page)
    page.get_by_role("button", name="Check the loaded model against its file").click()
    told = page.locator(".lora-checked")
    total = len(studio.attached.host.bound.slots)
    told.get_by_text(f"{total} of {total} weights are the bits of").wait_for()
    assert not told.get_by_role("button", name="Repair").is_visible()
    key, slot = next(iter(studio.attached.host.bound.slots.items()))
    before = slot.parameter.data.clone()
    slot.parameter.data.view(-1)[0] += 1
    page.get_by_role("button", name="Check the loaded model against its file").click()
    told.get_by_text(f"{total - 1} of {total} weights").wait_for()
    assert key in told.inner_text()
    told.get_by_role("button", name="Repair").click()
    told.get_by_text("1 were put right").wait_for()
    assert slot.parameter.data.equal(before)


def test_a_block_of_the_map_is_silenced_and_brought_back_by_mouse_and_by_key(page):
    write(page, "a <lora:bend:0.8:mine=x> b")
    open_listing(page)
    panel = open_details(page, "bend")
    panel.get_by_role("button", name="See inside").click()
    block = panel.locator("[data-lora-block=IN01]")
    block.click()
    numbers = ",".join("0" if place == 2 else "1" for place in range(26))
    wait_for_text(page, f"a <lora:bend:0.8:mine=x:lbw={numbers}> b")
    assert block.get_attribute("aria-pressed") == "false"
    assert panel.locator("[data-lora-block=BASE]").get_attribute("aria-pressed") == "true"
    block.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.loraBlock") == "BASE"
    page.keyboard.press("Space")
    wait_for_text(page, f"a <lora:bend:0.8:mine=x:lbw=0{numbers[1:]}> b")
    page.keyboard.press("Space")
    wait_for_text(page, f"a <lora:bend:0.8:mine=x:lbw={numbers}> b")
    block.click()
    wait_for_text(page, "a <lora:bend:0.8:mine=x> b")
    panel.get_by_role("button", name="Take out of the prompt").click()
    assert block.is_disabled()


def test_the_bars_of_the_strip_show_what_the_adapter_changes_and_give_the_text_back(page):
    write(page, "<lora:bend:0.8:lbw=ALL>")
    row = page.locator(".lora-row").first
    row.locator(".lora-opener").click()
    bar = row.locator(".lora-bar-block[aria-label=IN01]")
    bar.wait_for()
    assert bar.evaluate("node => node.style.getPropertyValue('--lora-change')") == "0"
    row.get_by_role("button", name="Show what the adapter changes").click()
    change = "document.querySelector('.lora-bar-block[aria-label=IN01]').style.getPropertyValue('--lora-change')"
    page.wait_for_function(f"() => Number({change}) > 0")
    assert "IN01: " in bar.get_attribute("title")
    bar.press("Enter")
    assert ":lbw=1,0,1" in text(page)
    bar.press("Enter")
    assert text(page) == "<lora:bend:0.8:lbw=ALL>"


def test_all_files_are_measured_in_the_background_and_the_listing_is_sorted_by_it(page, address):
    open_listing(page)
    page.get_by_role("button", name="Duplicates").click()
    page.get_by_role("button", name="Measure all").click()
    page.wait_for_function("""async () => {
        const {running, total} = await (await fetch("lora/v1/measuring")).json();
        return !running && total > 0;
    }""")
    page.get_by_role("button", name="Back to the listing").click()
    changes = {}
    for each in page.request.get(f"{address}/lora/v1/adapters").json()["items"]:
        if not each["broken"]:
            changes[each["title"]] = page.request.get(f"{address}/lora/v1/adapters/{each['id']}/inside").json()["delta"]
    expected = [*sorted(changes, key=lambda title: -changes[title]), "half"]  # the broken one: nothing is known
    page.get_by_label("Order").select_option("change")
    titles = "[...document.querySelectorAll('.lora-card:not(.lora-ghost) .lora-title')].map((node) => node.textContent)"
    page.wait_for_function(f"wanted => JSON.stringify({titles}) === JSON.stringify(wanted)", arg=expected)
