"""Base models that are not Stable Diffusion: known by their own blocks, never called SD, rather unknown than wrong."""

# ruff: noqa: E501  (a table)

from __future__ import annotations

import inspect
import random
import re

import pytest

from lib_lora.describe.families import detect

Shapes = dict[str, tuple[int, ...]]
SD = ("sd1", "sd2", "sdxl", "sdxl-refiner")


def lora(names: str, out: int, width: int, count: int = 2) -> Shapes:
    """Factors of `names`, blanks between them, with `#` for the numbers 0 ... count - 1."""
    modules = [name.replace("#", str(number)) for name in names.split() for number in range(count)]
    return {f"{m}.lora_A.weight": (16, width) for m in modules} | {f"{m}.lora_B.weight": (out, 16) for m in modules}


LISTINGS = [  # (tensors, metadata, what Civitai says, family, whether it is sure)
    (lora("diffusion_model.transformer_blocks.#.attn1.to_q diffusion_model.transformer_blocks.#.attn2.to_k", 2048, 2048), {}, "", "ltxv", False),
    (lora("lora_unet_transformer_blocks_#_attn2_to_k", 2048, 2048), {}, "LTXV", "ltxv", True),
    (lora("diffusion_model.transformer_blocks.#.audio_attn1.to_q", 2048, 2048), {}, "", "ltxv", True),
    (lora("transformer.transformer_blocks.#.attn2.to_k", 2048, 1024), {}, "", "anima", False),
    (lora("lora_unet_blocks_#_self_attn_q_proj", 2048, 2048), {"ss_base_model_version": "anima"}, "", "anima", True),
    (lora("net.blocks.#.cross_attn.output_proj", 2048, 2048), {}, "Cosmos", "cosmos", True),
    (lora("diffusion_model.blocks.#.self_attn.q", 5120, 5120), {}, "", "wan", True),
    (lora("lora_unet_blocks_#_ffn_0", 13824, 5120), {}, "", "wan", True),
    (lora("transformer.blocks.#.attn2.to_k", 1536, 1536), {}, "", "wan", False),
    (lora("lora_transformer_blocks_#_attn2_to_k", 1024, 768), {}, "Wan Video 14B t2v", "wan", True),
    (lora("transformer_blocks.#.attn.to_q", 3072, 3072, 60), {}, "", "qwen", False),
    (lora("lora_unet_transformer_blocks_#_img_mlp_net_2", 3072, 12288), {}, "", "qwen", True),
    (lora("transformer.joint_transformer_blocks.#.attn.to_q transformer.single_transformer_blocks.#.attn.to_q", 3072, 3072), {}, "", "auraflow", True),
    (lora("lora_unet_double_layers_#_attn_w1q", 3072, 3072), {}, "", "auraflow", True),
    (lora("diffusion_model.double_blocks.#.img_attn_qkv", 9216, 3072), {}, "", "hunyuan-video", True),
    (lora("transformer.transformer_blocks.#.attn.to_q", 3072, 3072, 20)
     | lora("transformer.single_transformer_blocks.#.attn.to_q", 3072, 3072, 40), {}, "", "hunyuan-video", False),
    (lora("lora_unet_double_blocks_#_img_attn_qkv", 9216, 3072), {"modelspec.architecture": "hunyuan-video"}, "", "hunyuan-video", True),
    (lora("lora_unet_double_blocks_#_img_mod_lin", 18432, 3072), {}, "", "flux", True),
    (lora("diffusion_model.double_blocks.#.img_attn.qkv", 18432, 6144), {}, "", "flux2", False),
    (lora("diffusion_model.double_blocks.#.img_attn.proj", 3072, 3072), {"ss_base_model_version": "flux2_klein_4b"}, "", "flux2", True),
    (lora("lora_unet_double_blocks_#_img_attn_qkv", 9216, 3072), {"ss_base_model_version": "chroma"}, "", "chroma", True),
    (lora("lora_unet_layers_#_attention_to_q", 3840, 3840), {}, "", "z-image", False),
    (lora("diffusion_model.layers.#.attention.qkv", 6912, 2304), {"modelspec.architecture": "lumina-2"}, "", "lumina", True),
    (lora("diffusion_model.double_stream_blocks.#.block.attn1.to_q", 2560, 2560), {}, "", "hidream", True),
    (lora("transformer.transformer_blocks.#.attn1.add_q_proj", 3072, 1536), {}, "", "mochi", True),
    (lora("transformer.transformer_blocks.#.attn1.to_q", 1920, 1920), {}, "", "cogvideox", False),
    (lora("base_model.model.transformer_blocks.#.attn2.to_k", 1152, 1152), {}, "PixArt E", "pixart", True),
    (lora("transformer.transformer_blocks.#.ff.conv_inverted", 11200, 2240), {}, "", "sana", True),
    (lora("lora_prior_unet_down_blocks_0_#_attention_to_q", 2048, 2048), {}, "", "cascade", True),
    (lora("llm.layers.#.self_attn.qkv_proj", 3072, 3072), {}, "", "omnigen", True),
    (lora("unet.down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn2.to_k", 320, 1024, 1), {}, "", "svd", True),
    (lora("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k", 320, 1024, 1), {}, "SVD XT", "svd", True),
    (lora("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k", 640, 2048, 1), {}, "Kolors", "kolors", True),
    (lora("unet.down_blocks.0.attentions.0.processor.add_k_proj", 384, 768, 1), {}, "", "kandinsky", False),
    (lora("lora_te_layers_#_mlp_down_proj", 1024, 3072), {"modelspec.architecture": "anima-preview/lora"}, "", "anima", True),
    (lora("something.blocks.#.new_attention.wq", 1024, 768), {}, "", "unknown", False),
    (lora("diffusion_model.transformer_blocks.#.new", 1024, 768), {}, "", "unknown", False),
]  # fmt: skip


