"""A comparison drawn by two WebUIs, of which one lacks a file and is killed in mid-run."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from lib_lora.compare.grid import Settings, make_grid
from lib_lora.compare.run import compare
from lib_lora.compare.runners.webui import WebUI as Runner
from lib_lora.library import Library
from tests.webui.instance import WebUI

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
