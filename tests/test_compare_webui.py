"""Running WebUIs as runners. These have the real routes of the library and paint grey; tests/webui has a real one."""

from __future__ import annotations

import base64
import io
import json
import shutil
import threading
import time

import pytest
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from PIL import Image

from lib_lora.browser.routes import add_routes
from lib_lora.compare.grid import Settings, make_grid
from lib_lora.compare.run import compare
from lib_lora.compare.runners.webui import WebUI
from lib_lora.errors import RunnerError
from lib_lora.grammar.tag import read_prompt
from lib_lora.library import Library
from tests.support import write_lora

SHAPES = {"lora_unet_down_blocks_0_attentions_0_proj_in": (8, 8)}


class Worker:
    """A WebUI as far as a runner sees it."""

    def __init__(self, folder, *, dies_after=None, **options):
        self.library = Library([folder])
        self.prompts: list[str] = []
        self.dies_after = dies_after
        self.options = {"sd_model_checkpoint": "base.safetensors [31e3]", "sd_checkpoint_hash": "31e3", **options}
        self.app = FastAPI()
        add_routes(self.app, self.library)
        self.app.add_api_route("/sdapi/v1/options", lambda: self.options)
        self.app.add_api_route("/sdapi/v1/sd-models", lambda: [
            {"title": "base.safetensors [31e3]", "model_name": "base", "filename": "/sd/base.safetensors",
             "sha256": None}])  # fmt: skip
        self.app.add_api_route("/internal/sysinfo", lambda: {"Version": "v1.10.1"})
        self.app.add_api_route("/sdapi/v1/txt2img", self.draw, methods=["POST"])
        self.server = uvicorn.Server(uvicorn.Config(self.app, port=0, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    async def draw(self, request: Request):
        asked = await request.json()
        if self.dies_after is not None and len(self.prompts) >= self.dies_after:
            self.stop()
            raise HTTPException(503)
        self.prompts.append(asked["prompt"])
        problems, hashes = [], []
        for tag in read_prompt(asked["prompt"]).tags:
            entry = self.library.find(tag.name)
            if entry.name == "odd":
                problems.append("odd: 0 of 3 layers match: made for SDXL, the checkpoint is SD 1.5")
            else:
                hashes.append(f"{tag.name}: {entry.shorthash}")
        text = f"{asked['prompt']}\nSteps: {asked['steps']}, Lora hashes: {json.dumps(', '.join(hashes))}"
        text += f", Lora problems: {json.dumps('; '.join(problems))}" if problems else ""
        file = io.BytesIO()
        Image.new("RGB", (asked["width"], asked["height"]), (asked["seed"],) * 3).save(file, "PNG")
        time.sleep(0.01)
        return {"images": [base64.b64encode(file.getvalue()).decode()], "info": json.dumps({"infotexts": [text]})}

    def stop(self):
        self.server.force_exit = self.server.should_exit = True


@pytest.fixture
def start(tmp_path):
    workers: list[Worker] = []

    def begin(name: str, files: dict[str, str], **options) -> Worker:
        """`files`: {its name there: the name of ours}"""
        folder = tmp_path / name
        folder.mkdir()
        for there, here in files.items():
            shutil.copy(tmp_path / "ours" / f"{here}.safetensors", folder / f"{there}.safetensors")
        workers.append(Worker(folder, **options))
        return workers[-1]

    yield begin
    for worker in workers:
        worker.stop()
        worker.thread.join(10)


@pytest.fixture
def grid(tmp_path):
    (tmp_path / "ours").mkdir()
    for seed, name in enumerate(("ink", "wash", "odd")):
        write_lora(tmp_path / "ours" / f"{name}.safetensors", SHAPES, seed=seed)
    return make_grid(Library([tmp_path / "ours"]), adapters=["ink", "wash"], weights=[0, 1], prompts=["a heart"],
                     seeds=range(1, 7), settings=Settings(size=(16, 16)))  # fmt: skip


def test_a_file_is_known_by_what_it_holds_whatever_its_name(grid, start, tmp_path):
    worker = start("one", {"their ink": "ink", "ink": "wash"})
    done = compare(grid, tmp_path / "out", [WebUI(worker.address)])
    assert not done.problems
    assert done.ground.engine == "WebUI v1.10.1"
    assert {prompt for prompt in worker.prompts if "<" in prompt} == {
        "a heart <lora:their ink:1>", "a heart <lora:ink:1>"}  # fmt: skip
    text = next(cell for cell in done.told() if (cell["adapter"], cell["weight"]) == ("ink", 1))["file"]
    with Image.open(tmp_path / "out" / text) as image:
        assert image.info["parameters"].startswith("a heart <lora:their ink:1>")


def test_a_webui_that_lacks_a_file_is_named_and_the_others_draw_those_cells(grid, start, tmp_path):
    whole, half = start("whole", {"ink": "ink", "wash": "wash"}), start("half", {"ink": "ink", "wash": "odd"})
    done = compare(grid, tmp_path / "out", [WebUI(half.address), WebUI(whole.address)])
    assert done.sentences == (f"127.0.0.1:{half.port} has no file like wash; cells with it are drawn elsewhere",)
    assert all(cell["file"] for cell in done.told())
    assert not any("wash" in prompt for prompt in half.prompts)
    assert sum("wash" in prompt for prompt in whole.prompts) == 6


def test_a_webui_that_dies_in_mid_run_loses_no_cell(grid, start, tmp_path):
    files = {"ink": "ink", "wash": "wash"}
    dying, living = start("dying", files, dies_after=2), start("living", files)
    done = compare(grid, tmp_path / "out", [WebUI(dying.address), WebUI(living.address)])
    assert all(cell["file"] for cell in done.told())
    assert len(dying.prompts) == 2
    assert len(dying.prompts) + len(living.prompts) == 18
    assert [sentence.partition(": it ")[0] for sentence in done.sentences] == [f"127.0.0.1:{dying.port}"]


def test_an_adapter_that_the_webui_left_out_has_no_picture(start, grid, tmp_path):
    worker = start("one", {"odd": "odd"})
    grid = make_grid(Library([tmp_path / "ours"]), adapters=["odd"], weights=[0, 1], prompts=["a heart"], seeds=[1],
                     settings=Settings(size=(16, 16)))  # fmt: skip
    zero, one = compare(grid, tmp_path / "out", [WebUI(worker.address)]).told()
    assert (zero["problem"], bool(zero["file"])) == (None, True)
    assert one["file"] is None
    assert one["problem"].startswith("odd: 0 of 3 layers match: made for SDXL")


def test_webuis_with_other_checkpoints_or_settings_are_left_out(grid, start, tmp_path):
    files = {"ink": "ink", "wash": "wash"}
    first, other = start("first", files), start("other", files, CLIP_stop_at_last_layers=2)
    done = compare(grid, tmp_path / "out", [WebUI(first.address), WebUI(other.address)])
    assert "CLIP_stop_at_last_layers 2" in done.sentences[0]
    assert other.prompts == []


@pytest.mark.parametrize(("address", "says"), [
    ("ftp://host", "no address of a WebUI"), ("http://127.0.0.1:9", "does not answer"),
])  # fmt: skip
def test_what_is_no_webui_is_told(grid, tmp_path, address, says):
    with pytest.raises(RunnerError, match=says):
        compare(grid, tmp_path / "out", [WebUI(address)])


def test_a_password_is_sent_and_never_shown():
    made = WebUI("http://me:secret@host:7860/path/")
    assert made.name == "host:7860"
    assert made._address == "http://host:7860/path"
    assert base64.b64decode(made._headers["Authorization"].split()[1]) == b"me:secret"
