"""The tables of the base-model families: which clue leaves which families possible. Reading them is checking them.

`families.py` makes the clues, short lines of text, so that names, widths and metadata all go the same way:

    down_blocks_0_attentions_0_...      a module's name, dots written as `_`
    context width 768                   input width of cross-attention's k and v; others: see ROLES
    proj_in 4-D                         dimensions of proj_in's factors
    base=sd_v1                          metadata: METADATA_CLUES
    civitai=Pony                        from a sidecar

A rule is (pattern, families that remain possible, why), strongest evidence first. Shape rules look for their pattern
anywhere in a clue, metadata rules at its beginning.
"""

from __future__ import annotations

import re

Rule = tuple[str, tuple[str, ...], str]  # (pattern, families that remain possible, why)

LABELS = {  # family -> name for people; where several remain, the first of them in this order is the best guess
    "sd1": "SD 1.5", "sdxl": "SDXL", "sd2": "SD 2", "flux": "Flux.1", "sd3": "SD 3", "sdxl-refiner": "SDXL refiner",
    "flux2": "Flux.2", "chroma": "Chroma", "hunyuan-video": "Hunyuan Video", "hunyuan": "Hunyuan", "wan": "Wan",
    "lumina": "Lumina", "cascade": "Stable Cascade", "auraflow": "AuraFlow", "pixart": "PixArt", "qwen": "Qwen",
    "z-image": "Z-Image", "ltxv": "LTX Video", "cogvideox": "CogVideoX", "mochi": "Mochi", "hidream": "HiDream",
    "anima": "Anima", "svd": "SVD",
}  # fmt: skip
UNKNOWN = "unknown"
UNET = ("sd1", "sd2", "sdxl", "sdxl-refiner")
SD12 = ("sd1", "sd2")
XL = ("sdxl", "sdxl-refiner")
AT = r"(?:attentions_\d+|middle_block_1|(?:in|out)put_blocks_\d+_1)_transformer_blocks_"
TE = r"(?:lora_te1?|text_encoder|clip_h_transformer)_(?:text_model_)?encoder_layers_"
BIG = ("sd3", "flux", "chroma", "hidream")
CHOICES = {"SD1": ("sd1",), "SD2": ("sd2",), "SDXL": XL}  # what the WebUI's editor writes into the notes -> families

