"""A prompt's tags as one new adapter file, from the browser: by a name, never a path, and nothing is written over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_lora.browser.dry_run import MAX_PROMPT
from lib_lora.browser.jobs import Progress, Work
from lib_lora.browser.listing import Shelf, tag_name
from lib_lora.browser.loaded import LoadedModel
from lib_lora.browser.writing import RefusedError
from lib_lora.grammar.editing import edited
from lib_lora.grammar.moment import USUAL_STEPS
from lib_lora.grammar.named import Named, named_moment
from lib_lora.grammar.positions import CurveError
from lib_lora.grammar.tag import is_typable

ENDING = ".safetensors"
MOST_LETTERS = 100  # of a name
MOST_RANK, MOST_STEPS = 4096, 10_000
FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')  # in names of files, on one system or another
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")  # which Windows takes for devices
DTYPES = {"fp32": "float32", "fp16": "float16"}


def saving(shelf: Shelf, model: LoadedModel, given: Mapping[str, Any]) -> Work:
    """The work that `given` asks for: {"prompt", "name", "rank" or "error" or neither, "dtype", "at", "steps"}.

    `at` is the moment that is kept of what changes over time, `steps` how many steps the picture has.

    Raises RefusedError before it begins if the name cannot be had, or an answer makes no sense.
    """
    prompt = given.get("prompt")
    if not isinstance(prompt, str) or len(prompt) > MAX_PROMPT:
        raise RefusedError(f'"prompt" must be a text of at most {MAX_PROMPT} characters')
    out = new_path(shelf, given.get("name"))
    rank, error = _number(given, "rank", 1, MOST_RANK), _number(given, "error", 0, 1)
    if rank is not None and (rank != int(rank) or error is not None):
        raise RefusedError('"rank" is a whole number, and goes without "error"')
    at = _moment(given)
    kind = given.get("dtype", "fp32")
    if kind not in DTYPES:
        raise RefusedError(f'"dtype" is one of {", ".join(DTYPES)}')

    def work(progress: Progress) -> dict[str, Any]:
        return _save(shelf, model, out, prompt, None if rank is None else int(rank), error, DTYPES[kind], at, progress)

    return work


def new_path(shelf: Shelf, name: Any) -> Path:
    """Where a new adapter of this name goes: into the first folder. Raises RefusedError."""
    if not isinstance(name, str) or not name.strip():
        raise RefusedError("the new adapter needs a name")
    name = name.strip().removesuffix(ENDING).strip()
    if len(name) > MOST_LETTERS:
        raise RefusedError(f"a name has at most {MOST_LETTERS} letters")
    if found := FORBIDDEN.search(name):
        shown = found[0] if found[0].isprintable() else "an invisible sign"
        raise RefusedError(f"a name cannot have {shown} in it")
    if not name or name[0] == "." or name[-1] == "." or RESERVED.fullmatch(name) or not is_typable(name):
        raise RefusedError(f"'{name}' cannot be the name of an adapter; write another, such as my mix")
    folder = shelf.library.folders[0]
    shelf.library.refresh()
    taken = [entry for entry in shelf.library.entries() if entry.stem.casefold() == name.casefold()]
    if taken:
        raise RefusedError(f"there is an adapter called {taken[0].name} already; write another name")
    return folder / f"{name}{ENDING}"


def _save(
    shelf: Shelf, model: LoadedModel, out: Path, prompt: str, rank: int | None, error: float | None, dtype: str,
    at: Named | None, progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    import torch  # not before somebody asks

    from lib_lora.tools.factors import Limit
    from lib_lora.tools.keep import save

    read = edited(prompt, USUAL_STEPS if at is None or at.steps is None else at.steps)
    if not (read.tags or read.errors):
        raise RefusedError("there is no tag in the prompt")
    limit = None if rank is None and error is None else Limit(rank=rank, error=error)
    with model.weights() as base:
        saved = save(out, read.tags, shelf.library, errors=read.errors, base=base, limit=limit,
                     dtype=getattr(torch, dtype), at=at, typed=prompt, presets=shelf.presets(),
                     progress=progress)  # fmt: skip
    shelf.library.refresh()
    entry = next(entry for entry in shelf.library.entries() if entry.path == out)
    ranks = saved.built.ranks
    return {"id": entry.id, "name": entry.name, "tag": f"<lora:{tag_name(entry, False)}:1>", "size": entry.size,
            "error": saved.built.error, "ranks": [min(ranks), max(ranks)] if ranks else None,
            "notes": saved.report.sentences()}  # fmt: skip


def _moment(given: Mapping[str, Any]) -> Named | None:
    at, steps = given.get("at"), given.get("steps")
    if at is None:
        return None
    if not isinstance(at, str) or not (steps is None or (type(steps) is int and 0 < steps <= MOST_STEPS)):
        raise RefusedError('"at" must be a text such as 0.5, and "steps" a number of steps')
    try:
        return named_moment(at, steps)
    except CurveError as error:
        raise RefusedError(f"the moment {at} {error}") from error


def _number(given: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most or not value:
        raise RefusedError(f'"{name}" must be a number from {least} to {most}')
    return float(value)
