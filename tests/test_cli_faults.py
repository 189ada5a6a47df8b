"""The commands on unlucky machines: ended in the middle, with nowhere to write to, with names that steer terminals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_lora.cli.terminal import printable
from lib_lora.errors import CheckpointError
from lib_lora.grammar.tag import LoraTag
from lib_lora.library.place import default_index
from lib_lora.tools.bake import merge
from tests.adapter_files import write
from tests.support import Folder
from tests.test_merge import write_base, write_lora

ROOT = Path(__file__).parents[1]
posix = pytest.mark.skipif(os.name == "nt", reason="signals and descriptors of POSIX")


@pytest.fixture
def loras(tmp_path):
    (tmp_path / "loras").mkdir()
    return tmp_path / "loras"


def shell(line: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
    """A line for bash, in which `lora` is our program; `$1` and so on are the arguments."""
    set_up = f'lora() {{ "{sys.executable}" -m lib_lora "$@"; }}; set -o pipefail; {line}'
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run(["bash", "-c", set_up, "bash", *map(str, arguments)], capture_output=True, text=True,
                          errors="surrogateescape", timeout=120, env=variables)  # fmt: skip


# output


@posix
@pytest.mark.parametrize(("line", "code", "said"), [
    ('lora list --lora-dir "$1" | head -c 1 > /dev/null', 141, ""),
    ('lora list --lora-dir "$1" > /dev/full', 1, "No space left on device"),
    ('lora list --lora-dir "$1" --json > /dev/full', 1, "No space left on device"),
    ('lora list --lora-dir "$1" >&-', 0, ""),
    ('lora list --lora-dir /nowhere 2>&-', 1, ""),
    ('lora list --lora-dir /nowhere 2> /dev/full', 1, ""),
    ('lora info "$1/0.safetensors" > /dev/full', 1, "No space left on device"),
])  # fmt: skip
def test_output_that_goes_nowhere_ends_with_the_right_status_and_no_traceback(loras, line, code, said):
    for number in range(2000 if "head" in line else 2):
        write(loras / f"{number}.safetensors")
    done = shell(line, loras)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr
    assert "Exception ignored" not in done.stderr


@posix
def test_names_and_headers_cannot_steer_the_terminal(loras):
    name = os.fsdecode(b"a\x1b]0;x\x07\x1b[2J\xff\xc2\x9b31m") + "\u202egpj"
    write(loras / f"{name}.safetensors", metadata={"modelspec.title": "\x1b[31mred\u2066", "ss_output_name": "\x9b5m"})
    lines = 'lora list --lora-dir "$1"', 'lora info "$1"/*', 'lora info "$1/\x1b[31mnone.pt"', "lora list --\x1b[5m"
    for line in lines:
        done = shell(line, loras)
        shown = done.stdout + done.stderr
        assert all(sign.isprintable() or sign == "\n" for sign in shown), ascii(shown)
    assert "\\u202e" in shell('lora list --lora-dir "$1"', loras).stdout
    json.loads(shell('lora list --lora-dir "$1" --json', loras).stdout)


def test_what_cannot_be_seen_is_spelt_out():
    assert printable("a\x1b[31m\u202e\udce9\u200b\u00a0\n|é漢😀") == "a [31m\\u202e\\udce9\\u200b  |é漢😀"


# the index


@posix
def test_list_keeps_an_index_and_does_without_where_there_is_no_place_for_it(loras, tmp_path):
    write(loras / "ink.safetensors")
    for _ in range(2):
        done = shell('lora list --lora-dir "$1"', loras, XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert ("ink " in done.stdout, done.stderr, done.returncode) == (True, "", 0)
    assert (tmp_path / "cache/lib_lora/library.sqlite").exists()
    (tmp_path / "file").write_text("")
    done = shell('lora list --lora-dir "$1"', loras, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert ("ink " in done.stdout, done.returncode) == (True, 0)
    assert done.stderr.count("the index cannot be used") == len(done.stderr.splitlines()) == 1


def test_the_index_lies_where_caches_lie(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_index() == tmp_path / "lib_lora/library.sqlite"
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        monkeypatch.setattr(Path, "home", lambda: tmp_path)
        assert default_index() == tmp_path / ".cache/lib_lora/library.sqlite"


# merge


def _in_the_foreground() -> None:
    """A suite that runs in the background has these ignored, and what it starts would too."""
    for name in ("SIGTERM", "SIGHUP", "SIGINT"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


@pytest.fixture
def base(tmp_path):
    write_lora(tmp_path / "a.safetensors")
    return write_base(tmp_path / "base.safetensors")


def test_a_file_that_another_program_wrote_meanwhile_stays(tmp_path, base):
    out = tmp_path / "out.safetensors"

    def progress(_done: int, _total: int) -> None:
        out.write_bytes(b"another's")

    with pytest.raises(CheckpointError, match="another program wrote it meanwhile"):
        merge(base, out, [LoraTag("a")], Folder(tmp_path), progress=progress)
    assert out.read_bytes() == b"another's"
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


@posix
def test_merge_writes_over_nothing_that_is_no_file_and_over_no_adapter_it_uses(tmp_path, base):
    (tmp_path / "folder.safetensors").mkdir()
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "null.safetensors").symlink_to("/dev/null")
    (tmp_path / "link.safetensors").symlink_to("a.safetensors")
    os.link(tmp_path / "a.safetensors", tmp_path / "hard.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()
    for name, words in {"folder": "a folder", "pipe": "a pipe", "null": "a device", "a": "the adapter a itself",
                        "link": "the adapter a itself", "hard": "the adapter a itself"}.items():  # fmt: skip
        with pytest.raises(CheckpointError, match=words):
            merge(base, tmp_path / f"{name}.safetensors", [LoraTag("a")], Folder(tmp_path), overwrite=True)
    (tmp_path / "nowhere.safetensors").symlink_to("gone")
    with pytest.raises(CheckpointError, match="exists already"):
        merge(base, tmp_path / "nowhere.safetensors", [LoraTag("a")], Folder(tmp_path))
    assert (tmp_path / "a.safetensors").read_bytes() == before
    os.mkfifo(tmp_path / "endless.safetensors")
    with pytest.raises(CheckpointError, match="a pipe"):
        merge(tmp_path / "endless.safetensors", tmp_path / "out.safetensors", [LoraTag("a")], Folder(tmp_path))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A checkpoint that takes a while to write."""
    folder = tmp_path_factory.mktemp("large")
    tensors = load_file(write_base(folder / "base.safetensors"))
    save_file({**tensors, "pad": torch.zeros(100_000_000)}, folder / "large.safetensors")
    yield folder / "large.safetensors"
    (folder / "large.safetensors").unlink()


@posix
@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_merge_that_is_ended_leaves_nothing_behind(tmp_path, large, number, code):
    write_lora(tmp_path / "a.safetensors")
    command = [sys.executable, "-m", "lib_lora", "merge", large, tmp_path / "out.safetensors",
               "--prompt", "<lora:a:0>", "--lora-dir", tmp_path]  # fmt: skip
    before = sorted(path.name for path in tmp_path.iterdir())
    program = subprocess.Popen(list(map(str, command)), env={**os.environ, "PYTHONPATH": str(ROOT)},
                               stderr=subprocess.PIPE, text=True, preexec_fn=_in_the_foreground)  # fmt: skip
    while program.poll() is None and not any(path.suffix == ".tmp" for path in tmp_path.iterdir()):
        time.sleep(0.001)
    program.send_signal(number)
    _, said = program.communicate(timeout=60)
    assert (program.returncode, "Traceback" in said) == (code, False), said
    assert sorted(path.name for path in tmp_path.iterdir()) == before
