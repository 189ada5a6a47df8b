"""Where it does not belong the extension says one sentence and does nothing; it knows when its files were exchanged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib_lora.webui import version
from lib_lora.webui.door import stranger

ROOT = Path(__file__).parents[1]
HOSTS = {"Forge": ("modules_forge", "backend/patcher"), "Forge Neo": ("modules_forge", "backend/patcher"),
         "reForge": ("modules_forge", "ldm_patched"), "one without the usual folder": ("backend/patcher",)}  # fmt: skip


def load(root: Path, times: int = 1) -> subprocess.CompletedProcess[str]:
    """Our script, loaded as the program in `root` does it; says afterwards what of us and of it was imported."""
    code = (
        "import runpy, sys\n"
        f"for _ in range({times}): runpy.run_path({str(ROOT / 'scripts' / 'lora_adapters.py')!r})\n"
        "print(sorted(name for name in sys.modules if name.startswith(('lib_lora.webui.', 'modules.'))))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(ROOT)])}
    return subprocess.run([sys.executable, "-c", code], cwd=root, env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("host", HOSTS)
def test_in_another_host_it_says_one_sentence_and_registers_nothing(host, tmp_path):
    for part in ("modules", *HOSTS[host]):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "modules" / "script_callbacks.py").write_text("raise SystemExit('somebody registers')")
    done = load(tmp_path, times=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['lib_lora.webui.door']"
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("lib_lora: this is not AUTOMATIC1111's")
    assert "does nothing here" in done.stderr


def test_a_host_that_lacks_what_is_needed_is_left_alone_too(tmp_path):
    (tmp_path / "modules").mkdir()
    done = load(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lib_lora: this is not AUTOMATIC1111's stable-diffusion-webui (it lacks 'modules" in done.stderr


def test_names_of_that_kind_elsewhere_mean_nothing(tmp_path):
    for part in ("modules", "extensions/layers/ldm_patched", "repositories/backend"):
        (tmp_path / part).mkdir(parents=True)
    assert stranger(tmp_path) is None
    (tmp_path / "ldm_patched").write_text("a file")
    assert stranger(tmp_path) is None


@pytest.fixture
def files(tmp_path):
    for part in ("lib_lora", "scripts", "javascript"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "style.css", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["javascript/lora_strip.js", "lib_lora/grammar/tag.py", "lib_lora/webui/cards.py",
                                  "style.css", "scripts/lora_adapters.py", "javascript/lora_new.js"])  # fmt: skip
def test_a_file_that_was_changed_or_came_is_noticed(files, name):
    before = version.fingerprint(files)
    path = files / name
    path.write_text((path.read_text("utf-8") if path.exists() else "") + "\n", "utf-8")
    assert version.fingerprint(files) != before


def test_a_file_that_was_touched_or_does_not_run_is_no_change(files):
    before = version.fingerprint(files)
    os.utime(files / "style.css", (1, 1))
    (files / "README.md").write_text("new")
    (files / "lib_lora" / "__pycache__").mkdir()
    (files / "lib_lora" / "__pycache__" / "tag.pyc").write_bytes(b"x")
    assert version.fingerprint(files) == before
    (files / "javascript" / "lora_api.js").unlink()
    assert version.fingerprint(files) != before
