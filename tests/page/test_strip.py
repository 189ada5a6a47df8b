"""The strip below the prompt: it and the text follow each other, and who types is left alone."""

from __future__ import annotations

import re

from tests.page.hands import NUMBER, PROMPT, SLIDER, SUBJECT, text, wait_for_text, write


def test_typing_a_tag_brings_a_slider_and_deleting_it_takes_it_away(page):
    write(page, f"{SUBJECT} <lora:bend:0.8>")
    page.wait_for_selector(SLIDER)
    assert page.input_value(SLIDER) == "0.8"
    assert page.locator(".lora-row .lora-badge").inner_text() == "SD 1.5"
    write(page, f"{SUBJECT} <lora:bend:0.8> <lora:ink wash>")
    assert page.locator(".lora-row").count() == 2
    write(page, SUBJECT)
    page.wait_for_selector(".lora-row", state="detached")


def test_moving_the_slider_rewrites_the_number_and_nothing_else(page):
    write(page, "a <lora: bend : 0.8 > b")
    box = page.locator(SLIDER).bounding_box()
    page.click(SLIDER, position={"x": box["width"] * 0.75, "y": box["height"] / 2})  # waits until nothing moves
    wanted = re.fullmatch(r"a <lora: bend : (0\.95|1|1\.05) > b", text(page))
    assert wanted, text(page)
    page.locator(SLIDER).press("ArrowLeft")
    assert text(page) == f"a <lora: bend : {float(wanted[1]) - 0.05:g} > b"
    page.dblclick(SLIDER, position={"x": 3, "y": 10})
    assert text(page) == "a <lora: bend : 1 > b"


def test_typing_moves_the_slider_and_the_caret_stays(page):
    write(page, "")
    page.locator(PROMPT).press_sequentially("a <lora:bend:-1.25> b", delay=5)
    assert text(page) == "a <lora:bend:-1.25> b"
    assert page.input_value(SLIDER) == "-1.25"
    page.locator(PROMPT).evaluate("area => { area.focus(); area.setSelectionRange(1, 1); }")
    page.fill(NUMBER, "0.5")
    assert text(page) == "a <lora:bend:0.5> b"
    assert page.locator(PROMPT).evaluate("area => area.selectionStart") == 1


def test_the_field_takes_numbers_beyond_the_slider_and_half_typed_ones_change_nothing(page):
    write(page, "<lora:bend:1>")
    page.locator(NUMBER).press("Control+a")
    page.locator(NUMBER).press_sequentially("-")
    assert text(page) == "<lora:bend:1>"
    page.locator(NUMBER).press_sequentially("3.5")
    assert text(page) == "<lora:bend:-3.5>"
    assert page.input_value(SLIDER) == "-2"
    page.locator(NUMBER).press("Enter")
    assert page.input_value(NUMBER) == "-3.50"


def test_text_encoder_and_unet_can_be_set_apart_and_together(page):
    write(page, "<lora:bend:1>")
    page.click("[aria-label='Text encoder and UNet apart']")
    page.locator("[type=range][aria-label='Weight of the UNet']").press("ArrowRight")
    assert text(page) == "<lora:bend:1:1.05>"
    page.locator("[type=range][aria-label='Weight of the text encoder']").press("Shift+ArrowLeft")
    assert text(page) == "<lora:bend:0.99:1.05>"
    page.click("[aria-label='Text encoder and UNet apart']")
    assert text(page) == "<lora:bend:0.99>"


def test_mute_solo_and_remove(page):
    write(page, "a <lora:bend:0.7:0.4> <lora:ink wash:0.5> b")
    first = page.locator(".lora-row").first
    first.get_by_label("Mute", exact=True).click()
    assert text(page) == "a <lora:bend:0:0> <lora:ink wash:0.5> b"
    first.get_by_label("Unmute").click()
    assert text(page) == "a <lora:bend:0.7:0.4> <lora:ink wash:0.5> b"
    first.get_by_label("Solo: mute all others").click()
    assert text(page) == "a <lora:bend:0.7:0.4> <lora:ink wash:0> b"
    first.get_by_label("Solo: mute all others").click()
    assert text(page) == "a <lora:bend:0.7:0.4> <lora:ink wash:0.5> b"
    first.locator(SLIDER.removeprefix(".lora-row ")).first.press("Alt+ArrowDown")
    assert text(page) == "a <lora:ink wash:0.5> <lora:bend:0.7:0.4> b"
    page.locator(".lora-row").first.get_by_label("Remove from the prompt").click()
    assert text(page) == "a <lora:bend:0.7:0.4> b"


def test_an_unknown_name_and_a_wrong_base_are_said_before_anything_is_drawn(page):
    write(page, "a <lora:bent:1> <lora:grain:1> <lora:half> <lora:bend:x>")
    problems = page.locator(".lora-row .lora-problem")
    problems.filter(has_text="did you mean bend?").wait_for()
    problems.filter(has_text="made for SDXL, the checkpoint is SD 1.5").wait_for()
    problems.filter(has_text="is a text, not a model").wait_for()
    problems.filter(has_text="'x' is not a weight").wait_for()
    page.locator(".lora-row .lora-chip", has_text="bend").click()
    wait_for_text(page, "a <lora:bend:1> <lora:grain:1> <lora:half> <lora:bend:x>")


def test_trigger_words_go_in_and_out_and_markup_stays_text(page):
    write(page, "a <lora:ink wash:1>")
    page.locator(".lora-row .lora-chip", has_text="<b>brush</b>").click()
    assert text(page) == "a, <b>brush</b> <lora:ink wash:1>"
    page.locator(".lora-row .lora-chip", has_text="<b>brush</b>").click()
    assert text(page) == "a <lora:ink wash:1>"