SHAPE_RULES: tuple[Rule, ...] = (
    # other architectures, known by the names of their blocks
    (r"double_stream_modulation|to_qkv_mlp_proj", ("flux2",), "it has the stream modulation of Flux.2"),
    (r"individual_token_refiner|img_mod_linear", ("hunyuan-video",), "it has the blocks of Hunyuan Video"),
    (r"distilled_guidance_layer", ("chroma",), "it has Chroma's guidance layer"),
    (r"(?:double|single)_blocks_\d|single_transformer_blocks_",
     ("flux", "chroma"), "it has the double and single blocks of Flux"),
    (r"joint_blocks_\d", ("sd3",), "it has the joint blocks of SD 3"),
    (r"joint_transformer_blocks_", ("auraflow",), "it has the joint blocks of AuraFlow"),
    (r"transformer_blocks_\d+_(?:attn_add_[qkv]_proj|ff_context)",
     ("sd3", "flux", "qwen"), "it has attention over joined text and picture"),
    (r"lora_prior_(?:unet|te)", ("cascade",), "it has the prior of Stable Cascade"),
    (r"noise_refiner|context_refiner", ("lumina", "z-image"), "it has the refiners of Lumina"),
    (r"blocks_\d+_(?:cross_attn|ffn_0)", ("wan",), "it has the blocks of Wan"),
    (r"(?:^|_)transformer_blocks_\d+_attn_to_", BIG, "it is a diffusion transformer"),
    # the UNets of Stable Diffusion
    (r"(?:down|up|input|output)_blocks_\d|mid_block_|middle_block_|conv_in$",
     UNET, "it has the blocks of a Stable Diffusion UNet"),
    (r"context width 768$", ("sd1",), "its cross-attention reads text 768 wide"),
    (r"context width 1024$", ("sd2",), "its cross-attention reads text 1024 wide"),
    (r"context width 2048$", ("sdxl",), "its cross-attention reads text 2048 wide"),
    (r"context width 1280$", ("sdxl-refiner",), "its cross-attention reads text 1280 wide"),
    (r"label width 2816$", ("sdxl",), "its size embedding is 2816 wide"),
    (r"label width 2560$", ("sdxl-refiner",), "its size embedding is 2560 wide"),
    (r"self width (?:384|768|1536)$", ("sdxl-refiner",), "its channels are multiples of 384"),
    (r"down_blocks_0_attentions|input_blocks_[12]_1_|up_blocks_3_attentions|output_blocks_(?:9|1[01])_1_",
     SD12, "it has attention in the outermost blocks"),
    (r"up_blocks_0_attentions|output_blocks_[01]_1_(?:transformer|proj|norm)",
     ("sdxl",), "it has attention in the innermost block"),
    (AT + r"(?:[4-9]|\d\d)_", ("sdxl",), "its transformers are more than 4 layers deep"),
    (AT + r"[1-3]_", XL, "its transformers are more than 1 layer deep"),
    (r"down_blocks_3_|up_blocks_3_|(?:in|out)put_blocks_(?:9|1[01])_",
     ("sd1", "sd2", "sdxl-refiner"), "it has four levels of blocks"),
    (r"up_blocks_2_(?:attentions|upsamplers)|down_blocks_2_downsamplers|output_blocks_[678]_1_|output_blocks_8_2_",
     ("sd1", "sd2", "sdxl-refiner"), "it has four levels of blocks"),
    (r"add_embedding|label_emb", XL, "it has SDXL's size embedding"),
    (r"embedders_1_|lora_te2_|text_encoder_2_|clip_g_", (*XL, *BIG), "it has a second text encoder"),
    (r"proj_in 4-D$", ("sd1",), "proj_in is a convolution"),
    # text encoders
    (r"lora_te3_|text_encoder_3_|t5xxl", BIG, "it has a T5 text encoder"),
    (r"text width 1024$", ("sd2",), "its text encoder is 1024 wide"),
    (r"text width 768$", ("sd1", "sdxl", *BIG), "its text encoder is 768 wide"),
    (r"text width 1280$", (*XL, *BIG), "its text encoder is 1280 wide"),
    (TE + r"(?:2[4-9]|3[01])_", ("sdxl-refiner",), "its only text encoder has 32 layers"),
    (TE + r"(?:1[2-9]|2[0-3])_", ("sd2", "sdxl-refiner"), "its text encoder has more than 12 layers"),
    (r"cond_stage_model_transformer", ("sd1",), "its text encoder is CLIP-L alone"),
    (r"cond_stage_model_model|clip_h_", ("sd2",), "its text encoder is OpenCLIP-H"),
    (r"embedders_0_model", ("sdxl-refiner",), "its only text encoder is OpenCLIP-bigG"),
    (r"embedders_0_transformer", ("sdxl",), "its first text encoder is CLIP-L"),
    (r"lora_te_", ("sd1", "sd2", "sdxl-refiner"), "it has one text encoder"),
    (r"lora_te1_", ("sdxl", "sd1", "sd2", *BIG), "its text encoder is numbered"),
    (r"text_encoder_|clip_l_", ("sd1", "sd2", "sdxl", *BIG), "it has a text encoder"),
    (r"proj_in 2-D$", ("sd2", *XL), "proj_in is not a convolution"),
)  # fmt: skip

