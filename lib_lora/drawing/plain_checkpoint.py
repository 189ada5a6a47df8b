"""plain(): a checkpoint as a .safetensors file, which the libraries that load it cannot find a program in.

They would open a .ckpt with torch, of which older versions run code in it; so its tensors are copied first, one at a
time, by a reader that runs nothing.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from lib_lora.errors import CheckpointError
from lib_lora.formats.containers import DTYPES
from lib_lora.formats.kinds import TORCH, kind_of
from lib_lora.formats.pickles import ITEMSIZES
from lib_lora.formats.unpickling import TorchFile

SUFFIX = ".safetensors"
NAMES = {str(dtype).removeprefix("torch."): name for name, dtype in DTYPES.items()}  # torch's name -> safetensors'


def plain(path: Path, folder: Path) -> Path:
    """`path` itself if it is such a file, else one in `folder`. Raises AdapterFileError, CheckpointError, OSError."""
    target = folder / f"checkpoint{SUFFIX}"
    if kind_of(path) == TORCH:
        _copy_tensors(path, target)
        return target
    if path.suffix == SUFFIX:  # .SAFETENSORS they would open with torch
        return path
    try:
        target.symlink_to(path.resolve())
    except OSError:  # a system without links
        shutil.copyfile(path, target)
    return target


def _copy_tensors(path: Path, target: Path) -> None:
    with TorchFile(path, keep=False) as source:
        names = [name for name in source.names() if source.listing.tensors[name].dtype in NAMES]
        entries: dict[str, Any] = {}
        end = 0
        for name in names:
            tensor = source.listing.tensors[name]
            begin, end = end, end + tensor.count * ITEMSIZES[tensor.dtype]
            entries[name] = {"dtype": NAMES[tensor.dtype], "shape": tensor.shape, "data_offsets": (begin, end)}
        free = shutil.disk_usage(target.parent).free
        if free < end:
            raise CheckpointError(
                f"{path.name}: {end / 1e9:.1f} GB are needed in {target.parent.parent} to convert it, and "
                f"{free / 1e9:.1f} GB are free; convert it to .safetensors yourself"
            )
        header = json.dumps(entries).encode()
        with open(target, "wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for name in names:
                file.write(source.read(name).reshape(-1).view(torch.uint8).numpy().data)
