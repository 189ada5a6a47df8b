"""diffusers and PEFT: dotted paths, with the component's name, bare, or below PEFT's `base_model.model.`"""

from __future__ import annotations

from collections.abc import Iterator

from lib_lora.keys.names import ModuleName, with_and_without_text_model

PEFT = "base_model.model."


def spell(module: ModuleName) -> Iterator[str]:
    """`unet.PATH`, `PATH`, `base_model.model.PATH`, `unet.base_model.model.PATH`; text encoders by component."""
    if module.encoder is None:
        path = module.diffusers
        yield from (f"unet.{path}", path, f"{PEFT}{path}", f"unet.{PEFT}{path}")
        return
    for component in module.encoder.diffusers:
        for path in with_and_without_text_model(module.diffusers):
            yield f"{component}.{path}"
            yield f"{component}.{PEFT}{path}"


def spell_alone(module: ModuleName) -> Iterator[str]:
    """A text encoder's module in a file that holds nothing else, as PEFT saves it: which encoder, it does not say."""
    if module.encoder is not None:
        for path in with_and_without_text_model(module.diffusers):
            yield path
            yield f"{PEFT}{path}"
