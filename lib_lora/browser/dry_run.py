"""A prompt, tried without a model: what each tag means, what is wrong with it, and what was probably meant."""

from __future__ import annotations

from typing import Any

from lib_lora.browser.listing import Shelf
from lib_lora.errors import NotFoundError, TagError
from lib_lora.grammar.curve import Curve, Weight, write_weight
from lib_lora.grammar.scan import without
from lib_lora.grammar.tag import LoraTag, Typed, typed_tags
from lib_lora.library import Entry

MAX_PROMPT = 100_000  # characters
MAX_HELP = 30  # names that are not found, for which similar ones are looked for


def dry_run(shelf: Shelf, prompt: str) -> dict[str, Any]:
    """`{"text": prompt without tags, "tags": [...], "problems": [sentence, ...]}`, one tag for each in the prompt."""
    tried: dict[tuple[str, str], dict[str, Any]] = {}
    unknown = 0
    tags = []
    for typed in typed_tags(prompt):
        key = typed.found.source, str(typed.error)  # the last one's may be that there are too many
        if key not in tried:
            tried[key] = told = _tried(shelf, typed, with_help=unknown < MAX_HELP)
            unknown += told["adapter"] is None
        tags.append(tried[key])
    problems = [tag["problem"] for tag in tags if tag["problem"]]
    return {"text": without(prompt), "tags": tags, "problems": list(dict.fromkeys(problems))}


def _tried(shelf: Shelf, typed: Typed, *, with_help: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"source": typed.found.source, "name": typed.name, "adapter": None, "problem": None,
                            "nearest": [], "notes": [], "also": []}  # fmt: skip
    tag = typed.tag
    if tag is None:
        return told | {"problem": str(typed.error)}
    told |= {"te": _plain(tag.te), "unet": _plain(tag.unet), "dyn": tag.dyn, "force": tag.force, "reads": str(tag),
             "notes": list(tag.notes)}  # fmt: skip
    try:
        meaning = shelf.library.look_up(tag.name, with_help=with_help)
    except NotFoundError as error:
        return told | {"problem": str(error), "nearest": list(error.nearest)}
    entry, also = meaning.entry, [other.name for other in meaning.others]
    told["notes"] += [meaning.ambiguity] if meaning.ambiguity else []
    return told | {"adapter": shelf.card(entry), "problem": _problem(shelf, tag, entry), "also": also}


def _plain(weight: Weight) -> float | str:
    """A number, or a curve as it is typed."""
    return write_weight(weight) if isinstance(weight, Curve) else weight


def _problem(shelf: Shelf, tag: LoraTag, entry: Entry) -> str | None:
    if entry.broken:
        return entry.broken
    try:
        tag.settled(shelf.presets())
    except TagError as error:
        return str(error)
    checkpoint = shelf.checkpoint()
    if checkpoint and entry.family.fits(checkpoint) is False and not tag.force:
        made_for = f"made for {entry.family.label}, the checkpoint is {checkpoint.label}"
        return f"{tag.name}: {made_for}; it will not be applied"
    return None
