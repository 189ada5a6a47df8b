"""install.py, as a copy in a folder of its own, where nothing is downloaded."""

import ast
import ensurepip
import importlib.util
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
posix = pytest.mark.skipif(os.name == "nt", reason="the stand-in programs are shell scripts")

PYPROJECT = """
dependencies = [
    "pytest>=1",  # the "core"
]
[project.optional-dependencies]
demo = [
    "pluggy>=0.1,<99",
]
test = [
    "lib-lora[demo]",
    "iniconfig>=1",
]
"""
ECHO = "import sys; print('page', *sys.argv[1:], flush=True); sys.exit(7)"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A clone whose page only repeats its options, and whose packages this Python has."""
    folder = tmp_path / "lora house"
    (folder / "lib_lora").mkdir(parents=True)
    (folder / "lib_lora" / "__init__.py").touch()
    (folder / "lib_lora" / "__main__.py").write_text(ECHO)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    shutil.copy(ROOT / "install.py", folder)
    return folder


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_install", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def install(house: Path) -> ModuleType:
    return load(house / "install.py")


def start(house: Path, *arguments: str, python: str | Path = sys.executable, **env: str):
    command = [python, house / "install.py", *arguments]
    return subprocess.run(command, env={**os.environ, **env}, cwd=house.parent, capture_output=True, text=True)


def bare_python(folder: Path) -> Path:
    """The Python of a new environment without a single package, not even pip."""
    venv.create(folder, with_pip=False)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


# Started by the WebUI


def tree(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_webui_start_is_silent_writes_nothing_and_imports_nothing_heavy(house, tmp_path):
    webui = tmp_path / "webui"
    webui.mkdir()
    (webui / "launch.py").touch()
    before = tree(house)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", house / "install.py"],
        env={**os.environ, "PYTHONPATH": str(webui)}, cwd=webui, capture_output=True, text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "importlib.metadata" in done.stderr
    assert not [name for name in ("torch", "numpy", "gradio", "safetensors") if f" {name}\n" in done.stderr]
    assert tree(house) == before


def test_the_webui_start_names_what_is_missing_and_what_to_do(house, tmp_path):
    before = tree(house)
    done = start(house, python=bare_python(tmp_path / "bare"))
    assert done.returncode == 0
    assert "cannot import torch, safetensors, numpy, gradio." in done.stdout
    assert "delete its `venv` folder" in done.stdout
    assert tree(house) == before


def test_by_hand_without_arguments_it_shows_the_commands(house):
    assert "install.py demo" in start(house).stdout


# Arguments and old Pythons


def test_an_unknown_command_is_an_error_that_shows_the_commands(house):
    done = start(house, "demmo")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("install.py: 'demmo' is neither demo nor test")
    assert "install.py demo" in done.stderr


def test_help_is_not_an_error(house):
    assert start(house, "--help").returncode == 0


def test_an_old_python_can_read_the_file_and_is_told_what_it_lacks(house):
    source = (house / "install.py").read_text("utf-8")
    ast.parse(source, feature_version=(3, 7))
    as_if = f"import sys; sys.version_info = (3, 9, 18); exec({source!r})"
    done = subprocess.run([sys.executable, "-c", as_if], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "lib_lora needs Python 3.10 or newer; this is 3.9.\n")


# What is needed, and what is there


def test_requirements_are_those_of_pyproject():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    core, extras = project["dependencies"], project["optional-dependencies"]
    install = load(ROOT / "install.py")
    assert install.requirements("demo") == core + extras["demo"]
    everything = [*core, *extras["test"], *extras["demo"]]
    assert install.requirements("test") == [name for name in everything if name != "lib-lora[demo]"]


@pytest.mark.parametrize(("requirement", "expected"), [
    ("pytest>=1", True),
    ("pytest>=1,<2", False),
    ("pytest>=9999", False),
    ("lib-lora-no-such-package>=1", False),
])
def test_a_requirement_is_met_by_an_installed_version_within_its_bounds(install, requirement, expected):
    assert install.satisfied(requirement) is expected


@pytest.mark.parametrize(("version", "expected"), [
    ("2.13.0+cpu", (2, 13, 0)), ("0.42.1", (0, 42, 1)), ("6.0.0rc1", (6, 0, 0)), ("2.10", (2, 10)),
])
def test_versions_compare_as_numbers(install, version, expected):
    assert install.numbers(version) == expected


# Which Python


def test_a_python_that_has_everything_is_used_and_the_page_gets_the_options_and_gives_the_exit_code(house):
    done = start(house, "demo", "--port", "1 2")
    assert (done.returncode, done.stdout) == (7, "page demo --port 1 2\n")
    assert not (house / ".venv").exists()


@pytest.fixture
def made(house: Path, install: ModuleType) -> Path:
    """A house whose `.venv` was made ready for the demo, with a package this Python has not."""
    pyproject = house / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace("pluggy>=0.1", "lib-lora-no-such-package>=0.1"))
    assert bare_python(house / ".venv") == install.PYTHON
    install.stamp("demo").write_text(install.fingerprint("demo"))
    return house


def test_the_second_start_installs_nothing(made):
    done = start(made, "demo", PATH="")
    assert (done.returncode, done.stdout) == (7, "page demo\n")


def test_ready_means_the_same_lists_the_same_python_and_the_same_extra(made, install):
    assert install.is_ready("demo")
    assert not install.is_ready("test")

    config = made / ".venv" / "pyvenv.cfg"
    text = config.read_text()
    config.write_text(text + "version = 3.99\n")
    assert not install.is_ready("demo")
    config.write_text(text)
    assert install.is_ready("demo")

    with (made / "pyproject.toml").open("a") as file:
        file.write("# a comment changes nothing\n")
    assert install.is_ready("demo")
    path = made / "pyproject.toml"
    path.write_text(path.read_text().replace("pytest>=1", "pytest>=2"))
    assert not install.is_ready("demo")


# When a step fails


def test_a_failed_step_shows_the_end_of_its_log_where_the_log_is_and_what_to_do(install, capsys):
    script = "print('early'); print('x\\n' * 30); print('OSError: [Errno 28] No space left on device'); exit(1)"
    with pytest.raises(SystemExit) as caught:
        install.step("[2/3] torch", sys.executable, "-c", script)
    message = str(caught.value)
    assert "No space left on device" in message
    assert "early" not in message
    assert "Failed: [2/3] torch\nThe disk is full." in message
    assert message.endswith(f"The whole log: {install.LOG}")
    assert "early" in install.LOG.read_text()
    assert capsys.readouterr().out.startswith("[2/3] torch ")


@pytest.mark.parametrize(("log", "advice"), [
    ("Retrying: NewConnectionError(...)\\nERROR: No matching distribution found for torch", "No network?"),
    ("ERROR: No matching distribution found for torch==2.13.0", "try Python 3.11"),
    ("The virtual environment was not created successfully because ensurepip is not available", "python3-venv"),
])
def test_known_failures_come_with_advice(install, log, advice):
    with pytest.raises(SystemExit, match=advice):
        install.step("a step", sys.executable, "-c", f"print('{log}'); exit(1)")


def test_a_python_without_ensurepip_is_told_which_package_brings_it(install, monkeypatch):
    monkeypatch.setattr(install, "answers", lambda *command: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="apt install python3-venv"):
        install.build("demo")


def test_a_step_that_is_not_needed_may_fail(install):
    install.VENV.mkdir()
    install.step("pip", sys.executable, "-c", "exit(1)", is_needed=False)


@pytest.mark.parametrize(("brought", "titles"), [
    ("23.2.1", ["[1/4] environment", "[2/4] pip", "[3/4] torch==2.13.0", "[4/4] iniconfig, pluggy"]),
    ("26.3", ["[1/3] environment", "[2/3] torch==2.13.0", "[3/3] iniconfig, pluggy"]),
])
def test_building_makes_the_environment_then_torch_then_the_rest_and_is_ready(
    install, house, monkeypatch, brought, titles
):
    told = []

    def step(title: str, *command: str, is_needed: bool = True) -> None:
        told.append(title)
        assert is_needed is (not title.endswith(" pip"))
        if "venv" in command:
            bare_python(house / ".venv")

    monkeypatch.setattr(install, "step", step)
    monkeypatch.setattr(ensurepip, "version", lambda: brought)
    monkeypatch.setattr(sys, "base_prefix", "/usr")  # as in an environment
    monkeypatch.setattr(install, "wanted_torch", lambda: "torch==2.13.0")
    install.build("test")
    assert told == titles
    assert install.is_ready("test")
    assert install.is_ready("demo")  # the tests' packages include the page's


def test_your_own_torch_in_the_environment_stays(install, monkeypatch):
    install.VENV.mkdir()
    (install.VENV / "pyvenv.cfg").touch()
    titles = []
    monkeypatch.setattr(install, "answers", lambda *command: True)
    monkeypatch.setattr(install, "step", lambda title, *command, is_needed: titles.append(title))
    install.build("demo")
    assert titles == ["[1/1] pluggy"]


@pytest.mark.parametrize(("in_environment", "steps"), [(False, 2), (True, 3)])
def test_torch_of_a_python_outside_of_environments_is_shared(install, monkeypatch, in_environment, steps):
    install.VENV.mkdir()
    (install.VENV / "pyvenv.cfg").touch()
    monkeypatch.setattr(ensurepip, "version", lambda: "26.3")
    monkeypatch.setattr(sys, "base_prefix", "/usr" if in_environment else sys.prefix)
    monkeypatch.setattr(install, "satisfied", lambda requirement: True)
    monkeypatch.setattr(install, "answers", lambda program, *options: "version_info" in options[1])
    commands = []
    monkeypatch.setattr(install, "step", lambda title, *command, is_needed: commands.append(command))
    install.build("demo")
    assert len(commands) == steps
    assert ("--system-site-packages" in commands[0]) is not in_environment


@posix
def test_an_nvidia_card_gets_the_newest_torch(install, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert install.wanted_torch() == "pytest>=1"  # the first core dependency: torch in the real pyproject.toml


# The suite


@pytest.mark.parametrize(("codes", "expected", "told"), [
    ((0, 0, 0), 0, ""), ((0, 2, 1), 1, "Failed: pytest, mypy\n"), ((0, 0, 5), 5, "Failed: pytest\n"),
    ((0, 2, 0), 2, "Failed: mypy\n"), ((1, 0, 0), 1, "Failed: ruff\n"),
])
def test_every_check_runs_and_each_that_fails_is_named_and_fails_the_run(
    install, monkeypatch, capsys, codes, expected, told
):
    monkeypatch.chdir(install.ROOT)
    names, started, waited = ("ruff", "mypy", "pytest"), [], []

    def start(command: list[str], **env: str) -> str:
        started.append(command[2:])
        assert env == ({"LIB_LORA_CHROMIUM": "/usr/bin/chromium"} if command[2] == "pytest" else {})
        return command[2]

    def ended(name: str) -> int:
        waited.append(name)
        return codes[names.index(name)]

    monkeypatch.setattr(install, "start", start)
    monkeypatch.setattr(install, "ended", ended)
    monkeypatch.setattr(install, "chromium", lambda python: "/usr/bin/chromium")
    assert install.test(["-k", "tag"]) == expected
    assert started == [["ruff", "check", "--output-format=concise", "."], ["mypy"], ["pytest", "-k", "tag"]]
    assert waited == ["ruff", "pytest", "mypy"]  # mypy runs beside pytest
    assert capsys.readouterr().out == told


FILES = ["--dist=loadfile", "--no-loadscope-reorder"]


@pytest.mark.parametrize(("cores", "expected"), [
    (1, []), (2, ["-n3", *FILES]), (64, ["-n4", *FILES]), (None, []),
])
def test_the_whole_suite_runs_on_the_cores_that_there_are(install, monkeypatch, cores, expected):
    monkeypatch.chdir(install.ROOT)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(install, "chromium", lambda python: "/usr/bin/chromium")
    ran = []
    monkeypatch.setattr(install, "start", lambda command, **env: ran.append(command[2:]))
    monkeypatch.setattr(install, "ended", lambda process: 0)
    install.test([])
    assert ran[-1] == ["pytest", *expected]


def stand_in(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@posix
def test_chromium_is_taken_from_path_if_it_starts(install, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    stand_in(tmp_path / "bin", "chromium", "exit 1")  # as Ubuntu's stub without snap
    works = stand_in(tmp_path / "bin", "google-chrome", "exit 0")
    assert install.chromium(sys.executable) == str(works)


@posix
def test_the_light_chromium_is_taken_before_another(install, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("chromium", "chromium-headless-shell"):
        stand_in(tmp_path / "bin", name, "exit 0")
    assert install.chromium(sys.executable) == str(tmp_path / "bin" / "chromium-headless-shell")


@posix
@pytest.mark.parametrize(("has_shell", "expected", "tried"), [
    (True, "our-shell", ["update", "our-shell"]), (False, "chromium", ["update", "our-shell", "chromium"]),
])
def test_root_on_debian_gets_the_light_chromium_from_apt_or_else_the_whole(
    install, tmp_path, monkeypatch, has_shell, expected, tried
):
    programs, asked = tmp_path / "bin", tmp_path / "asked"
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/bin")
    monkeypatch.setattr(install, "SHELL", "our-shell")
    monkeypatch.setattr(install, "CHROMIUM", (str(programs / "our-shell"), str(programs / "chromium")))
    monkeypatch.setattr(install, "PLAYWRIGHTS", "print()")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    missing = "no-such-package" if has_shell else "our-shell"
    script = f"""
        for name; do :; done
        echo $name >> '{asked}'
        [ $name = update ] || [ $name = {missing} ] || {{
            echo '#!/bin/sh' > '{programs}'/$name; /bin/chmod +x '{programs}'/$name; }}"""
    stand_in(programs, "apt-get", script)
    assert install.chromium(sys.executable) == str(programs / expected)
    assert asked.read_text().split() == tried


@posix
def test_no_browser_is_a_sentence_not_a_skip(install, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(install, "CHROMIUM", ())
    monkeypatch.setattr(install, "PLAYWRIGHTS", "print()")
    nobody = stand_in(tmp_path, "python", "exit 1")
    with pytest.raises(SystemExit, match="need Chromium or Google Chrome on PATH"):
        install.chromium(str(nobody))