def grip(page, n):
    return page.locator(".lora-row").nth(n).locator(".lora-grip")


def drag(page, n, dy, *, steps=6):
    """Press the handle of row `n` and move it; the button is still down afterwards."""
    grip(page, n).hover()  # waits until nothing moves
    box = grip(page, n).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + dy, steps=steps)


def test_a_row_is_dragged_to_another_place_and_the_words_between_stay(page):
    write(page, "a <lora:bend:0.7> b <lora:ink wash:0.5>, c <lora:bend:0.2>")
    page.locator(".lora-row").nth(2).wait_for()
    page.locator(PROMPT).evaluate("area => { area.focus(); area.setSelectionRange(1, 1); }")
    drag(page, 0, 200)
    page.mouse.up()
    assert text(page) == "a <lora:ink wash:0.5> b <lora:bend:0.2>, c <lora:bend:0.7>"
    area = page.locator(PROMPT)
    assert area.evaluate("area => [document.activeElement === area, area.selectionStart]") == [True, 1]
    drag(page, 2, -55)
    page.mouse.up()
    assert text(page) == "a <lora:ink wash:0.5> b <lora:bend:0.7>, c <lora:bend:0.2>"


def test_typing_or_escape_ends_a_drag_without_effect(page):
    write(page, "<lora:bend:0.7> <lora:ink wash:0.5> a")
    page.locator(".lora-row").nth(1).wait_for()
    page.locator(PROMPT).evaluate("area => { area.focus(); area.setSelectionRange(37, 37); }")
    drag(page, 0, 80)
    page.keyboard.type(" castle")
    page.mouse.move(600, 600)
    page.mouse.up()
    assert text(page) == "<lora:bend:0.7> <lora:ink wash:0.5> a castle"
    drag(page, 0, 80)
    page.keyboard.press("Escape")
    page.mouse.up()
    assert text(page) == "<lora:bend:0.7> <lora:ink wash:0.5> a castle"
    assert page.locator(".lora-dragging, .lora-dragged").count() == 0


def test_a_finger_drags_too(browser, address):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(address)
    write(page, "<lora:bend:0.7> <lora:ink wash:0.5>")
    page.locator(".lora-row .lora-badge").nth(1).wait_for()  # which has made their rows as tall as they get
    grip(page, 0).click(trial=True)  # in view, and nothing moves
    box = grip(page, 0).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    finger = context.new_cdp_session(page)

    def touch(kind, *points):
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    touch("touchStart", (x, y))
    page.locator(".lora-dragged").wait_for()
    for step in range(1, 8):
        touch("touchMove", (x, y + 20 * step))
    touch("touchEnd")
    wait_for_text(page, "<lora:ink wash:0.5> <lora:bend:0.7>")
    context.close()


def test_the_handle_takes_arrow_keys(page):
    write(page, "<lora:bend:0.7> <lora:ink wash:0.5>")
    grip(page, 1).focus()
    page.keyboard.press("ArrowUp")
    assert text(page) == "<lora:ink wash:0.5> <lora:bend:0.7>"
    assert (
        page.evaluate("document.activeElement.closest('.lora-row').querySelector('.lora-name').textContent")
        == "ink wash"
    )


def test_a_tag_without_its_end_is_told_when_it_is_not_being_typed_any_more(page):
    write(page, "")
    page.locator(PROMPT).press_sequentially("a <lora:bend:0.5", delay=5)
    page.wait_for_timeout(400)
    assert page.locator(".lora-row:visible").count() == 0
    page.locator(PROMPT).press_sequentially(", b", delay=5)
    page.wait_for_selector(".lora-row:visible")
    assert page.locator(".lora-problem span").inner_text() == (
        "<lora:bend:0.5: the closing > is missing; write <lora:name:0.8>")  # fmt: skip
    write(page, "a <lora:bend:0.5")
    page.locator(PROMPT).evaluate("area => area.blur()")
    page.wait_for_selector(".lora-row:visible")


def test_a_tag_that_cannot_be_read_is_not_asked_for_again_and_again(page):
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/prompt" in request.url else None)
    write(page, "a <lora:bend:0_8>")
    page.wait_for_selector(".lora-problem span")
    page.wait_for_timeout(1200)
    assert len(asked) <= 1


def test_a_strip_that_the_page_threw_away_asks_no_more(page):
    write(page, "a <lora:bend:1>")
    page.wait_for_selector(".lora-row .lora-badge")
    page.evaluate("""() => {
        const old = document.querySelector("#lora-strip-holder .lora-strip");
        const other = old.cloneNode(false);
        other.removeAttribute("data-lora-mounted");
        old.replaceWith(other);
    }""")
    page.wait_for_selector(".lora-row .lora-badge")
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/prompt" in request.url else None)
    with page.expect_response("**/prompt"):
        page.evaluate("dispatchEvent(new CustomEvent('lora-rescanned'))")
    page.wait_for_timeout(400)
    assert len(asked) == 1


def test_a_tag_in_full_width_signs_has_a_slider_that_writes_into_it(page):
    write(page, "a ＜LoRA：bend：０．８＞ b")
    page.wait_for_selector(SLIDER)
    assert page.input_value(SLIDER) == "0.8"
    page.locator(SLIDER).press("ArrowRight")
    assert text(page) == "a ＜LoRA：bend：0.85＞ b"
