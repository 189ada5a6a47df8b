"""Notes edited in the details: saved beside the file, never lost, never silently over what another window wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.page.hands import card, focus_is_in, open_details, open_listing, text, wait_for_text, write
from tests.support import write_lora


@pytest.fixture
def sidecar(studio, folder) -> Path:
    """The notes beside `bend`, as they were before each test: one key is another tool's."""
    path = folder / "bend.json"
    path.write_text(json.dumps({"notes": "soft", "activation text": "bent", "sha256": "kept"}))
    studio.attached.library.refresh()
    return path


def read(sidecar: Path) -> dict:
    return json.loads(sidecar.read_text("utf-8"))


def edit(page, title="bend"):
    panel = open_details(page, title)
    panel.get_by_label("Edit the notes").first.click()
    return panel


def test_notes_are_saved_and_shown_and_other_tools_keys_survive(page, sidecar):
    write(page, "")
    open_listing(page)
    panel = edit(page)
    assert panel.get_by_label("Notes", exact=True).input_value() == "soft"
    panel.get_by_label("Activation text").fill("bent line, curve")
    panel.get_by_label("Preferred weight").fill("0,7")
    panel.get_by_label("Notes", exact=True).fill("use <b>gently</b>")
    panel.get_by_role("button", name="Save").click()
    panel.locator(".lora-status", has_text="Saved").wait_for()
    wanted = {
        "notes": "use <b>gently</b>",
        "activation text": "bent line, curve",
        "preferred weight": 0.7,
        "sha256": "kept",
    }
    assert read(sidecar) == wanted
    assert panel.locator(".lora-text").all_inner_texts() == ["use <b>gently</b>"]
    assert panel.get_by_label("Weight").last.input_value() == "0.70"
    card(page, "bend").click()
    assert text(page) == "<lora:bend:0.7> bent line, curve"


@pytest.fixture
def vague(studio, folder) -> Iterator[Path]:
    """The notes of an adapter whose layers all Stable Diffusions have, in widths that tell nothing."""
    file = folder / "vague.safetensors"
    write_lora(file, {"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q": (64, 64)})
    studio.attached.library.refresh()
    yield file.with_suffix(".json")
    file.unlink()
    file.with_suffix(".json").unlink(missing_ok=True)
    studio.attached.library.refresh()


def test_the_base_model_is_chosen_where_the_file_does_not_tell_it_right(page, vague):
    open_listing(page)
    panel = edit(page, "vague")
    choice = panel.get_by_label("Base model")
    assert choice.locator("option").all_inner_texts() == ["As the file says", "SD 1.5", "SD 2", "SDXL"]
    choice.select_option("SDXL")
    panel.get_by_role("button", name="Save").click()
    panel.locator(".lora-status", has_text="Saved").wait_for()
    assert read(vague)["sd version"] == "SDXL"
    assert card(page, "vague").locator(".lora-badge").inner_text() == "SDXL"
    edit(page, "vague").get_by_label("Base model").select_option("")
    panel.get_by_role("button", name="Save").click()
    card(page, "vague").locator(".lora-badge", has_text="SD 1.5").wait_for()


def test_a_key_edits_another_saves_and_the_focus_stays_with_the_panel(page, sidecar):
    open_listing(page)
    card(page, "bend").locator(".lora-open").click()
    page.keyboard.press("e")
    page.wait_for_function("document.activeElement.matches('.lora-form textarea')")
    page.keyboard.press("Control+a")
    page.keyboard.type("x/y?")
    page.keyboard.press("Control+s")
    page.locator(".lora-form").wait_for(state="detached")
    assert read(sidecar)["activation text"] == "x/y?"
    assert focus_is_in(page, ".lora-edit")


def test_what_is_no_number_is_refused_with_a_sentence_and_nothing_is_saved(page, sidecar):
    open_listing(page)
    panel = edit(page)
    panel.get_by_label("Preferred weight").fill("much")
    panel.get_by_label("Notes", exact=True).fill("other")
    panel.get_by_role("button", name="Save").click()
    panel.locator("[role=alert]", has_text="not a number").wait_for()
    assert read(sidecar)["notes"] == "soft"


