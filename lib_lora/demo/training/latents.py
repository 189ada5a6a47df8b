"""The latent space is a formula, not a learned code: a thumbnail plus a coverage mask.

Channels 0-2 are the mean colour of each 8x8 block and channel 3 the share of the block that the figure covers. The UNet
can therefore be trained with no autoencoder in the loop; the autoencoder is taught this space afterwards.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lib_lora.demo.training.pictures import CANVAS, Drawing

SIDE = CANVAS // 8  # latents are (4, 16, 16)
MEAN = torch.tensor([0.25, 0.05, -0.07, 0.12])[:, None, None]  # per channel, over many random scenes
STD = torch.tensor([0.77, 0.66, 0.73, 0.35])[:, None, None]


def latents_of(drawing: Drawing) -> Tensor:
    """(N, 4, 16, 16), about zero mean and unit variance."""
    channels = torch.cat([drawing.picture(), drawing.coverage()], dim=1)
    return (F.adaptive_avg_pool2d(channels, SIDE) - MEAN) / STD
