"""The way in: `register()` is called by `scripts/lora_adapters.py` each time the WebUI loads scripts.

"Reload UI" calls the unload callback and then runs the script again, while this package stays imported: everything that
`register` does is undone by `unregister`.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from modules import script_callbacks, shared, ui_extra_networks
from torch import nn

from lib_lora import __version__
from lib_lora.compare.jobs import Jobs
from lib_lora.webui import api, legacy, typed, version
from lib_lora.webui.a1111 import checkpoints, layers, takeover
from lib_lora.webui.a1111.checkpoints import loaded_family, loaded_models
from lib_lora.webui.a1111.encoding import Conditioning
from lib_lora.webui.a1111.host import release, session_of
from lib_lora.webui.axes import Axes
from lib_lora.webui.cards.extra_page import LoraPage
from lib_lora.webui.claim import Claim
from lib_lora.webui.comparing import host_of
from lib_lora.webui.hash_cache import HashCache
from lib_lora.webui.infotext import Paste
from lib_lora.webui.names.catalogue import Catalogue
from lib_lora.webui.names.settings import Options
from lib_lora.webui.network import LoraNetwork
from lib_lora.webui.tab import make_tab

ROOT = Path(__file__).resolve().parents[2]
_registered: Room | None = None


def register() -> Room:
    """Take over. Calling it again first undoes what was there."""
    global _registered
    unregister()
    version.begin()
    room = Room()
    room.enter()
    _registered = room
    return room


def unregister() -> None:
    """The WebUI as it would be without us."""
    global _registered
    room, _registered = _registered, None
    if room is not None:
        room.leave()


class Room:
    """Everything of ours that lives in one run of the WebUI's user interface."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self.legacy = legacy.Legacy(self.catalogue)
        self.network = LoraNetwork(self.catalogue, self.legacy)
        self.claim = Claim(self.network, self.network.announce)
        self.network.news = self.claim.news
        self.hashes = HashCache(self.catalogue)
        self.conditioning = Conditioning(self.network, self.network.words, self.network.failed)
        self.page = LoraPage(self.catalogue)
        self.axes = Axes(lambda: self.catalogue.by_name)
        self.takeover = takeover.Takeover()
        self.comparisons = Jobs(host_of(self.catalogue))
        self.options = Options(lambda: list(self.catalogue.by_name), self.catalogue.refresh)

    def enter(self) -> None:
        """Called while the WebUI loads scripts: callbacks are registered, nothing of the user interface exists.

        If a step fails, those before it are undone and the built-in works as if we were not there.
        """
        with ExitStack() as undo:
            undo.callback(self.takeover.hand_back)
            self.takeover.install(loaded_models())
            undo.callback(self.legacy.remove, for_good=True)
            self.legacy.install()
            self.hashes.install()
            undo.callback(self.options.remove)
            self.options.install()
            self.conditioning.install()
            undo.callback(self.conditioning.remove)
            typed.install()
            undo.callback(typed.remove)
            self.claim.install()
            undo.callback(self.claim.remove)
            checkpoints.watch_exchange(self.network.follow, lambda: self.network.now)
            undo.pop_all()
        paste = Paste(self.catalogue)
        script_callbacks.on_script_unloaded(unregister)
        script_callbacks.on_before_ui(self.before_ui)
        script_callbacks.on_app_started(self.app_started)
        script_callbacks.on_ui_tabs(make_tab)
        script_callbacks.on_model_loaded(self.model_loaded)
        script_callbacks.on_cfg_denoiser(self.network.sampling.before_call)
        script_callbacks.on_infotext_pasted(paste.tags_of_additional_networks)
        script_callbacks.on_infotext_pasted(paste.rename_by_hash)
        for model in loaded_models():
            self.model_loaded(model)

    def leave(self) -> None:
        """Undo `enter`, so that the WebUI can load scripts again."""
        self.comparisons.end()
        checkpoints.stop_watching()
        self.network.sampling.rest()
        self.axes.remove()
        self.claim.remove()
        typed.remove()
        self.conditioning.remove()
        for model in loaded_models():
            release(model)
        self.options.remove()
        self.legacy.remove(for_good=not is_enabled())
        self.takeover.remove()
        self.catalogue.library.close()

    def before_ui(self) -> None:
        """The registries were emptied after the scripts were loaded; the page's cards are made later."""
        ui_extra_networks.register_page(self.page)
        self.axes.install()
        self.claim.register()
        self.legacy.networks.extra_network_lora = self.network

    def app_started(self, _demo: Any, app: FastAPI) -> None:
        """The last step of a start: routes, and a look whether all is as it should be."""
        api.add_routes(app, self.catalogue, loaded_family, self.comparisons)
        self.claim.renew()
        count = len(self.catalogue.by_name)
        print(f"lib_lora {__version__}: {count} adapter{'s' * (count != 1)} in {self.catalogue.library.folders[0]}")
        paths = (getattr(route, "path", "") for route in app.routes)
        routes = [path for path in paths if path in api.ROUTES]
        for problem in takeover.problems(self.page, self.network, routes):
            print(f"lib_lora: {problem}; another extension is in the way")

    def model_loaded(self, sd_model: nn.Module) -> None:
        """New weights, perhaps in a model that we know: nothing is applied, but its layers have names and a session.

        They are listed now, so that the first picture with a tag need not wait for that.
        """
        session_of(sd_model, self.catalogue, self.network.cache).host.targets()
        layers.name_layers(sd_model)


def is_enabled() -> bool:
    """Whether the user's settings will load this extension again."""
    opts = shared.opts
    return ROOT.is_dir() and ROOT.name not in opts.disabled_extensions and opts.disable_all_extensions == "none"
