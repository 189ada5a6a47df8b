"""SD 3 (medium): its transformer's names in diffusers and in a checkpoint, and the spellings that only such files have.

In a checkpoint q, k and v are packed (`attn.qkv`, thirds of its rows); diffusers keeps them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lib_lora.keys.names import ModuleName, flat

BLOCK = re.compile(r"joint_blocks\.(\d+)\.(.+)")
IN_BLOCK: dict[str, tuple[str, ...]] = {  # in a checkpoint -> in diffusers; several share its rows
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "x_block.attn.proj": ("attn.to_out.0",),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    "x_block.attn2.proj": ("attn2.to_out.0",),
    "x_block.mlp.fc1": ("ff.net.0.proj",),
    "x_block.mlp.fc2": ("ff.net.2",),
    "x_block.adaLN_modulation.1": ("norm1.linear",),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "context_block.attn.proj": ("attn.to_add_out",),
    "context_block.mlp.fc1": ("ff_context.net.0.proj",),
    "context_block.mlp.fc2": ("ff_context.net.2",),
    "context_block.adaLN_modulation.1": ("norm1_context.linear",),
}
FIXED = {
    "x_embedder.proj": "pos_embed.proj",
    "context_embedder": "context_embedder",
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
    "final_layer.linear": "proj_out",
}
SWAPPED = ("final_layer.adaLN_modulation.1",)  # diffusers has its halves the other way round: its own name only


def names(path: str, rows: int, width: int) -> tuple[str, ...] | None:
    """The diffusers names of the module `path` of a checkpoint, whose weight is (rows, width); () if it has none there.

    None if `path` is not a module of an SD 3 transformer.
    """
    if path in FIXED:
        return (FIXED[path],)
    match = BLOCK.fullmatch(path)
    if match is None:
        return () if path in SWAPPED else None
    if match[2] == "context_block.adaLN_modulation.1" and rows == 2 * width:  # the last block's: halves swapped
        return ()
    return tuple(f"transformer_blocks.{match[1]}.{name}" for name in IN_BLOCK.get(match[2], ()))


def spell(module: ModuleName) -> Iterator[str]:
    """`transformer.PATH`, `transformer.base_model.model.PATH`, `lora_transformer_PATH`."""
    if module.encoder is None and module.diffusers.startswith(("transformer_blocks.", *FIXED.values())):
        yield f"transformer.{module.diffusers}"
        yield f"transformer.base_model.model.{module.diffusers}"
        yield f"lora_transformer_{flat(module.diffusers)}"