def conflict(page, sidecar):
    """Edit the notes here, and meanwhile there too; the panel that now asks."""
    open_listing(page)
    panel = edit(page)
    panel.get_by_label("Notes", exact=True).fill("mine")
    sidecar.write_text(json.dumps(read(sidecar) | {"notes": "theirs", "description": "also theirs"}))
    panel.get_by_role("button", name="Save").click()
    panel.locator(".lora-conflict").wait_for()
    assert panel.locator(".lora-version .lora-text").all_inner_texts() == ["mine", "theirs"]
    assert read(sidecar)["notes"] == "theirs"
    return panel


def test_two_windows_one_field_keep_mine(page, sidecar, failures):
    panel = conflict(page, sidecar)
    panel.get_by_role("button", name="Keep mine").click()
    panel.locator(".lora-form").wait_for(state="detached")
    assert (read(sidecar)["notes"], read(sidecar)["description"]) == ("mine", "also theirs")
    assert [line for line in failures if "409" not in line] == []
    failures.clear()


def test_two_windows_one_field_take_theirs(page, sidecar, failures):
    panel = conflict(page, sidecar)
    panel.get_by_role("button", name="Take theirs").click()
    panel.locator(".lora-form").wait_for(state="detached")
    assert read(sidecar)["notes"] == "theirs"
    panel.locator(".lora-text", has_text="also theirs").wait_for()
    assert panel.locator(".lora-text").all_inner_texts() == ["also theirs", "theirs"]
    failures.clear()


def test_two_windows_different_fields_need_no_question(page, sidecar, failures):
    open_listing(page)
    panel = edit(page)
    panel.get_by_label("Negative prompt").fill("blur")
    sidecar.write_text(json.dumps(read(sidecar) | {"notes": "theirs"}))
    panel.get_by_role("button", name="Save").click()
    panel.locator(".lora-form").wait_for(state="detached")
    assert read(sidecar) == {"notes": "theirs", "negative text": "blur", "activation text": "bent", "sha256": "kept"}
    failures.clear()


def test_edits_are_not_thrown_away_by_another_card_without_a_question(page, sidecar):
    open_listing(page)
    panel = edit(page)
    notes = panel.get_by_label("Notes", exact=True)
    notes.fill("half a thought")
    card(page, "grain").locator(".lora-open").click()
    question = panel.locator(".lora-question")
    question.get_by_role("button", name="Keep editing").click()
    assert notes.input_value() == "half a thought"
    assert focus_is_in(page, ".lora-form")
    card(page, "grain").locator(".lora-open").click()
    question.get_by_role("button", name="Save").click()
    panel.locator("h3", has_text="grain").wait_for()
    assert read(sidecar)["notes"] == "half a thought"


def test_closing_asks_too_and_discarding_leaves_the_file_alone(page, sidecar):
    open_listing(page)
    panel = edit(page)
    panel.get_by_label("Notes", exact=True).fill("half a thought")
    page.keyboard.press("Escape")
    panel.locator(".lora-question").get_by_role("button", name="Discard").click()
    panel.wait_for(state="hidden")
    assert read(sidecar)["notes"] == "soft"
    assert focus_is_in(page, ".lora-window")


def test_the_arrow_keys_leave_a_panel_alone_in_which_somebody_writes(page, sidecar):
    open_listing(page)
    panel = edit(page)
    panel.get_by_label("Notes", exact=True).fill("half a thought")
    page.locator(".lora-window").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert panel.get_by_label("Notes", exact=True).input_value() == "half a thought"


def test_the_strip_hears_of_new_trigger_words(page, sidecar):
    write(page, "a <lora:bend:1>")
    page.locator(".lora-row .lora-chip", has_text="bent").wait_for()
    open_listing(page)
    panel = edit(page)
    panel.get_by_label("Activation text").fill("swirl")
    panel.get_by_role("button", name="Save").click()
    panel.locator(".lora-form").wait_for(state="detached")
    page.get_by_role("tab", name="Draw").click()
    page.locator(".lora-row .lora-chip", has_text="swirl").click()
    wait_for_text(page, "a, swirl <lora:bend:1>")
