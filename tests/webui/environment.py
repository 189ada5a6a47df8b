"""Which WebUI the tests here run, by three environment variables, and what is missing where they cannot."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NEEDED = (
    "launch.py",
    "modules/extra_networks.py",
    "extensions-builtin/Lora/networks.py",
    "repositories/stable-diffusion-stability-ai",  # fetched by its first start
)
VENVS = ("venv/bin/python", "venv/Scripts/python.exe")  # where webui.sh and webui.bat make it
NEIGHBOURS = {
    "loractl": "sd-webui-loractl",
    "lora-block-weight": "sd-webui-lora-block-weight",
    "tagcomplete": "a1111-sd-webui-tagcomplete",
    "Dynamic Prompts": "sd-dynamic-prompts",
    "Civitai Helper": "Stable-Diffusion-Webui-Civitai-Helper",
    "prompt-all-in-one": "sd-webui-prompt-all-in-one",
    "Regional Prompter": "sd-webui-regional-prompter",
}


@dataclass(frozen=True)
class Environment:
    """What the variables say. A variable that is set and wrong is an error, one that is not set is not."""

    root: Path | None  # WEBUI_ROOT
    python: str  # WEBUI_PYTHON, else the one in the venv of `root`
    neighbours: Path | None  # WEBUI_NEIGHBOURS

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Environment:
        root, neighbours = (Path(variables[name]).absolute() if variables.get(name) else None
                            for name in ("WEBUI_ROOT", "WEBUI_NEIGHBOURS"))  # fmt: skip
        own = [str(root / each) for each in VENVS if (root / each).is_file()] if root else []
        python = variables.get("WEBUI_PYTHON") or (own or [""])[0]
        if os.path.dirname(python):  # else it is found as a shell finds it
            python = os.path.abspath(python)
        return cls(root, python, neighbours)

    @property
    def mistakes(self) -> list[str]:
        """What hinders the tests from being run where they are asked for, each with the next step."""
        if self.root is None:
            return []
        found = []
        if missing := [name for name in NEEDED if not (self.root / name).exists()]:
            found.append(f"WEBUI_ROOT is {self.root}, which has no {missing[0]}: "
                         "name a checkout of AUTOMATIC1111's WebUI that has been started once")  # fmt: skip
        elif not self.python:
            found.append(f"{self.root} has no {' or '.join(VENVS)}: name the Python that runs it by WEBUI_PYTHON")
        if self.python and not shutil.which(self.python):
            found.append(f"WEBUI_PYTHON is {self.python}, which is no program: name the Python that runs the WebUI")
        if self.neighbours and (missing := [name for name in NEIGHBOURS.values()
                                            if not (self.neighbours / name).is_dir()]):  # fmt: skip
            found.append(f"WEBUI_NEIGHBOURS is {self.neighbours}, which has no {', '.join(missing)}")
        return found

    @property
    def ignored(self) -> list[str]:
        """Patterns of the files of this folder that are not collected."""
        if self.root is None or self.mistakes:
            return ["test_*.py"]
        return [] if self.neighbours else ["test_neighbours.py"]

    def header(self) -> list[str]:
        """What pytest says at its start."""
        if self.root is None:
            return ["tests/webui: not collected, WEBUI_ROOT is not set (the folder of a WebUI; see docs/webui.md)"]
        if self.mistakes:
            return [f"tests/webui: not collected, {mistake}" for mistake in self.mistakes]
        beside = (f"beside the extensions in {self.neighbours}" if self.neighbours
                  else "not collected, WEBUI_NEIGHBOURS is not set (a folder with other extensions)")  # fmt: skip
        return [
            f"tests/webui: WebUI {version(self.root)} in {self.root}, run by {self.python}",
            f"tests/webui/test_neighbours.py: {beside}",
        ]


def version(root: Path) -> str:
    """The newest one in its changelog."""
    try:
        found = re.search(r"^## (\S+)", (root / "CHANGELOG.md").read_text("utf-8"), re.M)
    except OSError:
        found = None
    return found[1] if found else "of an unknown version"


ENVIRONMENT = Environment.of(os.environ)
