"""measure(adapter, ...) -> Measured: how much an adapter changes of each layer, block and kind of layer.

Norms are Frobenius', at multiplier 1: what the weights are moved by, sqrt of the sum of squares over all that is asked
about. The effective rank is exp of the entropy of the singular values as shares of their sum (Roy and Vetterli 2007).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lib_lora.adapters.adapter import Adapter
from lib_lora.algorithms.base import Delta
from lib_lora.algorithms.forms import Factors, Form, Grams, form_of, square, squared_values, wide
from lib_lora.algorithms.parallel import each
from lib_lora.engine.plan import Term
from lib_lora.keys.blocks import block_of
from lib_lora.model.targets import Target, TargetIndex

KINDS = ("attn1", "attn2", "ff", "conv", "text_encoder", "text_encoder_2", "other")
FINEST = 1e-14  # of the largest squared singular value: less is none
AT_ONCE = 128  # layers of one rank
SPIKE = 0.9  # share of one singular value in all the energy, from rank 4 on: worth a look
Base = Callable[[Target], "Tensor | None"]  # the base weight of a target, or None
Progress = Callable[[int, int], object]  # (modules done, of how many)


@dataclass(frozen=True)
class Spectrum:
    """The singular values of one layer's delta, in figures."""

    rank: int  # singular values that are not zero
    effective_rank: float
    energy: tuple[float, ...]  # share of the squared norm that is kept at rank 1, 2, ...

    @classmethod
    def of(cls, squares: Tensor) -> Spectrum:
        """From the squares of singular values, the largest first."""
        return next(cls.of_all(squares[None]))

    @classmethod
    def of_all(cls, squares: Tensor) -> Iterator[Spectrum]:
        """Of many layers at once: (layers, values)."""
        if not squares.shape[1]:
            yield from (cls(0, 0.0, ()) for _ in squares)
            return
        some = squares > squares[:, :1] * FINEST
        squares = squares * some
        roots = squares.sqrt()
        shares = roots / roots.sum(1, keepdim=True)
        entropies = -torch.special.xlogy(shares, shares).sum(1)
        kept = squares.cumsum(1) / squares.sum(1, keepdim=True)
        for rank, effective, energy in zip(some.sum(1).tolist(), entropies.exp().tolist(), kept.tolist(), strict=True):
            yield cls(rank, effective if rank else 0.0, tuple(energy[:rank]))


@dataclass(frozen=True)
class Layer:
    """One module of a file."""

    name: str  # as the file spells it
    block: str  # "IN01", "BASE", "" outside of all
    kind: str  # one of KINDS
    delta: float | None  # norm; None: it cannot be told without the base weight
    base: float | None  # norm of the base weight, where there is one
    spectrum: Spectrum | None = field(repr=False)


@dataclass(frozen=True)
class Measured:
    """One file."""

    layers: tuple[Layer, ...] = field(repr=False)

    @property
    def delta(self) -> float:
        """Norm of all that could be told."""
        return math.hypot(*(layer.delta for layer in self.layers if layer.delta is not None))

    @property
    def untold(self) -> tuple[str, ...]:
        """The modules that only a base weight could tell about."""
        return tuple(layer.name for layer in self.layers if layer.delta is None)

    def blocks(self) -> dict[str, dict[str, tuple[float, float | None]]]:
        """{block: {kind: (norm of the deltas, norm of the base weights of the same layers or None)}}, in order."""
        found: dict[str, dict[str, list[Layer]]] = {}
        for layer in sorted(self.layers, key=lambda layer: (_order(layer.block), KINDS.index(layer.kind))):
            found.setdefault(layer.block, {}).setdefault(layer.kind, []).append(layer)
        return {block: {kind: _together(layers) for kind, layers in kinds.items()} for block, kinds in found.items()}

    @property
    def effective_rank(self) -> float | None:
        """On average over the layers that have one."""
        ranks = [layer.spectrum.effective_rank for layer in self.layers if layer.spectrum and layer.spectrum.rank]
        return sum(ranks) / len(ranks) if ranks else None

    def energy(self) -> list[float]:
        """The share of the squared norm that is kept at rank 1, 2, ..., on average over the layers."""
        curves = [layer.spectrum.energy for layer in self.layers if layer.spectrum and layer.spectrum.energy]
        most = max(map(len, curves), default=0)
        return [sum(curve[min(rank, len(curve) - 1)] for curve in curves) / len(curves) for rank in range(most)]

    def oddities(self) -> list[str]:
        """Sentences about what a healthy file does not have."""
        told = []
        empty = [layer.name for layer in self.layers if layer.delta == 0]
        if empty:
            told.append(f"{len(empty)} of {len(self.layers)} layers change nothing (such as '{empty[0]}')")
        spikes = [layer.name for layer in self.layers
                  if layer.spectrum and layer.spectrum.rank >= 4 and layer.spectrum.energy[0] > SPIKE]
        if spikes:
            told.append(f"{len(spikes)} layers are nearly of rank 1 (such as '{spikes[0]}')")
        return told


