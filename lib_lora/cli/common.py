"""What several commands need: the adapters and the model that are meant, a place for what they make, JSON."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_lora.drawing.demo_files import ADAPTERS
from lib_lora.errors import LoraError
from lib_lora.formats.opening import strange

if TYPE_CHECKING:
    from lib_lora.library import Library
    from lib_lora.model.base_weights import BaseWeights


def attached(options: argparse.Namespace) -> Any:
    """The pipeline of `--model`, with the adapters of `--lora-dir`."""
    library = library_in(options.lora_dir)
    from lib_lora.drawing.pipelines import load_pipeline
    from lib_lora.hosts.diffusers import Attached

    return Attached(load_pipeline(options.model, tokenizer=options.tokenizer), library)


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
