"""The .yaml beside a checkpoint, from which the WebUI builds its modules: their classes and sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.webui.checkpoints.recipes import LATENT, RESNETS, SIZE_WIDTH, VAE_LEVELS, Encoder, Recipe


def settings(recipe: Recipe, clip: Path) -> dict[str, Any]:
    """`clip`: the folder with CLIP's tokenizer and sizes."""
    unet = {
        "in_channels": LATENT,
        "out_channels": LATENT,
        "model_channels": recipe.width,
        "channel_mult": list(recipe.levels),
        "num_res_blocks": RESNETS,
        "attention_resolutions": [1 << level for level, depth in enumerate(recipe.depths) if depth],
        "use_spatial_transformer": True,
        "use_linear_in_transformer": recipe.is_linear,
        "context_dim": recipe.context,
        "legacy": False,  # heads as above
        **recipe.heads,
    }
    encoders = [_encoder_settings(recipe, encoder, clip) for encoder in recipe.encoders]
    if recipe.is_xl:
        return _sdxl_settings(recipe, unet, encoders)
    params = {
        "linear_start": 0.00085,
        "linear_end": 0.012,
        "timesteps": 1000,
        "conditioning_key": "crossattn",
        "cond_stage_key": "txt",
        "channels": LATENT,
        "image_size": 64,
        "scale_factor": 0.18215,
        "use_ema": False,
        "unet_config": _made("ldm.modules.diffusionmodules.openaimodel.UNetModel", image_size=32, **unet),
        "first_stage_config": _vae_settings("ldm.models.autoencoder.AutoencoderKL", recipe),
        "cond_stage_config": encoders[0],
    }
    return {"model": _made("ldm.models.diffusion.ddpm.LatentDiffusion", **params)}


def _sdxl_settings(recipe: Recipe, unet: dict[str, Any], encoders: list[dict[str, Any]]) -> dict[str, Any]:
    denoiser = "sgm.modules.diffusionmodules.denoiser"
    parts = {
        "weighting_config": _made(f"{denoiser}_weighting.EpsWeighting"),
        "scaling_config": _made(f"{denoiser}_scaling.EpsScaling"),
        "discretization_config": _made("sgm.modules.diffusionmodules.discretizer.LegacyDDPMDiscretization"),
    }
    sizes = [
        {"input_key": key, **_made("sgm.modules.encoders.modules.ConcatTimestepEmbedderND", outdim=SIZE_WIDTH)}
        for key in ("original_size_as_tuple", "crop_coords_top_left", "target_size_as_tuple")
    ]
    texts = [{"input_key": "txt", **encoder} for encoder in encoders]
    unet = unet | {"transformer_depth": list(recipe.depths), "transformer_depth_middle": recipe.middle,
                   "num_classes": "sequential", "adm_in_channels": recipe.told}  # fmt: skip
    params = {
        "scale_factor": 0.13025,
        "disable_first_stage_autocast": True,
        "denoiser_config": _made(f"{denoiser}.DiscreteDenoiser", num_idx=1000, **parts),
        "network_config": _made("sgm.modules.diffusionmodules.openaimodel.UNetModel", **unet),
        "conditioner_config": _made("sgm.modules.GeneralConditioner", emb_models=texts + sizes),
        "first_stage_config": _vae_settings("sgm.models.autoencoder.AutoencoderKLInferenceWrapper", recipe),
    }
    return {"model": _made("sgm.models.diffusion.DiffusionEngine", **params)}


def _encoder_settings(recipe: Recipe, encoder: Encoder, clip: Path) -> dict[str, Any]:
    home = "sgm.modules.encoders.modules" if recipe.is_xl else "ldm.modules.encoders.modules"
    if not encoder.arch:
        before_last = {"layer": "hidden", "layer_idx": encoder.layers - 1} if recipe.is_xl else {}
        return _made(f"{home}.FrozenCLIPEmbedder", version=str(clip.resolve()), **before_last)
    params = {"arch": encoder.arch, "freeze": True, "layer": "penultimate"}
    if recipe.is_xl:
        return _made(f"{home}.FrozenOpenCLIPEmbedder2", **params, always_return_pooled=True, legacy=False)
    return _made(f"{home}.FrozenOpenCLIPEmbedder", **params)


def _vae_settings(target: str, recipe: Recipe) -> dict[str, Any]:
    sizes = dict(double_z=True, z_channels=LATENT, resolution=256, in_channels=3, out_ch=3, ch=recipe.vae,
                 ch_mult=list(VAE_LEVELS), num_res_blocks=RESNETS, attn_resolutions=[], dropout=0.0)  # fmt: skip
    return _made(target, embed_dim=LATENT, ddconfig=sizes, lossconfig=_made("torch.nn.Identity"))


def _made(target: str, **params: Any) -> dict[str, Any]:
    """How both libraries write: an object of the class `target`."""
    return {"target": target, "params": params} if params else {"target": target}
