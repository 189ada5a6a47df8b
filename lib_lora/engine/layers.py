"""Which layers can add something to what they put out, and what each kind makes of a weight other than its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from lib_lora.model.slots import Slot

Through = Callable[[Any, Tensor, Tensor], Tensor]  # (layer, x, weight) -> what the layer makes of x with that weight
CONVOLUTIONS: Mapping[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}  # fmt: skip
# Attention modules use the weight of their output projection without calling it.
NEVER_CALLED = (NonDynamicallyQuantizableLinear,)
THROUGH: Mapping[type[nn.Module], Through] = {  # without the bias
    nn.Linear: lambda layer, x, weight: F.linear(x, weight),
    **{kind: lambda layer, x, weight: layer._conv_forward(x, weight, None) for kind in CONVOLUTIONS},
    nn.Embedding: lambda layer, x, weight: F.embedding(x, weight),
    nn.LayerNorm: lambda layer, x, weight: F.layer_norm(x, layer.normalized_shape, weight, None, layer.eps),
    nn.GroupNorm: lambda layer, x, weight: F.group_norm(x, layer.num_groups, weight, None, layer.eps),
}


def can_bypass(slot: Slot) -> bool:
    """True for a parameter whose layer is called, and whose output is a sum over it."""
    return isinstance(slot.module, tuple(THROUGH)) and not isinstance(slot.module, NEVER_CALLED)


def through(layer: nn.Module) -> Through:
    """Of a layer that can be bypassed."""
    return next(apply for kind, apply in THROUGH.items() if isinstance(layer, kind))


def is_convolution(layer: nn.Module) -> bool:
    """True if its channels are the second axis, and a kernel of one pixel mixes them as a matrix does."""
    return isinstance(layer, tuple(CONVOLUTIONS))


def convolve(layer: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """`x` with another kernel, of one pixel, in as many dimensions as the convolution `layer` has."""
    return next(apply for kind, apply in CONVOLUTIONS.items() if isinstance(layer, kind))(x, weight)


def multiplies_channels(layer: nn.Module) -> bool:
    """True if two layers in a row, with thin matrices, make of x what one with their product makes."""
    return isinstance(layer, nn.Linear) or (is_convolution(layer) and getattr(layer, "groups", 0) == 1)


def channels_first(layer: nn.Module) -> bool:
    """True if the channels are the second axis of what it puts out, else they are the last."""
    return is_convolution(layer) or isinstance(layer, nn.GroupNorm)