METADATA_RULES: tuple[Rule, ...] = (
    (r"civitai=SD 1", ("sd1",), "Civitai says so"),
    (r"civitai=SD 2", ("sd2",), "Civitai says so"),
    (r"civitai=(?:SDXL|Pony$|Illustrious|NoobAI|Kolors|Playground)", ("sdxl",), "Civitai says so"),
    (r"civitai=SD 3", ("sd3",), "Civitai says so"),
    (r"civitai=Flux\.1", ("flux",), "Civitai says so"),
    (r"civitai=Flux\.2", ("flux2",), "Civitai says so"),
    (r"civitai=(?:AuraFlow|Pony V7)", ("auraflow",), "Civitai says so"),
    (r"civitai=Hunyuan Video", ("hunyuan-video",), "Civitai says so"),
    (r"civitai=Hunyuan 1", ("hunyuan",), "Civitai says so"),
    (r"civitai=Stable Cascade", ("cascade",), "Civitai says so"),
    *((rf"civitai={start}", (family,), "Civitai says so") for start, family in (
        ("Chroma", "chroma"), ("Wan", "wan"), ("Lumina", "lumina"), ("PixArt", "pixart"), ("Qwen", "qwen"),
        ("ZImage", "z-image"), ("LTXV", "ltxv"), ("CogVideoX", "cogvideox"), ("Mochi", "mochi"),
        ("HiDream", "hidream"), ("Anima", "anima"), ("SVD", "svd"))),
    (r"(?:base|arch)=(?:sd_v1|sd_?1\.|stable-diffusion-v1|STABLE_DIFFUSION_15)", ("sd1",), "its metadata says SD 1"),
    (r"(?:base|arch)=(?:sd_v2|sd_?2\.|stable-diffusion-v2|STABLE_DIFFUSION_2)", ("sd2",), "its metadata says SD 2"),
    (r"arch=(?:stable-diffusion-xl-v1-refiner)", ("sdxl-refiner",), "its metadata says SDXL refiner"),
    (r"(?:base|arch)=(?:sdxl|stable-diffusion-xl|STABLE_DIFFUSION_XL)", ("sdxl",), "its metadata says SDXL"),
    (r"(?:base|arch)=(?:sd3|medium$|5-medium$|5-large|stable-diffusion-3|STABLE_DIFFUSION_3)",
     ("sd3",), "its metadata says SD 3"),
    (r"(?:base|arch)=(?:flux2|flux-2|FLUX_2)", ("flux2",), "its metadata says Flux.2"),
    (r"(?:base|arch)=(?i:flux)", ("flux",), "its metadata says Flux"),
    *((rf"(?:base|arch)=(?i:{start})", (family,), f"its metadata says {LABELS[family]}") for start, family in (
        ("chroma", "chroma"), ("lumina", "lumina"), ("hunyuan-image", "hunyuan"), ("anima", "anima"), ("wan", "wan"),
        ("qwen", "qwen"), ("pixart", "pixart"), ("hidream", "hidream"))),
    (r"module=.*lora_flux", ("flux", "chroma"), "it was trained with kohya's Flux script"),
    (r"module=.*lora_sd3", ("sd3",), "it was trained with kohya's SD 3 script"),
    (r"v2=True$", ("sd2",), "its metadata says SD 2"),
    (r"name=(?:.*(?:v1[-_]?[45]|sd[-_]?v?1[-_.]?[45])|128713\.)", ("sd1",), "its base checkpoint's name says SD 1"),
    (r"name=.*(?:v2[-_][01]|sd[-_]?v?2[-_.]?[01])", ("sd2",), "its base checkpoint's name says SD 2"),
    (r"name=(?:.*(?:sd_?xl|xl[-_.]|pony|illustrious|noobai)|290640\.|128078\.|889818\.|1190596\.)",
     ("sdxl",), "its base checkpoint's name says SDXL"),
    (r"name=(?:.*flux|691639\.)", ("flux",), "its base checkpoint's name says Flux"),
    (r"v2=False$", tuple(family for family in LABELS if family != "sd2"), "its metadata says: not SD 2"),
)  # fmt: skip

