"""What a random checkpoint is made of: sizes, from which its keys, its shapes and its .yaml follow."""

from __future__ import annotations

from dataclasses import dataclass

POSITIONS = 77
LATENT = 4  # channels
RESNETS = 2  # of one level on the way down; one more on the way up
SIZES, SIZE_WIDTH = 6, 256  # SDXL is told: height and width of the original, of the corner, of the picture
VAE_LEVELS = (1, 2, 4, 4)


@dataclass(frozen=True)
class Encoder:
    """A text encoder. `arch`: its name in open_clip; without one it is CLIP as transformers has it."""

    root: str  # of its keys
    width: int
    layers: int
    heads: int
    arch: str = ""


@dataclass(frozen=True)
class Recipe:
    """Everything that a checkpoint's keys, shapes and .yaml follow from."""

    width: int  # of the UNet's first level
    levels: tuple[int, ...]  # how many times as wide each level is
    depths: tuple[int, ...]  # transformer blocks of each level
    middle: int  # transformer blocks between down and up
    heads: dict[str, int]  # their number or their width, in the words of the UNet's code
    encoders: tuple[Encoder, ...]
    vae: int = 32  # width of its first level
    is_xl: bool = False

    @property
    def context(self) -> int:
        """Width of what the UNet is told of the prompt."""
        return sum(encoder.width for encoder in self.encoders)

    @property
    def is_linear(self) -> bool:
        """Whether the layers around the transformer blocks are linear; SD1 has convolutions of 1 x 1."""
        return any(encoder.arch for encoder in self.encoders)

    @property
    def told(self) -> int:
        """Width of what SDXL is told beside the prompt; 0 of the others."""
        return self.encoders[-1].width + SIZES * SIZE_WIDTH if self.is_xl else 0


SMALLEST = "ViT-S-32-alt"  # 256 wide, 10 layers, 4 heads
FOUR_LEVELS = dict(levels=(1, 2, 4, 4), depths=(1, 1, 1, 0), middle=1)
RECIPES = {
    "tiny-sd1": Recipe(
        32, **FOUR_LEVELS, heads={"num_heads": 8}, encoders=(Encoder("cond_stage_model.transformer.", 64, 2, 4),)
    ),
    "tiny-sd2": Recipe(
        32, **FOUR_LEVELS, heads={"num_head_channels": 16},
        encoders=(Encoder("cond_stage_model.model.", 256, 10, 4, SMALLEST),),
    ),
    "tiny-sdxl": Recipe(
        32, levels=(1, 2, 4), depths=(0, 2, 10), middle=10, heads={"num_head_channels": 16}, is_xl=True,
        encoders=(
            Encoder("conditioner.embedders.0.transformer.", 64, 2, 4),
            Encoder("conditioner.embedders.1.model.", 256, 10, 4, SMALLEST),
        ),
    ),
    "sd15": Recipe(
        320, **FOUR_LEVELS, heads={"num_heads": 8}, vae=128,
        encoders=(Encoder("cond_stage_model.transformer.", 768, 12, 12),),
    ),
}  # fmt: skip
