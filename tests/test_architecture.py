"""The walls of the house: who may import what, that importing does nothing. The map is in README.md, "How it is built".

In that map a room is a folder of the package, or a file beside them; blank lines part the floors. A room imports from
floors above its own only, and files of one room from each other without a circle.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lib_lora"
DOOR = {PACKAGE / "__init__.py", PACKAGE / "__main__.py"}  # stand before the house: the public names, and `python -m`
UNLISTED = {"demo/training/"}  # whose files a README of their own names

TORCH_FREE = (  # rooms that start without torch and numpy, and single files of the others
    "errors.py", "grammar/", "keys/", "describe/", "library/", "browser/", "algorithms/facts.py",
    "algorithms/refused.py", "algorithms/table.py", "compare/runner.py", "compare/runners/processes.py",
    "drawing/demo_files.py",
    "formats/hashes.py", "formats/header.py", "formats/json_text.py", "formats/kinds.py", "formats/opening.py",
    "formats/pickles.py", "formats/text.py", "formats/torch_file.py", "formats/write.py",
)  # fmt: skip


@cache
def floors() -> list[dict[str, str]]:
    """The map: for each floor {room: what the README says of it}, the lowest floor first."""
    section = (ROOT / "README.md").read_text("utf-8").partition("## How it is built")[2]
    drawn: list[dict[str, str]] = []
    for block in section.split("```")[1].strip("\n").split("\n\n"):
        rooms = re.findall(r"^(\S+) +(.*(?:\n .*)*)", block, re.MULTILINE)
        drawn.append(dict(rooms))
    return drawn


@cache
def floor_of() -> dict[str, int]:
    return {room: number for number, rooms in enumerate(floors()) for room in rooms}


def room_of(path: Path) -> str:
    """The innermost room that a file of the package stands in."""
    name = path.relative_to(PACKAGE).as_posix()
    rooms = [room for room in floor_of() if name == room or (room.endswith("/") and name.startswith(room))]
    assert rooms, f"{name}: its room is not in the README's map"
    return max(rooms, key=len)


@cache
def files() -> tuple[Path, ...]:
    return tuple(sorted(path for path in PACKAGE.rglob("*.py") if path not in DOOR))


@cache
def imports(path: Path) -> frozenset[str]:
    """Absolute names of modules, or of things in them, that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: write imports from lib_lora on"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


@cache
def uses(path: Path) -> frozenset[Path]:
    """The files of the package that a file imports."""
    return frozenset(found for name in imports(path) if (found := _file(name)) is not None and found not in DOOR)


def _file(name: str) -> Path | None:
    """The file that a module's name, or that of a thing in it, leads to."""
    first, *path = name.split(".")
    while first == "lib_lora" and path:
        place = PACKAGE.joinpath(*path)
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.exists():
                return file
        path.pop()
    return None


@cache
def calls(path: Path) -> frozenset[str]:
    """The last words of the names of everything that a file calls; of `open`, whether to write."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            mode = node.args[1] if len(node.args) > 1 else None
            to_write = isinstance(mode, ast.Constant) and isinstance(mode.value, str) and set(mode.value) & set("wax+")
            found.add("open to write" if to_write and name in ("open", "fdopen") else name)
    return frozenset(found)


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_map_names_every_room_and_every_file_in_it():
    assert len(floors()) > 8
    standing = {f"{path.parent.relative_to(PACKAGE).as_posix()}/" for path in files() if path.parent != PACKAGE}
    standing |= {path.name for path in files() if path.parent == PACKAGE}
    assert set(floor_of()) == standing
    for room, text in ((room, text) for rooms in floors() for room, text in rooms.items()):
        if room.endswith("/") and room not in UNLISTED:
            listed = " ".join(text.split("\n")[1:]).split()
            assert listed == sorted(path.stem for path in (PACKAGE / room).glob("[!_]*.py")), f"the README, at {room}"


def test_only_the_webui_room_knows_the_webui_and_only_pages_know_gradio():
    for path in files():
        roots = {name.partition(".")[0] for name in imports(path)}
        house = path.relative_to(PACKAGE).parts[0]
        assert house == "webui" or not roots & {"modules", "launch", "networks"}, path
        assert house in ("webui", "demo") or "gradio" not in roots, path


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_room_imports_from_the_floors_above_it(path):
    room = room_of(path)
    for used in uses(path):
        other = room_of(used)
        assert other == room or floor_of()[other] < floor_of()[room], f"{room} imports {used.relative_to(PACKAGE)}"


def test_no_file_imports_itself_in_a_circle():
    graph = {path: set(uses(path)) - {path} for path in files()}
    while ends := {path for path, used in graph.items() if not used} or set(graph) - set().union(*graph.values()):
        graph = {path: used - ends for path, used in graph.items() if path not in ends}
    assert sorted(path.relative_to(PACKAGE).as_posix() for path in graph) == []


def test_files_of_the_user_are_written_in_one_place():
    """Others write into folders that are thrown away, or make the files of this repository."""
    written = {"write_text", "write_bytes", "open to write", "save_file", "mkstemp"}
    writers = {path.relative_to(PACKAGE).as_posix() for path in files() if calls(path) & written}
    temporary = {"drawing/pipelines.py", "drawing/plain_checkpoint.py", "drawing/vocabulary.py", "library/rescue.py"}
    nowhere = {"cli/__init__.py"}  # what is printed where there is no console
    assert {name for name in writers if not name.startswith("demo/training/")} == {
        "formats/write.py", *temporary, *nowhere
    }  # fmt: skip


def test_pickles_of_strangers_are_interpreted_and_never_run():
    own = {"library/workers.py": "pickle", "demo/training/unet.py": "torch", "demo/training/autoencoder.py": "torch"}
    for path in files():
        name = path.relative_to(PACKAGE).as_posix()
        assert "pickle" not in imports(path) or own.get(name) == "pickle", path  # between two processes of ours
        text = path.read_text("utf-8")
        assert "torch.load(" not in text or own.get(name) == "torch", path  # what the training stored
        assert "Unpickler" not in calls(path), path


@pytest.mark.parametrize("place", TORCH_FREE)
def test_the_browser_side_needs_no_torch(place):
    paths = [path for path in files() if path.relative_to(PACKAGE).as_posix().startswith(place)]
    assert paths
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    code = f"import sys, {', '.join(names)}; print('torch' in sys.modules, 'numpy' in sys.modules)"
    assert run(code) == "False False"


@pytest.fixture(scope="module")
def told_with_torch() -> list[str]:
    """What a Python says that imports torch, the core, and then all that the package offers."""
    return run(
        "import sys, torch, safetensors\n"
        "before = dict(vars(torch.nn.Linear)), dict(vars(torch.nn.Module))\n"
        "import lib_lora.session.session, lib_lora.engine.patch, lib_lora.library, lib_lora.engine.plan\n"
        "print((dict(vars(torch.nn.Linear)), dict(vars(torch.nn.Module))) == before)\n"
        "print(sorted({'modules', 'gradio', 'diffusers', 'transformers'} & set(sys.modules)))\n"
        "import lib_lora\n"
        "print([name for name in lib_lora.__all__ if getattr(lib_lora, name) is None])"
    ).splitlines()


def test_importing_the_core_touches_neither_disk_nor_torch_classes(told_with_torch):
    assert told_with_torch[:2] == ["True", "[]"]


def test_every_exported_name_exists(told_with_torch):
    assert told_with_torch[2:] == ["[]"]
