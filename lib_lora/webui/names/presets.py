"""Names of block weights: built-in ones, those of the extension lora-block-weight if it lies here, the user's."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from modules import extensions

from lib_lora.grammar.presets import Presets, read_presets
from lib_lora.webui.names import settings

WEIGHTS, ELEMENTS = "scripts/lbwpresets.txt", "scripts/elempresets.txt"  # which that extension writes
MOST_BYTES = 1_000_000  # of such a file


def known_presets() -> Presets:
    """As they are now. Of one name, what the user says counts, then what that extension's file says."""
    weights = "\n".join([*_texts(WEIGHTS), settings.get("lora_block_presets")])
    elements = "\n\n".join([*_texts(ELEMENTS), settings.get("lora_element_presets")])
    return _read(weights, elements)


_read = lru_cache(maxsize=2)(read_presets)


def _texts(name: str) -> list[str]:
    """Of every extension that has such a file."""
    files = [Path(each.path, name) for each in extensions.extensions if not each.is_builtin]
    found = []
    for file in files:
        try:
            if file.stat().st_size <= MOST_BYTES:
                found.append(file.read_text("utf-8", errors="replace"))
        except OSError:
            continue
    return found
