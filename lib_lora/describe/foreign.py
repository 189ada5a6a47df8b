"""Files that are no adapters but lie among them: what each is and where it belongs, told by the names of its tensors.

One table for all who say what a file is: the index and `info`, which know names and shapes alone, and the drawing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

CONTROLNET = "use it with the ControlNet extension"
OWN = "use it with its own extension"

# (pattern of a tensor's name, what the file is and where it belongs). First match wins.
ALWAYS: tuple[tuple[str, str], ...] = (  # whatever else is in the file
    (r"^lora_controlnet$", f"a control LoRA (a small ControlNet); {CONTROLNET}"),
    (r"(?:^|\.)lllite_(?:unet|dit)", f"a ControlNet-LLLite; {CONTROLNET}"),
    (r"^(?:id_encoder|lora_weights)\.", f"a PhotoMaker; {OWN}"),
    (r"^(?:pulid_(?:ca|encoder)|id_adapter(?:_attn_layers)?)\.", f"a PuLID; {CONTROLNET}"),
    (r"^(?:image_proj|ip_adapter|image_proj_model|ip_adapter_proj_model)\.|\.(?:to_[kv]_ip|ip_adapter_[kv]_proj)\b"
     r"|\.ip_adapter_\w+_[kv]_proj\b",
     f"an IP-Adapter; {CONTROLNET}"),
    (r"^(?:module\.)?(?:control_model\.|controlnet_|control_add_embedding\.|controlnet\.)|(?:^|\.)zero_convs?\.",
     f"a ControlNet; {CONTROLNET}"),
    (r"^(?:unet|text_encoder):\d+:(?:up|down)$",
     "a LoRA in the first format of cloneofsimo/lora, which names no layers; convert it with that project's scripts"),
)  # fmt: skip
OTHERWISE: tuple[tuple[str, str], ...] = (  # if the file has no module of an adapter
    (r"^(?:emb_params|string_to_param.*|clip_[lgh]|t5xxl|text_encoders_\d|string_to_token.*|<[^>]+>)$",
     "a textual inversion embedding; put it into the folder of the embeddings"),
    (r"\.fuser\.(?:linear|alpha_|attn)|^position_net\.", f"a GLIGEN; {OWN}"),
    (r"motion_modules\.|temporal_transformer\.|\.temporal_attentions\.",
     "a motion module of AnimateDiff; use it with that extension"),
    (r"^model\.diffusion_model\.(?:.*\.)?(?:[\w-]+)$",
     "a checkpoint, not an adapter; a whole checkpoint belongs into the folder of the checkpoints"),
    (r"^(?:cond_stage_model|conditioner|text_encoders)\.",
     "a checkpoint (its text encoders), not an adapter; a whole checkpoint belongs into the folder of the checkpoints"),
    (r"^first_stage_model\.|^(?:vae\.)?(?:decoder|encoder)\.(?:conv_in|conv_out|mid|up|down)|^(?:post_)?quant_conv\.",
     "a VAE; put it into the folder of the VAEs"),
    (r"^(?:taesd_)?(?:decoder|encoder)\.layers\.\d+\.(?:conv|weight)|^(?:decoder|encoder)\.\d+\.(?:conv\.\d|weight)",
     "a small VAE (TAESD); put it into the folder of the approximate VAEs"),
    (r"^(?:params(?:_ema)?\.)?(?:RRDB_trunk|body|model\.1\.sub)\.\d+\.(?:rdb|RDB)\d|^model\.\d+\.sub\.\d+\."
     r"|^(?:params(?:_ema)?\.)?(?:conv_first|conv_body|conv_up1|upconv1|trunk_conv|HRconv)\."
     r"|\.residual_group\.|^params(?:_ema)?\.body\.\d+\.(?:weight|bias)$",
     "an upscaler (ESRGAN and the like); put it into the folder of the upscalers"),
    (r"stylegan_decoder|^(?:params_ema\.)?(?:final_body|toRGB|quantize\.embedding)",
     "a model that restores faces; put it into the folder of those"),
    (r"^(?:adapter\.)?body\.\d+\.(?:block\d|in_conv|down_opt|resnets|skep)|^adapter\.(?:body|conv_in)|^task_embedding$"
     r"|^style_embedding$", f"a T2I-Adapter; {CONTROLNET}"),
    (r"^(?:320|640|768|1024|1280|2048)\b", "a hypernetwork; put it into the folder of the hypernetworks"),
    (r"^(?:vision_model|visual)\.|^image_encoder\.", f"an image encoder (CLIP vision); {CONTROLNET}"),
    (r"^(?:transformer\.)?text_model\.|^transformer\.resblocks\.|^encoder\.block\.\d+\.layer\.|^shared\.weight$"
     r"|^text_projection|^(?:model\.)?layers\.\d+\.(?:self_attn|mlp)\..*\.weight$",
     "the weights of a text encoder, not an adapter"),
    (r"^(?:module\.|unet\.)?(?:down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)\..*"
     r"\.(?:weight|bias)$", "the weights of a whole UNet (those of IC-Light and LCM too), not an adapter"),
    (r"^(?:model\.|transformer\.)?(?:double_blocks|single_blocks|joint_blocks|transformer_blocks|blocks|layers"
     r"|single_transformer_blocks|joint_transformer_blocks|double_layers)\.\d+\..*\.(?:weight|bias)$",
     "the weights of a whole diffusion model, not an adapter; a whole checkpoint belongs into the folder of the "
     "checkpoints"),
)  # fmt: skip
TOKEN_WIDTHS = (768, 1024, 1280)  # of a textual inversion
MARKS = (  # one of them is in every name that ALWAYS knows: looked for first, for adapters have thousands of names
    "control", "lllite_", "id_encoder.", "lora_weights.", "pulid_", "id_adapter", "image_proj", "ip_adapter", "_ip.",
    "_ip\n", "zero_conv", ":up", ":down",
)  # fmt: skip

Shape = tuple[int, ...]


def why_none(
    shapes: Mapping[str, Shape], *, usable: bool, refused: str | None = None, unknown: str | None = None
) -> str:
    """What a file is that is no adapter, to stand behind "is"; empty if it is one.

    `usable`: it has modules or embeddings of an adapter; else `refused`, a sentence: why not the first of its modules,
    and `unknown`, the name of a tensor that is part of none.
    """
    names = "\n".join(shapes)
    if any(mark in names for mark in MARKS) and (what := _match(ALWAYS, names)):
        return what
    if usable:
        return ""
    if refused:
        return f"an adapter with no usable module: {refused}"
    if not shapes:
        return "not an adapter: it holds no tensors"
    if what := _match(OTHERWISE, names):
        return what
    if len(shapes) == 1 and _is_token(*shapes.values()):
        return OTHERWISE[0][1]
    name = unknown or next(iter(shapes))
    return f"no adapter that is known here: not an adapter, or of an unknown kind; its tensors are named like '{name}'"


def _is_token(shape: Shape) -> bool:
    return len(shape) in (1, 2) and shape[-1] in TOKEN_WIDTHS and (len(shape) == 1 or shape[0] <= 128)


def _match(table: tuple[tuple[str, str], ...], names: str) -> str | None:
    return next((what for pattern, what in table if re.search(pattern, names, re.MULTILINE)), None)
