"""write_adapter(): a new adapter file, whole or not at all, with its own hashes and what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import Tensor

from lib_lora import __version__
from lib_lora.describe.recipe import MADE_BY, PARENTS, RECIPE
from lib_lora.errors import LoraError
from lib_lora.formats.containers import DTYPES
from lib_lora.formats.hashes import hash_file
from lib_lora.formats.header import TensorInfo, write_header
from lib_lora.formats.write import writing

NAMES = {kind: name for name, kind in DTYPES.items()}  # as safetensors calls them
HASHES = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256")
WHAT = "what is written"  # in sentences about its name


def write_adapter(
    out: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, overwrite: bool = False
) -> str:
    """Write `tensors` with `metadata` and fresh hashes; returns the hash of the tensors. Raises LoraError."""
    ordered = {key: tensors[key].detach().contiguous() for key in sorted(tensors)}
    digest = hashlib.sha256()
    for content in _contents(ordered):
        digest.update(content)
    found = digest.hexdigest()
    told = {key: value for key, value in metadata.items() if key not in HASHES}
    told |= {"sshs_model_hash": found, "modelspec.hash_sha256": f"0x{found}"}
    try:
        with writing(out, overwrite=overwrite) as file:
            file.write(write_header(_places(ordered), told))
            for content in _contents(ordered):
                file.write(content)
    except FileExistsError as error:
        raise LoraError(f"{out.name}: another program wrote it meanwhile; nothing was written over it") from error
    except OSError as error:
        raise LoraError(f"{error.filename or out.name}: {error.strerror or error}") from error
    return found


def made(recipe: Mapping[str, object], parents: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Metadata that say how a file was made, and of what: `parents` by name with their hashes and licences."""
    return {
        MADE_BY: f"lib_lora {__version__}",
        RECIPE: json.dumps(recipe, ensure_ascii=False),
        PARENTS: json.dumps(parents, ensure_ascii=False),
        "modelspec.date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def parent_of(path: Path, metadata: Mapping[str, str]) -> dict[str, str]:
    """What is kept of a file that another is made from. Reads it whole. Raises AdapterFileError."""
    hashes = hash_file(path)
    return {"sha256": hashes.sha256, "tensors": hashes.tensors, "license": metadata.get("modelspec.license", "")}


def _contents(tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    for tensor in tensors.values():
        yield tensor.reshape(-1).view(torch.uint8).numpy().data


def _places(tensors: Mapping[str, Tensor]) -> dict[str, TensorInfo]:
    """One behind the other."""
    found, begin = {}, 0
    for key, tensor in tensors.items():
        end = begin + tensor.numel() * tensor.element_size()
        found[key] = TensorInfo(NAMES[tensor.dtype], tuple(tensor.shape), begin, end)
        begin = end
    return found
