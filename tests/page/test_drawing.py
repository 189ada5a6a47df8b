"""Drawing on the standalone page: a picture, what is said about it, cancelling, and one command that starts it all."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from lib_lora.demo.page import PAUSE, listen, rest
from lib_lora.drawing.demo_files import ADAPTERS
from lib_lora.errors import LoraError
from tests.page.hands import SLIDER, SUBJECT, drawn, generate, put_seed, put_steps, write
from tests.support import fingerprint

ROOT = Path(__file__).parents[2]


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
    put_steps(page, 1)
    generate(page)
    report = page.locator("#lora-report").inner_text()
    assert "Lora not found: bent; did you mean bend?" in report
    assert "made for SDXL, the checkpoint is SD 1.5" in report


def test_cancel_stops_at_the_next_step_and_the_model_is_as_it_was(page, studio):
    studio.attached.clear()
    clean = fingerprint(studio.attached.pipe.unet.named_parameters())
    write(page, f"{SUBJECT} <lora:bend:1>")
    put_steps(page, 100)
    page.fill("#lora-count input[type=number]", "8")
    page.locator("#lora-count input[type=number]").blur()
    page.click("#lora-generate")
    page.locator("#lora-cancel:not([disabled])").wait_for()
    page.wait_for_timeout(300)
    page.click("#lora-cancel")
    page.locator("#lora-report", has_text="Stopped after").wait_for(timeout=5000)
    assert fingerprint(studio.attached.pipe.unet.named_parameters()) == clean
    page.locator("#lora-cancel[disabled]").wait_for()


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


def test_gradios_queue_rests_between_two_looks():
    blocks = gr.Blocks()
    before = dict(vars(blocks._queue))
    rest(blocks)
    changed = {name for name, value in vars(blocks._queue).items() if before.get(name) != value}
    assert changed == {"sleep_when_free", "progress_update_sleep_when_free"} <= before.keys()
    assert all(before[name] < getattr(blocks._queue, name) == PAUSE for name in changed)


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
        with urllib.request.urlopen(f"{address}/lora/v1/adapters", timeout=60) as answer:
            cards = json.load(answer)["items"]
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert b"loraLib" in answer.read()
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert {card["name"] for card in cards} == {path.stem for path in ADAPTERS.glob("*.safetensors")}
    assert all(card["compatible"] and not card["broken"] for card in cards)
