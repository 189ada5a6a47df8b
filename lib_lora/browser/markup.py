"""The containers that the scripts in `javascript/` fill: the listing, and the strip below a prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = "lora_page_"  # so begin the scripts of the WebUI's own pages


def scripts() -> list[Path]:
    """What `listing_html` and `strip_html` need, in any order: every script but those for the WebUI's own pages."""
    return sorted(path for path in (ROOT / "javascript").glob("lora_*.js") if not path.name.startswith(PAGES))


def listing_html(targets: Mapping[str, str], *, api: str = "/lora/v1") -> str:
    """The listing. `targets`: {label: CSS selector of its textarea} of the prompts that a click can write into."""
    places = escape(json.dumps(targets))
    return f'<div class="lora-listing" data-lora-api="{escape(api)}" data-lora-targets="{places}"></div>'


def strip_html(
    prompt: str, *, api: str = "/lora/v1", fields: Mapping[str, str] | None = None, is_negative: bool = False
) -> str:
    """The strip of the prompt whose textarea the CSS selector `prompt` finds.

    fields  {"steps", "width", "height": CSS selector of its number} of the next picture, as far as the page has them
    is_negative  it is the negative prompt
    """
    told = "".join(f' data-lora-{escape(name)}="{escape(selector)}"' for name, selector in (fields or {}).items())
    told += ' data-lora-side="uncond"' if is_negative else ""
    return f'<div class="lora-strip" data-lora-api="{escape(api)}" data-lora-prompt="{escape(prompt)}"{told}></div>'


def head_html() -> str:
    """Style and scripts inside `<script>` elements, for a page that has no other way to load them."""
    style = (ROOT / "style.css").read_text("utf-8")
    return f"<style>{style}</style>" + "".join(f"<script>{path.read_text('utf-8')}</script>" for path in scripts())
