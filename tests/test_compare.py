"""A comparison: what is drawn, kept, and gone on with, and who draws it; mostly by runners that paint grey."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lib_lora.cli import main
from lib_lora.compare.effect import effects, mean_effects, saturation
from lib_lora.compare.grid import Settings, is_untouched, make_grid, read_weight, weight_value
from lib_lora.compare.report import report_data, report_html
from lib_lora.compare.run import compare, compare_each
from lib_lora.compare.runner import Drawn, Ground, Task
from lib_lora.compare.runners.processes import Loading, Process
from lib_lora.compare.sheet import compose
from lib_lora.drawing.demo_files import ADAPTERS, MODEL
from lib_lora.errors import LoraError, RunnerError, TagError
from lib_lora.library import Library
from tests.support import write_lora

ROOT = Path(__file__).parents[1]
SHAPES = {"lora_unet_down_blocks_0_attentions_0_proj_in": (8, 8)}
SMALL = ("--steps", 1, "--size", "64x64")


class Grey:
    """Paints `100 + seed`, and 50 more where the prompt has a tag."""

    def __init__(self, name="grey", *, missing=(), lost_at=(), checkpoint="none", pause=0.0):
        self.name, self.missing, self.lost_at, self.checkpoint, self.pause = name, missing, lost_at, checkpoint, pause
        self.drawn: list[Task] = []
        self.closed = False

    def open(self):
        return Ground("grey 1", self.checkpoint, "grey", 1, 1.0, (8, 8), "none")

    def lacks(self, needed):
        return {each.key: f"{self.name} has no {each.name}" for each in needed if each.name in self.missing}

    def draw(self, task):
        time.sleep(self.pause)
        if any(word in task.prompt for word in self.lost_at):
            raise RunnerError("the cable was pulled")
        if "refuse" in task.prompt:
            raise LoraError("it refuses")
        self.drawn.append(task)
        file = io.BytesIO()
        Image.new("RGB", task.size, (100 + task.seed + 50 * ("<lora:" in task.prompt),) * 3).save(file, "PNG")
        return Drawn(file.getvalue())

    def close(self):
        self.closed = True


@pytest.fixture
def library(tmp_path):
    (tmp_path / "loras").mkdir()
    for seed, name in enumerate(("ink", "wash")):
        write_lora(tmp_path / "loras" / f"{name}.safetensors", SHAPES, seed=seed)
    return Library([tmp_path / "loras"])


def grid_of(library, **options):
    chosen = {"weights": [0, 0.5, 1], "prompts": ["a heart", "a star"], "seeds": [1, 2]} | options
    return make_grid(library, **chosen)


# the grid


def test_a_grid_is_every_adapter_at_every_weight_for_every_prompt_and_seed(library):
    grid = grid_of(library, weights=["0", "0.50", 0.5, "0@0, 1@1", "te=0:unet=1"])
    assert len(grid.cells) == 2 * 4 * 2 * 2
    assert [cell.text for cell in grid.cells if (cell.prompt, cell.seed) == ("a star", 2)][:4] == [
        "a star", "a star <lora:ink:0.5>", "a star <lora:ink:0@0,1@1>", "a star <lora:ink:te=0:unet=1>"]  # fmt: skip
    assert [weight_value(weight) for weight in grid.weights] == [0, 0.5, "0@0,1@1", "te=0:unet=1"]
    assert [is_untouched(weight) for weight in ("0", "te=0:unet=0", "0:hr=1", "te=0:unet=1", "0@0,1@1")] == [
        True, True, False, False, False]  # fmt: skip


def test_what_no_tag_can_say_is_refused_before_anything_is_drawn(library):
    with pytest.raises(TagError, match="'0_5' is not a weight"):
        read_weight("0_5")
    with pytest.raises(LoraError, match="-1 is no seed"):
        grid_of(library, seeds=[-1])
    with pytest.raises(LoraError, match="there are no prompts to compare"):
        grid_of(library, prompts=[])


def test_the_epochs_of_a_training_are_a_ladder(tmp_path):
    for name, metadata in {"b": {}, "ink-000010": {}, "ink": {"ss_epoch": "12"}, "ink-000002": {"ss_epoch": "2"},
                           "wash-000001": {}}.items():  # fmt: skip
        write_lora(tmp_path / f"{name}.safetensors", SHAPES, metadata=metadata)
    subjects = grid_of(Library([tmp_path])).subjects
    assert [each.name for each in subjects] == ["b", "ink-000002", "ink-000010", "ink", "wash-000001"]
    assert [(each.run, each.rung) for each in subjects] == [
        ("", ""), ("ink", "2"), ("ink", "10"), ("ink", "12"), ("", "")]  # fmt: skip


# drawing and keeping


def test_every_cell_is_a_file_and_a_line_of_the_list(library, tmp_path):
    grey, seen = Grey(), []
    done = compare(grid_of(library), tmp_path / "out", [grey], on_cell=seen.append)
    told = json.loads((tmp_path / "out" / "cells.json").read_text())
    assert told == done.told()
    assert len(told) == 24
    assert list(told[0]) == ["adapter", "weight", "prompt", "seed", "file", "seconds", "problem"]
    assert {(each["adapter"], each["weight"], each["prompt"], each["seed"]) for each in told} == {
        (a, w, p, s) for a in ("ink", "wash") for w in (0, 0.5, 1) for p in ("a heart", "a star") for s in (1, 2)}
    files = {each["file"] for each in told}
    assert files == {f"cells/{path.name}" for path in (tmp_path / "out" / "cells").iterdir()}
    assert len(files) == 24
    assert len(grey.drawn) == 4 + 2 * 2 * 2 * 2  # weight 0 is the same picture for both
    assert [now.done for now in seen] == list(range(1, 25))
    assert seen[-1].left == 0
    assert grey.closed
    assert not done.problems


def test_nothing_is_drawn_twice_and_a_wider_grid_draws_only_what_is_new(library, tmp_path):
    first, again, wider = Grey(), Grey(), Grey()
    before = compare(grid_of(library), tmp_path / "out", [first]).told()
    assert compare(grid_of(library), tmp_path / "out", [again]).told() == before
    assert again.drawn == []
    compare(grid_of(library, seeds=[1, 2, 3]), tmp_path / "out", [wider])
    assert {task.seed for task in wider.drawn} == {3}


def test_a_changed_adapter_redraws_its_own_cells_only(library, tmp_path):
    out, path = tmp_path / "out", tmp_path / "loras" / "wash.safetensors"
    compare(grid_of(library), out, [Grey()])
    tensors = load_file(path)
    save_file(tensors, path, metadata={"ss_output_name": "wash"})  # another header, the same tensors
    same = Grey()
    compare(grid_of(Library([path.parent])), out, [same])
    assert same.drawn == []
    save_file({key: tensor * 2 for key, tensor in tensors.items()}, path)
    again = Grey()
    compare(grid_of(Library([path.parent])), out, [again])
    assert {task.prompt for task in again.drawn} == {
        f"a {what} <lora:wash:{weight}>" for what in ("heart", "star") for weight in ("0.5", "1")}
    assert len(list((out / "cells").iterdir())) == 24  # the old ones are gone


@pytest.mark.parametrize("change", [
    {"settings": Settings(steps=2)}, {"settings": Settings(negative="blur")}, {"settings": Settings(size=(16, 8))},
])  # fmt: skip
def test_other_settings_are_other_pictures(library, tmp_path, change):
    compare(grid_of(library), tmp_path, [Grey()])
    again = Grey()
    compare(grid_of(library, **change), tmp_path, [again])
    assert len(again.drawn) == 20


def test_another_checkpoint_is_another_picture(library, tmp_path):
    compare(grid_of(library), tmp_path, [Grey()])
    again = Grey(checkpoint="another")
    compare(grid_of(library), tmp_path, [again])
    assert len(again.drawn) == 20


def test_a_cut_off_picture_is_drawn_again(library, tmp_path):
    compare(grid_of(library), tmp_path, [Grey()])
    path = next((tmp_path / "cells").glob("wash_1_2*.png"))
    path.write_bytes(path.read_bytes()[:60])
    again = Grey()
    compare(grid_of(library), tmp_path, [again])
    assert [(task.prompt, task.seed) for task in again.drawn] in ([("a heart <lora:wash:1>", 2)],
                                                                   [("a star <lora:wash:1>", 2)])  # fmt: skip
    Image.open(path).load()


def test_a_cell_that_fails_says_why_and_the_others_are_there(library, tmp_path):
    grid = grid_of(library, adapters=["ink", "nosuch"], prompts=["a heart", "refuse"])
    done = compare(grid, tmp_path, [Grey()])
    missing = [each for each in done.told() if each["file"] is None]
    assert {each["problem"] for each in missing if each["adapter"] == "ink"} == {"it refuses"}
    assert all("Lora not found: nosuch" in each["problem"] for each in missing if each["adapter"] == "nosuch")
    assert len(missing) == 6 + 12
    assert compose(done).width > 100  # with the reasons in it


# several runners


def test_a_lost_runner_hands_its_cell_to_the_others_and_loses_none(library, tmp_path):
    good, lost = Grey("good", pause=0.02), Grey("lost", lost_at=["star"])
    done = compare(grid_of(library), tmp_path, [lost, good])
    assert all(each["file"] for each in done.told())
    assert any("lost: the cable was pulled" in sentence for sentence in done.sentences)
    assert len(good.drawn) + len(lost.drawn) == 20  # each picture once


def test_a_cell_over_which_two_runners_are_lost_is_not_tried_on_a_third(library, tmp_path):
    runners = [Grey(name, lost_at=["star <lora:wash:1>"], pause=0.01) for name in "abcd"]
    done = compare(grid_of(library, seeds=[1]), tmp_path, runners)
    failed = [each for each in done.told() if each["file"] is None]
    assert [(each["adapter"], each["weight"], each["prompt"]) for each in failed] == [("wash", 1, "a star")]
    assert "2 workers were lost over it" in failed[0]["problem"]


def test_when_all_are_lost_what_is_drawn_stays_and_the_next_call_goes_on(library, tmp_path):
    done = compare(grid_of(library), tmp_path, [Grey("only", lost_at=["<lora:wash"])])
    failed = [each for each in done.told() if each["file"] is None]
    assert {each["adapter"] for each in failed} == {"wash"}
    assert "the cable was pulled" in failed[0]["problem"] or any("no worker left" in each["problem"] for each in failed)
    again = Grey()
    assert all(each["file"] for each in compare(grid_of(library), tmp_path, [again]).told())
    assert len(again.drawn) == 8


def test_a_runner_that_lacks_a_file_is_told_by_name_and_left_out_for_those_cells(library, tmp_path):
    without, with_it = Grey("without", missing=["wash"]), Grey("with", pause=0.01)
    done = compare(grid_of(library), tmp_path, [without, with_it])
    assert done.sentences == ("without has no wash",)
    assert all(each["file"] for each in done.told())
    assert not any("wash" in task.prompt for task in without.drawn)
    alone = compare(grid_of(library), tmp_path / "alone", [Grey("without", missing=["wash"])])
    assert {each["problem"] for each in alone.told() if each["file"] is None} == {"without has no wash"}


def test_a_runner_with_another_checkpoint_is_left_out(library, tmp_path):
    other = Grey("other", checkpoint="another")
    done = compare(grid_of(library), tmp_path, [Grey(), other])
    assert done.sentences[0].startswith("other: its checkpoint is another one")
    assert other.drawn == []


def test_cancelling_keeps_what_is_drawn(library, tmp_path):
    seen: list[object] = []
    done = compare(grid_of(library), tmp_path, [Grey()], on_cell=seen.append, is_cancelled=lambda: len(seen) > 5)
    told = done.told()
    assert len(told) == 24
    assert 5 < sum(each["file"] is not None for each in told) < 24
    assert {each["problem"] for each in told if each["file"] is None} == {"cancelled"}


# several checkpoints


def test_checkpoints_are_an_axis_and_each_is_drawn_on_in_one_go(library, tmp_path):
    grid = grid_of(library, checkpoints=["a.safetensors", "b.safetensors"])
    asked, seen = [], []

    def runners(checkpoint):
        asked.append(Grey(checkpoint, checkpoint=checkpoint))
        return [asked[-1]]

    done = compare_each(grid, tmp_path, runners, on_cell=seen.append)
    assert [runner.name for runner in asked] == ["a.safetensors", "b.safetensors"]
    assert [len(runner.drawn) for runner in asked] == [20, 20]
    assert all(runner.closed for runner in asked)
    told = done.told()
    assert json.loads((tmp_path / "cells.json").read_text()) == told
    assert [each["checkpoint"] for each in told] == ["a.safetensors"] * 24 + ["b.safetensors"] * 24
    assert len({each["file"] for each in told}) == 48  # no picture of the one takes the place of the other's
    assert [(now.done, now.total) for now in seen] == [(number, 48) for number in range(1, 49)]
    assert compose(done).height > compose(compare(grid_of(library), tmp_path / "one", [Grey()])).height
    data = report_data(done)
    assert data["checkpoints"] == ["a", "b"]
    assert [cell["m"] for cell in data["cells"]] == [0] * 24 + [1] * 24
    assert data["adapters"][0]["effects"] == [[0, 19.608, 19.608]] * 2


def test_a_checkpoint_on_which_nobody_can_draw_is_the_problem_of_its_cells(library, tmp_path):
    def runners(checkpoint):
        if checkpoint == "broken":
            raise RunnerError("broken: no such file")
        return [Grey()]

    done = compare_each(grid_of(library, checkpoints=["broken", "good"]), tmp_path, runners)
    assert {each["problem"] for each in done.told()[:24]} == {"broken: no such file"}
    assert all(each["file"] for each in done.told()[24:])
    with pytest.raises(RunnerError, match="broken: no such file"):
        compare_each(grid_of(library, checkpoints=["broken"]), tmp_path, runners)


# effect and report


def test_the_effect_is_the_mean_difference_to_weight_0_in_percent(library, tmp_path):
    done = compare(grid_of(library), tmp_path, [Grey()])
    means = mean_effects(effects(done.results, tmp_path))
    assert means["", "ink", "0"] == 0
    assert means["", "ink", "1"] == pytest.approx(50 / 255 * 100)
    assert saturation({"0": 0, "0.5": 4, "1": 9.5, "1.5": 10}) == 1
    assert saturation({"0": 0, "0.5": 4, "1": 10}) is None


def test_the_report_holds_every_picture_and_no_name_is_markup(tmp_path):
    (tmp_path / "loras").mkdir()
    write_lora(tmp_path / "loras" / "ink.safetensors", SHAPES, metadata={"modelspec.title": "</script><b>{{DATA}}"})
    grid = make_grid(Library([tmp_path / "loras"]), weights=[0, 1], prompts=["<img src=x>"], seeds=[1])
    done = compare(grid, tmp_path / "out", [Grey()])
    page = report_html(done)
    assert "</script><b>" not in page
    assert "<img src=x>" not in page
    assert page.count("data:image/png;base64,") == 2
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    data = report_data(done)
    assert [cell["effect"] for cell in data["cells"]] == [0, pytest.approx(19.608)]
    assert json.loads(page.split('id="data">')[1].split("</script>")[0]) == json.loads(json.dumps(data))


# with the demo model


def told_of(folder: Path) -> list[dict]:
    return json.loads((folder / "cells.json").read_text())


def test_the_command_draws_and_a_cells_text_draws_it_again(capsys, tmp_path):
    out = tmp_path / "out"
    code = main(["compare", "--adapters", "outline", "night", "--weights", "0", "1", "--prompt", "a red heart",
                 "--seeds", "7", "--out", str(out), *map(str, SMALL)])  # fmt: skip
    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    assert captured.out.splitlines() == [str(out / "sheet.png"), str(out / "report.html")]
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > 128
    assert (out / "report.html").stat().st_size > 10_000
    told = told_of(out)
    assert [(each["adapter"], each["weight"], each["problem"]) for each in told] == [
        ("outline", 0, None), ("outline", 1, None), ("night", 0, None), ("night", 1, None)]  # fmt: skip
    picture = Image.open(out / told[3]["file"])
    prompt, settings = picture.info["parameters"].splitlines()
    assert prompt == "a red heart <lora:night:1>"
    assert "Seed: 7" in settings
    code = main(["generate", prompt, "--seed", "7", *map(str, SMALL), "--out", str(tmp_path / "again.png")])
    assert code == 0
    assert np.array_equal(np.asarray(picture), np.asarray(Image.open(tmp_path / "again.png")))


def test_a_run_that_is_killed_goes_on(tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "lib_lora", "compare", "--adapters", "outline", "--weights", "0", "0.5", "1",
               "--prompt", "a red heart", "--seeds", *map(str, range(4)), "--out", out, *SMALL]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen([*map(str, command)], env=environment)
    wait_until(lambda: len(list(out.glob("cells/*.png"))) >= 2 or running.poll() is not None)
    running.kill()
    running.wait()
    before = {path: path.stat().st_mtime_ns for path in out.glob("cells/*.png")}
    assert 2 <= len(before) < 12
    assert main([*map(str, command[3:])]) == 0
    told = told_of(out)
    assert len({each["file"] for each in told}) == 12
    assert all(each["seconds"] > 0 for each in told)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_process_that_is_killed_in_mid_run_loses_no_cell(tmp_path):
    grid = make_grid(Library([ADAPTERS]), adapters=["outline", "night"], weights=[0, 0.5, 1],
                     prompts=["a red heart"], seeds=range(4), settings=Settings(steps=1, size=(64, 64)))  # fmt: skip
    workers = [Process(f"process {number}", Loading(None, (str(ADAPTERS),)), threads=1) for number in (1, 2)]
    seen: list[str] = []

    def after(now):
        seen.append(now.result.file)
        if len(seen) == 3:
            os.kill(workers[0].pid, signal.SIGKILL)

    done = compare(grid, tmp_path, workers, on_cell=after)
    assert all(each["file"] for each in done.told())
    assert done.sentences == ("process 1: the process was ended by signal 9",)
    assert sorted(seen) == sorted(each["file"] for each in done.told())  # each once
    alone = main(["generate", "a red heart <lora:night:1>", "--seed", "3", "--steps", "1", "--size", "64x64",
                  "--out", str(tmp_path / "alone.png")])  # fmt: skip
    assert alone == 0
    last = next(each for each in done.told() if (each["adapter"], each["weight"], each["seed"]) == ("night", 1, 3))
    assert np.array_equal(*(np.asarray(Image.open(tmp_path / name)) for name in (last["file"], "alone.png")))


def test_a_process_that_cannot_load_says_why(library, tmp_path):
    worker = Process("process 1", Loading(str(tmp_path / "nothing.safetensors"), (str(tmp_path),)))
    with pytest.raises(RunnerError, match=r"process 1: .*nothing\.safetensors: no such file"):
        compare(grid_of(library), tmp_path / "out", [worker])
    assert worker._process.poll() is not None


def wait_until(is_so, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_command_draws_with_several_checkpoints(capsys, tmp_path):
    other = shutil.copytree(MODEL, tmp_path / "other")
    weights = next((other / "unet").glob("*.safetensors"))
    save_file({key: tensor * 0.9 for key, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    command = ["compare", "--adapters", "outline", "--weights", "1", "--prompt", "a red heart", "--out",
               str(tmp_path / "out"), "--checkpoints", str(MODEL), str(other), *map(str, SMALL)]  # fmt: skip
    assert main(command) == 0
    one, two = told_of(tmp_path / "out")
    assert (one["checkpoint"], two["checkpoint"]) == (str(MODEL), str(other))
    assert not np.array_equal(*(np.asarray(Image.open(tmp_path / "out" / each["file"])) for each in (one, two)))
    capsys.readouterr()
    assert main([*command, "--model", str(MODEL)]) == 1
    assert "--model is one checkpoint" in capsys.readouterr().err


def test_an_adapter_for_another_model_has_no_picture(capsys, tmp_path):
    (tmp_path / "loras").mkdir()
    save_file({"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_up.weight": torch.ones(640, 2),
               "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": torch.ones(2, 2048)},
              tmp_path / "loras" / "xl.safetensors")  # fmt: skip
    code = main(["compare", "--adapters", "xl", "--weights", "0", "1", "--prompt", "a heart", "--lora-dir",
                 str(tmp_path / "loras"), "--out", str(tmp_path / "out"), *map(str, SMALL)])  # fmt: skip
    err = capsys.readouterr().err
    assert code == 1
    assert "made for SDXL" in err
    zero, one = told_of(tmp_path / "out")
    assert zero["file"]
    assert (one["file"], "made for SDXL" in one["problem"]) == (None, True)


def test_ctrl_c_ends_every_thread_and_keeps_the_list(library, tmp_path):
    def interrupt(now):
        if now.done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(grid_of(library), tmp_path, [Grey("a", pause=0.01), Grey("b", pause=0.01)], on_cell=interrupt)
    assert 6 <= len(told_of(tmp_path)) < 24
    assert not [thread for thread in threading.enumerate() if thread.name in ("a", "b") and thread.is_alive()] or (
        time.sleep(0.2) or not [thread for thread in threading.enumerate() if thread.name in ("a", "b")])
