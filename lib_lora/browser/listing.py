"""Entry -> what the browser shows: a card for the listing, or everything for the detail panel. Plain JSON values only.

Texts go out as they are, markup included: the browser shows them with `textContent`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from lib_lora.browser.stock import Shown, Stock
from lib_lora.browser.thumbnail import problem
from lib_lora.describe.families import Family
from lib_lora.describe.recipe import read_recipe
from lib_lora.formats.text import encodable
from lib_lora.grammar.presets import BUILT_IN, Presets
from lib_lora.grammar.tag import is_typable
from lib_lora.grammar.trigger_words import spoken
from lib_lora.library import Entry, Library
from lib_lora.library.duplicates import known
from lib_lora.library.sidecar import KEYS, Notes, SidecarError, read_notes

MAX_TAGS = 200  # trained tags in the detail panel
Checkpoint = Callable[[], "Family | str | None"]  # tells the family of the loaded model, or the family's id
DUPLICATE = {"content": "the same content", "name": "the same name in another folder"}


class Shelf:
    """The library as cards. Those of one state of it are searched together: `stock`."""

    def __init__(
        self,
        library: Library,
        *,
        checkpoint: Checkpoint = lambda: None,
        presets: Callable[[], Presets] = lambda: BUILT_IN,
    ) -> None:
        self.library = library
        self.presets = presets
        self._checkpoint = checkpoint
        self._stock: tuple[Any, Stock] | None = None
        self._duplicates: tuple[Any, dict[int, str]] | None = None
        self._lock = threading.Lock()

    def checkpoint(self) -> Family | None:
        """The family of the model that is loaded; None if there is none."""
        told = self._checkpoint()
        return Family(told, possible=(told,)) if isinstance(told, str) else told

    def stock(self) -> Stock:
        """All entries by name, ready to be searched."""
        self.library.entries()  # the first question causes the first scan, and that takes its time
        with self._lock:
            version = self.library.version
            if self._stock is None or self._stock[0] != version:
                entries = self.library.entries()
                stems = Counter(entry.stem.casefold() for entry in entries)
                shown = [show(entry, stems[entry.stem.casefold()] > 1) for entry in entries]
                kept = self._stock[1].haystacks if self._stock else {}
                self._stock = version, Stock(shown, self.library.search_texts, self.library.with_hash, kept)
            return self._stock[1]

    def duplicates(self) -> Mapping[int, str]:
        """{id: "name" or "content"} of entries that share it with another, as far as is known without reading files."""
        state = self.library.version, self.library.hash_count()
        if self._duplicates is None or self._duplicates[0] != state:
            self._duplicates = state, known(self.library.entries(), self.library.known_hashes)
        return self._duplicates[1]

    def card(self, entry: Entry) -> dict[str, Any]:
        """The card of one entry, as it is sent."""
        shown = self.stock().by_id.get(entry.id)
        return self.judged(shown if shown and shown.entry is entry else show(entry, False))

    def judged(self, shown: Shown) -> dict[str, Any]:
        """The card with `compatible` (true, false, or null where it is not known) and the reason if it is not."""
        family, checkpoint = shown.entry.family, self.checkpoint()
        fits = family.fits(checkpoint) if checkpoint else None
        reason = (
            f"made for {family.label}, the checkpoint is {checkpoint.label}" if checkpoint and fits is False else ""
        )
        card = describe(shown.entry, tag_name(shown.entry, shown.is_shared))
        names = [name for name in card["names"] if self.library.means(name, shown.entry)]
        card["activation_text"] = self._activation(shown.entry)
        return {**card, "names": names, "compatible": fits, "reason": shown.entry.broken or reason}

    def _activation(self, entry: Entry) -> str:
        """The user's words; of the tags among them those of other adapters that are installed."""

        def is_other(name: str) -> bool:
            fits = self.library.meanings(name)
            return bool(fits) and entry not in fits

        return spoken(entry.activation_typed, is_other) if entry.activation_typed else entry.activation_text

    def detail(self, entry: Entry) -> dict[str, Any]:
        """The card and all else that the detail panel shows."""
        told = self.card(entry) | detail(entry) | {"duplicates": self._alike(entry), "hashes": self._hashes(entry)}
        unseen = problem(entry)
        return told | {"warnings": [*told["warnings"], unseen]} if unseen else told

    def _alike(self, entry: Entry) -> list[dict[str, Any]]:
        """What is known to be the same; a look at all files is `GET duplicates`."""
        kinds = self.duplicates()
        if entry.id not in kinds:
            return []
        own, found = self.library.known_hashes(entry), []
        for other in self.library.entries():
            hashes = self.library.known_hashes(other) if other.id in kinds and other is not entry else None
            same = "content" if own and hashes and own.sha256 == hashes.sha256 else ""
            same = same or ("name" if other is not entry and other.stem.casefold() == entry.stem.casefold() else "")
            if same:
                found.append({"id": other.id, "name": other.name, "reason": DUPLICATE[same]})
        return found

    def _hashes(self, entry: Entry) -> dict[str, str]:
        known = self.library.known_hashes(entry)
        if known is None:
            return dict.fromkeys(("sha256", "autov1", "autov2", "autov3", "addnet"), "")
        return {"sha256": known.sha256, "autov1": known.autov1, "autov2": known.autov2, "autov3": known.autov3,
                "addnet": known.tensors}  # fmt: skip


