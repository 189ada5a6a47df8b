"""inspect(): everything that can be said about one adapter file without reading its tensors into memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_lora.cli.values import value_warnings
from lib_lora.describe import families
from lib_lora.describe.metadata import read_facts, training_facts
from lib_lora.describe.recipe import read_recipe
from lib_lora.describe.survey import group, survey
from lib_lora.errors import AdapterFileError
from lib_lora.formats.hashes import hash_file, short_hash
from lib_lora.formats.header import read_header
from lib_lora.formats.kinds import TORCH, kind_of
from lib_lora.formats.opening import strange
from lib_lora.library.pickled import read_shapes
from lib_lora.library.sidecars import read_sidecars


def inspect(path: Path) -> dict[str, Any]:
    """What `python -m lib_lora info --json` prints. Raises AdapterFileError if the file is no adapter or broken."""
    if path.is_dir():
        raise AdapterFileError(f"{path}: a folder; give the file itself")
    if not path.exists():
        raise AdapterFileError(f"{path}: no such file")
    if kind := strange(os.stat(path).st_mode):
        raise AdapterFileError(f"{path}: it is {kind}, not a file")
    metadata: Mapping[str, str] = {}
    warnings: list[str] = []
    if kind_of(path) == TORCH:
        shapes = read_shapes(path)
    else:
        header = read_header(path)
        shapes, metadata = header.shapes, header.metadata
        warnings = value_warnings(path, header)
    grouped = group(shapes)
    content = survey(shapes, grouped=grouped)
    if content.refused:
        raise AdapterFileError(f"{path.name} is {content.refused}")
    facts = read_facts(metadata, path.stem)
    sidecars = read_sidecars(path, frozenset(os.listdir(path.parent)))
    helpers, family = sidecars.helpers, sidecars.family(families.narrow(shapes, grouped=grouped), metadata)
    hashes, recipe = hash_file(path), read_recipe(metadata)
    return {
        "name": path.stem,
        "path": str(path),
        "size": path.stat().st_size,
        "alias": facts.alias,
        "title": facts.title or helpers.title,
        "base_model": family.label,
        "family": family.id,
        "flavour": family.flavour,
        "evidence": list(family.evidence),
        "algorithms": list(content.algorithms),
        "rank": content.rank,
        "ranks": list(content.ranks) if content.ranks else None,
        "modules": content.modules,
        "components": list(content.components),
        "trigger_words": list(helpers.trigger_words or facts.trigger_words),
        "embeddings": list(content.embeddings),
        "recipe": None if recipe is None else {**vars(recipe), "parents": dict(recipe.parents)},
        "training": [list(pair) for pair in training_facts(metadata)],
        "hashes": {
            "short": short_hash(metadata, hashes),
            "sha256": hashes.sha256,
            "autov2": hashes.autov2,
            "autov3": hashes.autov3,
            "autov1": hashes.autov1,
        },
        "unknown": list(content.unknown),
        "warnings": warnings,
    }
