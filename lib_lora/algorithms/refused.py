"""Parts of algorithms that are known by name only: their module is refused, not misread. {part: why}."""

from __future__ import annotations

from collections.abc import Collection

PEFT_TUNERS: dict[str, tuple[str, ...]] = {
    "AdaLoRA": ("lora_E", "ranknum"),
    "VeRA": ("vera_lambda_b", "vera_lambda_d", "vera_A", "vera_B"),
    "HRA": ("hra_u",),
    "MiSS": ("miss_block",),
    "Bone": ("bone_block",),
    "BOFT": ("boft_R", "boft_s"),
    "IA3": ("ia3_l",),
    "FourierFT": ("fourierft_spectrum",),
    "VB-LoRA": ("vblora_logits_A", "vblora_logits_B", "vblora_vector_bank"),
    "RandLoRA": ("randlora_lambda", "randlora_gamma", "randlora_A", "randlora_B"),
    "SHiRA": ("shira_weight",),
    "C3A": ("c3a_kernel",),
    "RoAd": ("road_theta", "road_alpha"),
    "LoRA of embeddings": ("lora_embedding_A", "lora_embedding_B"),
    "KaSA": ("lora_diag",),
    "MonteCLoRA": ("lora_monteclora_sampler",),
    "DeLoRA": ("delora_A", "delora_B", "delora_lambda"),
    "GraLoRA": ("gralora_A", "gralora_B", "gralora_A_general", "gralora_B_general"),
    "GLoRA": ("glora_A", "glora_B", "glora_C", "glora_D", "glora_E"),
    "HiRA": ("hira_A", "hira_B", "hira_embedding_A", "hira_embedding_B"),
    "WaveFT": ("waveft_spectrum",),
    "OFT of embeddings": ("oft_embedding_R",),
    "PSOFT": ("psoft_R",),
    "PVeRA": ("pvera_lambda_b", "pvera_lambda_d", "pvera_A", "pvera_B"),
    "Poly": ("poly_lora_A", "poly_lora_B", "poly_router"),
    "Lily": ("lily_A", "lily_B", "lily_router"),
    "OSF": ("osf_svd_params",),
    "DEFT": ("deft_P", "deft_R"),
    "FRoD": ("frod_lambda_l", "frod_lambda_s_values"),
    "AdaMSS": ("adamss_A", "adamss_B"),
    "BEFT": ("beft_bias",),
    "PEANuT": ("peanut_A", "peanut_B", "peanut_encoders", "peanut_decoders"),
    "Uni-LoRA": ("unilora_theta_d",),
    "TinyLoRA": ("tinylora_v",),
    "Shadow": ("shadow_down", "shadow_up", "shadow_update_transform", "shadow_update_gate"),
    "SuperTuning": ("supertuning_values", "supertuning_lora_A", "supertuning_lora_B"),
    "norm tuning": ("ln_tuning_layers",),
    "trainable tokens": ("trainable_tokens_delta",),
}
REFUSED: dict[str, str] = {
    "set_weight": "it replaces the weight at any strength (a Flux tool's file), which is not supported",
    "reshape_weight": "it needs a weight of another shape (a Flux control LoRA), which is not supported",
    "bias": "it brings a trained bias of its own beside the factors (PEFT's `bias` option), which is not supported",
    **{
        part: f"trained with PEFT's {name}, which is not supported"
        for name, parts in PEFT_TUNERS.items()
        for part in parts
    },
}
# What says nothing alone, so that a module with nothing else is not an incomplete one but unknown.
ACCESSORIES = frozenset({"weight", "alpha", "scale", "scalar"})


def refusal(parts: Collection[str]) -> str | None:
    """Why a module with these parts is refused whatever else it has, or None."""
    return next((REFUSED[part] for part in parts if part in REFUSED), None)


def incomplete(parts: Collection[str]) -> str:
    """Why a module with these parts is none of any algorithm."""
    return f"incomplete: {' and '.join(sorted(parts))} alone {'is' if len(parts) == 1 else 'are'} not enough"
