"""The tags stay ours, whoever registers them later.

Some extensions put a network of their own under the name `lora`, one of them anew at each picture. With the built-in
set aside such a network has nothing to work with: adapters would do nothing, in silence. So whenever the WebUI looks up
who handles which tag, ours are ours again, and the user is told once who wanted them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modules import extensions, extra_networks, patches

from lib_lora.webui.names.protocols import ExtraNetworkData, Network

PATCHED = (extra_networks, "lookup_extra_networks")
NAME, ALIAS = "lora", "lyco"
OLD = "loractl"  # the extension of that name calls <lora:...> so as well; its prompts are read without it too


class Claim:
    """Stands in front of the WebUI's look-up, which both `activate` and `deactivate` begin with.

    `announce` is told what they are for: our network itself gets a list of tags that does not say whose they are.
    """

    def __init__(self, network: Network, announce: Callable[[ExtraNetworkData], None]) -> None:
        self._network = network
        self._announce = announce
        self._known: set[str] = set()  # who was spoken of
        self._untold: list[str] = []

    def install(self) -> None:
        """Through the WebUI's own register of patches."""
        original = getattr(*PATCHED)

        def lookup_extra_networks(extra_network_data: ExtraNetworkData) -> Any:
            self.renew()
            self._announce(extra_network_data)
            return original(extra_network_data)

        patches.patch(__name__, *PATCHED, lookup_extra_networks)

    def remove(self) -> None:
        """Who registers last has the tags again."""
        patches.undo(__name__, *PATCHED)

    def register(self) -> None:
        """After the WebUI has emptied its registries."""
        extra_networks.register_extra_network(self._network)
        extra_networks.register_extra_network_alias(self._network, ALIAS)
        extra_networks.register_extra_network_alias(self._network, OLD)

    def renew(self) -> None:
        """Both names are ours, and so is every alias of somebody else's `lora`."""
        registry, aliases = extra_networks.extra_network_registry, extra_networks.extra_network_aliases
        others = [registry.get(NAME), registry.pop(ALIAS, None), aliases.get(ALIAS)]  # a name counts before an alias
        registry[NAME] = aliases[ALIAS] = self._network
        for alias, other in aliases.items():
            if getattr(other, "name", None) == NAME:
                aliases[alias] = self._network
                others.append(other)
        for other in others:
            if other is not None and other is not self._network:
                self._note(who(other))

    def news(self) -> list[str]:
        """Sentences that nobody has been told yet."""
        told, self._untold = self._untold, []
        return told

    def _note(self, name: str) -> None:
        if name not in self._known:
            self._known.add(name)
            self._untold.append(
                f"{name} wants to handle <{NAME}:...> too: lib_lora keeps the tags, and what {name} adds to them "
                "has no effect. To use that instead, disable lib_lora in the tab Extensions")


def who(network: Network) -> str:
    """The extension that a network is of: the name of its folder, else of its module."""
    name = type(network).__module__
    file = getattr(sys.modules.get(name), "__file__", None)
    parents = Path(file).resolve().parents if file else ()
    return next((each.name for each in extensions.extensions if Path(each.path).resolve() in parents), name)
