"""The `adapter_config.json` that PEFT writes beside an adapter file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_lora.describe.metadata import parsed_text
from lib_lora.formats.opening import read_file
from lib_lora.formats.unpickling import PICKLES

CONFIG = "adapter_config.json"
MAX_CONFIG = 1024 * 1024  # bytes


def read_config(path: Path) -> Mapping[str, Any] | None:
    """The `adapter_config.json` of a file, or None: among several adapters it belongs to the name that PEFT gives."""
    try:
        config = config_of(path)
        if config is None:
            return None
        read = parsed_text((read_file(config, MAX_CONFIG) or b"").decode("utf-8-sig"))
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) else None


def config_of(path: Path) -> Path | None:
    """Where it lies, if it does."""
    config = path.with_name(CONFIG)
    if not config.is_file():
        return None
    others = (
        each
        for each in path.parent.iterdir()
        if each.suffix.lower() in (".safetensors", *PICKLES) and each.name != path.name
    )
    return config if path.stem == "adapter_model" or next(others, None) is None else None
