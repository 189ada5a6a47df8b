"""AnimateDiff's motion modules, which a UNet may have in it: their names in the original files and in diffusers.

    original    down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q
    diffusers   down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q

The WebUI's extension puts them into the checkpoint's UNet, behind the attention of a block or, where it has none,
behind its resnet: `input_blocks.1.2.temporal_transformer...`. A motion LoRA is an adapter for these modules alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MARK = ".motion_modules."
IN_BLOCK = (("attention_blocks.0.", "attn1."), ("attention_blocks.1.", "attn2."), ("norms.0", "norm1"),
            ("norms.1", "norm2"), ("ff_norm", "norm3"))  # fmt: skip
ORIGINAL = re.compile(r"(.*\.motion_modules\.\d+\.)temporal_transformer\.(.+)")
BLOCK = re.compile(r"(transformer_blocks\.\d+\.)(.+)")


def injected(side: str, number: int, rest: str, layers: int) -> str:
    """The diffusers name of a motion module's layer that stands in a CompVis block, from `temporal_transformer.` on."""
    if side == "middle_block":
        return to_diffusers(f"mid_block.motion_modules.0.{rest}")
    block, index = divmod(number - (side == "input_blocks"), layers + 1)
    return to_diffusers(f"{'down' if side == 'input_blocks' else 'up'}_blocks.{block}.motion_modules.{index}.{rest}")


def to_diffusers(name: str) -> str:
    """An original name as diffusers' `MotionAdapter` has it; others stay as they are."""
    match = ORIGINAL.fullmatch(name)
    return f"{match[1]}{_in_block(match[2], IN_BLOCK)}" if match else name


def original(name: str) -> str:
    """The name in the original files of a module of diffusers' `MotionAdapter`."""
    head, dot, rest = name.partition(MARK)
    number, _, layer = rest.partition(".")
    back = ((new, old) for old, new in IN_BLOCK)
    return f"{head}{dot}{number}.temporal_transformer.{_in_block(layer, back)}"


def _in_block(layer: str, table: Iterable[tuple[str, str]]) -> str:
    match = BLOCK.fullmatch(layer)
    if match is None:
        return layer
    for old, new in table:
        if match[2].startswith(old):
            return f"{match[1]}{new}{match[2].removeprefix(old)}"
    return layer
