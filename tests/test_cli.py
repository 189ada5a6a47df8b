"""The commands as somebody at a shell meets them: results, sentences, exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lib_lora.cli import main, terminal
from lib_lora.drawing.demo_files import ADAPTERS
from tests.test_merge import write_base, write_lora

ROOT = Path(__file__).parents[1]
PROMPT = "a small red circle on a blue background"


def shell(*arguments: object, **options) -> subprocess.CompletedProcess:
    """`python -m lib_lora ...` as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "lib_lora", *map(str, arguments)],
        capture_output=True, text=True, timeout=300, env=environment, **options,
    )  # fmt: skip


def run(capsys, *arguments: object) -> tuple[int, str, list[str]]:
    """(exit code, stdout, lines of stderr) of a command in this process."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err.splitlines()


@pytest.fixture
def loras(tmp_path):
    folder = tmp_path / "loras"
    (folder / "styles").mkdir(parents=True)
    write_lora(folder / "a.safetensors")
    tensors = load_file(write_lora(folder / "styles" / "b.safetensors", seed=2))
    metadata = {
        "ss_output_name": "bee",
        "modelspec.trigger_phrase": "bzz, \x1b[31mred",
        "ss_base_model_version": "sd_v1",
    }
    save_file(tensors, folder / "styles" / "b.safetensors", metadata=metadata)
    return folder


# list


def test_list_prints_an_array_of_objects(capsys, loras):
    (loras / "cut.safetensors").write_bytes(b"\xff" * 30)
    code, out, err = run(capsys, "list", "--lora-dir", loras, "--json")
    assert (code, err) == (0, [])
    by_name = {each["name"]: each for each in json.loads(out)}
    a, b, cut = by_name["a"], by_name["styles/b"], by_name["cut"]
    assert (a["name"], a["path"], a["base_model"]) == ("a", str(loras / "a.safetensors"), "SD 1.5")
    assert (a["algorithms"], a["rank"], a["modules"]) == (["LoCon"], 2, 3)
    assert (b["name"], b["alias"], b["trigger_words"][0]) == ("styles/b", "bee", "bzz")
    assert "not a safetensors file" in cut["broken"]


def test_list_prints_a_table_in_which_no_file_can_command_the_terminal(capsys, loras):
    code, out, err = run(capsys, "list", "--lora-dir", loras)
    head, a, b = out.splitlines()
    assert head.split() == ["NAME", "BASE", "MODEL", "ALGORITHM", "RANK", "SIZE", "TRIGGER", "WORDS"]
    assert a.split()[:5] == ["a", "SD", "1.5", "LoCon", "2"]
    assert head.index("RANK") == a.index(" 2 ") + 1
    assert b.endswith("bzz,  [31mred")
    assert (code, err) == (0, [])


@pytest.mark.skipif(not ADAPTERS.is_dir(), reason="the demo's adapters are not trained yet")
def test_list_shows_the_demos_adapters_by_default(capsys):
    code, out, _ = run(capsys, "list", "--json")
    found = json.loads(out)
    assert code == 0
    assert len(found) >= 5
    assert {"LoRA", "LoCon", "LoHa", "LoKr"} <= {name for each in found for name in each["algorithms"]}
    assert all(Path(each["path"]).is_file() and each["rank"] for each in found)


def test_an_empty_folder_is_no_error_and_a_missing_one_is(capsys, tmp_path):
    assert run(capsys, "list", "--lora-dir", tmp_path, "--json") == (0, "[]\n", [])
    assert run(capsys, "list", "--lora-dir", tmp_path)[0] == 0
    code, out, err = run(capsys, "list", "--lora-dir", tmp_path / "nowhere")
    assert (code, out, err) == (1, "", [f"lib_lora: {tmp_path / 'nowhere'}: no such folder"])


def test_list_and_info_load_no_torch_nor_does_what_has_no_model(loras, tmp_path):
    missing = ["--model", str(tmp_path / "no.safetensors")]
    for arguments in (["list", "--lora-dir", str(loras)], ["info", str(loras / "a.safetensors")],
                      ["generate", "x", "--out", str(tmp_path / "x.png"), *missing], ["demo", *missing]):  # fmt: skip
        code = f"import sys; from lib_lora.cli import main; main({arguments!r}); print('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout.splitlines()[-1] == "False"


# info


def test_info_tells_what_a_file_is(capsys, loras):
    code, out, err = run(capsys, "info", loras / "styles" / "b.safetensors", "--json")
    told = json.loads(out)
    assert (code, err) == (0, [])
    assert (told["family"], told["algorithms"], told["rank"], told["ranks"]) == ("sd1", ["LoCon"], 2, [2, 2])
    assert (told["modules"], told["components"]) == (3, ["unet", "text_encoder"])
    assert told["evidence"]
    assert len(told["hashes"]["sha256"]) == 64
    assert len(told["hashes"]["short"]) == 12
    assert told["unknown"] == []
    code, out, err = run(capsys, "info", loras / "styles" / "b.safetensors")
    assert "\x1b" not in out
    assert dict(line.split(":", 1) for line in out.splitlines())["Algorithm"].strip() == "LoCon"


def test_info_names_what_is_not_understood(capsys, tmp_path, loras):
    tensors = load_file(loras / "a.safetensors") | {"lora_unet_mystery.zeta": torch.ones(3)}
    save_file(tensors, tmp_path / "odd.safetensors")
    told = json.loads(run(capsys, "info", tmp_path / "odd.safetensors", "--json")[1])
    assert any("mystery" in name for name in told["unknown"])
    assert "Not understood:" in run(capsys, "info", tmp_path / "odd.safetensors")[1]


def test_info_reads_pickles_without_running_them(capsys, tmp_path, loras):
    torch.save(load_file(loras / "a.safetensors"), tmp_path / "old.pt")
    told = json.loads(run(capsys, "info", tmp_path / "old.pt", "--json")[1])
    assert (told["algorithms"], told["modules"]) == (["LoCon"], 3)


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_info_on_what_is_no_adapter_fails_in_one_sentence(capsys, tmp_path, json_option):
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 30)
    for path in (
        write_base(tmp_path / "base.safetensors"),
        tmp_path / "cut.safetensors",
        tmp_path / "gone.safetensors",
        tmp_path,
    ):
        code, out, err = run(capsys, "info", path, *json_option)
        assert (code, out, len(err)) == (1, "", 1)
        assert err[0].startswith("lib_lora: ")
        assert path.name in err[0]


# merge


def test_merge_bakes_tags_and_prints_what_it_did(tmp_path, loras):
    base, out = write_base(tmp_path / "base.safetensors"), tmp_path / "out.safetensors"
    done = shell("merge", base, out, "--prompt", "<lora:a:0.8> <lora:bee:-0.3>", "--lora-dir", loras)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{out}: 3 of 8 tensors changed\n")
    assert load_file(out).keys() == load_file(base).keys()


def test_merge_writes_nothing_unless_all_is_well(capsys, tmp_path, loras):
    base, out = write_base(tmp_path / "base.safetensors"), tmp_path / "out.safetensors"
    for prompt, sentence in {
        "<lora:a:1><lora:nosuch:1>": "lib_lora: Lora not found: nosuch",
        "<lora:a:1><lora:a:x>": "lib_lora: <lora:a:x>: 'x' is not a weight",
    }.items():
        code, printed, err = run(capsys, "merge", base, out, "--prompt", prompt, "--lora-dir", loras)
        assert (code, printed, len(err)) == (1, "", 1)
        assert err[0].startswith(sentence)
        assert not out.exists()
    assert run(capsys, "merge", base, out, "--prompt", "no tags", "--lora-dir", loras)[0] == 2
    assert run(capsys, "merge", base, base, "--prompt", "<lora:a:1>", "--lora-dir", loras, "--force")[0] == 1


def test_merge_overwrites_only_when_told_and_tells_json(capsys, tmp_path, loras):
    base, out = write_base(tmp_path / "base.safetensors"), tmp_path / "out.safetensors"
    out.write_text("mine")
    arguments = ("merge", base, out, "--prompt", "<lora:a:0>", "--lora-dir", loras)
    assert run(capsys, *arguments)[0] == 1
    assert out.read_text() == "mine"
    code, printed, _ = run(capsys, *arguments, "--force", "--json")
    assert code == 0
    assert out.read_bytes() == base.read_bytes()
    told = json.loads(printed)
    assert (told["changed"], told["tensors"], told["adapters"][0]["applied"]) == (0, 8, True)


def test_merge_refuses_prompt_editing_around_a_tag(capsys, tmp_path, loras):
    base, out = write_base(tmp_path / "base.safetensors"), tmp_path / "out.safetensors"
    code, printed, err = run(capsys, "merge", base, out, "--prompt", "[<lora:a:1>:0.5]", "--lora-dir", loras)
    assert (code, printed, out.exists()) == (1, "", False)
    assert "so that prompt editing around it cannot be baked in" in err[0]


PRESETS = {
    "presets.txt": "a comment\nMINE:0.5,2,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0\n",
    "elements.txt": "MINE:BASE::0.5\n\nOTHER:IN01:conv:0\n",
    "config.json": json.dumps({"lora_block_presets": "MINE:0.5,2,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0", "other": 1}),
}


@pytest.mark.parametrize("name", PRESETS)
def test_merge_and_save_know_block_weights_of_ones_own(capsys, tmp_path, loras, name):
    base, out = write_base(tmp_path / "base.safetensors"), tmp_path / "out.safetensors"
    file = tmp_path / name
    file.write_text(PRESETS[name])
    key = "lbwe" if name.startswith("elements") else "lbw"
    numbers = {"lbwe": "BASE::0.5", "lbw": "0.5,2,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0"}[key]
    arguments = ("merge", base, out, "--lora-dir", loras, "--prompt")
    assert run(capsys, *arguments, f"<lora:a:1:{key}={numbers}>")[0] == 0
    spelled = out.read_bytes()
    code, _, err = run(capsys, *arguments, f"<lora:a:1:{key}=MINE>", "--force")
    assert code == 1
    assert "'MINE' is no preset of" in err[0]
    assert run(capsys, *arguments, f"<lora:a:1:{key}=mine>", "--force", "--presets", file)[0] == 0
    assert out.read_bytes() == spelled
    saved = tmp_path / "saved.safetensors"
    code, _, err = run(capsys, "save", saved, "--model", base, "--lora-dir", loras, "--presets", file,
                       "--prompt", f"<lora:a:1:{key}=MINE>")  # fmt: skip
    assert (code, err) == (0, [])


def test_a_file_of_presets_that_is_none_is_told(capsys, tmp_path, loras):
    base, out = write_base(tmp_path / "base.safetensors"), tmp_path / "out.safetensors"
    arguments = ("merge", base, out, "--prompt", "<lora:a:1:lbw=MINE>", "--lora-dir", loras, "--presets")
    letters = "MINE:R,2,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0"
    for name, text, sentence in (
        ("none.txt", "nothing", "no preset in it; one is a line NAME:v,v,..."),
        ("broken.json", "{", "no preset in it"),
        ("short.txt", "MINE:1,2,3", "preset MINE has 3 numbers; it takes 12 or 20"),
        ("letters.txt", letters, "so that R in lbw= cannot be baked in"),
    ):
        (tmp_path / name).write_text(text)
        code, _, err = run(capsys, *arguments, tmp_path / name)
        assert code == 1
        assert sentence in err[0]
        assert not out.exists()
    assert "No such file" in run(capsys, *arguments, tmp_path / "nowhere.txt")[2][0]


# grammar


def test_the_grammar_is_printed_as_text_and_as_markdown():
    done = shell("grammar")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("A TAG\n\n<lora:NAME")
    assert "<lora:ink:0.8:step=5-10>" in done.stdout
    assert shell("grammar", "--markdown").stdout.startswith("# The grammar of strength\n")


# generate


def test_generate_stores_how_the_picture_was_made(tmp_path):
    out = tmp_path / "out.png"
    done = shell(
        "generate", PROMPT, "--out", out, "--seed", 7, "--steps", 3, "--negative", "green, big", "--lora-dir", tmp_path
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{out}\n")
    picture = Image.open(out)
    assert picture.size == (128, 128)
    prompt, negative, rest = picture.text["parameters"].split("\n")
    assert (prompt, negative) == (PROMPT, "Negative prompt: green, big")
    assert rest.startswith("Steps: 3, Sampler: Euler, CFG scale: ")
    assert ", Seed: 7, Size: 128x128, Model: lib_lora demo, Version: lib_lora " in rest


def test_a_seed_is_a_picture_alone_or_among_others(capsys, tmp_path):
    common = ("generate", PROMPT, "--steps", 2, "--size", "64x96", "--lora-dir", tmp_path)
    code, out, _ = run(capsys, *common, "--out", tmp_path / "x.png", "--seed", 1, "--count", 2, "--json")
    first, second = json.loads(out)["pictures"]
    assert code == 0
    assert (first["path"], first["seed"], second["seed"]) == (str(tmp_path / "x-1.png"), 1, 2)
    assert run(capsys, *common, "--out", tmp_path / "y.png", "--seed", 2)[0] == 0
    pictures = [Image.open(tmp_path / name) for name in ("x-1.png", "x-2.png", "y.png")]
    assert pictures[0].size == (64, 96)
    assert pictures[1].tobytes() == pictures[2].tobytes() != pictures[0].tobytes()


def test_generate_draws_without_the_adapters_that_do_not_work_and_exits_with_1(capsys, tmp_path, loras):
    out = tmp_path / "out.png"
    prompt = f"{PROMPT} <lora:aa:1><lora:a:x>"
    code, printed, err = run(capsys, "generate", prompt, "--out", out, "--steps", 1, "--lora-dir", loras)
    assert (code, printed) == (1, f"{out}\n")
    assert any(line.startswith("lib_lora: Lora not found: aa") for line in err)
    assert any("'x' is not a weight" in line for line in err)
    assert "Lora problems: " in Image.open(out).text["parameters"]


def test_generate_draws_with_a_tag_in_the_negative_prompt(capsys, tmp_path):
    pictures = []
    for number, negative in enumerate(("blue", "blue <lora:outline:1>", "blue <lora:outline:1:on=cond>")):
        out = tmp_path / f"{number}.png"
        code, _, err = run(capsys, "generate", PROMPT, "--negative", negative, "--out", out, "--seed", 7, "--steps", 2)
        assert (code, err) == (0, [])
        pictures.append(Image.open(out))
        assert f"Negative prompt: {negative}" in pictures[-1].info["parameters"]
    assert len({picture.tobytes() for picture in pictures}) == 3


def test_generate_takes_tags_in_the_negative_prompt_for_that_side(capsys, tmp_path):
    made = []
    for name, negative in (("plain", "blue"), ("tagged", "blue <lora:outline:1>")):
        made.append(run(capsys, "generate", PROMPT, "--negative", negative, "--out", tmp_path / f"{name}.png",
                        "--seed", 7, "--steps", 2))  # fmt: skip
    assert [code for code, _, _ in made] == [0, 0]
    plain, tagged = (Image.open(tmp_path / f"{name}.png") for name in ("plain", "tagged"))
    assert plain.tobytes() != tagged.tobytes()
    assert "Negative prompt: blue <lora:outline:1>" in tagged.info["parameters"]
    assert "Lora hashes: " in tagged.info["parameters"]


def test_generate_fails_before_the_work_where_it_can(capsys, tmp_path):
    for arguments, code, sentence in [
        (("--out", tmp_path / "no" / "x.png"), 1, f"lib_lora: {tmp_path / 'no'}: no such folder"),
        (("--out", tmp_path / "x.jpg"), 2, "is not the name of a .png file"),
        (("--out", tmp_path / "x.png", "--size", "big"), 2, "'big' is not a size; write 512x768"),
        (("--out", tmp_path / "x.png", "--steps", "0"), 2, "'0' is not a whole number from 1 up"),
        (("--out", tmp_path / "x.png", "--model", tmp_path / "no.safetensors"), 1, "no such file or folder"),
        (("--out", tmp_path / "x.png", "--size", "100x128"), 1, "sides are multiples of"),
    ]:
        got, out, err = run(capsys, "generate", "x", *arguments, "--lora-dir", tmp_path)
        assert (got, out) == (code, ""), err
        assert sentence in err[-1]


# how commands end


@pytest.mark.parametrize(
    "arguments", [[], ["draw"], ["generate"], ["info"], ["list", "--jsn"], ["merge", "a.safetensors"]]
)
def test_wrong_usage_is_exit_code_2_and_nothing_on_stdout(capsys, arguments):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err[0].startswith("usage: lib_lora")
    assert err[-1].startswith("lib_lora: ")


@pytest.mark.parametrize(
    "command", [[], ["generate"], ["list"], ["info"], ["merge"], ["sheet"], ["compare"], ["grammar"], ["demo"]]
)
def test_help_and_version_are_exit_code_0(capsys, command):
    code, out, err = run(capsys, *command, "--help")
    assert (code, err) == (0, [])
    assert "exit status:" in out
    assert run(capsys, "--version")[1].startswith("lib_lora 0.")


@pytest.mark.parametrize(("error", "code", "says"), [
    (KeyboardInterrupt(), 130, []),
    (PermissionError(13, "Permission denied", "x.png"), 1, ["lib_lora: x.png: Permission denied"]),
    (ModuleNotFoundError("no diffusers", name="diffusers"), 1, None),
    (MemoryError(), 1, ["lib_lora: not enough memory"]),
])  # fmt: skip
def test_what_goes_wrong_is_an_exit_code_and_one_line(capsys, monkeypatch, error, code, says):
    def fail(options):
        raise error

    monkeypatch.setattr("lib_lora.cli.commands.list_adapters", fail)
    got, out, err = run(capsys, "list")
    assert (got, out) == (code, "")
    assert err == says if says is not None else "install.py demo" in err[0]


@pytest.mark.skipif(os.name == "nt", reason="pipes break differently there")
def test_a_reader_that_goes_away_is_no_error(loras):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "lib_lora", "list", "--lora-dir", loras]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


# the terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_drawn_on_a_terminal_only_and_leaves_nothing(monkeypatch):
    for stream, is_shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with terminal.Bar("Merging", " MB", scale=10) as bar:
            bar(50, 100)
            bar(100, 100, 600.0)
        assert ("10 min left" in stream.getvalue()) == is_shown
        assert ("Merging" in stream.getvalue() and "5/10 MB" in stream.getvalue()) == is_shown
        assert stream.getvalue().endswith("\r\033[K") == is_shown


def test_columns_stand_below_each_other_in_every_script():
    head, first, second = terminal.table(("NAME", "X"), [("水彩", "1"), ("é\u0301a", "2")])
    assert head == "NAME  X"
    assert first == "水彩  1"
    assert second == "é\u0301a    2"
    assert terminal.cut("水彩画", 5) == "水彩…"
    assert terminal.cut("abc", 3) == "abc"


# the contact sheet


def test_a_sheet_has_a_row_for_each_adapter_and_a_column_for_each_weight(tmp_path):
    from lib_lora.compare.sheet import draw_sheet
    from lib_lora.drawing.pipelines import load_pipeline
    from lib_lora.hosts.diffusers import attach
    from tests.support import kohya_shapes
    from tests.support import write_lora as write_any_lora

    pipe = load_pipeline()
    shapes = kohya_shapes(attach(pipe, tmp_path).session.host.targets(), limit=3)
    write_any_lora(tmp_path / "a.safetensors", shapes)
    write_any_lora(tmp_path / "b.safetensors", shapes, seed=1, metadata={"modelspec.trigger_phrase": "star"})
    seen = []
    options = {
        "weights": (-1, 0),
        "steps": 1,
        "size": (64, 64),
        "on_picture": lambda done, total: seen.append((done, total)),
    }
    attached = attach(pipe, tmp_path)
    both, told = draw_sheet(attached, "a {heart}", **options)
    one, missing = draw_sheet(attached, "a {heart}", names=["a", "nosuch"], **options)
    assert (told, seen[:4]) == ([], [(1, 4), (2, 4), (3, 4), (4, 4)])
    assert both.height - one.height == 64 + 8
    assert missing[0].startswith("Lora not found: nosuch")
    assert not attached.session.host.patcher.patched


def test_trigger_words_take_the_place_of_the_word_in_braces():
    from types import SimpleNamespace

    from lib_lora.compare.sheet import prompt_for

    moon, plain = SimpleNamespace(trigger_words=("moon",)), SimpleNamespace(trigger_words=())
    assert prompt_for(moon, "a big {heart} on red") == "a big moon on red"
    assert prompt_for(plain, "a big {heart} on red") == "a big heart on red"
    assert prompt_for(moon, "a big heart") == "a big heart, moon"