FLAVOURS = {  # flavour -> (name for people, families that have it)
    "pony": ("Pony", ("sdxl",)), "illustrious": ("Illustrious", ("sdxl",)), "noobai": ("NoobAI", ("sdxl",)),
    "animagine": ("Animagine", ("sdxl",)), "kolors": ("Kolors", ("sdxl",)), "playground": ("Playground", ("sdxl",)),
    "lcm": ("LCM", ("sd1", "sdxl")), "turbo": ("Turbo", ("sd1", "sd2", "sdxl", "sd3")),
    "lightning": ("Lightning", ("sd1", "sdxl")), "hyper": ("Hyper", ("sd1", "sdxl", "flux")),
    "schnell": ("Schnell", ("flux",)), "kontext": ("Kontext", ("flux",)), "krea": ("Krea", ("flux",)),
}  # fmt: skip
TITLE_WORDS = ("noobai", "illustrious", "pony", "animagine")
TELLING_TITLE = re.compile(rf"\b(?:{'|'.join(TITLE_WORDS)})")
TELLING_TAGS = ("score_9", "score_8_up", "source_anime", "rating_explicit")
FLAVOUR_RULES: tuple[tuple[str, str, str], ...] = (  # (pattern, flavour, why), strongest evidence first
    (r"civitai=Pony$", "pony", "Civitai says Pony"),
    (r"civitai=Illustrious", "illustrious", "Civitai says Illustrious"),
    (r"civitai=NoobAI", "noobai", "Civitai says NoobAI"),
    (r"civitai=Kolors", "kolors", "Civitai says Kolors"),
    (r"civitai=Playground", "playground", "Civitai says Playground"),
    (r"civitai=.* LCM$", "lcm", "Civitai says LCM"),
    (r"civitai=.* Turbo$", "turbo", "Civitai says Turbo"),
    (r"civitai=.* Lightning$", "lightning", "Civitai says Lightning"),
    (r"civitai=.* Hyper$", "hyper", "Civitai says Hyper"),
    (r"civitai=Flux\.1 S$", "schnell", "Civitai says Flux.1 S"),
    (r"civitai=Flux\.1 Kontext", "kontext", "Civitai says Flux.1 Kontext"),
    (r"civitai=Flux\.1 Krea", "krea", "Civitai says Flux.1 Krea"),
    (r"hash=(?:67ab2fd8ec439a89b3fedb15cc65f54336af163c7eb5e4f2acc98f090a29b0b3|e577480d)$", "pony",
     "it was trained on Pony Diffusion V6 XL"),
    (r"name=290640\.", "pony", "it was trained on Pony Diffusion V6 XL"),
    (r"name=889818\.", "illustrious", "it was trained on Illustrious v0.1"),
    (r"name=(?:1190596\.|.*noob)", "noobai", "its base checkpoint is a NoobAI"),
    (r"name=.*(?:illustrious|ilxl|wai-|wainsfw)", "illustrious", "its base checkpoint is an Illustrious"),
    (r"name=.*(?:pony|autismmix)", "pony", "its base checkpoint is a Pony"),
    (r"name=.*animagine", "animagine", "its base checkpoint is an Animagine"),
    (r"name=.*lightning", "lightning", "its base checkpoint is a Lightning one"),
    (r"name=.*turbo", "turbo", "its base checkpoint is a Turbo one"),
    (r"name=.*hyper[-_ ]?sd", "hyper", "its base checkpoint is a Hyper one"),
    (r"name=.*(?:^|[-_ .=])lcm(?:[-_ .]|$)", "lcm", "its base checkpoint is an LCM"),
    (r"name=.*schnell", "schnell", "its base checkpoint is Flux.1 schnell"),
    *((rf"tag={tag}$", "pony", "it was trained with Pony's tags") for tag in TELLING_TAGS),
    *((rf"title=.*\b{word}", word, f"its title says {FLAVOURS[word][0]}") for word in TITLE_WORDS),
)  # fmt: skip


TELLING = re.compile(  # the part of a name that tells families apart; what follows is alike in all of them
    r".*?(?:encoder_layers_\d+_|transformer_blocks_\d+_(?:attn_to_|attn_add_[qkv]_proj|ff_context)?)"
)
METADATA_CLUES = (  # (clue, metadata key, in lower case)
    ("base", "ss_base_model_version", False), ("arch", "modelspec.architecture", False),
    ("module", "ss_network_module", False), ("v2", "ss_v2", False),
    ("name", "ss_sd_model_name", True), ("title", "modelspec.title", True),
    ("hash", "ss_new_sd_model_hash", True), ("hash", "ss_sd_model_hash", True),
)  # fmt: skip
ROLES = (  # (what a module's input width tells, pattern of its name)
    ("context", re.compile(r"attn2_to_[kv]$")),
    ("self", re.compile(r"attn1_to_[qkv]$")),
    ("text", re.compile(r"self_attn_[qkv]_proj$|attn_in_proj_weight$")),
    ("label", re.compile(r"add_embedding_linear_1$|label_emb_0_0$")),
    ("proj_in", re.compile(r"_proj_in$")),
)
