"""Writes small adapter files for tests, without torch: headers by hand, tensors of zeros."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
SMALL = {f"{Q}.lora_down.weight": (4, 768), f"{Q}.lora_up.weight": (320, 4), f"{Q}.alpha": ()}


def write(
    path: Path, shapes: Mapping[str, tuple[int, ...]] = SMALL, metadata: Mapping[str, Any] | None = None, fill: int = 0
) -> Path:
    """A .safetensors file with fp16 tensors of these shapes, every byte of them `fill`."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    return write_raw(path, json.dumps(header).encode(), bytes([fill]) * end)


def write_raw(path: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + data)
    return path
