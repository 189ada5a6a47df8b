"""A prompt, tried without a model: what each tag means, what is wrong with it, and what was probably meant."""

from __future__ import annotations

from typing import Any

from lib_lora.browser.listing import Shelf
from lib_lora.errors import NotFoundError
from lib_lora.library import Entry
from lib_lora.tag import LoraTag, Typed, typed_tags
from lib_lora.tag_scan import without

MAX_PROMPT = 100_000  # characters


def dry_run(shelf: Shelf, prompt: str) -> dict[str, Any]:
    """`{"text": prompt without tags, "tags": [...], "problems": [sentence, ...]}`, one tag for each in the prompt."""
    tags = [_tried(shelf, typed) for typed in typed_tags(prompt)]
    problems = [tag["problem"] for tag in tags if tag["problem"]]
    return {"text": without(prompt), "tags": tags, "problems": list(dict.fromkeys(problems))}


def _tried(shelf: Shelf, typed: Typed) -> dict[str, Any]:
    told: dict[str, Any] = {"source": typed.found.source, "name": typed.name, "adapter": None, "problem": None,
                            "nearest": [], "notes": [], "also": []}  # fmt: skip
    tag = typed.tag
    if tag is None:
        return told | {"problem": str(typed.error)}
    told |= {"te": tag.te, "unet": tag.unet, "dyn": tag.dyn, "force": tag.force, "notes": list(tag.notes)}
    try:
        entry = shelf.library.find(tag.name)
    except NotFoundError as error:
        return told | {"problem": str(error), "nearest": list(error.nearest)}
    also = [other.name for other in shelf.library.ambiguous(tag.name) if other is not entry]
    return told | {"adapter": shelf.card(entry), "problem": _problem(shelf, tag, entry), "also": also}


def _problem(shelf: Shelf, tag: LoraTag, entry: Entry) -> str | None:
    if entry.broken:
        return entry.broken
    checkpoint = shelf.checkpoint()
    if checkpoint and entry.family.fits(checkpoint) is False and not tag.force:
        made_for = f"made for {entry.family.label}, the checkpoint is {checkpoint.label}"
        return f"{tag.name}: {made_for}; it will not be applied"
    return None
