"""What the page's script asks for every few seconds: what the cards themselves cannot say, because it changes."""

from __future__ import annotations

from typing import Any

from modules import shared

from lib_lora.describe.families import Family
from lib_lora.library import Library
from lib_lora.webui.names import settings
from lib_lora.webui.names.sd_version import FAMILIES

REFINER = "sdxl-refiner"


class State:
    """What the script asks for: the checkpoint's family, the user's options, the favourites."""

    def __init__(self) -> None:
        self._last: Family | None = None
        self._favorites: tuple[object, list[int]] = (None, [])  # (version of the library, ids)

    def answer(self, family: Family | None, library: Library) -> dict[str, Any]:
        """`family` None: no checkpoint is loaded, or one is just being exchanged."""
        if self._last and family and family.id == REFINER and shared.state.job_count > 0:
            family = self._last  # the refiner has its turn in a picture; the base model will be back
        self._last = family or self._last
        version = FAMILIES.get(family.id) if family else None
        return {
            "checkpoint": {"label": family.label, "possible": list(family.possible)} if family else None,
            "others": "show" if settings.get("lora_show_all") else settings.get("lora_other_base_models"),
            "unknown": version is not None and version.name in settings.get("lora_hide_unknown_for_versions"),
            "favorites": self._marked(library),
        }

    def _marked(self, library: Library) -> list[int]:
        version = library.version
        if self._favorites[0] != version:
            self._favorites = version, [entry.id for entry in library.entries() if entry.favorite]
        return self._favorites[1]
