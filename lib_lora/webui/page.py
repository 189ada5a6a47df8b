"""The extra-networks page `Lora`: a card for each installed adapter, as cards, search and editor expect it."""

from __future__ import annotations

import html
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from modules import sd_models, shared, ui_extra_networks

from lib_lora.library.entry import Entry
from lib_lora.sidecar import Notes, SidecarError, notes_path, read_notes
from lib_lora.webui import settings
from lib_lora.webui.catalogue import Catalogue
from lib_lora.webui.editor import LoraEditor
from lib_lora.webui.host import existing_session
from lib_lora.webui.legacy import SdVersion, readable_metadata

COVER = "ssmd_cover_images"


class LoraPage(ui_extra_networks.ExtraNetworksPage):
    """Named `lora`, as the built-in's page is: scripts and other extensions go by that name."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__("Lora")
        self.catalogue = catalogue

    def refresh(self) -> None:
        """The button on the page."""
        self.catalogue.refresh()

    def list_items(self) -> Iterator[dict[str, Any]]:
        """The cards that fit the checkpoint, or all of them if the user's settings say so."""
        for index, name in enumerate(list(self.catalogue.by_name)):
            item = self.create_item(name, index)
            if item is not None:
                yield item

    def create_item(self, name: str, index: int | None = None, enable_filter: bool = True) -> dict[str, Any] | None:
        """The card of one adapter; None if there is no such adapter, or it is hidden."""
        entry = self.catalogue.get(name)
        if entry is None:
            return None
        path = str(entry.path.with_suffix(""))
        notes = self.notes(entry)
        if enable_filter and _is_hidden(entry, notes):
            return None
        prompt = [json_text(f"<lora:{self.catalogue.prompt_name(entry)}:"), _weight(entry, notes), json_text(">")]
        if notes.activation_text:
            prompt.append(json_text(f" {notes.activation_text}"))
        known = self.catalogue.known_hash(entry)
        return {
            "name": name,
            "filename": str(entry.path),
            "shorthash": known[:12],
            "preview": self.find_preview(path) or _cover_link(name, entry),
            "description": notes.description or self.find_description(path),
            "search_terms": [html.escape(term) for term in self._search_terms(entry, known)],
            "local_preview": f"{path}.{shared.opts.samples_format}",
            "metadata": Metadata(entry),
            "sort_keys": {"default": index, **self.get_sort_keys(str(entry.path))},
            "sd_version": self.version(entry, notes),
            "prompt": " + ".join(prompt),
            "negative_prompt": json_text(f"({notes.negative_text}:1)" if notes.negative_text else ""),
            "user_metadata": dict(notes.everything),
        }

    def notes(self, entry: Entry, *, fresh: bool = False) -> Notes:
        """What stands beside the file; nothing if it cannot be read (the library's listing says why)."""
        try:
            return read_notes(entry.path) if fresh or self.lister.exists(str(notes_path(entry.path))) else Notes()
        except SidecarError:
            return Notes()

    def version(self, entry: Entry, notes: Notes) -> str:
        """"SD1", "SD2", "SDXL" or "Unknown": as the user says, else as the file says."""
        return notes.sd_version if notes.sd_version in SdVersion.__members__ else SdVersion.of(entry).name

    def read_user_metadata(self, item: dict[str, Any], use_cache: bool = True) -> None:
        """The WebUI asks for this again when one card is drawn anew."""
        entry = self.catalogue.get(item["name"])
        notes = self.notes(entry, fresh=not use_cache) if entry else Notes()
        item["user_metadata"] = dict(notes.everything)
        if "description" in notes.everything:
            item["description"] = notes.description

    def allowed_directories_for_previews(self) -> list[str]:
        """The adapter folders."""
        return [str(folder) for folder in self.catalogue.library.folders]

    def create_user_metadata_editor(self, ui: Any, tabname: str) -> LoraEditor:
        """The window behind the card's edit button."""
        return LoraEditor(ui, tabname, self)

    def _search_terms(self, entry: Entry, known: str) -> Iterator[str]:
        yield self.search_terms_from_path(str(entry.path))
        if known:
            yield known
        if entry.alias != entry.stem:
            yield entry.alias
        yield entry.family.label


class Metadata(Mapping[str, Any]):
    """The header's metadata of a card, read when somebody looks at it."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def _read(self) -> dict[str, Any]:
        return readable_metadata(self._entry.metadata_json)

    def __bool__(self) -> bool:
        return self._entry.metadata_json not in ("", "{}")

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


def json_text(text: str) -> str:
    """`text` as JavaScript writes a string; also with line ends and quotes in it."""
    return json.dumps(text, ensure_ascii=False)


def _weight(entry: Entry, notes: Notes) -> str:
    weight = notes.preferred_weight or entry.preferred_weight
    return str(weight) if weight else "opts.extra_networks_default_multiplier"


def _cover_link(name: str, entry: Entry) -> str | None:
    if f'"{COVER}"' not in entry.metadata_json or entry.cover is None:
        return None
    return f"./sd_extra_networks/cover-images?page=lora&item={urllib.parse.quote(name)}"


def _is_hidden(entry: Entry, notes: Notes) -> bool:
    """Whether it is known to be for another base model than the loaded checkpoint's. Loads no checkpoint."""
    model = sd_models.model_data.sd_model
    if settings.get("lora_show_all") or model is None:
        return False
    current = "SDXL" if model.is_sdxl else "SD2" if model.is_sd2 else "SD1" if model.is_sd1 else ""
    if notes.sd_version in ("SD1", "SD2", "SDXL"):  # the user's own choice
        return notes.sd_version != current
    if not entry.family.possible:
        return current in settings.get("lora_hide_unknown_for_versions")
    session = existing_session(model)
    return session is not None and entry.family.fits(session.host.family) is False
