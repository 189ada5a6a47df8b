"""write_adapter(): a new adapter file, whole or not at all, with its own hashes and what it was made from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import Tensor

from lib_lora import __version__
from lib_lora.errors import AdapterFileError, LoraError
from lib_lora.formats.header import BITS
from lib_lora.formats.opening import strange
from lib_lora.formats.write import writing

SUFFIX = ".safetensors"
NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.uint8: "U8",
    torch.int8: "I8", torch.int16: "I16", torch.int32: "I32", torch.int64: "I64", torch.bool: "BOOL",
}  # fmt: skip
HASHES = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256")
MADE_BY, RECIPE, PARENTS = "lib_lora.made_by", "lib_lora.recipe", "lib_lora.parents"


def check_out(out: Path, inputs: Mapping[str, Path], overwrite: bool) -> None:
    """Everything about the name that would fail after minutes of work fails here. Raises AdapterFileError."""
    if out.suffix.lower() != SUFFIX:
        raise AdapterFileError(f"{out.name}: what is written is a {SUFFIX} file; name it so")
    if not out.parent.is_dir():
        raise AdapterFileError(f"{out.parent}: no such folder")
    for what, path in inputs.items():
        if out.exists() and path.exists() and out.samefile(path):
            raise AdapterFileError(f"{out.name}: that is {what} itself; write to another file")
    if os.path.lexists(out):
        kind = strange(out.stat().st_mode) if out.exists() else ""
        if kind or not overwrite:
            also = f", and is {kind}" if kind else ""
            raise AdapterFileError(f"{out.name}: exists already{also}; nothing was written")


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
            file.write(_header(ordered, told))
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


def _contents(tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    for tensor in tensors.values():
        yield tensor.reshape(-1).view(torch.uint8).numpy().data


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    listing: dict[str, object] = {"__metadata__": dict(metadata)}
    begin = 0
    for key, tensor in tensors.items():
        name = NAMES[tensor.dtype]
        end = begin + tensor.numel() * BITS[name] // 8
        listing[key] = {"dtype": name, "shape": list(tensor.shape), "data_offsets": [begin, end]}
        begin = end
    content = json.dumps(listing, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    content += b" " * (-len(content) % 8)
    return len(content).to_bytes(8, "little") + content
