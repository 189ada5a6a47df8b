"""One module of a model, by its name in the diffusers and in the checkpoint (CompVis / SGM) layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Encoder:
    """A text encoder's role in its model, as the tools number and name it."""

    kohya: tuple[str, ...]  # key prefixes
    diffusers: tuple[str, ...]  # component names
    comfy: str  # folder name under text_encoders.
    checkpoint: str  # key prefix in a checkpoint file
    omi: tuple[str, ...]  # OneTrainer's component names


SD1 = Encoder(("lora_te", "lora_te1"), ("text_encoder",), "clip_l", "cond_stage_model.transformer", ("clip_l",))
SD2 = Encoder(("lora_te", "lora_te1"), ("text_encoder",), "clip_h", "cond_stage_model.model", ("clip_l", "clip_h"))
SDXL_1 = Encoder(
    ("lora_te1", "lora_te"), ("text_encoder",), "clip_l", "conditioner.embedders.0.transformer", ("clip_l",)
)
SDXL_2 = Encoder(("lora_te2",), ("text_encoder_2",), "clip_g", "conditioner.embedders.1.model", ("clip_g",))
REFINER = Encoder(
    ("lora_te", "lora_te1", "lora_te2"), ("text_encoder_2", "text_encoder"), "clip_g", "conditioner.embedders.0.model",
    ("clip_g", "clip_l"),
)  # fmt: skip
SD3_1 = Encoder(("lora_te1", "lora_te"), ("text_encoder",), "clip_l", "text_encoders.clip_l.transformer", ("clip_l",))
SD3_2 = Encoder(("lora_te2",), ("text_encoder_2",), "clip_g", "text_encoders.clip_g.transformer", ("clip_g",))
SD3_3 = Encoder(("lora_te3",), ("text_encoder_3",), "t5xxl", "text_encoders.t5xxl.transformer", ("t5",))
ENCODERS = (SD1, SD2, SDXL_1, SDXL_2, REFINER, SD3_1, SD3_2, SD3_3)


@dataclass(frozen=True)
class ModuleName:
    """`encoder` is None for a module of the UNet."""

    diffusers: str  # "down_blocks.0.attentions.0.proj_in", "text_model.encoder.layers.0.mlp.fc1"
    native: str  # the same in a checkpoint: "input_blocks.1.1.proj_in", "transformer.resblocks.0.mlp.c_fc"
    encoder: Encoder | None = None

    @property
    def component(self) -> str:
        """What the user's multipliers speak of: `unet`, `text_encoder` or `text_encoder_2`."""
        return "unet" if self.encoder is None else self.encoder.diffusers[0]


def flat(path: str) -> str:
    """The path as kohya's keys write it."""
    return path.replace(".", "_")


def with_and_without_text_model(path: str) -> Iterator[str]:
    """Transformers 5 dropped the `text_model.` level of CLIP; files of both kinds exist."""
    yield path
    if path.startswith("text_model."):
        yield path.removeprefix("text_model.")
