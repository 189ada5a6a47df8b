"""Comparisons with real WebUIs: two that share a grid, of which one is killed in mid-run; and the tab of one."""

from __future__ import annotations

import io
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from lib_lora.compare.grid import Settings, make_grid
from lib_lora.compare.run import compare
from lib_lora.compare.runners.webui import WebUI as Runner
from lib_lora.library import Library
from tests.webui.instance import LOCAL, WebUI

SETTINGS = Settings(steps=3, size=(64, 64), guidance=7.0, sampler="Euler")


@pytest.fixture(scope="module")
def two(checkpoints, adapters, tmp_path_factory):
    made = [WebUI(tmp_path_factory.mktemp(name), checkpoints) for name in ("first", "second")]
    for webui in made:
        shutil.copytree(adapters, webui.loras, dirs_exist_ok=True)
    (made[0].loras / "second.safetensors").unlink()
    shutil.move(made[1].loras / "sd1.safetensors", made[1].loras / "called otherwise.safetensors")
    for webui in made:
        webui.launch()
    yield [webui.wait() for webui in made]
    for webui in made:
        webui.stop()


def test_two_webuis_share_a_grid_and_one_that_is_killed_loses_no_cell(two, adapters, tmp_path):
    first, second = two
    grid = make_grid(Library([adapters]), adapters=["sd1", "second", "sdxl"], weights=[0, 1, "0@0,1@1"],
                     prompts=["a castle"], seeds=range(1, 5), settings=SETTINGS)  # fmt: skip
    names = [webui.url.removeprefix("http://") for webui in two]
    seen = []

    def after(now):
        seen.append(now.result)
        if len(seen) == 6:
            first.stop()

    done = compare(grid, tmp_path, [Runner(webui.url) for webui in two], on_cell=after)
    assert any(sentence.startswith(f"{names[0]} has no file like second") for sentence in done.sentences)
    assert any(sentence.startswith(f"{names[0]}: it ") for sentence in done.sentences)
    for told in done.told():
        if told["adapter"] == "sdxl" and told["weight"] != 0:
            assert "SDXL" in told["problem"]
            assert told["file"] is None
        else:
            assert told["file"], told
    one = next(each for each in done.told() if (each["adapter"], each["weight"], each["seed"]) == ("sd1", 1, 4))
    alone = second.draw("a castle <lora:called otherwise:1>", seed=4).picture
    assert np.array_equal(np.asarray(Image.open(tmp_path / one["file"])), alone)
    assert done.ground.model == "tiny-sd1"


ASKED = {"weights": ["0", "1"], "prompts": ["a castle"], "seeds": [1, 2], "steps": 3, "size": [64, 64]}


def ids(webui, *names):
    cards = webui.request("/lora/v1/adapters?limit=100")["items"]
    return [next(card["id"] for card in cards if card["name"] == name) for name in names]


def compared(webui, **asked):
    """Begin, and wait for the end."""
    job = webui.request("/lora/v1/comparisons", {**ASKED, **asked})
    end = time.monotonic() + 120
    while job["state"] == "running":
        assert time.monotonic() < end, job
        time.sleep(0.2)
        job = webui.request(f"/lora/v1/comparisons/{job['id']}")
    return job


def picture(webui, job, number):
    with LOCAL.open(f"{webui.url}/lora/v1/comparisons/{job['id']}/cells/{number}?original=1") as answer:
        return np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB"))


def test_the_tab_draws_what_the_webui_draws_and_saves_it_nowhere_else(webui):
    job = compared(webui, adapters=ids(webui, "sd1", "styles/ink", "sdxl"))
    assert (job["state"], job["done"], job["problem"]) == ("done", 12, "")
    by_number = {cell["n"]: cell for cell in job["cells"]}
    names = [each["name"] for each in job["adapters"]]
    for a, name in enumerate(names):
        for number in range(4 * a, 4 * a + 4):
            weight, seed = divmod(number - 4 * a, 2)
            if name == "sdxl" and weight:
                assert "SDXL" in by_number[number]["problem"]
                assert by_number[number]["version"] == ""
                continue
            prompt = "a castle" + (f" <lora:{name}:1>" if weight else "")
            assert np.array_equal(picture(webui, job, number), webui.draw(prompt, seed=seed + 1).picture), number
    assert job["effects"][0][0][0] == 0
    assert job["effects"][0][0][1] > 0
    folder = next(webui.data.rglob("comparison.json")).parent
    assert (folder / "sheet.png").exists()
    assert (folder / "report.html").exists()
    assert folder.parent.name == "lora-comparisons"
    assert [path for path in webui.data.rglob("*.png") if "castle" in path.name] == []
    assert list(folder.parent.parent.rglob("txt2img-images/**/*.png")) == []


