"""ComfyUI, ai-toolkit, OneTrainer and extraction tools: the checkpoint's own names, dotted or flat."""

from __future__ import annotations

from collections.abc import Iterator

from lib_lora.keys.names import ModuleName, flat, with_and_without_text_model


def spell(module: ModuleName) -> Iterator[str]:
    """`diffusion_model.PATH`, with `model.` before, bare `PATH`, `diffusion_model_PATH`; `text_encoders.clip_l…`."""
    path = module.native
    if module.encoder is None:
        yield from (f"diffusion_model.{path}", f"model.diffusion_model.{path}", path, f"diffusion_model_{flat(path)}")
        return
    for hf_path in with_and_without_text_model(module.diffusers):
        yield f"text_encoders.{module.encoder.comfy}.transformer.{hf_path}"
    yield f"{module.encoder.checkpoint}.{path}"
