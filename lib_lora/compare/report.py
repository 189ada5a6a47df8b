"""The report of a comparison: one HTML file that holds everything, to be opened from a disk, without a network."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from lib_lora.compare.effect import effects, mean_effects, saturation
from lib_lora.compare.grid import checkpoint_names, is_untouched, weight_value
from lib_lora.compare.run import Comparison
from lib_lora.compare.store import Result
from lib_lora.formats.write import write_file

PAGE = Path(__file__).with_name("page")
SCRIPTS = ("plot.js", "viewer.js", "rows.js")
MOST = 40_000_000  # bytes of PNG that are taken as they are; more become WebP
QUALITY = 90


def write_report(done: Comparison, path: Path) -> None:
    """Write the page. Raises OSError."""
    write_file(path, report_html(done).encode("utf-8", "replace"))


def report_html(done: Comparison) -> str:
    """The page as text. Names and prompts in it are data: none of them is read as markup."""
    told = json.dumps(report_data(done), ensure_ascii=False, separators=(",", ":"))
    pieces = {"STYLE": _read("report.css"), "SCRIPTS": "\n".join(map(_read, SCRIPTS)),
              "DATA": told.replace("<", "\\u003c")}  # fmt: skip
    head, *rest = _read("report.html").split("{{")
    return head + "".join(pieces[name] + text for name, text in (part.split("}}", 1) for part in rest))


def report_data(done: Comparison) -> dict[str, Any]:
    """What the page shows."""
    grid = done.grid
    by_cell = effects(done.results, done.folder)
    means = mean_effects(by_cell)
    pictures = _Pictures(done)
    adapters = []
    for subject in grid.subjects:
        points = [_of(means, checkpoint, subject.name) for checkpoint in grid.checkpoints]
        adapters.append({
            "name": subject.name, "title": subject.title, "facts": list(subject.facts), "run": subject.run,
            "epoch": subject.epoch, "rung": subject.rung, "problem": subject.problem,
            "effects": [[_rounded(each.get(weight)) for weight in grid.weights] for each in points],  # by checkpoint
            "saturation": list(map(saturation, points)),
        })  # fmt: skip
    places = {name: {value: place for place, value in enumerate(values)} for name, values in {
        "a": [subject.name for subject in grid.subjects], "w": grid.weights, "p": grid.prompts, "s": grid.seeds,
        "m": grid.checkpoints,
    }.items()}  # fmt: skip
    return {
        "made": datetime.now().isoformat(" ", "minutes"),
        "model": done.ground.model, "engine": done.ground.engine, "settings": asdict(done.settings),
        "checkpoints": list(checkpoint_names(grid.checkpoints).values()),
        "adapters": adapters, "prompts": list(grid.prompts), "seeds": list(grid.seeds),
        "weights": [{"text": text, "value": _number(text), "zero": is_untouched(text)} for text in grid.weights],
        "cells": [
            {"a": places["a"][cell.subject.name], "w": places["w"][cell.weight], "p": places["p"][cell.prompt],
             "s": places["s"][cell.seed], "m": places["m"][cell.checkpoint],
             "problem": result.problem, "seconds": result.seconds, "effect": _rounded(by_cell.get(cell)),
             "text": cell.text, **pictures.of(result)}
            for result in done.results for cell in (result.cell,)
        ],
        "pictures": pictures.addresses, "problems": done.problems,
    }  # fmt: skip


class _Pictures:
    """Every picture once, as an address that holds it."""

    def __init__(self, done: Comparison) -> None:
        self.folder = done.folder
        files = [self.folder / result.file for result in done.results if result.file]
        self.as_they_are = sum(path.stat().st_size for path in files) < MOST
        self.addresses: list[str] = []
        self._places: dict[bytes, int] = {}  # by pixels

    def of(self, result: Result) -> dict[str, Any]:
        """Its number, and how it was made."""
        if result.file is None:
            return {"picture": None, "parameters": ""}
        file = io.BytesIO()
        with Image.open(self.folder / result.file) as image:
            parameters = image.info.get("parameters", "")
            pixels = image.convert("RGB")
        if self.as_they_are:
            pixels.save(file, "PNG")
        else:
            pixels.save(file, "WEBP", quality=QUALITY)
        content = file.getvalue()
        if content not in self._places:
            self._places[content] = len(self.addresses)
            kind = "png" if self.as_they_are else "webp"
            self.addresses.append(f"data:image/{kind};base64,{base64.b64encode(content).decode()}")
        return {"picture": self._places[content], "parameters": parameters}


@cache
def _read(name: str) -> str:
    return (PAGE / name).read_text("utf-8")


def _of(means: Mapping[tuple[str, str, str], float], checkpoint: str, name: str) -> dict[str, float]:
    return {weight: mean for (on, adapter, weight), mean in means.items() if (on, adapter) == (checkpoint, name)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _number(weight: str) -> float | None:
    value = weight_value(weight)
    return None if isinstance(value, str) else value
