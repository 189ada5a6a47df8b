"""What other extensions call of the built-in inside a model's layers, while it is set aside.

Its functions would keep weights that carry our adapters as if they were untouched ones, and write them back one day.
Here they do what is left to do: nothing beside the layer's own work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

from torch import nn

from lib_lora.webui.names.protocols import SdModel

KINDS = ("Linear", "Conv2d", "GroupNorm", "LayerNorm", "MultiheadAttention")
REGIONS = (
    "Lora: an extension asks for other weights of each adapter in each region (Regional Prompter's Latent mode does). "
    "With lib_lora adapters act on the whole picture, and tags in a region's text count for all: write the part of the "
    "picture into the tag instead, <lora:name:1:area=0,0,0.5,1> for its left half"
)


class AlreadyUndone:
    """Stands where the built-in keeps torch's own functions while it has replaced them."""

    def __init__(self) -> None:
        for kind in KINDS:
            setattr(self, f"{kind}_forward", getattr(nn, kind).forward)
            setattr(self, f"{kind}_load_state_dict", getattr(nn, kind)._load_from_state_dict)

    def undo(self) -> None:
        """Nothing is patched."""


class Layers:
    """The functions for the module `networks`, by name."""

    def __init__(self) -> None:
        self._is_told = False

    def functions(self) -> dict[str, Callable[..., Any]]:
        return {
            "network_apply_weights": self._apply,
            "network_restore_weights_from_backup": _nothing,
            "network_reset_cached_weight": _nothing,
            "network_forward": self._forward,
        }

    def _apply(self, _layer: nn.Module) -> None:
        """An adapter is in the weights already, for the whole picture."""
        if not self._is_told and sys.modules["networks"].loaded_networks:
            self._is_told = True
            print(REGIONS, file=sys.stderr)

    def _forward(self, layer: nn.Module, value: Any, original: Callable[..., Any]) -> Any:
        self._apply(layer)
        return original(layer, value)


def _nothing(_layer: nn.Module) -> None:
    pass


def name_layers(sd_model: nn.Module) -> None:
    """`sd_model.network_layer_mapping` and each module's `network_layer_name`, as other extensions expect them."""
    embedders = getattr(getattr(sd_model, "conditioner", None), "embedders", None)
    if embedders is not None:
        roots = [(f"{number}_", each.wrapped) for number, each in enumerate(embedders) if hasattr(each, "wrapped")]
    else:
        encoder = getattr(sd_model, "cond_stage_model", None)
        roots = [("", getattr(encoder, "wrapped", encoder))] if encoder is not None else []
    model = cast(SdModel, sd_model)
    mapping = {}
    for prefix, root in [*roots, ("", model.model)]:
        for path, module in root.named_modules():
            module.network_layer_name = prefix + path.replace(".", "_")
            mapping[module.network_layer_name] = module
    model.network_layer_mapping = mapping
