"""What a file that was made of others says of how: the tags, at which moment, of which files; and no word is believed.

    lib_lora.recipe    {"prompt": "<lora:ink:0.7><lora:neon:0.3>", "error": 0.0}
    lib_lora.parents   {"ink": {"sha256": "...", "tensors": "...", "license": "CC0"}, "neon": {...}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib_lora.formats.header import read_header
from lib_lora.formats.json_text import read_json
from lib_lora.formats.text import encodable

MADE_BY, RECIPE, PARENTS = "lib_lora.made_by", "lib_lora.recipe", "lib_lora.parents"
MOST, MOST_STEPS = 100, 10_000  # parents that are told; steps of a picture


@dataclass(frozen=True)
class Recipe:
    """How a file was made, as far as it says so."""

    prompt: str = ""  # the tags, if it was made of tags: typed into a prompt they do the same
    at: str = ""  # the moment of a picture that they were taken at, where they change over time
    steps: int | None = None  # of that picture
    parents: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by name: sha256, tensors, license


def read_recipe(metadata: Mapping[str, str]) -> Recipe | None:
    """Of a file's metadata; None if they tell of none."""
    told, parents = _object(metadata.get(RECIPE)), _object(metadata.get(PARENTS))
    if not told and not parents:
        return None
    steps = told.get("steps")
    return Recipe(_text(told.get("prompt")), _text(told.get("at")),
                  steps if type(steps) is int and 0 < steps < MOST_STEPS else None,
                  {_text(name): {_text(key): _text(value) for key, value in each.items()}
                   for name, each in list(parents.items())[:MOST] if isinstance(each, dict)})  # fmt: skip


def recipe_of(path: Path) -> Recipe | None:
    """Of a .safetensors file. Raises AdapterFileError."""
    return read_recipe(read_header(path).metadata)


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = read_json(text or "")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str:
    return encodable(value) if isinstance(value, str) else ""
