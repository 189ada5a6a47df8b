"""A cluster of Ray draws a comparison, and one of its actors is killed. Needs `lib-lora[ray]`."""

from __future__ import annotations

import os
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

ray = pytest.importorskip("ray")

from lib_lora.compare.grid import Settings, make_grid  # noqa: E402
from lib_lora.compare.local import Local  # noqa: E402
from lib_lora.compare.run import compare  # noqa: E402
from lib_lora.compare.runners import cluster  # noqa: E402
from lib_lora.compare.runners.processes import Loading  # noqa: E402
from lib_lora.drawing.demo_files import ADAPTERS  # noqa: E402
from lib_lora.library import Library  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_cluster():
    yield
    ray.shutdown()


def test_actors_get_their_files_draw_alike_and_one_that_is_killed_loses_no_cell(tmp_path):
    (tmp_path / "loras" / "styles").mkdir(parents=True)
    shutil.copy(ADAPTERS / "outline.safetensors", tmp_path / "loras" / "styles" / "ring.safetensors")
    shutil.copy(ADAPTERS / "night.safetensors", tmp_path / "loras" / "night.safetensors")
    library = Library([tmp_path / "loras"])
    grid = make_grid(library, adapters=["styles/ring", "night"], weights=[0, 0.5, 1], prompts=["a red heart"],
                     seeds=range(2), settings=Settings(steps=2, size=(64, 64)))  # fmt: skip
    actors = cluster.start(Loading(None, (str(tmp_path / "loras"),)), None, 2)
    pids = [ray.get(actor._actor.pid.remote()) for actor in actors]
    seen = []

    def after(now):
        seen.append(now.result.file)
        if len(seen) == 3:
            os.kill(pids[0], signal.SIGKILL)

    done = compare(grid, tmp_path / "out", actors, on_cell=after)
    assert all(each["file"] for each in done.told()), done.told()
    assert [sentence.partition(" (")[0] for sentence in done.sentences] == ["actor 1: the actor is lost"]
    assert sorted(seen) == sorted(each["file"] for each in done.told())
    local = Local.load(None, [tmp_path / "loras"])
    again = compare(grid, tmp_path / "out", [Refusing(local)])
    assert again.told() == done.told()  # to the store it is the same engine: nothing is drawn
    here = compare(grid, tmp_path / "here", [local])
    for one, other in zip(done.told(), here.told(), strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / one["file"])),
                              np.asarray(Image.open(tmp_path / "here" / other["file"])))  # fmt: skip


class Refusing:
    """A runner that never draws."""

    def __init__(self, other):
        self.name, self.open, self.lacks, self.close = other.name, other.open, other.lacks, other.close

    def draw(self, task):
        raise AssertionError("it is there")
