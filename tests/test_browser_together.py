"""What a page asks of several adapters at once, and of the loaded model: figures, one file of many, bits compared."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lib_lora.browser.inside import inside
from lib_lora.browser.jobs import Job
from lib_lora.browser.loaded import LoadedModel
from lib_lora.browser.routes import add_routes
from lib_lora.grammar.tag import read_prompt
from lib_lora.library import Library
from lib_lora.session.session import Session
from tests.support import kohya_shapes, write_lora
from tests.support_webui import tiny_sd_model, webui_host

ROUTES = "/lora/v1"


class Stage:
    """A tiny model with its file, some adapters for it, and a client of the routes."""

    def __init__(self, folder, place) -> None:
        self.model = tiny_sd_model("sd1")
        state = {key.replace(".wrapped", ""): tensor.contiguous() for key, tensor in self.model.state_dict().items()}
        self.file = place / "model.safetensors"
        save_file(state, self.file)
        self.model.sd_checkpoint_info = type("Info", (), {"filename": str(self.file)})()
        self.host = webui_host(self.model)
        shapes = kohya_shapes(self.host.targets())
        for seed, name in enumerate("abc"):
            write_lora(folder / f"{name}.safetensors", shapes, seed=seed, metadata={"modelspec.license": f"CC-{name}"})
        self.folder, self.library = folder, Library([folder])
        self.limit = 1.5
        app = FastAPI()
        loaded = LoadedModel(lambda: self.host, lambda: self.file)
        add_routes(app, self.library, checkpoint=lambda: self.host.family, model=loaded, limit=lambda: self.limit)
        self.client = TestClient(app)

    def post(self, path, value):
        return self.client.post(f"{ROUTES}/{path}", json=value)

    def done(self, path):
        """The job, once it is over."""
        for _ in range(600):
            told = self.client.get(f"{ROUTES}/{path}").json()
            if not told["running"]:
                return told
            time.sleep(0.05)
        raise AssertionError(f"{path} never ends")

    def saved(self, **asked):
        answer = self.post("saving", {"prompt": "<lora:a:0.8><lora:b:-0.3>", "name": "mix", **asked})
        assert answer.status_code == 200, answer.text
        return self.done("saving")


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return Stage(tmp_path_factory.mktemp("adapters"), tmp_path_factory.mktemp("model"))


def test_two_adapters_are_compared_and_one_is_not(stage):
    assert stage.post("together", {"prompt": "a <lora:a:1> <lora:a:0.5>"}).json() == {"adapters": []}
    assert stage.post("together", {"prompt": "a <lora:a:1> <lora:b:0>"}).json() == {"adapters": []}
    told = stage.post("together", {"prompt": "<lora:a:1> x <lora:nobody:1> <lora:b:1> <lora:a:1>"}).json()
    assert [(each["name"], each["tags"]) for each in told["adapters"]] == [("a", [0, 3]), ("b", [2])]
    assert told["limit"] == 1.5
    assert told["times"] > 2  # a at 2, and b beside it
    assert sum(told["shares"]) == pytest.approx(1)
    assert {each["block"] for each in told["blocks"]} >= {"BASE", "M00"}
    apart = stage.post("together", {"prompt": "<lora:a:1> <lora:b:1>"}).json()
    assert apart["cosine"][0][1] == pytest.approx(0, abs=0.2)
    assert 1.2 < apart["times"] < 1.6


def test_the_blocks_are_measured_with_the_loaded_weights_once_they_are_known(stage):
    for _ in range(100):
        told = stage.post("together", {"prompt": "<lora:a:1> <lora:b:1>"}).json()
        if told["is_measured"]:
            break
        time.sleep(0.05)
    assert told["is_measured"]
    (block,) = [each for each in told["blocks"] if each["block"] == "M00"]
    weights = {key: value for key, value in load_file(stage.file).items() if "middle_block" in key and value.dim() > 1}
    whole = sum(float(value.double().square().sum()) for value in weights.values()) ** 0.5
    session = Session(stage.host, stage.library)
    session.activate(read_prompt("<lora:a:1><lora:b:1>").tags)
    moved = {key: slot.parameter.detach().double() for key, slot in stage.host.bound.slots.items()}
    change = sum(float((moved[key] - weights[key].double()).square().sum()) for key in weights) ** 0.5
    session.clear()
    assert block["load"] == pytest.approx(change / whole, rel=1e-3)


def test_those_that_undo_each_other_are_named_with_the_blocks(stage):
    tensors = load_file(stage.folder / "a.safetensors")
    with safe_open(stage.folder / "a.safetensors", "pt") as file:
        metadata = file.metadata()
    turned = [key for key in tensors if key.endswith("up.weight") and "mid_block" in key]
    against = tensors | {key: -tensors[key] for key in turned}
    save_file(against, stage.folder / "against.safetensors", metadata)
    stage.library.refresh()
    told = stage.post("together", {"prompt": "<lora:a:1> <lora:against:0.9>"}).json()
    (pull,) = told["pulls"]
    assert (pull["a"], pull["b"], pull["groups"], pull["apart"]) == (0, 1, ["M"], True)
    told = stage.post("together", {"prompt": "<lora:a:1> <lora:a:1:dyn=1>"}).json()
    assert told["pulls"][0]["apart"] is False
    os.remove(stage.folder / "against.safetensors")
    stage.library.refresh()


def test_what_makes_no_sense_is_refused(stage):
    assert stage.post("together", {"prompt": 3}).status_code == 400
    assert stage.post("weights", {"repair": "yes"}).status_code == 400
    assert stage.post("saving", [1]).status_code == 400
    for asked, word in [({"name": "x", "rank": 0}, "rank"), ({"name": "x", "rank": 2.5}, "rank"),
                        ({"name": "x", "error": 2}, "error"), ({"name": "x", "rank": 2, "error": 0.1}, "without"),
                        ({"name": "x", "dtype": "int4"}, "dtype"), ({"name": "x", "rank": True}, "rank")]:
        answer = stage.post("saving", {"prompt": "<lora:a:1>", **asked})
        assert (answer.status_code, word in answer.json()["error"]) == (400, True), asked


@pytest.mark.parametrize("name", [
    "", "  ", ".", "..", ".hidden", "../out", "a/b", "a\\b", "/etc/x", "c:x", "x\0y", "x\ny", "a<b", "nul", "COM1.x",
    "x" * 101, "a:1", "x.", 7, None, "a", "A", "b.safetensors",
])  # fmt: skip
def test_a_name_that_is_none_or_is_taken_is_refused_before_anything_begins(stage, name):
    before = sorted(os.listdir(stage.folder.parent)), sorted(os.listdir(stage.folder))
    answer = stage.post("saving", {"prompt": "<lora:a:1>", "name": name})
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert (sorted(os.listdir(stage.folder.parent)), sorted(os.listdir(stage.folder))) == before


def test_the_tags_become_one_file_that_says_what_it_is_made_of(stage):
    told = stage.saved(name=" my mix.safetensors ")
    assert told["problem"] is None
    result = told["result"]
    assert result["tag"] == "<lora:my mix:1>"
    path = stage.folder / "my mix.safetensors"
    assert path.exists()
    detail = stage.client.get(f"{ROUTES}/adapters/{result['id']}").json()
    assert detail["recipe"]["prompt"] == "<lora:a:0.8><lora:b:-0.3>"
    assert [(each["name"], each["license"]) for each in detail["recipe"]["parents"]] == [("a", "CC-a"), ("b", "CC-b")]
    session = Session(stage.host, stage.library)
    after = []
    for prompt in ("<lora:a:0.8><lora:b:-0.3>", "<lora:my mix:1>"):
        assert session.activate(read_prompt(prompt).tags).sentences() == []
        after.append({key: slot.parameter.detach().clone() for key, slot in stage.host.bound.slots.items()})
    session.clear()
    assert all(torch.allclose(after[0][key], after[1][key], atol=1e-5) for key in after[0])
    assert stage.post("saving", {"prompt": "<lora:a:1>", "name": "MY MIX"}).status_code == 400
    path.unlink()
    stage.library.refresh()


def test_what_cannot_be_saved_says_why_and_leaves_nothing(stage):
    for prompt in ("no tag", "<lora:nobody:1>", "<lora:a:abc>", "<lora:a:0>", "<lora:a:1:area=0,0,0.5,1>"):
        told = stage.saved(prompt=prompt)
        assert told["result"] is None
        assert told["problem"]
    assert not (stage.folder / "mix.safetensors").exists()


def test_of_a_curve_the_named_moment_is_kept(stage):
    told = stage.saved(name="half way", prompt="<lora:a:0@0,1@1>", at="0.5", steps=21)
    assert told["problem"] is None
    detail = stage.client.get(f"{ROUTES}/adapters/{told['result']['id']}").json()
    assert (detail["recipe"]["prompt"], detail["recipe"]["at"]) == ("<lora:a:0@0,1@1>", "0.5")
    both = stage.post("together", {"prompt": "<lora:half way:1><lora:a:0:-0.5>"}).json()
    assert both["times"] == pytest.approx(0, abs=1e-3)  # text encoders have what the curve begins with
    for asked in ({"at": 0.5}, {"at": "x"}, {"at": "0.5", "steps": 0}):
        assert stage.post("saving", {"prompt": "<lora:a:1>", "name": "x", **asked}).status_code == 400
    (stage.folder / "half way.safetensors").unlink()
    stage.library.refresh()


def test_a_limit_is_kept(stage):
    told = stage.saved(name="cut", rank=1, dtype="fp16")
    assert told["result"]["ranks"] == [1, 1]
    assert 0 < told["result"]["error"] < 1
    tensors = load_file(stage.folder / "cut.safetensors")
    assert {value.dtype for value in tensors.values()} == {torch.float16}
    (stage.folder / "cut.safetensors").unlink()
    stage.library.refresh()


def test_the_loaded_weights_are_compared_with_the_file_also_while_adapters_are_active(stage):
    session = Session(stage.host, stage.library)
    session.activate(read_prompt("<lora:a:0.8>").tags)
    total = len(stage.host.bound.slots)
    assert stage.post("weights", {}).json()["problem"] is None
    told = stage.done("weights")
    assert told["result"] == {"file": "model.safetensors", "same": total, "total": total, "repaired": 0,
                              "differing": [], "unknown": 0, "carrying": len(stage.host.patcher.patched)}  # fmt: skip
    assert stage.host.patcher.patched
    slots, patched = stage.host.bound.slots, stage.host.patcher.patched
    key, slot = next((key, slot) for key, slot in slots.items() if key not in patched)
    before = slot.parameter.data.clone()
    with torch.no_grad():
        slot.parameter.data.view(-1)[0] += 1
    stage.post("weights", {"repair": False})
    told = stage.done("weights")["result"]
    assert (told["same"], told["total"], told["differing"]) == (total - 1, total, [key])
    stage.post("weights", {"repair": True})
    told = stage.done("weights")["result"]
    assert (told["same"], told["total"], told["repaired"]) == (total, total, 1)
    assert torch.equal(slot.parameter.data, before)
    assert not stage.host.patcher.patched
    session.clear()


def test_a_damaged_original_is_found_and_put_right(stage):
    """The weight that is kept while an adapter is active."""
    session = Session(stage.host, stage.library)
    session.activate(read_prompt("<lora:b:1>").tags)
    key = sorted(stage.host.patcher.patched)[0]
    original = stage.host.patcher.base(key, stage.host.bound.slots[key])
    with torch.no_grad():
        original.view(-1)[0] += 1
    stage.post("weights", {})
    assert stage.done("weights")["result"]["differing"] == [key]
    stage.post("weights", {"repair": True})
    assert stage.done("weights")["result"]["repaired"] == 1
    session.clear()
    stage.post("weights", {})
    told = stage.done("weights")["result"]
    assert told["same"] == told["total"]


def test_without_a_model_or_its_file_there_is_nothing_to_compare(stage):
    app = FastAPI()
    add_routes(app, stage.library)
    with TestClient(app) as client:
        client.post(f"{ROUTES}/weights", json={})
        for _ in range(100):
            told = client.get(f"{ROUTES}/weights").json()
            if not told["running"]:
                break
            time.sleep(0.02)
    assert "no model is loaded" in told["problem"]
    file, stage.model.sd_checkpoint_info.filename = stage.model.sd_checkpoint_info.filename, "x.ckpt"
    stage.post("weights", {})
    assert "not loaded from a .safetensors file" in stage.done("weights")["problem"]
    stage.model.sd_checkpoint_info.filename = file


def test_a_job_that_fails_in_a_way_that_nobody_thought_of_is_told_and_another_may_begin(caplog):
    job = Job("test")
    job.start(lambda progress: 1 / 0)  # type: ignore[arg-type,return-value]
    for _ in range(100):
        if not job.told()["running"]:
            break
        time.sleep(0.01)
    assert "division by zero" in job.told()["problem"]
    job.start(lambda progress: {"done": True})
    for _ in range(100):
        if not job.told()["running"]:
            break
        time.sleep(0.01)
    assert job.told()["result"] == {"done": True}


def test_a_recipe_from_a_hostile_file_is_text_and_nothing_else(tmp_path):
    hostile = {"lib_lora.recipe": json.dumps({"prompt": "<b onclick=x>", "steps": []}),
               "lib_lora.parents": json.dumps({"p": {"license": {"a": 1}}, "q": 3})}  # fmt: skip
    name = "lora_unet_input_blocks_1_1_proj_in"
    up, down = torch.ones(320, 1, 1, 1), torch.ones(1, 320, 1, 1)
    save_file({f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}, tmp_path / "x.safetensors", hostile)
    app = FastAPI()
    add_routes(app, Library([tmp_path]))
    recipe = TestClient(app).get(f"{ROUTES}/adapters/1").json()["recipe"]
    assert recipe["prompt"] == "<b onclick=x>"
    assert recipe["parents"] == [{"name": "p", "license": ""}]


def test_what_was_measured_is_known_of_every_file_with_these_tensors_and_after_a_start(tmp_path, stage):
    folder, index = tmp_path / "adapters", tmp_path / "index.sqlite"
    folder.mkdir()
    shutil.copy(stage.folder / "a.safetensors", folder)
    first = Library([folder], database=index)
    (entry,) = first.entries()
    assert (entry.change, first.measured(entry)) == (None, None)
    told = inside(first, entry)
    assert entry.change == pytest.approx(told["delta"])
    version = first.version
    shutil.copy(stage.folder / "a.safetensors", folder / "copy.safetensors")
    first.refresh()
    assert first.version != version
    copy = first.find("copy")
    assert copy.change is None  # nobody knows yet that it is the same
    _ = copy.hashes
    assert copy.change == entry.change
    assert first.measured(copy) == json.loads(json.dumps(told))
    first.close()
    second = Library([folder], database=index)
    assert second.find("copy").change == entry.change
    second.close()
    with sqlite3.connect(index) as db:
        db.execute("UPDATE measures SET told = '[1, '")
    third = Library([folder], database=index)
    assert third.measured(third.find("a")) is None
    assert inside(third, third.find("a"))["delta"] == pytest.approx(told["delta"])
    third.close()
    with sqlite3.connect(index) as db:
        db.execute("DROP TABLE measures")
        ids = dict(db.execute("SELECT path, id FROM files"))
    fourth = Library([folder], database=index)  # of a program that knew no such table
    assert fourth.find("a").change is None
    assert {os.fsencode(each.location): each.id for each in fourth.entries()} == ids
    assert fourth.known_hashes(fourth.find("a"))
    fourth.close()
