"""lib_lora: LoRA / LyCORIS adapters for Stable Diffusion.

Importing this does nothing but name things; torch is imported when something that needs it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "attach": "lib_lora.hosts.diffusers",
    "Attached": "lib_lora.hosts.diffusers",
    "DiffusersHost": "lib_lora.hosts.diffusers",
    "Adapter": "lib_lora.adapters.adapter",
    "read_adapter": "lib_lora.adapters.adapter",
    "recipe_of": "lib_lora.describe.recipe",
    "Library": "lib_lora.library",
    "LoraTag": "lib_lora.grammar.tag",
    "read_prompt": "lib_lora.grammar.tag",
    "Host": "lib_lora.session.host",
    "Report": "lib_lora.session.session",
    "Session": "lib_lora.session.session",
    "LoraError": "lib_lora.errors",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lib_lora' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
