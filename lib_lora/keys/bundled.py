"""Textual inversion embeddings bundled in an adapter file: `bundle_emb.<word>.<end>`, the end as the tools name it."""

from __future__ import annotations

BUNDLE = "bundle_emb."
ENDS = {  # end of the key -> the text encoder that it is for; "text" is a model's only one
    "string_to_param.*": "text", "emb_params": "text", "clip_l": "clip_l", "clip_g": "clip_g",
    "clip_l_out": None, "clip_g_out": None,  # OneTrainer's output embeddings, which no program uses
}  # fmt: skip


def is_bundled(key: str) -> bool:
    """Whether the tensor of this name belongs to an embedding, known or not, and to no module."""
    return key.startswith(BUNDLE)


def split_bundled(key: str) -> tuple[str, str] | None:
    """`("word", "clip_l")` of a bundled tensor's key, or None if no known end ends it. A word may have dots in it."""
    rest = key.removeprefix(BUNDLE)
    end = next((end for end in ENDS if rest.endswith(f".{end}")), None)
    return None if end is None else (rest.removesuffix(f".{end}"), end)
