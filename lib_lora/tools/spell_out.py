"""How the layers of a new adapter file are spelled: as kohya's scripts, diffusers or OneTrainer write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lib_lora.keys import ModuleName
from lib_lora.keys.names import flat

To = Literal["kohya", "diffusers", "onetrainer"]


@dataclass(frozen=True)
class Style:
    """One way to write a file."""

    name: Callable[[ModuleName, bool], str]  # (module, whether it is of SDXL)
    up: str
    down: str
    has_alpha: bool  # else the scale is in the factors


def _kohya(module: ModuleName, is_xl: bool) -> str:
    if module.encoder is None:
        return f"lora_unet_{flat(module.native if is_xl else module.diffusers)}"
    return f"{module.encoder.kohya[0]}_{flat(module.diffusers)}"


def _diffusers(module: ModuleName, is_xl: bool) -> str:
    return f"{module.component}.{module.diffusers}"


def _onetrainer(module: ModuleName, is_xl: bool) -> str:
    return f"unet.{module.native}" if module.encoder is None else f"{module.encoder.omi[0]}.{module.diffusers}"


STYLES: dict[To, Style] = {
    "kohya": Style(_kohya, "lora_up.weight", "lora_down.weight", True),
    "diffusers": Style(_diffusers, "lora_B.weight", "lora_A.weight", False),
    "onetrainer": Style(_onetrainer, "lora_up.weight", "lora_down.weight", True),
}
