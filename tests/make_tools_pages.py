"""`python -m tests.make_tools_pages`: run the examples of docs/inspect.md and docs/tools.md, write what they print
below them, and draw the picture."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path

from lib_lora.cli import main as lib_lora

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = ("inspect.md", "tools.md")
PICTURE = DOCS / "images" / "inspect.png"
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT, PROGRAM = "$ ", "python -m lib_lora "


def commands(page: str) -> list[list[str]]:
    """Those of each block of the page."""
    return [[line.removeprefix(PROMPT) for line in found[1].splitlines() if line.startswith(PROMPT)]
            for found in CONSOLE.finditer(page)]  # fmt: skip


def printed(page: str) -> list[str]:
    """What stands below them, block by block."""
    return ["".join(f"{line}\n" for line in found[1].splitlines() if not line.startswith(PROMPT))
            for found in CONSOLE.finditer(page)]  # fmt: skip


def place(folder: Path) -> None:
    """Let `folder` look like a checkout."""
    for name in ("lib_lora", "tests"):
        (folder / name).symlink_to(ROOT / name)


def run(command: str) -> str:
    """What it prints, here where we are, both ways."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        code = lib_lora(shlex.split(command.removeprefix(PROGRAM)))
    assert code == 0, f"{command}\n{told.getvalue()}"
    return told.getvalue()


def main() -> None:
    """Write both pages and the picture."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        place(folder)
        os.chdir(folder)
        for name in PAGES:
            page = (DOCS / name).read_text("utf-8")
            for found, block in zip(list(CONSOLE.finditer(page)), commands(page), strict=True):
                told = "".join(f"{PROMPT}{command}\n{run(command)}" for command in block)
                page = page.replace(found[0], f"```console\n{told}```", 1)
            (DOCS / name).write_text(page, "utf-8")
        shutil.copy(folder / "blocks.png", PICTURE)


if __name__ == "__main__":
    main()
