"""The commands of docs/compare.md, run as they stand there, but with one small step each."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from lib_lora.cli import main

DOCS = (Path(__file__).parents[1] / "docs" / "compare.md").read_text("utf-8")
COMMANDS = re.findall(r"^    python -m lib_lora (compare .*)$", DOCS, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.rpartition("--out ")[2])
def test_the_command_does_what_is_written_beside_it(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    typed = shlex.split(command)
    small = [*typed, "--steps", "1", "--size", "64x64"]
    assert main(small) == 0
    assert capsys.readouterr().err == ""
    out = Path(typed[typed.index("--out") + 1])
    cells = json.loads((out / "cells.json").read_text())
    assert all((out / cell["file"]).is_file() and cell["problem"] is None for cell in cells)
    assert (out / "report.html").is_file()
    assert (out / "sheet.png").is_file()
    columns = re.search(r"an array of `\{(.*?)\}`", DOCS)
    assert columns
    assert list(cells[0]) == re.findall(r'"(\w+)"', columns[1])


def test_there_are_commands():
    assert len(COMMANDS) == 3
