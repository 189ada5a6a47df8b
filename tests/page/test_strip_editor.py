"""What opens below a row of the strip: curve, blocks, and chips; they and the prompt follow each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.page.conftest import THEMES
from tests.page.hands import PROMPT, drawn, focus_is_in, generate, put_seed, put_steps, text, wait_for_text, write

ENOUGH = 4.5  # WCAG 2.2 AA for texts of this size
LEAST = 24  # pixels of what a finger must find, after WCAG 2.2 AA
CONTRAST = Path(__file__).with_name("contrast.js").read_text("utf-8")
OPENER = ".lora-opener"
EVERYTHING = "<lora:bend:0.8:0@0,1@0.5,0@1:lbw=OUTALL:start=0.1:stop=0.9:hr=0.5:refiner=off:on=cond:area=0,0,0.5,1>"
ALL = ",".join(["1"] * 17)
# The adapters here have convolutions: their bars name all blocks.
WHOLE = ["BASE", *(f"IN{n:02d}" for n in range(12)), "M00", *(f"OUT{n:02d}" for n in range(12))]


def numbers(**changed: float) -> str:
    """One for each block but those named."""
    return ",".join(f"{changed.get(name, 1):g}" for name in WHOLE)


def opened(page, prompt: str, row: int = 0):
    """The row with its editor open, for this prompt, with all its bars: some come when the server has answered."""
    write(page, prompt)
    found = page.locator(".lora-row").nth(row)
    found.locator(OPENER).click()
    curve(found).wait_for()
    found.locator(".lora-badges > *").first.wait_for()
    found.locator("[data-lora-bar]").first.wait_for()
    return found


def curve(row):
    return row.get_by_role("group", name="UNet over the steps")


def point(row, n: int):
    return row.locator(f"[data-lora-point='{n}']")


def bar(row, name: str):
    return row.locator(f".lora-bar-block[aria-label='{name}']")


def chip(row, name: str):
    return row.locator(f"[data-lora-argument='{name}']")


def middle(locator) -> tuple[float, float]:
    """Where it lies, once nothing moves and nothing lies above it."""
    locator.hover()
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page, locator, dx: float, dy: float) -> None:
    x, y = middle(locator)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y + dy, steps=5)
    page.mouse.up()


def unit_of_weight(row) -> float:
    """How many pixels a weight of 1 is high in the drawing."""
    return height_of(row, 0) - height_of(row, 1)


def height_of(row, weight: int) -> float:
    """Where 0 or 1 lies on the page."""
    name = ("zero", "one")[weight]
    top = "(svg, name) => svg.querySelector(name).getBoundingClientRect().y"
    return curve(row).evaluate(top, f".lora-grid .lora-{name}")


def test_a_row_is_one_line_and_opens_and_closes_by_key(page):
    write(page, "a <lora:bend:0.8> <lora:ink wash:0.5:later=1>")
    rows = page.locator(".lora-row")
    rows.nth(1).wait_for()
    closed = rows.first.bounding_box()["height"]
    assert closed < 50
    assert rows.first.locator(".lora-editor").is_hidden()
    opener = rows.first.locator(OPENER)
    opener.press("Enter")
    assert opener.get_attribute("aria-expanded") == "true"
    curve(rows.first).wait_for()
    opener.press("Enter")
    assert opener.get_attribute("aria-expanded") == "false"
    assert rows.first.bounding_box()["height"] == closed
    opener.press("ArrowDown")
    assert focus_is_in(page, ".lora-panels")
    page.keyboard.press("Escape")
    assert rows.first.locator(".lora-panels").is_hidden()
    assert focus_is_in(page, OPENER)
    assert text(page) == "a <lora:bend:0.8> <lora:ink wash:0.5:later=1>"


def test_what_is_set_is_told_in_the_closed_row_and_can_be_taken_out(page):
    write(page, f"a {EVERYTHING} b")
    row = page.locator(".lora-row")
    told = [each.split("\n") for each in row.locator(".lora-argument:visible").all_inner_texts()]
    assert [" ".join(" ".join(each).split()) for each in told] == [
        "blocks OUTALL", "window 10 % – 90 %", "hires pass 0.5", "refiner off", "side prompt", "area left half",
    ]  # fmt: skip
    assert row.locator(".lora-spark:visible").count() == 1
    for name in ("blocks", "window", "hires pass", "refiner", "side"):
        row.get_by_label(f"Remove: {name}").click()
    assert text(page) == "a <lora:bend:0.8:0@0,1@0.5,0@1:area=0,0,0.5,1> b"


def test_the_end_of_a_flat_line_is_dragged_and_the_rest_of_the_tag_stays(page):
    row = opened(page, "a < LoRA: bend : 0.8 : mine=x y :dyn= 4>")
    drag(page, point(row, 1), 0, unit_of_weight(row) * 0.3)
    assert text(page) == "a < LoRA: bend : 0.8:0.8@0,0.5@1 : mine=x y :dyn= 4>"
    drag(page, point(row, 0), curve(row).bounding_box()["width"] * 0.3, 0)
    moved = re.fullmatch(r"a < LoRA: bend : 0\.8:0\.8@(0\.\d+),0\.5@1 : mine=x y :dyn= 4>", text(page))
    assert moved, text(page)
    assert 0.28 < float(moved[1]) < 0.4
    row.get_by_label("One weight for all steps").first.click()
    assert text(page) == "a < LoRA: bend : 0.8:0.8 : mine=x y :dyn= 4>"


def test_nothing_jumps_while_a_point_is_dragged(page):
    row = opened(page, "a <lora:bend:0.8> <lora:ink wash:1>")
    page.wait_for_timeout(500)
    x, y = middle(point(row, 1))
    place = curve(row).bounding_box()
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 40, y + 30, steps=4)
    page.wait_for_timeout(400)  # the server has answered too
    assert curve(row).bounding_box() == place
    under = point(row, 1).bounding_box()
    assert abs(under["y"] + under["height"] / 2 - (y + 30)) < 4
    page.mouse.up()
    assert curve(row).bounding_box() == place


def test_points_are_moved_added_and_removed_by_keys(page):
    row = opened(page, "<lora:bend:1:0@0,1@0.5,0@1>")
    point(row, 1).press("ArrowUp")
    assert text(page) == "<lora:bend:1:0@0,1.05@0.5,0@1>"
    point(row, 1).press("Shift+ArrowDown")
    assert text(page) == "<lora:bend:1:0@0,0.8@0.5,0@1>"
    point(row, 1).press("ArrowLeft")
    assert text(page) == "<lora:bend:1:0@0,0.8@0.45,0@1>"
    point(row, 1).press("Shift+ArrowRight")
    assert text(page) == "<lora:bend:1:0@0,0.8@0.7,0@1>"
    point(row, 1).press("Shift+ArrowRight")
    point(row, 1).press("Shift+ArrowRight")
    assert text(page) == "<lora:bend:1:0@0,0.8@1,0@1>"  # not beyond the next
    point(row, 0).press("Enter")
    assert text(page) == "<lora:bend:1:0@0,0.4@0.5,0.8@1,0@1>"
    assert page.evaluate("document.activeElement.dataset.loraPoint") == "1"
    page.keyboard.press("Delete")
    page.keyboard.press("Delete")
    assert text(page) == "<lora:bend:1:0.8@1,0@1>"
    assert point(row, 0).get_attribute("aria-valuetext") == "0.8 at 100 %"
    for _ in range(2):
        page.keyboard.press("Backspace")
    assert text(page) == "<lora:bend:1:0>"


def test_a_double_click_adds_a_point_there(page):
    row = opened(page, "<lora:bend:1:0@0,1@1>")
    svg = curve(row)
    box, high = svg.bounding_box(), height_of(row, 1)
    page.mouse.dblclick(box["x"] + 30 + (box["width"] - 46) * 0.25, high + unit_of_weight(row) * 0.25)
    assert re.fullmatch(r"<lora:bend:1:0@0,0\.75@0\.2[456],1@1>", text(page)), text(page)


def test_a_point_can_be_typed(page):
    row = opened(page, "<lora:bend:1:0@0,1@0.5>")
    point(row, 1).focus()
    fields = (row.get_by_label(f"{name} of the point") for name in ("Weight", "Position"))
    weight, position = (field.and_(page.locator(":visible")) for field in fields)
    weight.fill("-0.35")
    position.fill("62.5")
    assert text(page) == "<lora:bend:1:0@0,-0.35@0.625>"
    weight.fill("much")
    assert text(page) == "<lora:bend:1:0@0,-0.35@0.625>"
    weight.press("Enter")
    assert weight.input_value() == "-0.35"


def test_positions_become_steps_of_the_page_and_noise_and_back(page):
    page.fill("#lora-steps input[type=number]", "40")
    page.locator("#lora-steps input[type=number]").blur()
    row = opened(page, "<lora:bend:1:0@0,1@0.5>")
    unit = row.locator("section", has_text="UNet over the steps").get_by_label("Positions are")
    unit.select_option("step")
    assert text(page) == "<lora:bend:1:0@0,1@20>"
    point(row, 1).press("ArrowRight")
    assert text(page) == "<lora:bend:1:0@0,1@21>"
    unit.select_option("sigma")
    assert re.fullmatch(r"<lora:bend:1:0@s14\.6,1@s1\.\d>", text(page)), text(page)
    point(row, 1).press("ArrowRight")  # later: less noise
    assert float(re.search(r"s([\d.]+)>", text(page))[1]) < 1.3
    unit.select_option("share")
    assert re.fullmatch(r"<lora:bend:1:0@0,1@0\.5[5-9]>", text(page)), text(page)


def test_a_curve_for_both_is_written_once_and_what_text_encoders_get_is_said(page):
    row = opened(page, "<lora:bend:0.25@0,1@1>")
    point(row, 1).press("ArrowDown")
    assert text(page) == "<lora:bend:0.25@0,0.95@1>"
    row.locator(".lora-notes", has_text="the text encoders get 0.25").wait_for()
    write(page, "<lora:bend:0.5@0,1@1:0@0,1@1>")
    row.locator("section", has_text="Text encoder over the steps").locator("[data-lora-point='0']").press("ArrowUp")
    assert text(page) == "<lora:bend:0.55@0,1@1:0@0,1@1>"


def test_open_editors_follow_who_types(page):
    row = opened(page, "<lora:bend:1:0@0,1@1:lbw=INS>")
    assert row.get_by_label("Preset of block weights").input_value() == "INS"
    page.locator(PROMPT).evaluate("area => { area.focus(); area.setSelectionRange(20, 20); }")
    page.keyboard.type(";0.5~0.75")
    assert text(page) == "<lora:bend:1:0@0,1@1;0.5~0.75:lbw=INS>"
    told = [point(row, n).get_attribute("aria-valuetext") for n in range(3)]
    assert told == ["0 at 0 %", "0.5 at 75 %", "1 at 100 %"]
    page.locator(PROMPT).evaluate("area => area.setSelectionRange(area.value.length - 1, area.value.length - 1)")
    page.keyboard.type("X")
    row.locator(".lora-problem", has_text="'INSX' is no preset of block weights").wait_for()
    assert bar(row, "IN01").is_hidden()
    assert text(page) == "<lora:bend:1:0@0,1@1;0.5~0.75:lbw=INSX>"


def test_what_cannot_be_read_stays_and_the_server_says_why(page):
    write(page, "<lora:bend:1:0@0,x@1> <lora:ink wash:1:start=soon:area=0,0,9>")
    problems = page.locator(".lora-problem")
    problems.filter(has_text="has the point 'x@1', which is no weight@position").wait_for()
    problems.filter(has_text="has the position 'soon'").wait_for()
    assert page.locator(".lora-row").first.locator("input[type=range]:visible").count() == 0
    row = page.locator(".lora-row").nth(1)
    row.locator(OPENER).click()
    assert chip(row, "window").inner_text().split() == ["window", "soon"]
    chip(row, "window").click()
    chip(row, "area").click()
    assert row.locator(".lora-arguments-open > *:visible").count() == 0
    assert text(page) == "<lora:bend:1:0@0,x@1> <lora:ink wash:1:start=soon:area=0,0,9>"


def test_a_bar_is_dragged_clicked_and_moved_by_keys(page):
    row = opened(page, "<lora:bend:0.8>")
    well = bar(row, "IN02").locator(".lora-bar-well")
    drag(page, well, 0, well.bounding_box()["height"] * 0.25)
    assert text(page) == f"<lora:bend:0.8:lbw={numbers(IN02=0.25)}>"
    bar(row, "M00").click()
    assert text(page) == f"<lora:bend:0.8:lbw={numbers(IN02=0.25, M00=0)}>"
    bar(row, "IN02").press(" ")
    bar(row, "IN02").press("Enter")
    bar(row, "BASE").press("Shift+ArrowUp")
    bar(row, "OUT11").press("Home")
    bar(row, "OUT11").press("ArrowDown")
    assert text(page) == f"<lora:bend:0.8:lbw={numbers(BASE=1.25, IN02=0.25, M00=0, OUT11=-0.05)}>"
    bar(row, "IN11").press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "M00"
    row.get_by_label("All blocks alike").click()
    assert text(page) == "<lora:bend:0.8>"


def test_bars_are_painted_in_one_go(page):
    row = opened(page, f"<lora:bend:0.8:lbw={ALL}>")
    first, last = (bar(row, name).locator(".lora-bar-well").bounding_box() for name in ("OUT03", "OUT11"))
    y = first["y"] + first["height"] / 2
    page.mouse.move(first["x"] + 7, y)
    page.mouse.down()
    page.mouse.move(last["x"] + 7, y, steps=30)
    page.mouse.up()
    assert text(page) == f"<lora:bend:0.8:lbw={','.join(['1'] * 8 + ['0.5'] * 9)}>"


def test_a_preset_goes_in_by_its_name_and_a_bar_makes_numbers_of_it(page):
    row = opened(page, "<lora:bend:0.8:w=NONE:0.5>")
    row.get_by_label("Preset of block weights").select_option("OUTS")
    assert text(page) == "<lora:bend:0.8:w=OUTS:0.5>"
    assert [bar(row, name).get_attribute("aria-valuenow") for name in ("IN01", "OUT06", "OUT07")] == ["0", "0", "1"]
    bar(row, "OUT07").press("ArrowDown")
    assert text(page) == "<lora:bend:0.8:w=1,0,0,0,0,0,0,0,0,0,0,0,0.95,1,1,1,1:0.5>"
    assert row.get_by_label("Preset of block weights").input_value() == ""


def test_a_preset_of_ones_own_is_saved_offered_and_forgotten(page):
    row = opened(page, f"<lora:bend:0.8:lbw=0.5,{ALL[2:]}>")
    row.get_by_label("Save as a preset").click()
    page.keyboard.type("soft words")
    page.keyboard.press("Enter")
    assert row.get_by_label("Preset of block weights").input_value() == "soft words"
    page.reload()
    page.wait_for_selector(".lora-strip[data-lora-mounted]", state="attached")
    row = opened(page, "<lora:ink wash:1>")
    row.get_by_label("Preset of block weights").select_option("soft words")
    wait_for_text(page, f"<lora:ink wash:1:lbw=0.5,{ALL[2:]}>")
    row.get_by_label("Forget this preset").click()
    assert "soft words" not in row.get_by_label("Preset of block weights").inner_text()
    assert text(page) == f"<lora:ink wash:1:lbw=0.5,{ALL[2:]}>"


@pytest.mark.parametrize("count", [17, 26])
def test_every_form_of_numbers_has_its_bars(page, count):
    row = opened(page, f"<lora:bend:0.8:lbw={','.join(['1'] * count)}>")
    assert row.locator("[data-lora-bar]").count() == count
    bar(row, "M00").click()
    assert text(page).count(",0,") == 1


@pytest.mark.parametrize("typed", ["1,0,R", "1,0,1", "mine", "1" + ",0" * 11])
def test_blocks_that_have_no_bars_here_stay_as_typed(page, typed):
    write(page, f"<lora:bend:0.8:lbw={typed}>")
    row = page.locator(".lora-row")
    row.locator(OPENER).click()
    row.locator(".lora-note", has_text="it stays as it is").wait_for()
    assert row.locator("[data-lora-bar]:visible").count() == 0
    assert text(page) == f"<lora:bend:0.8:lbw={typed}>"


def test_a_window_is_dragged_moved_by_keys_and_said_in_another_unit(page):
    row = opened(page, "<lora:bend:0.8:start=0.2>")
    chip(row, "window").click()
    assert row.locator(".lora-range").get_by_label("Acts from").get_attribute("aria-valuetext") == "20 %"
    track = row.locator(".lora-range").bounding_box()
    drag(page, row.get_by_label("Acts until"), -track["width"] * 0.25, 0)
    assert text(page) == "<lora:bend:0.8:start=0.2:stop=0.75>"
    row.get_by_label("Acts from").press("ArrowLeft")
    row.get_by_label("Acts from").press("Shift+ArrowLeft")
    assert text(page) == "<lora:bend:0.8:stop=0.75>"
    for _ in range(6):
        row.get_by_label("Acts from").press("Shift+ArrowRight")
    assert text(page) == "<lora:bend:0.8:stop=0.75:start=0.75>"  # none overtakes the other
    row.get_by_label("Acts from").press("Shift+ArrowLeft")
    row.locator(".lora-arguments-open").get_by_label("Positions are").select_option("step")
    assert text(page) == "<lora:bend:0.8:stop=12:start=8>"
    row.get_by_label("Remove: window").click()
    assert text(page) == "<lora:bend:0.8>"
    write(page, "<lora:bend:0.8:step=4-12>")
    chip(row, "window").click()
    row.get_by_label("Acts until").press("ArrowLeft")
    assert text(page) == "<lora:bend:0.8:step=4-11>"


def test_the_hires_pass_and_the_refiner_get_a_weight_a_curve_or_none(page):
    row = opened(page, "<lora:bend:0.8>")
    chip(row, "hires pass").click()
    assert text(page) == "<lora:bend:0.8>"  # only looked at
    row.locator("[type=range][aria-label='Hires pass']").press("ArrowDown")
    assert text(page) == "<lora:bend:0.8:hr=0.75>"
    row.locator(".lora-amount:visible").get_by_text("over the steps", exact=True).click()
    assert text(page) == "<lora:bend:0.8:hr=0.75@0,0.75@1>"
    row.locator(".lora-arguments-open [data-lora-point='1']").press("Shift+ArrowDown")
    assert text(page) == "<lora:bend:0.8:hr=0.75@0,0.5@1>"
    chip(row, "refiner").click()
    row.locator(".lora-amount:visible").get_by_text("off", exact=True).click()
    assert text(page) == "<lora:bend:0.8:hr=0.75@0,0.5@1:refiner=off>"
    write(page, "<lora:bend:0.8:hrte=0.25:hrunet=1>")
    chip(row, "hires pass").click()
    sliders = row.locator(".lora-amount:visible input[type=range]")
    assert [sliders.nth(n).input_value() for n in range(sliders.count())] == ["0.25", "1"]
    sliders.nth(1).press("ArrowUp")
    assert text(page) == "<lora:bend:0.8:hrte=0.25:hrunet=1.05>"


def test_the_side_is_chosen(page):
    row = opened(page, "<lora:bend:0.8>")
    chip(row, "side").click()
    sides = row.get_by_role("radio")
    assert [sides.nth(n).get_attribute("aria-checked") for n in range(3)] == ["true", "false", "false"]
    sides.nth(0).press("ArrowRight")
    assert text(page) == "<lora:bend:0.8:on=cond>"
    page.keyboard.press("ArrowRight")
    assert text(page) == "<lora:bend:0.8:on=uncond>"
    assert chip(row, "side").inner_text().split() == ["side", "negative", "prompt"]


def test_an_area_is_drawn_moved_and_resized_on_the_shape_of_the_picture(page):
    page.fill("#lora-height input[type=number]", "256")
    page.locator("#lora-height input[type=number]").blur()
    row = opened(page, "<lora:bend:0.8>")
    chip(row, "area").click()
    shape = row.locator(".lora-shape")
    page.wait_for_function("() => { const {offsetWidth: w, offsetHeight: h} = document.querySelector('.lora-shape');"
                           " return Math.abs(2 * w - h) < 4; }")  # fmt: skip
    row.get_by_text("right half", exact=True).click()
    assert text(page) == "<lora:bend:0.8:area=0.5,0,0.5,1>"
    area, corner = row.locator(".lora-area"), row.locator(".lora-corner")
    area.press("ArrowLeft")
    area.press("Shift+ArrowUp")
    corner.press("ArrowLeft")
    assert text(page) == "<lora:bend:0.8:area=0.45,0,0.45,0.95>"
    box = shape.bounding_box()
    drag(page, area, -box["width"] * 0.25, 0)
    drag(page, corner, 0, -box["height"] * 0.5)
    numbers = [float(number) for number in re.search("area=([^>]+)>", text(page))[1].split(",")]
    assert numbers == pytest.approx([0.2, 0, 0.45, 0.45], abs=0.03)
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.9)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.6, steps=4)
    page.mouse.up()
    numbers = [float(number) for number in re.search("area=([^>]+)>", text(page))[1].split(",")]
    assert numbers == pytest.approx([0.5, 0.6, 0.4, 0.3], abs=0.03)
    row.get_by_label("Soft edge").press("End")
    assert text(page).endswith(",0.5>")


def test_rules_of_elements_have_a_field(page):
    row = opened(page, "<lora:bend:0.8:lbwe=IN05-OUT05:attn:0:on=cond>")
    chip(row, "elements").click()
    row.get_by_label("elements", exact=True).fill("ATTNDEEPON")
    assert text(page) == "<lora:bend:0.8:lbwe=ATTNDEEPON:on=cond>"


def test_a_finger_moves_points_and_bars(browser, address):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(address)
    row = opened(page, "<lora:bend:0.8>")
    finger = context.new_cdp_session(page)

    def pull(locator, dy):
        x, y = middle(locator)
        places = [[(x, y)], *([(x, y + dy * part / 5)] for part in range(1, 6)), []]
        for kind, at in zip(["touchStart", *["touchMove"] * 5, "touchEnd"], places, strict=True):
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in at]})

    pull(point(row, 1), unit_of_weight(row) * 0.3)
    page.wait_for_timeout(300)
    assert text(page) == "<lora:bend:0.8:0.8@0,0.5@1>"
    well = bar(row, "M00").locator(".lora-bar-well")
    well.scroll_into_view_if_needed()
    pull(well, well.bounding_box()["height"] * 0.25)
    wait_for_text(page, f"<lora:bend:0.8:0.8@0,0.5@1:lbw={numbers(M00=0.25)}>")
    context.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_everything_fits_and_can_be_hit(page, width):
    page.set_viewport_size({"width": width, "height": 844})
    row = opened(page, EVERYTHING)
    for name in ("window", "hires pass", "area"):
        chip(row, name).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        small = row.evaluate(
            """(row, least) => [...row.querySelectorAll('button, select, input, [role=slider], [tabindex="0"]')]
            .filter((node) => !node.matches('.lora-grip'))
            .map((node) => [node, (node.querySelector('.lora-hit') ?? node).getBoundingClientRect()])
            .filter(([, box]) => box.width && (box.width < least || box.height < least))
            .map(([node, box]) => [node.outerHTML.slice(0, 120), box.width, box.height])""",
            LEAST,
        )
        assert small == []


@THEMES
def test_every_text_of_the_editors_stands_out_from_its_ground(page):
    row = opened(page, EVERYTHING)
    page.wait_for_timeout(300)
    texts = ["h4", ".lora-grid text", ".lora-point .lora-meta", ".lora-unit", ".lora-presets", ".lora-bar-value",
             ".lora-bar-name", ".lora-bar-label", ".lora-argument-name", ".lora-argument-value",
             ".lora-number"]  # fmt: skip
    opening = {"window": ".lora-part .lora-meta", "side": "[role=radio]", "area": ".lora-part .lora-chip"}
    weak = [each for each in page.evaluate(CONTRAST, texts) if each[2] < ENOUGH]
    for name, part in opening.items():
        chip(row, name).click()
        weak += [each for each in page.evaluate(CONTRAST, [part]) if each[2] < ENOUGH]
    assert weak == []


def test_what_has_the_focus_in_the_editors_is_seen_and_nothing_moves_by_itself(page):
    page.emulate_media(reduced_motion="reduce")
    row = opened(page, EVERYTHING)
    row.locator(OPENER).focus()
    seen = set()
    for _ in range(45):
        page.keyboard.press("Tab")
        name, is_seen = page.evaluate("""() => {
            const node = document.activeElement;
            const {outlineStyle, outlineWidth} = getComputedStyle(node);
            const ring = node.querySelector('.lora-hit');
            const isRing = ring && getComputedStyle(ring).stroke !== 'none';
            return [node.closest('.lora-row') && (node.getAttribute('class') ?? node.tagName),
                isRing || outlineStyle === 'solid' && parseFloat(outlineWidth) >= 2];
        }""")
        if name is None:
            break
        seen.add(name.split()[0])
        assert is_seen, name
    assert seen >= {"lora-dot", "lora-bar-block", "lora-argument-name", "lora-argument-remove", "lora-input"}
    moving = row.evaluate("""row => [...row.querySelectorAll('*')].filter((node) => {
        const {transitionDuration, animationName} = getComputedStyle(node);
        return transitionDuration.split(', ').some((time) => time !== '0s') || animationName !== 'none';
    }).map((node) => node.outerHTML.slice(0, 80))""")
    assert moving == []


def test_the_picture_is_drawn_anew_while_a_curve_or_a_bar_changes(page):
    put_seed(page, 7)
    put_steps(page, 4)
    row = opened(page, "a large red circle on a white background <lora:bend:1:1@0,1@1>")
    first = generate(page)
    less = drawn(page, lambda: point(row, 1).press("Shift+ArrowDown"))
    silent = drawn(page, lambda: bar(row, "OUT08").press(" "))
    assert len({first, less, silent}) == 3
    assert page.locator("#lora-report [role=alert]").count() == 0
    page.locator("#lora-gallery", has_text="seed 7 · bend 1/1@0,0.75@1").wait_for()


def test_the_negative_prompt_has_a_strip_of_its_own(page):
    write(page, "")
    page.locator("#lora-negative").locator("textarea, input").fill("blurry <lora:bend:0.8>")
    row = page.locator("#lora-negative-strip .lora-row")
    row.locator("input[type=range]:visible").press("ArrowRight")
    row.locator(OPENER).click()
    chip(row, "side").click()
    assert row.get_by_role("radio", checked=True).inner_text() == "negative prompt only"
    row.get_by_role("radio", name="both sides").click()
    written = page.locator("#lora-negative").locator("textarea, input").input_value()
    assert written == "blurry <lora:bend:0.85:on=both>"
