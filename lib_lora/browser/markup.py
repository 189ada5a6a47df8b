"""The containers that the scripts in `javascript/` fill: the listing, and the strip below a prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = tuple(  # in any order; without those for the WebUI's own pages
    f"lora_{name}.js"
    for name in (
        "api card details dom drag duplicates edit facts feed filters grid keys listing marks order placeholder "
        "preview prompts scan selection served strip tags tasks view weight words"
    ).split()
)


def listing_html(targets: Mapping[str, str], *, api: str = "/lora/v1") -> str:
    """The listing. `targets`: {label: CSS selector of its textarea} of the prompts that a click can write into."""
    places = escape(json.dumps(targets))
    return f'<div class="lora-listing" data-lora-api="{escape(api)}" data-lora-targets="{places}"></div>'


def strip_html(prompt: str, *, api: str = "/lora/v1") -> str:
    """The strip of the prompt whose textarea the CSS selector `prompt` finds."""
    return f'<div class="lora-strip" data-lora-api="{escape(api)}" data-lora-prompt="{escape(prompt)}"></div>'


def head_html() -> str:
    """Style and scripts inside `<script>` elements, for a page that has no other way to load them."""
    style = (ROOT / "style.css").read_text("utf-8")
    scripts = [(ROOT / "javascript" / name).read_text("utf-8") for name in SCRIPTS]
    return f"<style>{style}</style>" + "".join(f"<script>{script}</script>" for script in scripts)
