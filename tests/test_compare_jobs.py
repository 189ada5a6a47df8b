"""Comparisons that a page begins: one at a time, found again, gone on with; over HTTP; taking turns with others."""

from __future__ import annotations

import io
import json
import shutil
import threading
import time

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from lib_lora.browser.routes import add_routes as add_listing
from lib_lora.compare.job import NOTE, Host, Usual
from lib_lora.compare.jobs import BusyError, Jobs
from lib_lora.compare.routes import add_routes
from lib_lora.compare.wanted import read_wanted
from lib_lora.demo.studio import Turns
from lib_lora.errors import LoraError, NotFoundError
from lib_lora.library import Library
from tests.support import write_lora
from tests.test_compare import SHAPES, Grey

ASKED = {"weights": ["0", "0.5", "1"], "prompts": ["a heart", "a star"], "seeds": [1, 2]}
PLACE = "/lora/v1/comparisons"


class Page:
    """What a page has, with runners that paint grey: `greys` are those that were made."""

    def __init__(self, folder):
        (folder / "loras").mkdir(exist_ok=True)
        for seed, name in enumerate(("ink", "wash")):
            write_lora(folder / "loras" / f"{name}.safetensors", SHAPES, seed=seed)
        self.folder = folder
        self.greys = []
        self.pause = 0.0
        self.library = Library([folder / "loras"])

    @property
    def jobs(self):
        """Of the program when it starts."""
        return Jobs(Host(self.library, lambda: self.folder / "out", self._runner,
                         lambda: Usual("grey", 1, (8, 8)), "in turn", lambda: ["one", "two"]))  # fmt: skip

    @property
    def ids(self):
        return [entry.id for entry in self.library.entries()]

    def _runner(self, checkpoint, over):
        self.greys.append(Grey(checkpoint or "grey", checkpoint=checkpoint, pause=self.pause))
        return self.greys[-1]


@pytest.fixture
def page(tmp_path):
    return Page(tmp_path)


def ended(job):
    job.wait(20)
    assert job.state != "running"
    return job


def test_a_comparison_is_drawn_and_found_again_by_a_program_that_starts_later(page):
    job = ended(page.jobs.start(page.ids, ASKED))
    told = job.told()
    assert (told["state"], told["done"], told["total"], told["problem"]) == ("done", 24, 24, "")
    assert sorted(cell["n"] for cell in told["cells"]) == list(range(24))
    assert told["effects"] == [[[0, 19.608, 19.608]] * 2]
    assert told["report"]
    assert told["sheet"]
    again = page.jobs.last
    assert {**again.told(), "cells": None} == {**told, "cells": None}
    assert sorted(map(str, again.told()["cells"])) == sorted(map(str, told["cells"]))
    assert again.told(since=20)["cells"] == again.told()["cells"][20:]
    assert "adapters" not in again.told(since=1)


def test_one_that_is_cancelled_goes_on_when_the_same_is_asked_for(page):
    page.pause = 0.02
    jobs = page.jobs
    job = jobs.start(page.ids, ASKED)
    with pytest.raises(BusyError, match="a comparison is being drawn"):
        jobs.start(page.ids, {**ASKED, "seeds": [5]})
    while job.told()["done"] < 6:
        time.sleep(0.01)
    job.cancel()
    assert ended(job).state == "cancelled"
    begun = len(page.greys[0].drawn)
    assert begun < 20
    again = ended(page.jobs.start(page.ids, ASKED))
    assert again.id == job.id
    assert again.state == "done"
    assert len(page.greys[1].drawn) == 20 - begun


def test_one_whose_program_was_killed_says_how_far_it_came(page):
    job = ended(page.jobs.start(page.ids, ASKED))
    note = job.folder / NOTE
    note.write_text(json.dumps({**json.loads(note.read_text()), "state": "running"}))
    rows = json.loads((job.folder / "cells.json").read_text())
    (job.folder / "cells.json").write_text(json.dumps(rows[:10]))
    again = page.jobs.last
    assert (again.state, again.told()["done"]) == ("stopped", 10)


