"""What several commands need: the adapters and the model that are meant, a place for what they make, JSON."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_lora.cli.terminal import complain
from lib_lora.drawing.demo_files import ADAPTERS
from lib_lora.errors import LoraError
from lib_lora.formats.json_text import read_json
from lib_lora.formats.opening import read_file, strange
from lib_lora.grammar.presets import BUILT_IN, Presets, read_presets

if TYPE_CHECKING:
    from lib_lora.library import Library
    from lib_lora.model.base_weights import BaseWeights

MOST_BYTES = 10_000_000  # of a file of presets; the WebUI's config.json holds all its settings
CONFIG = "lora_block_presets", "lora_element_presets"  # where the WebUI keeps a user's own


def attached(options: argparse.Namespace, presets: Presets = BUILT_IN) -> Any:
    """The pipeline of `--model`, with the adapters of `--lora-dir`."""
    library = library_in(options.lora_dir)
    from lib_lora.drawing.pipelines import load_pipeline
    from lib_lora.hosts.diffusers import Attached

    return Attached(load_pipeline(options.model, tokenizer=options.tokenizer), library, presets=presets)


def library_in(given: Sequence[Path] | None) -> Library:
    """The adapters in these folders; the index of folders of one's own is kept, and shared with the page."""
    from lib_lora.library import Library
    from lib_lora.library.place import default_index

    folders = folders_of(given)
    return Library(folders, database=None if folders == [ADAPTERS] else default_index())


def folders_of(given: Sequence[Path] | None) -> list[Path]:
    """`--lora-dir`, or the folder of the demo model's. Raises LoraError for one that is not there."""
    for folder in given or ():
        require_folder(folder)
    return list(given or (ADAPTERS,))


def presets_in(path: Path | None) -> Presets:
    """The built-in names of block weights and those of `--presets`: a text of lines `NAME:v,v,...`, or of rules about
    elements, or the WebUI's config.json. Raises LoraError."""
    if path is None:
        return BUILT_IN
    try:
        data = read_file(path, MOST_BYTES)
    except OSError as error:
        raise LoraError(f"{path}: {error.strerror or error}") from error
    if data is None:
        raise LoraError(f"{path}: larger than {MOST_BYTES / 1e6:.0f} MB, which is no list of presets")
    text = data.decode("utf-8", errors="replace")
    presets = _of_config(text) if path.suffix.lower() == ".json" else _of_text(text)
    if presets == BUILT_IN:
        raise LoraError(f"{path}: no preset in it; one is a line NAME:v,v,...")
    complain("\n".join(f"{path}: {problem}" for problem in presets.problems))
    return presets


def _of_text(text: str) -> Presets:
    weights = read_presets(text)
    return weights if weights != BUILT_IN else read_presets("", text)


def _of_config(text: str) -> Presets:
    try:
        config = read_json(text)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        return BUILT_IN
    weights, elements = (config.get(name) for name in CONFIG)
    return read_presets(weights if isinstance(weights, str) else "", elements if isinstance(elements, str) else "")


def base_weights(model: Path | None) -> AbstractContextManager[BaseWeights | None]:
    """Those of `--model` where it is given. Raises CheckpointError."""
    from lib_lora.model.base_weights import BaseWeights

    return nullcontext() if model is None else BaseWeights(model)


def require_folder(path: Path) -> None:
    """Raises LoraError."""
    if not path.is_dir():
        raise LoraError(f"{path}: no such folder")


def require_place(out: Path) -> None:
    """What would fail after minutes of drawing fails here."""
    require_folder(out.parent)
    if os.path.exists(out) and (kind := strange(os.stat(out).st_mode)):
        raise LoraError(f"{out}: it is {kind}, not a file")


def print_json(value: Any) -> None:
    """In lines, for people too."""
    print(json.dumps(value, indent=2))
