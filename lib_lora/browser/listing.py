"""Entry -> what the browser shows: a card for the listing, or everything for the detail panel. Plain JSON values only.

Texts go out as they are, markup included: the browser shows them with `textContent`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lib_lora.families import Family
from lib_lora.library import Entry, Library

MAX_TAGS = 200  # trained tags in the detail panel
Checkpoint = Callable[[], "Family | str | None"]  # tells the family of the loaded model, or the family's id
NOT_IN_TAGS = set(":<>")  # signs that no tag can hold in a name


@dataclass(frozen=True)
class Shown:
    """An entry, ready to be searched, sorted and sent."""

    entry: Entry
    card: dict[str, Any]
    haystack: str  # everything that is searched, in lower case


class Shelf:
    """The library as cards; what has not changed is described once."""

    def __init__(self, library: Library, *, checkpoint: Checkpoint = lambda: None) -> None:
        self.library = library
        self._checkpoint = checkpoint
        self._described: dict[int, tuple[Entry, str, Shown]] = {}
        self._lock = threading.Lock()

    def checkpoint(self) -> Family | None:
        """The family of the model that is loaded; None if there is none."""
        told = self._checkpoint()
        return Family(told, possible=(told,)) if isinstance(told, str) else told

    def all(self) -> list[Shown]:
        """Every entry by name."""
        entries = self.library.entries()
        stems = Counter(entry.stem.casefold() for entry in entries)
        with self._lock:
            shown = [self._describe(entry, stems[entry.stem.casefold()] > 1) for entry in entries]
            self._described = {each.entry.id: self._described[each.entry.id] for each in shown}
        return shown

    def card(self, entry: Entry) -> dict[str, Any]:
        """The card of one entry, as it is sent."""
        known = self._described.get(entry.id)
        if known is None or known[0] is not entry:
            self.all()  # whether its name is the only one of its kind depends on all others
            known = self._described.get(entry.id)
        return self.judged(known[2] if known else Shown(entry, describe(entry, tag_name(entry, False)), ""))

    def judged(self, shown: Shown) -> dict[str, Any]:
        """The card with `compatible` (true, false, or null where it is not known) and the reason if it is not."""
        family, checkpoint = shown.entry.family, self.checkpoint()
        fits = family.fits(checkpoint) if checkpoint else None
        reason = (
            f"made for {family.label}, the checkpoint is {checkpoint.label}" if checkpoint and fits is False else ""
        )
        return {**shown.card, "compatible": fits, "reason": shown.entry.broken or reason}

    def _describe(self, entry: Entry, is_shared: bool) -> Shown:
        name = tag_name(entry, is_shared)
        known = self._described.get(entry.id)
        if known is None or known[0] is not entry or known[1] != name:
            known = (entry, name, Shown(entry, describe(entry, name), _haystack(entry)))
            self._described[entry.id] = known
        return known[2]


def tag_name(entry: Entry, is_shared: bool) -> str:
    """What stands in a tag for this entry: the file's name, with its folders where several files are called so."""
    name = entry.name if is_shared else entry.stem
    return entry.shorthash if NOT_IN_TAGS & set(name) or name != name.strip() else name


def describe(entry: Entry, name: str) -> dict[str, Any]:
    """The card: what the grid shows and a click needs."""
    return {
        "id": entry.id,
        "name": entry.name,
        "folder": entry.name.rpartition("/")[0],
        "title": entry.title or entry.stem,
        "alias": entry.alias,
        "tag_name": name,
        "names": list(dict.fromkeys([name, entry.name, entry.stem, entry.alias])),
        "family": family_of(entry.family),
        "algorithms": list(entry.algorithms),
        "rank": list(entry.rank) if entry.rank else None,
        "modules": entry.modules,
        "components": list(entry.components),
        "size": entry.size,
        "modified": entry.mtime_ns // 10**9,
        "trigger_words": list(entry.trigger_words),
        "activation_text": entry.activation_text,
        "negative_text": entry.negative_text,
        "weight": entry.preferred_weight,
        "thumbnail": f"adapters/{entry.id}/thumbnail?v={_preview_version(entry)}",
        "has_preview": entry.preview is not None,
        "favorite": entry.favorite,
        "broken": entry.broken,
    }


def detail(entry: Entry) -> dict[str, Any]:
    """What the detail panel adds to the card. Hashes only as far as they are known: computing reads the whole file."""
    details = entry.details
    return {
        "evidence": list(entry.family.evidence),
        "path": str(entry.path),
        "description": details.description,
        "notes": details.notes,
        "author": details.author,
        "license": details.license,
        "prediction_type": details.prediction_type,
        "tags": list(details.tags),
        "embeddings": list(details.embeddings),
        "unknown": list(details.unknown),
        "trained_tags": [[tag, count] for tag, count in entry.trained_tags[:MAX_TAGS]],
        "training": [[fact, value] for fact, value in entry.training_facts],
        "stated_hashes": list(entry.stated_hashes),
        "warnings": list(entry.warnings),
    }


def family_of(family: Family) -> dict[str, Any]:
    return {"id": family.id, "label": family.label, "flavour": family.flavour, "sure": family.sure}


def _haystack(entry: Entry) -> str:
    texts = (entry.name, entry.title, entry.alias, entry.activation_text, *entry.trigger_words, entry.family.label,
             *entry.algorithms, *entry.stated_hashes)  # fmt: skip
    return "\n".join(texts).casefold()


def _preview_version(entry: Entry) -> str:
    try:
        return f"{(entry.preview.stat().st_mtime_ns if entry.preview else entry.mtime_ns) // 1000:x}"
    except OSError:
        return "0"