def test_a_wider_grid_takes_over_what_was_drawn_for_another(page):
    ended(page.jobs.start(page.ids, ASKED))
    wider = ended(page.jobs.start(page.ids, {**ASKED, "weights": ["0", "0.5", "1", "1.5"]}))
    assert {task.prompt.rpartition(":")[2] for task in page.greys[1].drawn} == {"1.5>"}
    shutil.rmtree(page.jobs.find(wider.id).folder / "cells")
    assert page.jobs.last.told()["cells"] == []  # what is gone is not said to be there


def test_an_adapter_that_is_gone_says_so_in_an_old_comparison(page):
    job = ended(page.jobs.start(page.ids, ASKED))
    (page.folder / "loras" / "wash.safetensors").unlink()
    page.library.refresh()
    again = page.jobs.find(job.id)
    assert again.told()["wanted"]["ids"] == [page.ids[0], None]
    assert again.grid.subjects[1].problem == "Lora not found: wash"
    assert again.told()["done"] == 24  # its pictures are there all the same


def test_a_folder_that_somebody_wrote_into_is_no_comparison(page):
    job = ended(page.jobs.start(page.ids, ASKED))
    for text in ("", "[]", '{"wanted": 1}', '{"wanted": {"adapters": [1], "weights": [], "prompts": [], "seeds": []}}'):
        (job.folder / NOTE).write_text(text)
        assert page.jobs.last is None
        with pytest.raises(NotFoundError):
            page.jobs.find(job.id)


def test_how_much_it_would_be_is_told_without_a_look_at_the_files(page):
    jobs = page.jobs
    told = jobs.plan(page.ids, ASKED)
    assert (told["cells"], told["pictures"], told["seconds"], told["weights"]) == (24, 20, None, ["0", "0.5", "1"])
    page.pause = 0.01
    job = ended(jobs.start(page.ids, ASKED))
    assert told["id"] == job.id
    assert 0.2 <= jobs.plan(page.ids, ASKED)["seconds"] < 20
    assert jobs.plan(page.ids, {**ASKED, "size": [64, 64]})["seconds"] == pytest.approx(
        64 * jobs.plan(page.ids, ASKED)["seconds"])  # fmt: skip
    with pytest.raises(LoraError, match=r"2,400 cells are more than 2,000"):
        jobs.plan(page.ids, {**ASKED, "seeds": list(range(200))})


def test_checkpoints_are_chosen_by_name(page):
    jobs = page.jobs
    with pytest.raises(LoraError, match="/etc/passwd: no such checkpoint here"):
        jobs.plan(page.ids, {**ASKED, "checkpoints": ["/etc/passwd"]})
    told = ended(jobs.start(page.ids, {**ASKED, "checkpoints": ["two", "one"]})).told()
    assert told["checkpoints"] == ["two", "one"]
    assert [grey.name for grey in page.greys] == ["two", "one"]
    assert told["total"] == 48


def test_a_folder_that_cannot_be_written_is_said(page):
    (page.folder / "out").write_text("")
    with pytest.raises(LoraError, match="cannot be written"):
        page.jobs.start(page.ids, ASKED)


@pytest.mark.parametrize(("change", "said"), [
    ({"weights": "1"}, "weights are a list of texts"), ({"weights": ["0_5"]}, "'0_5' is not a weight"),
    ({"weights": []}, "there are no weights"), ({"prompts": [" "]}, "there are no prompts"),
    ({"seeds": [1.5]}, "seeds are whole numbers"), ({"seeds": [True]}, "seeds are whole numbers"),
    ({"seeds": [-1]}, "-1 is no seed"), ({"size": [64, 65]}, "a size is two multiples of 8"),
    ({"size": [64]}, "a size is two"), ({"steps": 0}, "0 steps"), ({"steps": "9"}, "9 steps"),
    ({"prompts": ["a" * 60_000]}, "longer than"), ({"weights": ["1" * 500]}, "too long for a weight"),
])  # fmt: skip
def test_what_cannot_be_compared_is_said(page, change, said):
    with pytest.raises(LoraError, match=said):
        page.jobs.plan(page.ids, {**ASKED, **change})


