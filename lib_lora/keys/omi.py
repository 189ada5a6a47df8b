"""OneTrainer's OMI format: `unet.` and the checkpoint's own path; `clip_l.`, `clip_g.`, `t5.` and Hugging Face's."""

from __future__ import annotations

from collections.abc import Iterator

from lib_lora.keys.names import ModuleName, with_and_without_text_model


def spell(module: ModuleName) -> Iterator[str]:
    """SD 3's transformer is called `transformer.`; a single text encoder `clip_l.`, whatever it is."""
    if module.encoder is None:
        yield f"{'transformer' if module.native.startswith('joint_blocks.') else 'unet'}.{module.native}"
        return
    for component in module.encoder.omi:
        for path in with_and_without_text_model(module.diffusers):
            yield f"{component}.{path}"
