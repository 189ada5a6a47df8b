"""What a card of ours has beyond the WebUI's: badge, star, and the facts that `javascript/lora_page_cards.js` goes by.

Whether an adapter fits the checkpoint is not part of a card: the checkpoint changes, the cards stay. What the script
asks for instead, every few seconds, is in `state.py`.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from lib_lora.describe.family_rules import LABELS
from lib_lora.library import Entry
from lib_lora.webui.names.protocols import Card

ACTIONS = '<div class="actions">'  # in the WebUI's template: the texts at the card's lower end
SLOT = "{lora_facts}"
TITLE = re.compile(r'title="([^"]*)"')


def fields(entry: Entry, names: Iterable[str], shorthash: str) -> dict[str, str]:
    """What a card's item has beside the WebUI's own fields, for `dressed`."""
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
    written = html.escape(json.dumps(facts, ensure_ascii=False), quote=False).replace("'", "&#x27;")
    return {"lora_card": f"tabindex=\"0\" data-lora-card='{written}'", "lora_badge": _badge(facts)}


def dressed(args: dict[str, Any], item: Card, *, is_favorite: bool) -> dict[str, Any]:
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