def test_the_same_has_the_same_folder():
    one, same, other = (read_wanted({**ASKED, "steps": steps}, ["ink"]) for steps in (2, 2, 3))
    assert one.id == same.id != other.id


# over HTTP


@pytest.fixture
def client(page):
    app = FastAPI()
    add_listing(app, page.library)
    page.served = page.jobs
    add_routes(app, page.served)
    return TestClient(app)


def test_a_comparison_over_http(page, client):
    told = client.get(PLACE).json()
    assert told == {"usual": {"model": "grey", "steps": 1, "size": [8, 8]}, "checkpoints": ["one", "two"],
                    "together": "in turn", "last": None}  # fmt: skip
    asked = {"adapters": page.ids, **ASKED}
    assert client.post(f"{PLACE}/plan", json=asked).json()["pictures"] == 20
    refused = client.post(f"{PLACE}/plan", json={**asked, "weights": ["1@"]})  # is being written
    assert (refused.status_code, "1@" in refused.json()["refused"]) == (200, True)
    started = client.post(PLACE, json=asked).json()
    ended(page.served.last)
    here = f"{PLACE}/{started['id']}"
    assert client.get(PLACE).json()["last"] == started["id"]
    assert client.get(f"{here}?since=3").json()["done"] == 24
    small, large = client.get(f"{here}/cells/5"), client.get(f"{here}/cells/5?original=1")
    assert small.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(large.content)).format == "PNG"
    assert "effect" in client.get(f"{here}/report").text
    assert Image.open(io.BytesIO(client.get(f"{here}/sheet").content)).width > 100


@pytest.mark.parametrize("path", [
    "nothing", "../../loras", "000000000000", "%2e%2e%2floras", "000000000000/cells/1", "000000000000/report",
])  # fmt: skip
def test_there_is_nothing_else_to_be_had(client, path):
    answer = client.get(f"{PLACE}/{path}")
    assert answer.status_code == 404


def test_wrong_questions_are_answered_with_a_sentence(page, client):
    for body in ([], {"adapters": "all"}, {"adapters": ["1"]}, {"adapters": [True]}):
        answer = client.post(PLACE, json=body)
        assert (answer.status_code, "the body must be" in answer.json()["error"]) == (400, True)
    assert client.post(PLACE, json={**ASKED, "adapters": [999]}).status_code == 404
    assert client.post(PLACE, json={**ASKED, "adapters": []}).json()["error"] == "there are no adapters to compare"
    page.pause = 0.05
    started = client.post(PLACE, json={**ASKED, "adapters": page.ids}).json()
    here = f"{PLACE}/{started['id']}"
    assert client.post(PLACE, json={**ASKED, "adapters": page.ids, "seeds": [9]}).status_code == 409
    assert client.get(f"{here}?since=x").status_code == 400
    assert client.get(f"{here}/cells/x").status_code == client.get(f"{here}/cells/9999").status_code == 404
    assert client.get(f"{here}/report").json()["error"] == "it is written when the comparison has ended"
    assert client.post(f"{here}/cancel").status_code == 200
    assert ended(page.served.last).state == "cancelled"


@pytest.mark.parametrize("path", ["", "/plan", "/000000000000/cancel"])
def test_another_page_in_the_browser_may_not_draw(client, path):
    answer = client.post(PLACE + path, json={}, headers={"origin": "https://evil.test"})
    assert answer.status_code == 403


# turns


def test_who_waits_for_a_picture_comes_before_the_next_cell():
    turns, order = Turns(), []
    begun, go = threading.Event(), threading.Event()

    def compare():
        for number in range(3):
            with turns.between():
                order.append(f"cell {number}")
                begun.set()
                go.wait(10)
                time.sleep(0.05)

    thread = threading.Thread(target=compare)
    thread.start()
    begun.wait(10)
    asked = threading.Thread(target=lambda: _draw(turns, order))
    asked.start()
    time.sleep(0.1)
    go.set()
    thread.join(10)
    asked.join(10)
    assert order == ["cell 0", "Generate", "cell 1", "cell 2"]


def _draw(turns, order):
    with turns.first():
        order.append("Generate")
