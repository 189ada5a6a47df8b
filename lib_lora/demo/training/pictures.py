"""A scene is one flat figure on one flat background, drawn from signed distances at any resolution."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

CANVAS = 128  # px; every length below is in pixels of this canvas


@dataclass(frozen=True)
class Scene:
    """What the caption says (words) and what the jitter made of it (numbers)."""

    shape: str
    colour: str
    size: str
    position: str
    background: str
    x: float  # px from the left
    y: float  # px from the top
    radius: float  # px
    angle: float  # radians
    colour_rgb: tuple[float, float, float]  # 0..1
    background_rgb: tuple[float, float, float]  # 0..1


@dataclass(frozen=True)
class Drawing:
    """N scenes before they become pixels; effects change these fields, so that a ring or a dusk stays sharp."""

    distance: Tensor  # (N, H, W) px to the edge of the figure, negative inside
    figure: Tensor  # (N, 3, H, W) or broadcastable, 0..1
    background: Tensor  # (N, 3, H, W) or broadcastable, 0..1
    centre: Tensor  # (N, 3): x, y and radius, px

    def coverage(self) -> Tensor:
        """(N, 1, H, W): the share of each pixel that the figure covers, 0..1."""
        pixel = CANVAS / self.distance.shape[-1]
        return (0.5 - self.distance / pixel).clamp(0, 1)[:, None]

    def picture(self) -> Tensor:
        """(N, 3, H, W) in -1..1, the range that diffusers uses."""
        mixed = torch.lerp(self.background, self.figure, self.coverage())
        return mixed.clamp(0, 1) * 2 - 1


def grid(resolution: int) -> tuple[Tensor, Tensor]:
    """x (1, R) and y (R, 1) of the pixel centres, px."""
    ticks = (torch.arange(resolution) + 0.5) * (CANVAS / resolution)
    return ticks[None, :], ticks[:, None]


# Signed distances. x to the right and y up, both in radii; negative inside.


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - 0.92


def _box(x: Tensor, y: Tensor, half_width: float, half_height: float) -> Tensor:
    return torch.maximum(x.abs() - half_width, y.abs() - half_height)


def _square(x: Tensor, y: Tensor) -> Tensor:
    return _box(x, y, 0.8, 0.8)


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    sides = x.abs() * math.cos(math.pi / 6) + y * math.sin(math.pi / 6)
    return torch.maximum(sides, -y - 0.05) - 0.52


def _cross(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(_box(x, y, 0.95, 0.32), _box(x, y, 0.32, 0.95))


def _star(x: Tensor, y: Tensor) -> Tensor:
    """Five points: fold the plane into one half point, then the distance to its edge."""
    tip, notch, half = 1.1, 0.47, math.pi / 5
    turn = (torch.remainder(torch.atan2(x, y) + half, 2 * half) - half).abs()
    reach = torch.hypot(x, y)
    # The edge runs from the tip (0, tip) to the notch.
    ex, ey = notch * math.sin(half), notch * math.cos(half) - tip
    return ((reach * turn.cos() - tip) * ex - reach * turn.sin() * ey) / math.hypot(ex, ey)


def _heart(x: Tensor, y: Tensor) -> Tensor:
    """A square that stands on its corner, with a disc on each of its upper sides."""
    half = 0.74  # of the square's diagonal
    x, y = x.abs(), y + 0.06
    flank = (x - y - half) * math.sqrt(0.5)
    disc = torch.hypot(x - half / 2, y - half / 2) - half * math.sqrt(0.5)
    edge = torch.where(x + y < half, flank, disc)
    notch = torch.hypot(x, y - half)  # the edge's nearest point for much of the inside; rings need it right
    return torch.where(edge < 0, torch.maximum(edge, -notch), edge)


SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "star": _star,
    "heart": _heart,
}

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.87, 0.14, 0.16),
    "orange": (0.98, 0.55, 0.09),
    "yellow": (0.99, 0.86, 0.18),
    "green": (0.16, 0.66, 0.27),
    "blue": (0.14, 0.38, 0.88),
    "purple": (0.60, 0.22, 0.72),
    "white": (0.98, 0.98, 0.98),
    "black": (0.07, 0.07, 0.09),
}

SIZES: dict[str, float] = {"small": 19.0, "medium": 30.0, "big": 45.0}  # radius, px

POSITIONS: dict[str, tuple[int, int]] = {  # which way from the centre; y down
    "center": (0, 0),
    "left": (-1, 0),
    "right": (1, 0),
    "top": (0, -1),
    "bottom": (0, 1),
}


def place(size: str, position: str) -> tuple[float, float]:
    """Centre of a figure, px: as far out as its size allows, at most 36 px."""
    dx, dy = POSITIONS[position]
    reach = min(36.0, CANVAS / 2 - SIZES[size] - 2)
    return CANVAS / 2 + dx * reach, CANVAS / 2 + dy * reach


def draw(scenes: list[Scene], resolution: int = CANVAS) -> Drawing:
    """The scenes as one `Drawing` of (N, resolution, resolution)."""
    x, y = grid(resolution)
    distance = torch.empty(len(scenes), resolution, resolution)
    for shape, function in SHAPES.items():
        rows = [i for i, scene in enumerate(scenes) if scene.shape == shape]
        if not rows:
            continue
        numbers = torch.tensor([[scenes[i].x, scenes[i].y, scenes[i].radius, scenes[i].angle] for i in rows])
        cx, cy, radius, angle = numbers[:, :, None, None].unbind(1)
        right, up = (x - cx) / radius, (cy - y) / radius
        cos, sin = angle.cos(), angle.sin()
        distance[rows] = function(cos * right + sin * up, cos * up - sin * right) * radius
    return Drawing(
        distance=distance,
        figure=torch.tensor([scene.colour_rgb for scene in scenes])[:, :, None, None],
        background=torch.tensor([scene.background_rgb for scene in scenes])[:, :, None, None],
        centre=torch.tensor([[scene.x, scene.y, scene.radius] for scene in scenes]),
    )
