"""Layer and build(): the tensors of a new adapter file from what each of its layers shall do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lib_lora.algorithms.forms import Factors, Form, Whole, square, wide
from lib_lora.algorithms.parallel import each
from lib_lora.keys import ModuleName
from lib_lora.tools.factors import Limit, Singular, completed
from lib_lora.tools.spell_out import Style

ROWS = 256  # of a matrix, at a time
Progress = Callable[[int, int], object]  # (layers done, of how many)


@dataclass(frozen=True)
class Layer:
    """What a file shall do to one parameter."""

    module: ModuleName | str  # a name as it stands in another file stays as it is
    shape: tuple[int, ...]  # of the parameter
    form: Callable[[], Form] = field(repr=False)  # made when it is needed: not all of a file at once
    is_bias: bool = False

    @property
    def can_be_cut(self) -> bool:
        """True for matrices and convolutions; vectors are kept whole."""
        return not self.is_bias and len(self.shape) > 1


@dataclass
class Built:
    """A file's tensors, and how near they come to what was meant."""

    tensors: dict[str, Tensor] = field(default_factory=dict, repr=False)
    ranks: list[int] = field(default_factory=list)  # of each layer that has one
    meant: float = 0.0  # squared norm
    missed: float = 0.0  # squared norm of what is not in it, rounding included

    def add(self, other: Built) -> None:
        """Another part of the file."""
        self.tensors.update(other.tensors)
        self.ranks += other.ranks
        self.meant += other.meant
        self.missed += other.missed

    @property
    def error(self) -> float:
        """||made - meant|| / ||meant||."""
        return math.sqrt(max(self.missed, 0.0) / self.meant) if self.meant else 0.0


def build(
    layers: Sequence[Layer], limit: Limit | None, style: Style, *, is_xl: bool, dtype: torch.dtype,
    progress: Progress | None = None,
) -> Built:
    """Without a limit products stay as they are, and all others become full differences."""
    tell = progress or (lambda done, total: None)
    passes = 2 if limit is not None and limit.error is not None else 1
    total = passes * len(layers)
    ranks: list[int | None] = [None if limit is None else limit.rank] * len(layers)
    if limit is not None and passes == 2:  # the whole file decides
        spectra = []
        for values in each(_values, layers):
            spectra.append(values)
            tell(len(spectra), total)
        ranks = [*limit.ranks(spectra)]
    built = Built()
    pieces = each(lambda item: _made(*item, limit, style, is_xl, dtype), list(zip(layers, ranks, strict=True)))
    for done, piece in enumerate(pieces, total - len(layers) + 1):
        built.add(piece)
        tell(done, total)
    return built


def _values(layer: Layer) -> Tensor:
    return Singular.values_of(layer.form()) if layer.can_be_cut else torch.empty(0)


def _made(layer: Layer, rank: int | None, limit: Limit | None, style: Style, is_xl: bool, dtype: torch.dtype) -> Built:
    """One layer, for itself. `rank`: where it is known before."""
    built = Built()
    form = layer.form()
    name = layer.module if isinstance(layer.module, str) else style.name(layer.module, is_xl)
    if not layer.can_be_cut or (limit is None and not isinstance(form, Factors)):
        part = "diff_b" if layer.is_bias else "diff"
        whole = form.dense().reshape(layer.shape)
        stored = built.tensors[f"{name}.{part}"] = whole.to(dtype)
        built.meant += square(whole)
        built.missed += square(wide(stored) - whole)
        return built
    if limit is None:
        assert isinstance(form, Factors)
        up, down = wide(form.up) * form.scale, wide(form.down)
    else:
        found = Singular.of(form, rank)
        up, down = found.cut(limit.ranks([found.values])[0] if rank is None else rank).factors()
    squared = form.squared_norm()
    built.meant += squared
    if not up.shape[1]:
        built.missed += squared
        return built
    kernel = layer.shape[2:]
    stored_up = up.to(dtype)
    stored_down = (completed(form, wide(stored_up), down) if limit is not None else down).to(dtype)
    built.tensors[f"{name}.{style.up}"] = stored_up.reshape(*up.shape, *[1] * len(kernel))
    built.tensors[f"{name}.{style.down}"] = stored_down.reshape(-1, *layer.shape[1:])
    if style.has_alpha:
        built.tensors[f"{name}.alpha"] = torch.tensor(float(up.shape[1]), dtype=dtype)
    built.ranks.append(up.shape[1])
    built.missed += _distance(form, stored_up, stored_down)
    return built


def _distance(form: Form, up: Tensor, down: Tensor) -> float:
    """Squared, between what was meant and the factors as they are stored."""
    if isinstance(form, Factors):
        both = Factors(torch.cat([wide(form.up) * form.scale, -wide(up)], 1),
                       torch.cat([wide(form.down), wide(down)]), 1.0)  # fmt: skip
        return both.squared_norm()
    factor = wide(down)
    pieces = zip(form.dense().split(ROWS), wide(up).split(ROWS), strict=True)  # a product of all would fill memory
    return sum(square(torch.addmm(meant, some, factor, alpha=-1)) for meant, some in pieces)


def joined(forms: Iterable[tuple[Form, float]]) -> Form:
    """The sum of forms times numbers: a product if all are products, else whole."""
    pairs = list(forms)
    factors = [(form, times) for form, times in pairs if isinstance(form, Factors)]
    if len(factors) == len(pairs):
        up = torch.cat([wide(form.up) * (form.scale * times) for form, times in factors], 1)
        return Factors(up, torch.cat([wide(form.down) for form, _ in factors]), 1.0)
    total = pairs[0][0].dense() * pairs[0][1]
    for form, times in pairs[1:]:
        total = total + form.dense() * times
    return Whole(total)
