"""The tables of the base-model families: which clue leaves which families possible. Reading them is checking them.

`families.py` makes the clues, short lines of text, so that names, widths and metadata all go the same way:

    down_blocks_0_attentions_0_...      a module of a UNet or a text encoder, dots written as `_`
    transformer_blocks_N_attn1_to_q     a module of anything else, without the component's name, its numbers as `N`
    double_blocks.N.img_attn_qkv        the same with its dots, where the file has them
    transformer_blocks up to 59         the largest number of such a block
    context width 768                   input width of cross-attention's k and v in a UNet; others: see ROLES
    proj_in 4-D                         dimensions of proj_in's factors
    base=sd_v1                          metadata: METADATA_CLUES
    says=qwenimage                      the same of base model and architecture, letters and digits only
    civitai=Pony                        from a sidecar

A rule is (pattern, families that remain possible, why), strongest evidence first. Shape rules look for their pattern
anywhere in a clue, metadata rules at its beginning. A width means something only inside of the blocks of the model that
has it, and it never outvotes metadata that name another family which has the same blocks.
"""

from __future__ import annotations

import re

Rule = tuple[str, tuple[str, ...], str]  # (pattern, families that remain possible, why)

LABELS = {  # family -> name for people; where several remain, the first of them in this order is the best guess
    "sd1": "SD 1.5", "sdxl": "SDXL", "sd2": "SD 2", "flux": "Flux.1", "sd3": "SD 3", "sdxl-refiner": "SDXL refiner",
    "flux2": "Flux.2", "chroma": "Chroma", "hunyuan-video": "Hunyuan Video", "hunyuan": "Hunyuan", "wan": "Wan",
    "lumina": "Lumina", "cascade": "Stable Cascade", "auraflow": "AuraFlow", "pixart": "PixArt", "qwen": "Qwen",
    "z-image": "Z-Image", "ltxv": "LTX Video", "cogvideox": "CogVideoX", "mochi": "Mochi", "hidream": "HiDream",
    "anima": "Anima", "svd": "SVD", "cosmos": "Cosmos", "sana": "Sana", "kolors": "Kolors", "kandinsky": "Kandinsky",
    "omnigen": "OmniGen", "cogview": "CogView", "ernie": "ERNIE-Image", "krea2": "Krea 2", "ideogram": "Ideogram",
    "other": "a base model that is not known here",
}  # fmt: skip
UNKNOWN = "unknown"
OTHER = "other"  # never the answer: keeps a guess from being sure
MAX_GUESS = 7  # of so many families the commonest is worth naming
UNET = ("sd1", "sd2", "sdxl", "sdxl-refiner")
SIBLINGS = {"sd2": ("svd",), "sdxl": ("kolors",)}  # families whose adapters may have the very same tensors
SD12 = ("sd1", "sd2")
XL = ("sdxl", "sdxl-refiner")
AT = r"(?:attentions_\d+|middle_block_1|(?:in|out)put_blocks_\d+_1)_transformer_blocks_"
TE = r"(?:lora_te1?|text_encoder|clip_h_transformer|clip_[lh])_(?:text_model_)?encoder_layers_"
BIG = ("sd3", "flux", "chroma", "hidream")
CHOICES = {"SD1": ("sd1",), "SD2": ("sd2",), "SDXL": XL}  # what the WebUI's editor writes into the notes -> families
# Families of transformers that have blocks of one name.
JOINED = ("flux", "sd3", "flux2", "chroma", "hunyuan-video", "hunyuan", "qwen", "mochi", OTHER)
STREAMS = ("flux", "flux2", "chroma", "hunyuan-video", "hunyuan", "auraflow", OTHER)
CROSSED = ("ltxv", "pixart", "sana", "anima", "cosmos", "cogvideox", "cogview", "mochi", "kandinsky", OTHER)
LAYERED = ("z-image", "lumina", "omnigen", "ideogram", OTHER)
WITH_T5 = (*BIG, "pixart", "auraflow", "mochi", "cogvideox", "ltxv", "hunyuan", OTHER)
WITH_LLM = ("flux2", "hunyuan-video", "hunyuan", "lumina", "qwen", "z-image", "hidream", "anima", "sana", "omnigen",
            "cogview", "ernie", "krea2", "ideogram", "kandinsky", OTHER)  # fmt: skip
