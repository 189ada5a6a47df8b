"""The walls of the house: who may import what, and that importing does nothing."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lib_lora"

# What stands in one line may import only what stands in it or above it.
LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(rooms.split())
    for rooms in (
        "errors", "grammar formats algorithms", "keys", "describe", "adapters library model", "engine", "session",
        "hosts tools browser", "drawing", "compare webui", "demo", "cli",
    )
)
TORCH_FREE = (
    "errors", "grammar.tag", "grammar.later", "grammar.trigger_words", "formats.text", "formats.opening",
    "formats.write", "formats.header", "formats.hashes", "formats.kinds", "formats.pickles", "formats.torch_file",
    "describe.metadata", "describe.families", "describe.survey", "describe.foreign", "library.sidecar",
    "library.files", "library", "keys", "browser",
)


def imports(path: Path) -> set[str]:
    """Absolute module names that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: write imports from lib_lora on"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms() -> dict[str, list[Path]]:
    """Top-level name in the package -> its files."""
    return {path.stem if path.is_file() else path.name: [path] if path.is_file() else sorted(path.rglob("*.py"))
            for path in PACKAGE.iterdir() if path.suffix == ".py" or (path.is_dir() and path.name != "__pycache__")}


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_only_the_webui_room_knows_the_webui_and_only_pages_know_gradio():
    for room, files in rooms().items():
        for path in files:
            roots = {name.partition(".")[0] for name in imports(path)}
            assert room == "webui" or not roots & {"modules", "launch", "networks"}, path
            assert room in ("webui", "demo") or "gradio" not in roots, path


def test_imports_run_one_way():
    level = {name: number for number, names in enumerate(LAYERS) for name in names}
    for room, files in rooms().items():
        if room in ("__init__", "__main__"):
            continue
        assert room in level, f"{room}: give it a place in LAYERS"
        for path in files:
            for name in imports(path):
                if name.startswith("lib_lora."):
                    other = name.split(".")[1]
                    assert other not in level or level[other] <= level[room], f"{path} imports {name}"


@pytest.mark.parametrize("module", TORCH_FREE)
def test_the_browser_side_needs_no_torch(module):
    code = f"import sys, lib_lora.{module}; print('torch' in sys.modules, 'numpy' in sys.modules)"
    assert run(code) == "False False"


def test_importing_the_core_touches_neither_disk_nor_torch_classes():
    code = (
        "import sys, builtins, torch, safetensors\n"
        "before = dict(vars(torch.nn.Linear)), dict(vars(torch.nn.Module))\n"
        "import lib_lora.session.session, lib_lora.engine.patch, lib_lora.library, lib_lora.engine.plan\n"
        "print((dict(vars(torch.nn.Linear)), dict(vars(torch.nn.Module))) == before)\n"
        "print(sorted({'modules', 'gradio', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    assert run(code) == "True\n[]"


def test_every_exported_name_exists():
    assert run("import lib_lora; print([n for n in lib_lora.__all__ if getattr(lib_lora, n) is None])") == "[]"
