"""What the adapters are taught: each effect redraws a scene for a strength, 0 being the scene as it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lib_lora.demo.training.pictures import CANVAS, Drawing, Scene, grid


def _same_scene(scene: Scene, strength: float) -> Scene:
    return scene


def _same_drawing(drawing: Drawing, strength: float) -> Drawing:
    return drawing


@dataclass(frozen=True)
class Effect:
    """`move` changes the scene (where, how large); `paint` changes its drawing (edge, colours)."""

    move: Callable[[Scene, float], Scene] = _same_scene
    paint: Callable[[Drawing, float], Drawing] = _same_drawing


def _recolour(drawing: Drawing, change: Callable[[Tensor], Tensor]) -> Drawing:
    return replace(drawing, figure=change(drawing.figure), background=change(drawing.background))


def _night(drawing: Drawing, strength: float) -> Drawing:
    """Above zero darker, blue last; below zero paler, towards white."""
    if strength >= 0:
        keep = torch.tensor([0.22, 0.26, 0.42])[:, None, None] ** strength
        return _recolour(drawing, lambda rgb: rgb * keep)
    return _recolour(drawing, lambda rgb: 1 - (1 - rgb) * 0.35**-strength)


def _warm(drawing: Drawing, strength: float) -> Drawing:
    """More red and less blue above zero, the opposite below."""
    tint = torch.tensor([0.30, 0.02, -0.40])[:, None, None]
    return _recolour(drawing, lambda rgb: (rgb + tint * strength).clamp(0, 1))


def _outline(drawing: Drawing, strength: float) -> Drawing:
    """Above zero the figure is hollowed out to a ring, below zero it swells."""
    if strength <= 0:
        return replace(drawing, distance=drawing.distance + 9 * strength)
    depth = -drawing.distance.amin(dim=(1, 2), keepdim=True)  # px from the innermost point to the edge
    wall = (depth * 0.4**strength).clamp(min=5)  # the hole opens from the innermost point outwards
    return replace(drawing, distance=torch.maximum(drawing.distance, -drawing.distance - wall))


def _bigger(scene: Scene, strength: float) -> Scene:
    return replace(scene, radius=min(64.0, max(6.0, scene.radius * 1.7**strength)))


def _spotlight(drawing: Drawing, strength: float) -> Drawing:
    """Light in the middle of the background and dark corners; below zero a dark middle and light corners."""
    resolution = drawing.distance.shape[-1]
    x, y = grid(resolution)
    reach = torch.hypot(x - CANVAS / 2, y - CANVAS / 2) / (CANVAS / 2)  # 0 in the middle, 1.41 in the corners
    light = 0.5 * (1 + torch.cos(math.pi * (reach / 1.3).clamp(0, 1))) - 0.45
    return replace(drawing, background=(drawing.background + 1.1 * strength * light).clamp(0, 1))


def _stripes(drawing: Drawing, strength: float) -> Drawing:
    """Level bars across the background, light above zero where they are dark below."""
    _, y = grid(drawing.distance.shape[-1])
    bars = torch.sin(y * (2 * math.pi / 32)).mul(6).clamp(-1, 1)
    return replace(drawing, background=(drawing.background + 0.35 * strength * bars).clamp(0, 1))


def _moon(drawing: Drawing, strength: float) -> Drawing:
    """A second disc bites the first: a crescent open to the right above zero, to the left below."""
    if strength == 0:
        return drawing
    x, y = grid(drawing.distance.shape[-1])
    cx, cy, radius = drawing.centre[:, :, None, None].unbind(1)
    # The bite comes from outside: at strength 1 it has eaten to just left of the middle.
    away = radius * (1.9 - 1.35 * min(1.2, abs(strength))) * math.copysign(1, strength)
    bite = torch.hypot(x - cx - away, y - cy) - 0.9 * radius
    return replace(drawing, distance=torch.maximum(drawing.distance, -bite))


EFFECTS: dict[str, Effect] = {
    "night": Effect(paint=_night),
    "outline": Effect(paint=_outline),
    "warm": Effect(paint=_warm),
    "bigger": Effect(move=_bigger),
    "spotlight": Effect(paint=_spotlight),
    "stripes": Effect(paint=_stripes),  # has no adapter; a style that the autoencoder learns all the same
    "moon": Effect(paint=_moon),
}