B = r"(?:^|_)(?<!transformer_)(?<!double_)(?<!single_)(?<!joint_)(?<!stream_)(?<!refiner_)(?<!mode_)blocks_N_"
T = r"(?:^|_)(?<!single_)(?<!joint_)(?<!text_)(?<!visual_)transformer_blocks_N_"


def without(*families: str) -> tuple[str, ...]:
    """All others."""
    return tuple(family for family in LABELS if family not in families)


BLOCK_RULES: tuple[Rule, ...] = (  # other architectures, known by the names of their blocks and their widths
    (r"mode_blocks_|stream_modulations_|single_transformer_blocks_N_ff_linear_in|double_blocks_N_attn_", (OTHER,),
     "it has blocks of a model that is not known here"),
    (r"double_stream_modulation|single_stream_modulation_|to_qkv_mlp_proj|single_transformer_blocks_N_attn_to_out$|"
     + T + r"ff(?:_context)?_linear_(?:in|out)", ("flux2",), "it has the stream modulation of Flux.2"),
    (r"individual_token_refiner|(?:img|txt)_mod_linear|(?:img|txt)_mlp_fc\d|_blocks_N_modulation_linear"
     r"|double_blocks\.N\.(?:img|txt)_attn_(?:qkv|proj|q|k|v)\b|byt5_in",
     ("hunyuan-video", "hunyuan"), "it has the blocks of Hunyuan Video"),
    (r"token_refiner_", ("hunyuan-video", "hunyuan", OTHER), "it has the refiner of Hunyuan Video"),
    (r"distilled_guidance_layer|nerf_(?:blocks|final)", ("chroma",), "it has Chroma's guidance layer"),
    (r"joint_transformer_blocks_|(?:double|single)_layers_N|time_step_proj_"
     r"|single_transformer_blocks_N_(?:ff_(?:linear_\d|linear_N|out)|norm1_)",
     ("auraflow",), "it has the joint blocks of AuraFlow"),
    (r"single_transformer_blocks_N_attn_to_out_N", ("auraflow", OTHER), "it has the single blocks of AuraFlow"),
    (r"(?:double|single)_stream_blocks_N", ("hidream",), "it has the stream blocks of HiDream"),
    (T + r"(?:(?:img|txt)_mlp|txt_mod)_", ("qwen",), "it has the blocks of Qwen-Image"),
    (T + r"img_mod_", ("qwen", OTHER), "it has the modulation of Qwen-Image"),
    (r"attn_to_gate$|text_fusion_|txtfusion_|" + B + r"attn_(?:w[qkvo]|gate)$", ("krea2",),
     "it has the blocks of Krea 2"),
    (r"(?:double|single)_blocks_N|single_transformer_blocks_N", STREAMS, "it has the double and single blocks of Flux"),
    (r"(?:img|txt)_mod_lin$|single_blocks_N_modulation_lin$", ("flux",), "it has the modulation of Flux.1"),
    (r"(?:img|txt)_mlp_N$|double_blocks\.N\.(?:img|txt)_(?:attn|mlp)\.", ("flux", "chroma", "flux2", OTHER),
     "it has the double blocks of Flux"),
    (r"joint_blocks_N", ("sd3",), "it has the joint blocks of SD 3"),
    (r"attn1_(?:add_[qkv]_proj|to_add_out)|" + B + r"(?:attn_(?:qkv|proj)_[xy]|mlp_[xy]_)",
     ("mochi",), "it has the blocks of Mochi"),
    (T + r"(?:attn_(?:add_[qkv]_proj|to_add_out)|ff_context|norm1_context)", JOINED,
     "it has attention over joined text and picture"),
    (r"ref_image_(?:refiner|patch)|^layers_N_(?:self_attn_qkv_proj|mlp_gate_up_proj)", ("omnigen",),
     "it has the layers of OmniGen"),
    (r"noise_refiner|context_refiner", ("lumina", "z-image", "omnigen", OTHER), "it has the refiners of Lumina"),
    (r"^layers_N_self_attention_", ("ernie", OTHER), "it has the layers of ERNIE-Image"),
    (r"^layers_N_(?:attention_|attn_to_|feed_forward_|adaLN_modulation|adaln_modulation)", LAYERED,
     "it has the layers of Lumina or Z-Image"),
    (B + r"(?:(?:self|cross)_attn_(?:[qkvo]|[kv]_img|norm_[qk])$|ffn_(?:N|net_))|^vace_blocks_N",
     ("wan",), "it has the blocks of Wan"),
    (r"^condition_embedder_(?:time|text)_", ("wan", OTHER), "it has the text path of Wan"),
    (r"llm_adapter_", ("anima",), "it has Anima's text adapter"),
    (B + r"(?:(?:self|cross)_attn_(?:[qkv]|output|out)_proj|mlp_layer\d|adaln_modulation_)", ("anima", "cosmos"),
     "it has the blocks of Cosmos"),
    (r"^blocks_block\d+_blocks", ("cosmos",), "it has the blocks of Cosmos"),
    (r"(?:text|visual)_transformer_blocks_N_", ("kandinsky",), "it has the blocks of Kandinsky 5"),
    (r"_ff_conv_(?:inverted|depth|point)|_mlp_(?:inverted|depth|point)_conv", ("sana",), "it has the blocks of Sana"),
    (B + r"attn\d_(?:Wqkv|q_proj|kv_proj|out_proj)", ("hunyuan",), "it has the blocks of Hunyuan-DiT"),
    (B + r"(?:cross_attn_(?:q_linear|kv_linear|proj)|attn_(?:qkv|proj)$)", ("pixart", "sana", "mochi", OTHER),
     "it has the blocks of PixArt"),
    (B + r"attn\d_(?:to_|add_|norm_)", ("wan", "hunyuan", OTHER), "it has the blocks of Wan"),
    (B, (*without(*UNET, "svd", "kolors"),), "it has the blocks of a diffusion transformer"),
    (r"audio_(?:attn\d|ff_|to_video)|video_to_audio|av_c(?:a|ross)_", ("ltxv",), "it has the audio blocks of LTX"),
    (r"^audio_", ("ltxv", OTHER), "it has audio"),
    (T + r"attn\d_", (*CROSSED, "sd3"), "it has the blocks of a diffusion transformer"),
    (T + r"attn_to_", (*JOINED, "krea2"), "it is a diffusion transformer"),
    (T, (*CROSSED, *JOINED, "krea2"), "it is a diffusion transformer"),
    (r"any_blocks_N_", without(*UNET, "svd", "kolors"), "it is a diffusion transformer"),
    (r"(?:^|_)(?:double_blocks|(?<!single_)transformer_blocks) up to (?:19|[2-9]\d)$",
     without("flux", "chroma", "flux2"), "it has more blocks than Flux"),
    (r"(?:^|_)(?:double_blocks|(?<!single_)transformer_blocks) up to (?:3[89]|[4-9]\d)$",
     without("flux", "chroma", "flux2", "sd3"), "it has more blocks than SD 3"),
    (r"single_(?:transformer_)?blocks up to (?:3[89]|[4-9]\d)$", without("flux", "chroma"),
     "it has more blocks than Flux"),
    (r"single_(?:transformer_)?blocks up to [4-9]\d$", without("flux", "chroma", "hunyuan-video", "hunyuan"),
     "it has more blocks than Hunyuan Video"),
    (r"(?:^|_)(?<!single_)transformer_blocks up to 59$", ("qwen", OTHER), "it has 60 blocks"),
    # how wide they are
    (r"hidden width 3840$", ("z-image", OTHER), "it is 3840 wide"),
    (r"hidden width 2304$", ("lumina", OTHER), "it is 2304 wide"),
    (r"hidden width 25[26]0$", ("omnigen", "hidream", "cogview", OTHER), "it is 2520 or 2560 wide"),
    (r"hidden width 4608$", ("ideogram", OTHER), "it is 4608 wide"),
    (r"hidden width 1920$", ("cogvideox", OTHER), "it is 1920 wide"),
    (r"hidden width 1152$", ("pixart", "sana", OTHER), "it is 1152 wide"),
    (r"hidden width 2240$", ("sana", OTHER), "it is 2240 wide"),
    (r"hidden width 1408$", ("hunyuan", OTHER), "it is 1408 wide"),
    (r"hidden width 2432$", ("sd3", OTHER), "it is 2432 wide"),
    (r"hidden width 1536$", ("sd3", "wan", OTHER), "it is 1536 wide"),
    (r"hidden width 2048$", ("ltxv", "anima", "cosmos", "kandinsky", "hunyuan-video", OTHER), "it is 2048 wide"),
    (r"hidden width 3584$", ("hunyuan", OTHER), "it is 3584 wide"),
    (r"hidden width 4096$", ("flux2", "ltxv", "cosmos", "cogview", "qwen", "kandinsky", OTHER), "it is 4096 wide"),
    (r"hidden width 5120$", ("wan", "cosmos", OTHER), "it is 5120 wide"),
    (r"hidden width 6144$", ("flux2", "krea2", OTHER), "it is 6144 wide"),
    (r"hidden width 3072$",
     ("flux", "flux2", "chroma", "hunyuan-video", "qwen", "auraflow", "wan", "mochi", "cogvideox", "ernie", OTHER),
     "it is 3072 wide"),
    (r"cross width 1024$", ("anima", "cosmos", "hunyuan", OTHER), "it reads text 1024 wide"),
    (r"cross width 2048$", ("ltxv", "kandinsky", OTHER), "it reads text 2048 wide"),
    (r"cross width (?:1536|5120)$", ("wan", OTHER), "it reads text as wide as Wan does"),
    (r"cross width 1152$", ("pixart", "sana", OTHER), "it reads text 1152 wide"),
    (r"cross width 2240$", ("sana", OTHER), "it reads text 2240 wide"),
    (r"joined width (?:7680|12288|15360)$", ("flux2", OTHER), "it reads the texts of Flux.2"),
    (r"joined width 3584$", ("qwen", "hunyuan", "hunyuan-video", "kandinsky", OTHER), "it reads text 3584 wide"),
    (r"mlp out 18432$", ("flux2", OTHER), "its feed-forward layers are those of Flux.2"),
)  # fmt: skip
SHAPE_RULES: tuple[Rule, ...] = (
    *BLOCK_RULES,
    # the UNets of Stable Diffusion and what is built around them
    (r"lora_prior_(?:unet|te)|(?:down|up)_blocks_\d+_\d+_(?:attention|channelwise|depthwise|kv_mapper|mapper)",
     ("cascade",), "it has the prior of Stable Cascade"),
    (r"temporal_transformer_blocks|(?:spatial|temporal)_res_block|time_stack|time_pos_embed|time_mix",
     ("svd",), "it has the layers over time of SVD"),
    (r"temp_attentions|temp_convs|^transformer_in", (OTHER,), "it has the layers over time of another video model"),
    (r"motion_modules|temporal_transformer_|temporal_attentions",
     ("sd1", "sdxl"), "it is for a motion module of AnimateDiff"),
    (r"attentions_\d+_(?:(?:processor_)?(?:add_[kv]_proj|to_[qkv]$|to_out)|attention_|in_norm|out_norm|feed_forward"
     r"|group_norm|proj_attn|query$|key$|value$)|resnets_(?:in|out)_\d|resnets_\d+_conv(?:_skip|\d_(?:depth|point)wise)",
     ("kandinsky", OTHER), "it has the attention of Kandinsky's UNet"),
    (r"encoder_hid_proj|encoder_layers_\d+_(?:self_attention|mlp_dense)", ("kolors",),
     "it has the text path of Kolors"),
    (r"(?:down|up|input|output)_blocks_\d|mid_block_|middle_block_|^conv_in$",
     UNET, "it has the blocks of a Stable Diffusion UNet"),
    (r"context width 768$", ("sd1",), "its cross-attention reads text 768 wide"),
    (r"context width 1024$", ("sd2",), "its cross-attention reads text 1024 wide"),
    (r"context width 2048$", ("sdxl",), "its cross-attention reads text 2048 wide"),
    (r"context width 1280$", ("sdxl-refiner",), "its cross-attention reads text 1280 wide"),
    (r"label width 2816$", ("sdxl",), "its size embedding is 2816 wide"),
    (r"label width 768$", ("svd",), "its size embedding is 768 wide"),
    (r"label width 5632$", ("kolors",), "its size embedding is 5632 wide"),
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
    (r"(?:lora_te\d?|text_encoders?(?:_\d)?|llama|qwen\w*|gemma\w*)_(?:\w+_)?layers_N_(?:self_attn|mlp)", WITH_LLM,
     "its text encoder is a language model"),
    (r"embedders_1_|lora_te2_|text_encoder_2_|clip_g_", (*XL, *BIG), "it has a second text encoder"),
    (r"proj_in 4-D$", ("sd1",), "proj_in is a convolution"),
    # text encoders
    (r"lora_te3_|text_encoder_3_|t5xxl|^t5_", BIG, "it has a T5 text encoder"),
    (r"encoder_block_N_layer_N", WITH_T5, "it has a T5 text encoder"),
    (r"text width 1024$", ("sd2",), "its text encoder is 1024 wide"),
    (r"text width 768$", ("sd1", "sdxl", *BIG), "its text encoder is 768 wide"),
    (r"text width 1280$", (*XL, *BIG), "its text encoder is 1280 wide"),
    (TE + r"(?:2[4-9]|3[01])_", ("sdxl-refiner",), "its only text encoder has 32 layers"),
    (TE + r"(?:1[2-9]|2[0-3])_", ("sd2", "sdxl-refiner"), "its text encoder has more than 12 layers"),
    (r"cond_stage_model_transformer", ("sd1",), "its text encoder is CLIP-L alone"),
    (r"cond_stage_model_model|clip_h_", ("sd2",), "its text encoder is OpenCLIP-H"),
    (r"embedders_0_model", ("sdxl-refiner",), "its only text encoder is OpenCLIP-bigG"),
    (r"embedders_0_transformer", ("sdxl",), "its first text encoder is CLIP-L"),
    (r"lora_te_\w*encoder_layers_", ("sd1", "sd2", "sdxl-refiner"), "it has one text encoder"),
    (r"lora_te1_\w*encoder_layers_", ("sdxl", "sd1", "sd2", *BIG), "its text encoder is numbered"),
    (r"text_encoder_\w*encoder_layers_|clip_l_", ("sd1", "sd2", "sdxl", *BIG), "it has a text encoder"),
    (r"proj_in 2-D$", ("sd2", *XL), "proj_in is not a convolution"),
)  # fmt: skip

