"""Files that are no adapters but lie among them: what each is, told by the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable

# (pattern of a tensor's name, what the file is and where it belongs). First match wins.
ALWAYS: tuple[tuple[str, str], ...] = (  # whatever else is in the file
    (r"^lora_controlnet$", "a control LoRA (a small ControlNet); use it with the ControlNet extension"),
    (r"^control_model\.|^controlnet_|\.zero_convs?\.", "a ControlNet; use it with the ControlNet extension"),
    (r"^(?:unet|text_encoder):\d+:(?:up|down)$",
     "a LoRA in the first format of cloneofsimo/lora, which names no layers; convert it with that project's scripts"),
)  # fmt: skip
OTHERWISE: tuple[tuple[str, str], ...] = (  # if the file has no module of an adapter
    (r"^(?:emb_params|string_to_param.*|clip_[lgh]|string_to_token.*|<[^>]+>)$",
     "a textual inversion embedding; put it into the folder of the embeddings"),
    (r"^(?:image_proj|ip_adapter)\.", "an IP-Adapter; use it with the ControlNet extension"),
    (r"^first_stage_model\.|^cond_stage_model\.|^conditioner\.|^model\.diffusion_model\.",
     "a whole checkpoint, not an adapter; put it into the folder of the checkpoints"),
    (r"^(?:decoder|encoder)\.(?:conv_in|conv_out|mid|up|down)", "a VAE; put it into the folder of the VAEs"),
    (r"^(?:down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)\..*\.(?:weight|bias)$",
     "the weights of a whole UNet, not an adapter"),
    (r"^text_model\.", "the weights of a text encoder, not an adapter"),
    (r"^(?:adapter\.)?body\.\d+\.", "a T2I-Adapter; use it with the ControlNet extension"),
    (r"motion_modules\.", "a motion module of AnimateDiff; use it with that extension"),
    (r"^(?:320|640|768|1024|1280)\b", "a hypernetwork; put it into the folder of the hypernetworks"),
)  # fmt: skip


def always(names: Iterable[str]) -> str | None:
    """What a file with these tensors is, if it is surely no adapter."""
    return _match(ALWAYS, names)


def otherwise(names: Iterable[str]) -> str | None:
    """What a file with these tensors may be, in which no adapter was found."""
    return _match(OTHERWISE, names)


def _match(table: tuple[tuple[str, str], ...], names: Iterable[str]) -> str | None:
    text = "\n".join(names)
    return next((what for pattern, what in table if re.search(pattern, text, re.MULTILINE)), None)