@pytest.mark.parametrize(("shapes", "metadata", "civitai", "family", "sure"), LISTINGS, ids=[next(iter(row[0]))[:60] for row in LISTINGS])
def test_other_models_are_known_by_their_blocks_and_are_no_stable_diffusion(shapes, metadata, civitai, family, sure):
    found = detect(shapes, metadata, civitai)
    assert (found.id, found.sure) == (family, sure)
    assert [found.fits(name) for name in SD] == [False] * 4


@pytest.mark.parametrize(("value", "family"), [
    ("hunyuan-video", "hunyuan-video"), ("framepack", "hunyuan-video"), ("wan2.1", "wan"), ("wan_2.2_14b", "wan"),
    ("Flux.1-dev", "flux"), ("Flux.2-dev", "flux2"), ("flux2_klein_9b", "flux2"), ("Qwen-Image-Edit-Plus", "qwen"),
    ("@@Qwen-Image-Edit-2511@@", "qwen"), ("qwen-image/lora", "qwen"), ("Z-Image", "z-image"), ("zimage", "z-image"),
    ("Kandinsky-5", "kandinsky"), ("lumina-2", "lumina"), ("hunyuan-image-2.1", "hunyuan"), ("anima-preview/lora", "anima"),
    ("chroma", "chroma"), ("ltx2", "ltxv"), ("ideogram4", "ideogram"), ("pixart-sigma", "pixart"), ("SANA", "sana"),
    ("HI_DREAM_FULL", "hidream"), ("STABLE_CASCADE_1", "cascade"), ("stable-diffusion-3-medium/lora", "sd3"),
    ("sdxl_1.0", "sdxl"), ("sd_1.5", "sd1"), ("stable-diffusion-xl-v1-base/lora", "sdxl"), ("animagine", "unknown"),
])  # fmt: skip
@pytest.mark.parametrize("key", ["ss_base_model_version", "modelspec.architecture"])
def test_what_trainers_write_into_the_header_is_understood(key, value, family):
    assert detect({}, {key: value}).id == family


DOTTED = ("transformer.", "diffusion_model.", "base_model.model.", "", "transformer.base_model.model.")
FLAT = ("lora_unet_", "lycoris_", "lora_transformer_")
CLASSES = {
    "LTXVideoTransformer3DModel": "ltxv", "QwenImageTransformer2DModel": "qwen", "AuraFlowTransformer2DModel": "auraflow",
    "HunyuanVideoTransformer3DModel": "hunyuan-video", "WanTransformer3DModel": "wan", "FluxTransformer2DModel": "flux",
    "ChromaTransformer2DModel": "chroma", "Lumina2Transformer2DModel": "lumina", "PixArtTransformer2DModel": "pixart",
    "SanaTransformer2DModel": "sana", "MochiTransformer3DModel": "mochi", "CogVideoXTransformer3DModel": "cogvideox",
    "Flux2Transformer2DModel": "flux2", "CosmosTransformer3DModel": "cosmos", "ZImageTransformer2DModel": "z-image",
    "CogView4Transformer2DModel": "cogview", "HunyuanImageTransformer2DModel": "hunyuan",
}  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
def test_no_choice_of_layers_of_diffusers_own_models_is_called_something_else_for_sure(name):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("diffusers.models.transformers")
    if not hasattr(transformers, name):
        pytest.skip("an older diffusers")
    kind = getattr(transformers, name)
    few = {option: 3 for option in inspect.signature(kind).parameters if re.fullmatch(r"num_\w*layers|n_layers", option)}
    with torch.device("meta"):
        model = kind(**few)
    layers = {key.removesuffix(".weight"): tuple(value.shape) for key, value in model.named_parameters()
              if key.endswith(".weight") and value.dim() >= 2}  # fmt: skip
    choose = random.Random(0)
    for pattern in ("", "attn|attention", r"to_[kv]$", "to_q$", "ff|mlp|feed", "norm|mod"):
        chosen = [key for key in layers if re.search(pattern, key)]
        for count in {1, 3, 12} if chosen else ():
            some = choose.sample(chosen, min(count, len(chosen)))
            for prefix in (*DOTTED, *FLAT):
                names = [prefix + (key.replace(".", "_") if prefix in FLAT else key) for key in some]
                shapes = {f"{spelt}.lora_A.weight": (16, layers[key][1]) for spelt, key in zip(names, some, strict=True)}
                shapes |= {f"{spelt}.lora_B.weight": (layers[key][0], 16) for spelt, key in zip(names, some, strict=True)}
                found = detect(shapes)
                assert not set(found.possible) & {"sd1", "sd2", "sdxl", "sdxl-refiner"}, names[0]
                assert not found.possible or CLASSES[name] in found.possible, (names[0], found)
