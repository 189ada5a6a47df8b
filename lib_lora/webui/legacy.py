"""What other extensions read of the built-in Lora extension: the modules `networks` and `lora`, filled by us.

Their dictionaries and lists are the same objects all the time, because extensions keep references to them. Where the
built-in is disabled the two modules do not exist, and we bring them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from functools import cached_property
from types import ModuleType
from typing import Any, cast

from lib_lora.grammar.curve import first
from lib_lora.grammar.tag import LoraTag
from lib_lora.library.entry import Entry
from lib_lora.session.session import Report
from lib_lora.webui.a1111.layers import AlreadyUndone, Layers
from lib_lora.webui.names.catalogue import RESERVED, Catalogue
from lib_lora.webui.names.protocols import Networks
from lib_lora.webui.names.sd_version import SdVersion

LISTS: dict[str, type] = {
    "available_networks": dict, "available_network_aliases": dict, "available_network_hash_lookup": dict,
    "forbidden_network_aliases": dict, "networks_in_memory": dict, "loaded_networks": list,
}  # fmt: skip
IN_LORA = {  # name in `lora` -> name in `networks`
    "available_loras": "available_networks", "available_lora_aliases": "available_network_aliases",
    "available_lora_hash_lookup": "available_network_hash_lookup",
    "forbidden_lora_aliases": "forbidden_network_aliases", "loaded_loras": "loaded_networks",
}  # fmt: skip


class NetworkOnDisk:
    """An installed adapter as other extensions know it."""

    def __init__(self, name: str, entry: Entry, catalogue: Catalogue) -> None:
        self.name = name
        self.filename = entry.location
        self.alias = entry.alias
        self.is_safetensors = entry.extension.lower() == ".safetensors"
        self.sd_version = SdVersion.of(entry)
        self.entry = entry
        self._catalogue = catalogue

    @cached_property
    def metadata(self) -> dict[str, Any]:
        return json.loads(self.entry.readable_json)

    @property
    def hash(self) -> str:
        """As far as it is known without reading the file."""
        return self._catalogue.known_hash(self.entry)

    @property
    def shorthash(self) -> str:
        return self.hash[:12]

    def read_hash(self) -> None:
        """Compute the hash if it is not known."""
        _ = self.entry.shorthash

    def get_alias(self) -> str:
        """The name that goes into a tag."""
        return self._catalogue.prompt_name(self.entry)


class LoadedNetwork:
    """An active adapter as other extensions know it."""

    def __init__(self, tag: LoraTag, disk: NetworkOnDisk) -> None:
        self.name = self.mentioned_name = tag.name
        self.network_on_disk = disk
        self.te_multiplier = first(tag.te)  # they compute with it; of a curve it is what it begins with
        self.unet_multiplier = first(tag.unet)
        self.dyn_dim = tag.dyn
        self.modules: dict[str, Any] = {}
        self.bundle_embeddings: dict[str, Any] = {}


class Legacy:
    """Keeps `networks` and `lora` filled; `remove` leaves them as they were found."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._brought: list[str] = []
        self._replaced: list[tuple[ModuleType, str, Any]] = []
        self.networks = cast(Networks, ModuleType("networks"))  # empty until `install`

    def install(self) -> None:
        """Take the modules over, or bring them."""
        module = self._module("networks", {name: kind() for name, kind in LISTS.items()})
        self.networks = cast(Networks, module)
        aliases = {name: getattr(module, other) for name, other in IN_LORA.items()}
        lora = self._module("lora", aliases)
        self._replace(module, "list_available_networks", self._catalogue.refresh)
        self._replace(module, "update_available_networks_by_names", lambda _names: self._catalogue.refresh())
        self._replace(lora, "list_available_loras", self._catalogue.refresh)
        if getattr(module, "originals", None) is None:  # the built-in's file without its start
            self._replace(module, "originals", AlreadyUndone())
        for name, function in Layers().functions().items():
            self._replace(module, name, function)
        self._catalogue.on_change.append(self.show_available)

    def remove(self, *, for_good: bool) -> None:
        """The modules as they were. `for_good`: the built-in extension lists its files anew, which may take a while."""
        for name in LISTS:
            getattr(self.networks, name, {}).clear()
        for module, name, value in reversed(self._replaced):
            setattr(module, name, value)
        for name in self._brought:
            sys.modules.pop(name, None)
        if for_good and not self._brought:
            self.networks.list_available_networks()

    def show_available(self) -> None:
        """Fill the dictionaries from the catalogue."""
        disks = {name: NetworkOnDisk(name, entry, self._catalogue) for name, entry in self._catalogue.by_name.items()}
        aliases = {disk.get_alias(): disk for disk in disks.values()} | disks
        hashes = {short: disk for disk in disks.values() for short in _short_hashes(disk)}
        _refill(self.networks.available_networks, disks)
        _refill(self.networks.available_network_aliases, aliases)
        _refill(self.networks.available_network_hash_lookup, hashes)
        _refill(self.networks.forbidden_network_aliases, dict.fromkeys(RESERVED, 1))

    def show_loaded(self, report: Report) -> None:
        """Fill the list of active adapters."""
        found = [(adapter.tag, adapter.entry) for adapter in report.applied]
        self.networks.loaded_networks[:] = [
            LoadedNetwork(tag, NetworkOnDisk(self._catalogue.name(entry), entry, self._catalogue))
            for tag, entry in found if isinstance(entry, Entry)
        ]

    def _module(self, name: str, content: dict[str, Any]) -> ModuleType:
        module = sys.modules.get(name)
        if module is None:
            module = sys.modules[name] = ModuleType(name, "Brought by lib_lora: the built-in extension is disabled.")
            self._brought.append(name)
        for attribute, value in content.items():
            if not hasattr(module, attribute):
                setattr(module, attribute, value)
        return module

    def _replace(self, module: ModuleType, name: str, value: Any) -> None:
        self._replaced.append((module, name, getattr(module, name, None)))
        setattr(module, name, value)


def _short_hashes(disk: NetworkOnDisk) -> Iterable[str]:
    stated = [text[:12] for text in disk.entry.stated_hashes if re.fullmatch(r"[0-9a-f]{12,}", text)]
    return [*stated, *([disk.shorthash] if disk.shorthash else [])]


def _refill(target: dict[str, Any], content: dict[str, Any]) -> None:
    target.clear()
    target.update(content)
