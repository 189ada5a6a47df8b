"""OFT: the outputs of a layer turned by a block-diagonal rotation, W_new = Rᵀ W. arXiv:2306.07280, arXiv:2311.06243.

kohya sd-scripts' `networks.oft`, LyCORIS' `diag-oft`, and the `oft_diag` of LyCORIS 2.0, which is R itself. `alpha`
is not a scale here: alpha * o limits the norm of the generator Q.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lib_lora.algorithms.base import Delta, Parts, Shape, like, precise, require, show

EVEN = 1e-4  # mean square of a cosine that may come from rounding
Turns = dict[tuple[torch.device, torch.dtype], Tensor]  # R - I where it was needed last


@dataclass(frozen=True, eq=False)
class Oft(Delta):
    """delta = rescale ⊙ (Rᵀ W) - W. As kohya's trainer names them."""

    additive = False

    blocks: Tensor  # (k, n, n): what the generator is made of, or the rotation itself
    constraint: float | None  # largest norm of the generator
    rescale: Tensor | None  # (o,): a factor for each output
    is_rotation: bool = False
    turns: Turns = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_parts(cls, parts: Parts) -> Oft:
        """`oft_blocks` (k, n, n), `alpha`, `rescale`; or `oft_diag` (k, n, n)."""
        is_rotation = "oft_diag" in parts
        name = "oft_diag" if is_rotation else "oft_blocks"
        blocks = parts.take(name)
        require(
            blocks.dim() == 3 and blocks.shape[1] == blocks.shape[2] and blocks.numel() > 0,
            f"its blocks have the shape {show(blocks.shape)}",
        )
        limit = take_constraint(parts, blocks.shape[0] * blocks.shape[1])
        return cls(blocks, None if is_rotation else limit, take_rescale(parts), is_rotation)

    def misfit(self, shape: Shape) -> str | None:
        return misfit_outputs(self.blocks.shape[0] * self.blocks.shape[1], self.rescale, shape)

    def value(self, weight: Tensor) -> Tensor:
        rows = weight.reshape(*self.blocks.shape[:2], -1)
        delta = torch.bmm(turn_once(self.turns, self._turn, weight).mT, rows).reshape(weight.shape)
        return delta if self.rescale is None else rescaled(delta, weight, self.rescale)

    def write(self, base: Tensor, multiplier: float, out: Tensor) -> None:
        if self.rescale is not None:
            super().write(base, multiplier, out)
            return
        shape = (*self.blocks.shape[:2], -1)
        rows = base.to(out.dtype).reshape(shape)
        turn = turn_once(self.turns, self._turn, out).mT
        torch.baddbmm(rows, turn, rows, alpha=multiplier, out=out.view(rows.shape))

    def _turn(self, weight: Tensor) -> Tensor:
        """R - I, (k, n, n)."""
        blocks = precise(self.blocks, weight)
        if not self.is_rotation:
            return cayley(skew(blocks, self.constraint))
        identity = torch.eye(blocks.shape[1], dtype=blocks.dtype, device=blocks.device)
        # In the days before LyCORIS 2.0.0 it was stored without the identity.
        return blocks if _is_nearer_to_a_rotation(blocks + identity, blocks) else blocks - identity


@dataclass(frozen=True, eq=False)
class DiagOft(Oft):
    """The same as LyCORIS names them."""


def _is_nearer_to_a_rotation(one: Tensor, other: Tensor) -> bool:
    """Whose rows are mutually orthogonal, however long `rescale` made them; where both are so, whose have length 1.

    Two rows of a rotation plus or minus the identity are always orthogonal, and small turns nearly so.
    """
    skew_one, skew_other = _skewness(one), _skewness(other)
    if max(skew_one, skew_other) > EVEN:
        return skew_one < skew_other
    return _stretch(one) < _stretch(other)


def _skewness(blocks: Tensor) -> float:
    """Mean square of the cosines between rows of one block."""
    rows = torch.nn.functional.normalize(blocks, dim=2)
    angles = rows @ rows.mT
    return float((angles - torch.diag_embed(angles.diagonal(dim1=1, dim2=2))).square().mean())


def _stretch(blocks: Tensor) -> float:
    return float((blocks.norm(dim=2) - 1).abs().mean())


def turn_once(known: Turns, make: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    """What `make` gives, for the device and the dtype of `weight`; kept, because no multiplier changes it."""
    place = weight.device, weight.dtype
    if place not in known:
        known.clear()
        known[place] = like(make(weight), weight)
    return known[place]


def take_constraint(parts: Parts, outputs: int) -> float | None:
    """alpha * o; None if nothing limits the norm (LyCORIS: alpha 0, or none)."""
    alpha = parts.take_number("alpha")
    return None if alpha is None or (alpha <= 0 and not parts.origin.kohya_oft) else alpha * outputs


def take_rescale(parts: Parts) -> Tensor | None:
    """`rescale` (o, 1[, 1, 1]), or (k, n, 1) of older files, as (o,)."""
    rescale = parts.take_optional("rescale")
    return None if rescale is None else rescale.flatten()


def misfit_outputs(outputs: int, rescale: Tensor | None, shape: Shape) -> str | None:
    """Why blocks for `outputs` outputs do not fit `shape`, or None."""
    if len(shape) < 2 or outputs != shape[0]:
        return f"made for {outputs} outputs, the model has {show(shape)}"
    if rescale is not None and rescale.shape[0] != outputs:
        return f"has {rescale.shape[0]} factors for {outputs} outputs"
    return None


def skew(blocks: Tensor, limit: float | None) -> Tensor:
    """The generator Q = B - Bᵀ; shortened where its norm over all blocks is above `limit`."""
    generator = blocks - blocks.mT
    if limit is None:
        return generator
    norm = generator.norm()
    return generator * ((norm.clamp(max=limit) + 1e-8) / (norm + 1e-8))


def cayley(generator: Tensor) -> Tensor:
    """R - I for R = (I + Q)(I - Q)⁻¹, as 2Q (I - Q)⁻¹: small rotations keep all their digits."""
    identity = torch.eye(generator.shape[-1], dtype=generator.dtype, device=generator.device)
    return torch.linalg.solve(identity - generator, 2 * generator)


def rescaled(delta: Tensor, weight: Tensor, rescale: Tensor) -> Tensor:
    """rescale ⊙ (W + delta) - W."""
    factors = like(rescale, weight).reshape(-1, *(1,) * (weight.dim() - 1))
    return delta * factors + weight * (factors - 1)
