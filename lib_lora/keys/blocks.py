"""Which block of a UNet a module is in: IN00 ... IN11, M00, OUT00 ... OUT11, BASE for text encoders, else none."""

from __future__ import annotations

import re
from functools import lru_cache

BASE = "BASE"  # every module of a text encoder
NOWHERE = ""  # time_embed, label_emb, out: in no block
NUMBERED = re.compile(r"(input|output)_blocks\.(\d+)\.")
SHORT = {"input": "IN", "output": "OUT"}


@lru_cache(maxsize=1 << 14)
def block_of(native: str, component: str) -> str:
    """`native`: the module's name in a checkpoint ("input_blocks.1.1.proj_in")."""
    if component != "unet":
        return BASE
    if match := NUMBERED.match(native):
        return f"{SHORT[match[1]]}{int(match[2]):02d}"
    return "M00" if native.startswith("middle_block.") else NOWHERE