def test_checkpoints_of_the_webui_are_an_axis_and_its_own_choice_stays(webui):
    before = webui.draw("a castle", seed=1).picture
    known = webui.request("/lora/v1/comparisons")["checkpoints"]
    assert {"tiny-sd1.safetensors", "tiny-sd2.safetensors"} <= set(known)
    job = compared(webui, adapters=ids(webui, "sd1"), seeds=[1],
                   checkpoints=["tiny-sd2.safetensors", "tiny-sd1.safetensors"])  # fmt: skip
    problems = [cell["problem"] for cell in sorted(job["cells"], key=lambda cell: cell["n"])]
    assert [bool(problem) for problem in problems] == [False, True, False, False]
    assert "SD 2" in problems[1]
    assert np.array_equal(picture(webui, job, 2), before)
    assert webui.request("/sdapi/v1/options")["sd_model_checkpoint"].startswith("tiny-sd1")
    assert np.array_equal(webui.draw("a castle", seed=1).picture, before)


def test_cancelling_and_interrupting_end_it_and_it_goes_on(webui):
    asked = {"adapters": ids(webui, "sd1"), "seeds": list(range(20, 40)), "steps": 20, "size": [128, 128]}
    for path in ("/lora/v1/comparisons/{}/cancel", "/sdapi/v1/interrupt"):
        job = webui.request("/lora/v1/comparisons", {**ASKED, **asked})
        while not (job := webui.request(f"/lora/v1/comparisons/{job['id']}"))["done"] > (path[1] == "s") * 3:
            time.sleep(0.05)
        end = time.monotonic() + 60
        while (job := webui.request(f"/lora/v1/comparisons/{job['id']}"))["state"] == "running":
            assert time.monotonic() < end
            webui.request(path.format(job["id"]), {})
            time.sleep(0.1)
        assert job["state"] == "cancelled", job
        assert 0 < sum(bool(cell["version"]) for cell in job["cells"]) < 40


def test_marked_cards_are_compared_in_the_tab_and_found_again(webui, page):
    from playwright.sync_api import expect

    from tests.webui.browser import PATIENCE, PROMPT, open_page

    def open_tab():
        page.locator("#tabs > .tab-nav button", has_text="LoRA").click()
        page.locator(".lora-card:not(.lora-ghost)").first.wait_for()

    page.fill(PROMPT, "a castle <lora:sd1:1>")
    open_tab()
    page.get_by_label("Select several").click()
    for title in ("sd1", "second"):
        page.locator(".lora-card", has=page.get_by_text(title, exact=True)).first.click()
    page.locator(".lora-picking").get_by_role("button", name="Compare").click()
    panel = page.locator(".lora-compare")
    expect(panel.locator("[name=prompts]")).to_have_value("a castle")
    for name, text in {"weights": "0 0.5 1", "seeds": "70-71", "steps": "3", "size": "64x64"}.items():
        panel.locator(f"[name={name}]").fill(text)
    panel.get_by_label("tiny-sd1.safetensors").check()
    expect(panel.locator(".lora-compare-plan")).to_contain_text("10 pictures", timeout=PATIENCE)
    panel.get_by_role("button", name="Start", exact=True).click()
    expect(panel.locator(".lora-compare-said")).to_have_text("Done: 12 cells", timeout=PATIENCE)
    expect(panel.locator(".lora-compare-cell img")).to_have_count(12)
    open_page(page, webui)
    open_tab()
    page.locator(".lora-bar").get_by_label("Compare").click()
    expect(panel.locator(".lora-compare-said")).to_have_text("Done: 12 cells", timeout=PATIENCE)
    expect(panel.get_by_label("tiny-sd1.safetensors")).to_be_checked()
