"""The standalone page, driven in headless Chromium: the demo model draws, the strip and the text follow each other."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
import uvicorn
from PIL import Image
from safetensors.torch import load_file, save_file

from lib_lora.demo.models import ADAPTERS, load_pipeline
from lib_lora.demo.page import build_app, listen
from lib_lora.demo.studio import Studio
from lib_lora.errors import LoraError
from tests.support import fingerprint, kohya_shapes, write_lora

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[1]
SUBJECT = "a large red circle on a white background"
PROMPT = "#lora-prompt textarea"
SLIDER = ".lora-row input[type=range]:visible"
NUMBER = ".lora-row .lora-number:visible"
PICTURE = "#lora-gallery img"


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """The demo model with adapters that change every layer a little, one for another base model, one broken."""
    folder = tmp_path_factory.mktemp("adapters")
    pipe = load_pipeline()
    made = Studio(pipe, [folder], outputs=tmp_path_factory.mktemp("outputs"))
    shapes = kohya_shapes(made.attached.session.host.targets(), limit=60)
    (folder / "styles").mkdir()
    write_soft_lora(folder / "bend.safetensors", shapes)
    words = {"modelspec.trigger_phrase": "ink wash, <b>brush</b>"}
    write_soft_lora(folder / "styles" / "ink wash.safetensors", shapes, words)
    write_lora(folder / "grain.safetensors", {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k": (64, 2048)})
    (folder / "half.safetensors").write_bytes(b"hello")
    made.attached.library.refresh()
    return made


def write_soft_lora(path, shapes, metadata=None):
    """Weak enough that a trained model still draws."""
    write_lora(path, shapes, metadata=metadata)
    tensors = {key: tensor * 0.02 if key.endswith("down.weight") else tensor for key, tensor in load_file(path).items()}
    save_file(tensors, path, metadata)


@pytest.fixture(scope="module")
def address(studio):
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(build_app(studio), log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def browser():
    names = (
        os.environ.get("LIB_LORA_CHROMIUM"),
        os.environ.get("CHROMIUM"),
        "chromium",
        "chromium-browser",
        "google-chrome",
    )
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield made
        made.close()


@pytest.fixture
def page(browser, address):
    """A fresh page that fails the test for any error in its console, and for any request to another host."""
    made = browser.new_page(viewport={"width": 1280, "height": 900})
    made.set_default_timeout(20_000)
    wrong = []
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    made.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    made.on(
        "request",
        lambda request: wrong.append(request.url) if not request.url.startswith((address, "data:", "blob:")) else None,
    )
    made.goto(address)
    made.wait_for_selector("#lora-generate")
    made.wait_for_selector(".lora-strip[data-lora-mounted]", state="attached")
    yield made
    made.close()
    assert not wrong


def write(page, text):
    page.fill(PROMPT, text)


def text(page):
    return page.input_value(PROMPT)


def wait_for_text(page, wanted):
    page.wait_for_function("([area, wanted]) => document.querySelector(area).value === wanted", arg=[PROMPT, wanted])


def drawn(page, action):
    """The picture that `action` brings, as the browser loads it."""
    before = page.locator(PICTURE).first.get_attribute("src") if page.locator(PICTURE).count() else None
    action()
    page.wait_for_function(
        "([name, before]) => {"
        " const image = document.querySelector(name);"
        " return image && image.getAttribute('src') !== before && image.complete; }",
        arg=[PICTURE, before],
    )
    return page.request.get(page.locator(PICTURE).first.evaluate("image => image.src")).body()


def generate(page):
    return drawn(page, lambda: page.click("#lora-generate"))


def put_seed(page, seed):
    page.fill("#lora-seed input", str(seed))
    page.locator("#lora-seed input").blur()


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
    problems.filter(has_text="not a safetensors file").wait_for()
    problems.filter(has_text="'x' is not a weight").wait_for()
    page.locator(".lora-row .lora-chip", has_text="bend").click()
    wait_for_text(page, "a <lora:bend:1> <lora:grain:1> <lora:half> <lora:bend:x>")


def test_trigger_words_go_in_and_out_and_markup_stays_text(page):
    write(page, "a <lora:ink wash:1>")
    page.locator(".lora-row .lora-chip", has_text="<b>brush</b>").click()
    assert text(page) == "a, <b>brush</b> <lora:ink wash:1>"
    page.locator(".lora-row .lora-chip", has_text="<b>brush</b>").click()
    assert text(page) == "a <lora:ink wash:1>"


def test_a_picture_is_drawn_and_another_weight_draws_another(page, studio):
    put_seed(page, 7)
    write(page, SUBJECT)
    plain = generate(page)
    write(page, f"{SUBJECT} <lora:bend:0.8>")
    bent = generate(page)
    assert bent != plain
    page.locator("#lora-gallery", has_text="seed 7 · bend 0.8").wait_for()
    assert page.locator("#lora-report").inner_text().startswith("Seed 7 · ")
    more = drawn(page, lambda: page.locator(SLIDER).press("ArrowRight"))  # redrawn without a click
    assert more != bent
    write(page, SUBJECT)
    assert generate(page) == plain
    newest = max(studio.outputs.rglob("*.png"), key=lambda path: path.stat().st_mtime_ns)
    assert Image.open(newest).text["parameters"].startswith(f"{SUBJECT}\nSteps: 16, ")


def test_what_goes_wrong_is_said_under_the_picture(page):
    write(page, f"{SUBJECT} <lora:bent:1> <lora:grain:1>")
    generate(page)
    report = page.locator("#lora-report").inner_text()
    assert "Lora not found: bent; did you mean bend?" in report
    assert "made for SDXL, the checkpoint is SD 1.5" in report


def test_cancel_stops_at_the_next_step_and_the_model_is_as_it_was(page, studio):
    studio.attached.clear()
    clean = fingerprint(studio.attached.pipe.unet.named_parameters())
    write(page, f"{SUBJECT} <lora:bend:1>")
    page.fill("#lora-steps input[type=number]", "100")
    page.locator("#lora-steps input[type=number]").blur()
    page.fill("#lora-count input[type=number]", "8")
    page.locator("#lora-count input[type=number]").blur()
    page.click("#lora-generate")
    page.locator("#lora-cancel:not([disabled])").wait_for()
    page.wait_for_timeout(300)
    page.click("#lora-cancel")
    page.locator("#lora-report", has_text="Stopped after").wait_for(timeout=5000)
    assert fingerprint(studio.attached.pipe.unet.named_parameters()) == clean
    page.locator("#lora-cancel[disabled]").wait_for()


def test_the_adapters_tab_lists_searches_and_inserts(page):
    write(page, "a castle")
    page.get_by_role("tab", name="Adapters").click()
    cards = page.locator(".lora-card")
    cards.first.wait_for()
    assert cards.count() == 4
    page.fill(".lora-search", "ink")
    page.wait_for_function("document.querySelectorAll('.lora-card').length === 1")
    cards.first.click()
    assert text(page) == "a castle <lora:ink wash:1>"
    assert cards.first.get_attribute("aria-selected") == "true"
    cards.first.click()
    assert text(page) == "a castle"
    page.fill(".lora-search", "")
    page.wait_for_function("document.querySelectorAll('.lora-card').length === 4")
    page.locator(".lora-facet .lora-chip", has_text="SDXL").click()
    page.wait_for_function("document.querySelectorAll('.lora-card').length === 1")
    assert "made for SDXL" in cards.first.get_attribute("title")


def test_the_listing_works_without_a_mouse(page):
    write(page, "a castle")
    page.get_by_role("tab", name="Adapters").click()
    page.locator(".lora-card").first.wait_for()
    page.fill(".lora-search", "b")
    page.locator(".lora-card", has_text="bend").wait_for()
    page.fill(".lora-search", "bend")
    page.wait_for_function("document.querySelectorAll('.lora-card').length === 1")
    page.press(".lora-search", "ArrowDown")
    page.keyboard.press("Enter")
    assert text(page) == "a castle <lora:bend:1>"
    page.keyboard.press("i")
    page.locator(".lora-details h3", has_text="bend").wait_for()
    page.keyboard.press("Escape")
    assert page.locator(".lora-details").is_hidden()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.className") == "lora-search"


def test_nothing_is_wider_than_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    write(page, f"{SUBJECT} <lora:bend:0.8> <lora:ink wash:0.2:0.4> <lora:grain>")
    page.wait_for_timeout(400)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("tab", name="Adapters").click()
    page.locator(".lora-card").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".lora-card").first.bounding_box()["width"] > 120


def test_an_exception_while_drawing_leaves_the_base_weights(studio):
    studio.attached.clear()
    clean = fingerprint(studio.attached.pipe.unet.named_parameters())

    def fail(done, total):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        studio.draw("a <lora:bend:1>", fail)
    assert fingerprint(studio.attached.pipe.unet.named_parameters()) == clean


def test_cancelling_when_nothing_is_drawn_does_not_stop_the_next(studio):
    studio.cancel()
    drawn = studio.draw(SUBJECT, lambda done, total: None, steps=1, seed=3)
    assert (drawn.seed, drawn.sentences, [caption for _, caption in drawn.pictures]) == (3, (), ["seed 3"])
    assert Path(drawn.pictures[0][0]).exists()


def test_a_port_that_is_taken_is_an_error_and_the_default_takes_the_next():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(LoraError, match=f"port {number} on 127.0.0.1 cannot be opened"):
            listen("127.0.0.1", number)
    with listen("127.0.0.1", None) as listener:
        assert listener.getsockname()[1] >= 7860


def test_one_command_brings_the_page_with_the_adapters_of_the_demo(tmp_path):
    """`python -m lib_lora demo`, as a user starts it."""
    command = [sys.executable, "-m", "lib_lora", "demo", "--no-browser", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Open "):
                break
        address = re.search(r"http://localhost:\d+", lines[-1])[0]
        with urllib.request.urlopen(f"{address}/lora/v1/adapters", timeout=10) as answer:
            cards = json.load(answer)["items"]
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert b"loraLib" in answer.read()
    finally:
        process.terminate()
        process.communicate(timeout=10)
    assert {card["name"] for card in cards} == {path.stem for path in ADAPTERS.glob("*.safetensors")}
    assert all(card["compatible"] and not card["broken"] for card in cards)
