"""kohya sd-scripts, LyCORIS' trainer and OneTrainer: `lora_unet_…`, `lora_te_…`, `lora_te1_…`; `oft_unet_…`."""

from __future__ import annotations

from collections.abc import Iterator

from lib_lora.keys.names import ModuleName, flat, with_and_without_text_model


def spell(module: ModuleName) -> Iterator[str]:
    """SD1 / SD2 files use the diffusers block names, SDXL files the CompVis ones; both are accepted everywhere."""
    if module.encoder is None:
        yield f"lora_unet_{flat(module.diffusers)}"
        yield f"lora_unet_{flat(module.native)}"
        return
    for prefix in module.encoder.kohya:
        for path in with_and_without_text_model(module.diffusers):
            yield f"{prefix}_{flat(path)}"


def spell_oft(module: ModuleName) -> Iterator[str]:
    """kohya's `networks.oft` trains the UNet only and has a prefix of its own."""
    if module.encoder is None:
        yield f"oft_unet_{flat(module.diffusers)}"
        yield f"oft_unet_{flat(module.native)}"