METADATA_RULES: tuple[Rule, ...] = (
    (r"civitai=SD 1", ("sd1",), "Civitai says so"),
    (r"civitai=SD 2", ("sd2",), "Civitai says so"),
    (r"civitai=(?:SDXL|Pony$|Illustrious|NoobAI|Playground)", ("sdxl",), "Civitai says so"),
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
        ("HiDream", "hidream"), ("Anima", "anima"), ("SVD", "svd"), ("Kolors", "kolors"), ("Cosmos", "cosmos"),
        ("Sana", "sana"), ("Kandinsky", "kandinsky"), ("OmniGen", "omnigen"), ("CogView", "cogview"),
        ("Ernie", "ernie"), ("Krea", "krea2"), ("Ideogram", "ideogram"))),
    (r"(?:base|arch)=(?:sd_v1|sd_?1\.|stable-diffusion-v1|STABLE_DIFFUSION_15)", ("sd1",), "its metadata says SD 1"),
    (r"(?:base|arch)=(?:sd_v2|sd_?2\.|stable-diffusion-v2|STABLE_DIFFUSION_2)", ("sd2",), "its metadata says SD 2"),
    (r"arch=(?:stable-diffusion-xl-v1-refiner)", ("sdxl-refiner",), "its metadata says SDXL refiner"),
    (r"(?:base|arch)=(?:sdxl|stable-diffusion-xl|STABLE_DIFFUSION_XL)", ("sdxl",), "its metadata says SDXL"),
    (r"(?:base|arch)=(?:sd3|medium$|5-medium$|5-large|stable-diffusion-3|STABLE_DIFFUSION_3)",
     ("sd3",), "its metadata says SD 3"),
    *((rf"says=(?:{start})", (family,), f"its metadata says {LABELS[family]}") for start, family in (
        (r"sd1|sdv1|stablediffusionv?1", "sd1"), (r"sd2|sdv2|stablediffusionv?2", "sd2"),
        (r"flux2|.*blackforestlabsflux2", "flux2"), ("flux|.*blackforestlabsflux1", "flux"),
        ("zetachroma|zimage|.*zimage", "z-image"), (".*chroma", "chroma"),
        (".*hunyuanvideo|framepack|hv15", "hunyuan-video"), (".*hunyuan", "hunyuan"),
        (r"wan(?:\d|video|x|$|t2v|i2v)", "wan"),
        (".*qwenimage|qwen", "qwen"), (".*ltx", "ltxv"), ("anima(?!gine)", "anima"), (".*cosmos", "cosmos"),
        (".*lumina", "lumina"), (".*hidream", "hidream"), (".*pixart", "pixart"), ("sana", "sana"),
        (".*cascade|w.?u?e?rstchen", "cascade"), (".*kandinsky", "kandinsky"), (".*mochi", "mochi"),
        (".*cogvideo", "cogvideox"), (".*cogview", "cogview"), (".*omnigen", "omnigen"),
        (".*auraflow|ponyv7", "auraflow"), (".*kolors", "kolors"), ("svd|stablevideo", "svd"), ("ernie", "ernie"),
        ("krea2", "krea2"), ("ideogram", "ideogram"))),
    *((rf"module=.*lora_{end}", found, f"it was trained with a script for {LABELS[found[0]]}") for end, found in (
        ("flux_?2", ("flux2",)), ("flux", ("flux", "chroma")), ("sd3", ("sd3",)), ("lumina", ("lumina",)),
        ("hunyuan_image", ("hunyuan",)), ("hunyuan_video|lora_hv|lora_framepack", ("hunyuan-video",)),
        ("anima", ("anima",)), ("qwen", ("qwen",)), ("wan", ("wan",)), ("z_?image", ("z-image",)),
        ("kandinsky", ("kandinsky",)), ("krea2", ("krea2",)), ("ltx", ("ltxv",)), ("chroma", ("chroma",)))),
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
    "animagine": ("Animagine", ("sdxl",)), "playground": ("Playground", ("sdxl",)),
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


