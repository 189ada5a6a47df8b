"""The extra-networks page `Lora`: a card for each installed adapter, as cards, search and editor expect it."""

from __future__ import annotations

import html
import json
import os
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from modules import shared, ui_extra_networks

from lib_lora.grammar.trigger_words import spoken
from lib_lora.library.entry import Entry
from lib_lora.library.sidecar import PREVIEWS, Notes, SidecarError, notes_path, read_notes
from lib_lora.webui import cards
from lib_lora.webui.catalogue import Catalogue
from lib_lora.webui.editor import LoraEditor
from lib_lora.webui.legacy import SdVersion

COVER = "ssmd_cover_images"


class LoraPage(ui_extra_networks.ExtraNetworksPage):
    """Named `lora`, as the built-in's page is: scripts and other extensions go by that name."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__("Lora")
        self.catalogue = catalogue
        self._kept: dict[int, tuple[Any, dict[str, Any]]] = {}  # {id: (what it was made of, card)}

    def refresh(self) -> None:
        """The button on the page."""
        self.catalogue.refresh()

    def list_items(self) -> Iterator[dict[str, Any]]:
        """All cards, as of the last scan; those that do not fit the checkpoint are dimmed or hidden in the browser."""
        listed = list(self.catalogue.by_name.items())
        for index, (name, entry) in enumerate(listed):
            made_of = self._made_of(entry, name)
            known = self._kept.get(entry.id)
            item = known[1] if known and known[0] == made_of else self._item(entry, name, self._indexed_picture(entry))
            self._kept[entry.id] = (made_of, item)
            yield {**item, "sort_keys": {"default": index, **item["sort_keys"]}}
        if len(self._kept) > len(listed):
            self._kept = {entry.id: self._kept[entry.id] for _, entry in listed if entry.id in self._kept}

    def create_item(self, name: str, index: int | None = None, enable_filter: bool = True) -> dict[str, Any] | None:
        """The card of one adapter as it is on disk now; None if there is no such adapter. None is filtered out."""
        entry = self.catalogue.get(name)
        if entry is None:
            return None
        if index is None:
            index = self.items.get(name, {}).get("sort_keys", {}).get("default")
        item = self._item(entry, name, self._picture(str(entry.path.with_suffix(""))))
        return {**item, "sort_keys": {"default": index, **item["sort_keys"]}}

    def _made_of(self, entry: Entry, name: str) -> Any:
        """A card stays as long as this does: a scan makes a new entry where a file changed, or what lies beside it."""
        known, names = self.catalogue.known_hash(entry), self.catalogue.names(entry)
        return entry, name, self.catalogue.prompt_name(entry), names, known, shared.opts.samples_format

    def _item(self, entry: Entry, name: str, picture: str | None) -> dict[str, Any]:
        path = str(entry.path.with_suffix(""))
        notes = self.notes(entry)
        prompt = [json_text(f"<lora:{self.catalogue.prompt_name(entry)}:"), _weight(entry, notes), '">"']
        activation, negative = spoken(notes.activation_text, self._is_other(entry)), spoken(notes.negative_text)
        if activation:
            prompt.append(json_text(f" {activation}"))
        known = self.catalogue.known_hash(entry)
        header = entry.readable_json
        return {
            "name": name,
            "filename": entry.location,
            "shorthash": known[:12],
            "preview": self.link_preview(picture) if picture else _cover_link(name, entry, header),
            "description": notes.description or self.find_description(path),
            "search_terms": [html.escape(term) for term in self._search_terms(entry, known)],
            "local_preview": picture or f"{path}.{shared.opts.samples_format}",
            "metadata": Metadata(entry, is_empty=header in ("", "{}")),
            "sort_keys": self.get_sort_keys(entry.location),
            "sd_version": self.version(entry, notes),
            "prompt": " + ".join(prompt),
            "negative_prompt": json_text(f"({negative}:1)" if negative else ""),
            "user_metadata": notes.own,
            **cards.marks(entry, self.catalogue.names(entry), known[:12]),
        }

    def create_item_html(self, tabname: str, item: dict[str, Any], template: str | None = None) -> Any:
        """With badge and star. Without a template it is a dictionary: the parts of a line in the tree."""
        args = super().create_item_html(tabname, item)
        if not isinstance(args, dict):  # hidden by the user's settings
            return args
        args["copy_path_button"] = self.btn_copy_path_tpl.format(filename=html.escape(item["filename"]))
        if template is None:
            return args
        if "lora_card" in item:
            entry = self.catalogue.by_name.get(item["name"])
            args = cards.dressed(args, item, is_favorite=bool(entry and entry.favorite))
            template = cards.with_slot(template)
        return template.format(**args)

    def create_tree_file_item_html(self, tabname: str, file_path: str, item: dict[str, Any]) -> str:
        """The WebUI writes names into the tree as they are; a name with markup is text."""
        if not self.create_item_html(tabname, item):
            return ""
        text = {**item, "name": html.escape(item["name"])}
        return super().create_tree_file_item_html(tabname, html.escape(file_path), text)

    def create_tree_dir_item_html(self, tabname: str, dir_path: str, content: str | None = None) -> str | None:
        """See `create_tree_file_item_html`."""
        return super().create_tree_dir_item_html(tabname, html.escape(dir_path), content)

    def find_preview(self, path: str) -> str | None:
        """The link to the preview of the adapter at `path`, which has no extension."""
        picture = self._picture(path)
        return self.link_preview(picture) if picture else None

    def _picture(self, path: str) -> str | None:
        """The same file as in the library, and the one that "Replace preview" writes over."""
        endings = (*PREVIEWS, f".{shared.opts.samples_format}", f".preview.{shared.opts.samples_format}")
        return next((path + ending for ending in endings if self.lister.exists(path + ending)), None)

    def _indexed_picture(self, entry: Entry) -> str | None:
        """The same without a look at the disk, where the index knows all endings."""
        if entry.has_video:  # the WebUI shows pictures only
            return self._picture(str(entry.path.with_suffix("")))
        if entry.preview is None and f".{shared.opts.samples_format}" not in PREVIEWS:
            return self._picture(str(entry.path.with_suffix("")))
        return str(entry.preview) if entry.preview else None

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
        item["user_metadata"] = notes.own
        if "description" in notes.own:
            item["description"] = notes.description

    def allowed_directories_for_previews(self) -> list[str]:
        """The adapter folders."""
        return [str(folder) for folder in self.catalogue.library.folders]

    def create_user_metadata_editor(self, ui: Any, tabname: str) -> LoraEditor:
        """The window behind the card's edit button."""
        return LoraEditor(ui, tabname, self)

    def _is_other(self, entry: Entry) -> Callable[[str], bool]:
        """Whether a tag in the user's words is of another adapter that is installed: such a tag is meant."""

        def is_other(name: str) -> bool:
            fits = self.catalogue.library.meanings(name)
            return bool(fits) and entry not in fits

        return is_other

    def _search_terms(self, entry: Entry, known: str) -> Iterator[str]:
        yield os.path.join(entry.folder.name, f"{entry.name}{entry.extension}".replace("/", os.sep))
        if known:
            yield known
        if entry.alias != entry.stem:
            yield entry.alias
        yield entry.family.label


class Metadata(Mapping[str, Any]):
    """The header's metadata of a card, read when somebody looks at it."""

    def __init__(self, entry: Entry, *, is_empty: bool) -> None:
        self._entry = entry
        self._is_empty = is_empty

    def _read(self) -> dict[str, Any]:
        return json.loads(self._entry.readable_json)

    def __bool__(self) -> bool:
        return not self._is_empty

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


def _cover_link(name: str, entry: Entry, header: str) -> str | None:
    if f'"{COVER}"' not in header or entry.cover is None:
        return None
    return f"./sd_extra_networks/cover-images?page=lora&item={urllib.parse.quote(name)}"