def show(entry: Entry, is_shared: bool) -> Shown:
    """`is_shared`: another file has the same name."""
    return Shown(entry, is_shared, _facets(entry.family, entry.algorithms), entry.user_tags, entry.favorite)


@lru_cache(maxsize=1024)  # thousands of entries share a few
def _facets(family: Family, algorithms: tuple[str, ...]) -> dict[str, tuple[tuple[str, str], ...]]:
    return {
        "family": ((family.id, family.label.rpartition("(")[2].rstrip(")")),),
        "flavour": ((family.flavour, family.label),) if family.flavour else (),
        "algorithm": tuple((name, name) for name in algorithms),
    }


def tag_name(entry: Entry, is_shared: bool) -> str:
    """What stands in a tag for this entry: the file's name, with its folders where several files are called so."""
    name = entry.name if is_shared else entry.stem
    return name if name == encodable(name) and is_typable(name) else entry.shorthash


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
        "has_video": entry.has_video,
        "favorite": entry.favorite,
        "user_tags": list(entry.user_tags),
        "license": entry.license,
        "notes_digest": entry.notes_digest,
        "broken": entry.broken,
    }


def detail(entry: Entry) -> dict[str, Any]:
    """What stands in the header and beside the file, besides the card. Notes are read from their file, as they are."""
    details = entry.details
    return {
        "evidence": list(entry.family.evidence),
        "path": entry.location,
        "description": details.description,
        "notes": details.notes,
        "editable": editable_now(entry),
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
        "recipe": recipe_told(entry.metadata),
    }


def recipe_told(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """What a file that was made of others says of how: the tags, and its parents with their licences."""
    recipe = read_recipe(metadata)
    if recipe is None:
        return None
    parents = [{"name": name, "license": told.get("license", "")} for name, told in recipe.parents.items()]
    return {"prompt": recipe.prompt, "at": recipe.at, "parents": parents}


def editable_now(entry: Entry) -> dict[str, Any]:
    """What stands in `<stem>.json`; where it cannot be read, empty fields and the `problem`."""
    try:
        return editable(read_notes(entry.path))
    except SidecarError as error:
        return editable(Notes()) | {"problem": str(error)}


def editable(notes: Notes) -> dict[str, Any]:
    return {"digest": notes.digest} | {name: getattr(notes, name) for name in KEYS}


def family_of(family: Family) -> dict[str, Any]:
    return {"id": family.id, "label": family.label, "flavour": family.flavour, "sure": family.sure}


def _preview_version(entry: Entry) -> str:
    try:
        return f"{(entry.preview.stat().st_mtime_ns if entry.preview else entry.mtime_ns) // 1000:x}"
    except OSError:
        return "0"