UNET_NAME = re.compile(r"(?:^|_)(?:(?:down|up|input|output)_blocks_\d|(?:mid|middle)_block_)")
OVER_TIME = re.compile(r"motion_modules|temporal|time_stack")  # layers of a UNet with widths of their own
TELLING = re.compile(  # the part of a name that tells families apart; what follows is alike in all of them
    r".*?(?:encoder_layers_\d+_(?:self_attention|mlp_dense)?|(?:temporal_)?transformer_blocks_\d+_)"
)
PREFIX = re.compile(  # the component, as the tools name it
    r"(?:(?:model\.diffusion_model|diffusion_model|base_model\.model|unet|transformer|net|pipe\.dit|dit|llm|model|module"
    r"|_orig_mod)\.)+|lora_unet_|lora_transformer_(?=(?:single_|joint_)?transformer_|double_|single_|joint_|layers_)"
    r"|lycoris_|oft_unet_|diffusion_model_"
)
AMBIGUOUS = "lora_transformer_blocks_"  # of `transformer.blocks.0` or of `transformer_blocks.0`
NUMBER = re.compile(r"(?<=[._])\d+(?=[._]|$)")
BLOCK = re.compile(r"((?:[a-z]+_)*(?:blocks|layers))_(\d+)")
METADATA_CLUES = (  # (clue, metadata key, in lower case)
    ("base", "ss_base_model_version", False), ("arch", "modelspec.architecture", False),
    ("module", "ss_network_module", False), ("v2", "ss_v2", False),
    ("name", "ss_sd_model_name", True), ("title", "modelspec.title", True),
    ("hash", "ss_new_sd_model_hash", True), ("hash", "ss_sd_model_hash", True),
)  # fmt: skip
ROLES = (  # (what a module's input width tells, pattern of its name): in UNets and text encoders
    ("context", re.compile(r"attn2_to_[kv]$")),
    ("self", re.compile(r"attn1_to_[qkv]$")),
    ("text", re.compile(r"self_attn_[qkv]_proj$|attn_in_proj_weight$")),
    ("label", re.compile(r"add_embedding_linear_1$|label_emb_0_0$")),
    ("proj_in", re.compile(r"_proj_in$")),
)
OTHER_ROLES = (  # the same in all others
    ("cross", re.compile(r"(?:attn2_to_|cross_attn_)[kv](?:_proj)?$")),
    ("hidden", re.compile(
        r"^(?!.*(?:refiner|adapter|fusion|audio|text_)).*(?:attn1?_to_q|attention_(?:to_q|qkv)|self_attn_q(?:_proj)?"
        r"|cross_attn_q_linear|attn_qkv|img_attn_(?:q|qkv|proj)|attn_wq|attn_w1q|x_block_attn_qkv|attn1_Wqkv)$")),
    ("joined", re.compile(r"^(?:txt_in|context_embedder)$")),
    ("label", re.compile(r"add_embedding_linear_1$|label_emb_0_0$")),
)  # fmt: skip
MLP = re.compile(r"img_mlp_0$")
