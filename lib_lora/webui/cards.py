"""What a card of ours has beyond the WebUI's: badge, star, and the facts that `javascript/lora_cards.js` goes by.

Whether an adapter fits the checkpoint is not part of a card: the checkpoint changes, the cards stay. `State` is what
the script asks for instead, every few seconds.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from modules import shared

from lib_lora.describe.families import Family
from lib_lora.describe.family_rules import CHOICES, LABELS
from lib_lora.library import Entry, Library
from lib_lora.webui import settings

VERSIONS = {family: version for version, families in CHOICES.items() for family in families}
REFINER = "sdxl-refiner"
ACTIONS = '<div class="actions">'  # in the WebUI's template: the texts at the card's lower end
SLOT = "{lora_facts}"
TITLE = re.compile(r'title="([^"]*)"')


def marks(entry: Entry, names: Iterable[str], shorthash: str) -> dict[str, str]:
    """What an item has for `dressed`."""
    family = entry.family
    facts = {
        "id": entry.id,
        "names": list(dict.fromkeys(names)),
        "hash": shorthash,
        "family": family.id,
        "flavour": family.flavour or "",
        "label": family.label if family.id in LABELS else "unknown",
        "possible": list(family.possible),
        "broken": entry.broken or "",
    }
    told = html.escape(json.dumps(facts, ensure_ascii=False), quote=False).replace("'", "&#x27;")
    return {"lora_card": f"tabindex=\"0\" data-lora-card='{told}'", "lora_badge": _badge(facts)}


def dressed(args: dict[str, Any], item: dict[str, Any], *, is_favorite: bool) -> dict[str, Any]:
    """What fills the WebUI's template, with ours added."""
    return {
        **args,
        "sort_keys": f"{args['sort_keys']} {item['lora_card']}",
        "copy_path_button": _reachable(args["copy_path_button"]),
        "metadata_button": _reachable(args["metadata_button"]),
        "edit_button": _reachable(args["edit_button"]) + _star(is_favorite),
        "lora_facts": item["lora_badge"],
    }


@lru_cache(maxsize=8)
def with_slot(template: str) -> str:
    """The WebUI's template with a place for the badge: above the name, or where the picture is if that is elsewhere."""
    if ACTIONS in template:
        return template.replace(ACTIONS, ACTIONS + SLOT, 1)
    return template.replace("{background_image}", "{background_image}" + SLOT, 1)


class State:
    """What the script asks for: the checkpoint's family, the user's options, the favourites."""

    def __init__(self) -> None:
        self._last: Family | None = None
        self._favorites: tuple[Any, list[int]] = (None, [])  # (version of the library, ids)

    def told(self, family: Family | None, library: Library) -> dict[str, Any]:
        """`family` None: no checkpoint is loaded, or one is just being exchanged."""
        if self._last and family and family.id == REFINER and shared.state.job_count > 0:
            family = self._last  # the refiner has its turn in a picture; the base model will be back
        self._last = family or self._last
        version = VERSIONS.get(family.id, "") if family else ""
        return {
            "checkpoint": {"label": family.label, "possible": list(family.possible)} if family else None,
            "others": "show" if settings.get("lora_show_all") else settings.get("lora_other_base_models"),
            "unknown": version in settings.get("lora_hide_unknown_for_versions"),
            "favorites": self._marked(library),
        }

    def _marked(self, library: Library) -> list[int]:
        version = library.version
        if self._favorites[0] != version:
            self._favorites = version, [entry.id for entry in library.entries() if entry.favorite]
        return self._favorites[1]


def _badge(facts: dict[str, Any]) -> str:
    kind, text = ("broken", "broken") if facts["broken"] else (facts["family"], facts["label"])
    badge = f'<span class="lora-badge" data-lora-family="{kind}">{html.escape(text)}</span>'
    return f'<div class="lora-card-facts">{badge}</div>'


def _star(is_favorite: bool) -> str:
    pressed = "true" if is_favorite else "false"
    named = 'title="Favourite" aria-label="Favourite"'
    return f'<button type="button" class="lora-star card-button" {named} aria-pressed="{pressed}"></button>'


def _reachable(button: str) -> str:
    """A button of the WebUI's, with the keyboard too; named by its title, not by the sign that it shows."""
    named = TITLE.sub(r'\g<0> aria-label="\1"', button, count=1)
    return named.replace("<div ", '<div role="button" tabindex="0" ', 1)
