"""What pytest says of the tests that need a WebUI: that they run, in which one, or why not and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.webui.environment import NEEDED, NEIGHBOURS, VENVS, Environment

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path):
    """What of a WebUI is looked for."""
    root = tmp_path / "webui"
    for name in NEEDED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "CHANGELOG.md").write_text("## 1.10.1\n\n### Bug Fixes:\n\n## 1.10.0\n")
    return root


def program(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o755)
    return str(path)


def test_without_a_webui_it_is_said_which_variable_names_one():
    nothing = Environment.of({"WEBUI_ROOT": ""})
    assert nothing.header() == [
        "tests/webui: not collected, WEBUI_ROOT is not set (the folder of a WebUI; see docs/webui.md)"
    ]
    assert (nothing.mistakes, nothing.ignored) == ([], ["test_*.py"])


@pytest.mark.parametrize("venv", VENVS)
def test_the_webuis_own_venv_runs_it_on_linux_and_on_windows(checkout, venv):
    python = program(checkout / venv)
    own = Environment.of({"WEBUI_ROOT": str(checkout)})
    assert (own.mistakes, own.ignored) == ([], ["test_neighbours.py"])
    assert own.header() == [
        f"tests/webui: WebUI 1.10.1 in {checkout}, run by {python}",
        "tests/webui/test_neighbours.py: not collected, WEBUI_NEIGHBOURS is not set (a folder with other extensions)",
    ]


def test_another_python_goes_before_it_and_a_path_is_one_from_here(checkout, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program(checkout / VENVS[0])
    other = program(tmp_path / "python")
    named = Environment.of({"WEBUI_ROOT": "webui", "WEBUI_PYTHON": f".{os.sep}python"})
    assert (named.root, named.python, named.mistakes) == (checkout, other, [])


def test_what_is_set_and_wrong_is_a_mistake_with_the_next_step(checkout, tmp_path):
    def said(**variables: object) -> str:
        found = Environment.of({f"WEBUI_{name}": str(value) for name, value in variables.items()})
        assert found.ignored == ["test_*.py"]
        assert found.header() == [f"tests/webui: not collected, {mistake}" for mistake in found.mistakes]
        return "; ".join(found.mistakes)

    here = sys.executable
    assert "which has no launch.py: name a checkout of AUTOMATIC1111's WebUI" in said(ROOT=tmp_path, PYTHON=here)
    assert "has no venv/bin/python or venv/Scripts/python.exe: name the Python" in said(ROOT=checkout)
    assert f"WEBUI_PYTHON is {tmp_path / 'no'}, which is no program" in said(ROOT=checkout, PYTHON=tmp_path / "no")
    *most, last = NEIGHBOURS.values()
    for name in most:
        (tmp_path / name).mkdir()
    assert said(ROOT=checkout, PYTHON=here, NEIGHBOURS=tmp_path).endswith(f"is {tmp_path}, which has no {last}")
    (tmp_path / last).mkdir()
    all_of_them = Environment.of(
        {"WEBUI_ROOT": str(checkout), "WEBUI_PYTHON": here, "WEBUI_NEIGHBOURS": str(tmp_path)}
    )
    assert all_of_them.ignored == []
    assert all_of_them.header()[1] == f"tests/webui/test_neighbours.py: beside the extensions in {tmp_path}"


@pytest.mark.parametrize(
    ("variables", "args", "code", "expected"),
    [
        ({}, ["tests/webui/test_problems.py", "-k", "console", "-q"], 0, "SKIPPED [2] "),
        ({"WEBUI_ROOT": "nowhere"}, ["tests/webui"], 4, "ERROR: WEBUI_ROOT is "),
        ({"WEBUI_ROOT": "nowhere"}, ["tests/test_webui_environment.py", "-k", "names_one"], 0, "has no launch.py"),
    ],
)
def test_pytest_says_it_and_stops_only_where_these_tests_are_asked_for(variables, args, code, expected):
    others = {name: value for name, value in os.environ.items() if not name.startswith("WEBUI_")}
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # others' plugins have no part in this, and take half the time
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**others, **variables, **alone})
    assert expected in done.stdout + done.stderr
    assert done.returncode == code
