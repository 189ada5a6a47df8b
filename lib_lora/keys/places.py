"""What a module of a UNet is about: places of the picture, words of the prompt, or neither.

    input_blocks.1.0.in_layers.2                        a place: what it puts out has a height and a width, or a token
                                                        for each place
    input_blocks.1.1.transformer_blocks.0.attn2.to_k    words: keys and values of the attention to the prompt
    input_blocks.1.0.emb_layers.1, time_embed.0         neither: how much noise there is, and the like
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

About = Literal["places", "words", "neither"]

WORDS = re.compile(r"\.attn2\.to_[kv]$")
NEITHER = re.compile(r"^(time_embed|label_emb|[tcy]_embedder|context_embedder)\b|\b(emb_layers|context_block)\.|adaLN")
ANY_LEVEL = re.compile(r"^(input|output)_blocks\.(\d+)\.")
IN_LEVEL = 3  # blocks of a level: two with layers, and one that makes it smaller or larger


@lru_cache(maxsize=1 << 14)
def about(native: str) -> About:
    """`native`: the module's name in a checkpoint."""
    if WORDS.search(native):
        return "words"
    return "neither" if NEITHER.search(native) else "places"


@lru_cache(maxsize=1 << 14)
def level_of(native: str, levels: int) -> int:
    """How often the picture was halved where the module is: 0 at its full size, `levels` - 1 in the middle."""
    match = ANY_LEVEL.match(native)
    if match is None:
        return levels - 1 if native.startswith("middle_block.") else 0
    level = int(match[2]) // IN_LEVEL
    return max(0, min(level, levels - 1) if match[1] == "input" else levels - 1 - level)
