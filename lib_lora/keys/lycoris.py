"""LyCORIS' stand-alone wrapper (SimpleTuner): `lycoris_` and the flat path from the wrapped root, which is the UNet."""

from __future__ import annotations

from collections.abc import Iterator

from lib_lora.keys.names import ModuleName, flat


def spell(module: ModuleName) -> Iterator[str]:
    """The wrapped root is the diffusers UNet; the CompVis spelling comes from wrapping the WebUI's own."""
    if module.encoder is None:
        yield f"lycoris_{flat(module.diffusers)}"
        yield f"lycoris_{flat(module.native)}"
