"""Taking the built-in Lora extension's place while it stays enabled, and giving it back.

It loads before us and patches classes of torch at once; everything else it does through callbacks. Callbacks of its
files are set aside, its patches are undone through its own `undo`, and what it would undo later finds nothing to do.
No file is changed and no option: without us it is there again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from modules import extensions, extra_networks, script_callbacks, ui_extra_networks
from torch import nn

from lib_lora.webui.a1111.layers import AlreadyUndone
from lib_lora.webui.names.protocols import Callback, Network, Networks

BUILT_IN = "lora"  # its folder's name in lower case


class Takeover:
    """`install` when our script is loaded, before the WebUI calls anybody; `remove` puts the callbacks back."""

    def __init__(self) -> None:
        self._aside: list[tuple[list[Callback], int, Callback]] = []  # (list of callbacks, place, callback)
        self._networks: Networks  # the built-in's module whose patches were undone
        self._patches: type | None = None  # its class of them

    def install(self, models: Iterable[nn.Module]) -> None:
        """Set the built-in aside if it is loaded. `models`: loaded checkpoints, which may carry adapters of its."""
        root = built_in_folder()
        for callbacks in script_callbacks.callback_map.values() if root else ():
            for place, callback in reversed(list(enumerate(callbacks))):
                if root in Path(callback.script).resolve().parents:
                    self._aside.append((callbacks, place, callbacks.pop(place)))
        script_callbacks.ordered_callbacks_map.clear()
        networks: Any = sys.modules.get("networks")
        if hasattr(getattr(networks, "originals", None), "undo"):
            networks.originals.undo()
            self._networks, self._patches = networks, type(networks.originals)
            networks.originals = AlreadyUndone()
            for model in models:
                _put_back_what_it_changed(model, networks)

    def hand_back(self) -> None:
        """The built-in works again, at once."""
        self.remove()
        if self._patches is not None:
            self._networks.originals = self._patches()

    def remove(self) -> None:
        """The callbacks are back. Torch stays unpatched, as the built-in leaves it when the WebUI unloads scripts."""
        while self._aside:
            callbacks, place, callback = self._aside.pop()
            callbacks.insert(place, callback)
        script_callbacks.ordered_callbacks_map.clear()


def _put_back_what_it_changed(model: nn.Module, networks: Networks) -> None:
    """The built-in leaves adapters in the weights when it is unloaded; it keeps the originals at the modules."""
    kept = ("network_weights_backup", "network_bias_backup")
    with torch.no_grad():
        for module in model.modules():
            if any(getattr(module, name, None) is not None for name in kept):
                networks.network_restore_weights_from_backup(module)
                networks.network_reset_cached_weight(module)


def built_in_folder() -> Path | None:
    """Where the built-in extension lies if it is there, enabled or not."""
    found = (each.path for each in extensions.extensions if each.is_builtin and each.name.lower() == BUILT_IN)
    return next((Path(path).resolve() for path in found), None)


def problems(page: ui_extra_networks.ExtraNetworksPage, network: Network, routes: list[str]) -> list[str]:
    """What is not as it should be once the WebUI runs: somebody else may have registered the same names."""
    pages = [each for each in ui_extra_networks.extra_pages if each.name == page.name]
    told = []
    if pages != [page]:
        told.append(f"there are {len(pages)} pages named {page.name}")
    if extra_networks.extra_network_registry.get("lora") is not network:
        told.append("<lora:...> belongs to another extension")
    if extra_networks.extra_network_aliases.get("lyco") is not network:
        told.append("<lyco:...> belongs to another extension")
    return told + [f"the route {path} is there twice" for path in dict.fromkeys(routes) if routes.count(path) > 1]