def measure(
    adapter: Adapter, index: TargetIndex | None, base: Base | None = None, *, progress: Progress | None = None
) -> Measured:
    """Every module of `adapter`. `index`: of its model or of a usual one, for names, places and shapes; `base`: its
    weights, for those deltas that ask for them and to compare with."""
    drafts = []
    for draft in each(lambda module: _draft(*module, index, base), list(adapter.modules.items())):
        drafts.append(draft)
        if progress is not None:
            progress(len(drafts), len(adapter.modules))
    spectra = _spectra([grams for _, grams in drafts])
    return Measured(tuple(replace(layer, spectrum=spectra.get(place, layer.spectrum))
                          for place, (layer, _) in enumerate(drafts)))  # fmt: skip


def forms(
    name: str, deltas: Mapping[str, Delta], index: TargetIndex | None, base: Base | None = None
) -> Iterator[tuple[str, Target | None, Form | None, Tensor | None]]:
    """`(part, target, form, base weight)` of a module's weight and bias, once for each parameter that it changes."""
    choice = index.find_each(name) if index is not None else ()
    places = choice[0] if choice else ()
    for part, delta in deltas.items():
        targets = [target for place in places if (target := place.get(part)) is not None]
        if not targets:
            yield part, None, form_of(delta, None), None
        elif delta.additive and targets[0].piece is not None and base is None:
            yield part, targets[0], form_of(delta, (targets[0].piece[2], *targets[0].shape[1:])), None
        else:
            for target in targets:
                meant = Term(target, delta, 1.0, None, name).meant
                weight = base(target) if base is not None else None
                yield part, target, form_of(meant, target.shape, weight), weight


def kind_of_layer(target: Target | None, name: str) -> str:
    """One of KINDS, by the module's name in a checkpoint, or as the file spells it."""
    if target is not None and target.component != "unet":
        return target.component if target.component in KINDS else "text_encoder"
    path = f".{(target.path if target is not None and target.path else name).replace('_', '.')}."
    for kind in ("attn1", "attn2", "ff"):
        if f".{kind}." in path:
            return kind
    is_conv = (target is not None and len(target.shape) == 4) or ".conv" in path or "layers.2" in path
    return "conv" if is_conv else "other"


def _spectra(grams: Sequence[Grams | None]) -> dict[int, Spectrum]:
    """By place: many of one rank at once, as most of a file's layers are, in a tenth of the time."""
    by_rank: dict[int, list[int]] = {}
    for place, pair in enumerate(grams):
        if pair is not None:
            by_rank.setdefault(len(pair[0]), []).append(place)
    some = [places[at : at + AT_ONCE] for places in by_rank.values() for at in range(0, len(places), AT_ONCE)]

    def spectra(places: Sequence[int]) -> list[Spectrum]:
        pairs = [pair for place in places if (pair := grams[place]) is not None]
        left, right = (torch.stack(of_all) for of_all in zip(*pairs, strict=True))
        return list(Spectrum.of_all(squared_values(left, right)))

    found = zip(some, each(spectra, some), strict=True)
    return {place: spectrum for places, made in found for place, spectrum in zip(places, made, strict=True)}


def _draft(
    name: str, deltas: Mapping[str, Delta], index: TargetIndex | None, base: Base | None
) -> tuple[Layer, Grams | None]:
    """A layer; of a product without its spectrum, but with what that is had from."""
    squared, base_squared = 0.0, 0.0
    is_told, has_base, first, spectrum, grams = True, base is not None, None, None, None
    for part, target, form, weight in forms(name, deltas, index, base):
        first = first or target
        has_base = has_base and weight is not None
        if form is None:
            is_told = False
            continue
        squared += form.squared_norm()
        base_squared += 0.0 if weight is None else square(wide(weight))
        if part == "weight" and spectrum is None and grams is None:
            if isinstance(form, Factors):
                grams = form.grams
            else:
                spectrum = Spectrum.of(form.squared_values())
    block = block_of(first.path, first.component) if first is not None else ""
    layer = Layer(name, block, kind_of_layer(first, name), math.sqrt(squared) if is_told else None,
                  math.sqrt(base_squared) if has_base else None, spectrum)  # fmt: skip
    return layer, grams


def _together(layers: list[Layer]) -> tuple[float, float | None]:
    bases = [layer.base for layer in layers]
    whole = None if None in bases else math.hypot(*(base for base in bases if base is not None))
    return math.hypot(*(layer.delta for layer in layers if layer.delta is not None)), whole


def _order(block: str) -> tuple[int, str]:
    return next((place for place, start in enumerate(("BASE", "IN", "M", "OUT")) if block.startswith(start)), 9), block
