"""Delta: what an adapter adds to one weight. Every algorithm is one subclass in a file of its own.

Letters, here and in the algorithms: W base weight (o, i[, kh, kw]), r rank, s = alpha / r the scale, m the multiplier
that the user typed. Every delta is linear in m (where libraries disagree, interpolation is the answer that leaves m =
0 untouched):

    W_new = W + m * value(W)

All arithmetic is in float32 or wider whatever the dtype of file and model; the caller casts once, at the end.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from lib_lora.algorithms import table

Shape = tuple[int, ...]
SLICE = {True: 1 << 20, False: 1 << 22}  # entries at a time: on a CPU what its cache holds, else fewer calls
MAX_SCALE = 1e6  # more is no training but a broken alpha
MAX_CORE = 4096  # ranks of a Tucker core; more is no adapter but an attempt to fill the memory


class PartsError(ValueError):
    """One module of a file cannot be used; the text says why. The file's other modules are not affected."""


@dataclass(frozen=True)
class Origin:
    """What a file tells of a module otherwise than by tensors: by its metadata and its spelling."""

    alpha: float | None = None  # where none is stored with the tensors
    alpha_root: bool = False  # s = alpha / sqrt(r) for that alpha: PEFT's rs-LoRA
    root: bool = False  # s = alpha / sqrt(r) for a stored one: rs-LoRA of the LyCORIS versions that stored it raw
    rs_lora: bool = False  # trained by LyCORIS with rs_lora, whatever the version
    kohya_oft: bool = False  # the constraint of OFT always counts, also if it is 0
    onetrainer: bool = False  # OFT v2 rotates convolutions the other way round
    rank: float | None = None  # the configured one: with `alpha` the scale of factors that are stored whole
    terms: int = 5  # of OFT v2's Neumann series; 0: none, but the whole Cayley transform
    singular: str = "principal"  # which singular vectors T-LoRA started from
    is_alpha_broken: bool = False  # the metadata have one, and it is no number that a scale could be
    start: str = ""  # how PEFT started the factors, where it says: "pissa", "olora", ...


class Parts:
    """The tensors of one module by canonical part name; algorithms *take* what they read, the rest is unknown."""

    def __init__(self, tensors: dict[str, Tensor], origin: Origin | None = None) -> None:
        self.tensors = dict(tensors)
        self.origin = origin or Origin()
        self.scale: float | None = None  # the last `take_scale`; what belongs to the same factors has the same
        self.notes: list[str] = []  # decisions that a user should know of

    def __contains__(self, part: str) -> bool:
        return part in self.tensors

    def has(self, *parts: str) -> bool:
        """True if all of `parts` are there."""
        return all(part in self.tensors for part in parts)

    def take(self, part: str) -> Tensor:
        """Remove and return a part that must be there."""
        return self.tensors.pop(part)

    def take_optional(self, part: str) -> Tensor | None:
        """Remove and return a part, or None."""
        return self.tensors.pop(part, None)

    def take_matrix(self, part: str) -> Tensor:
        """A part that must be there, as a matrix. Raises PartsError if it has less than two dimensions or no values."""
        tensor = self.take(part)
        require(tensor.dim() >= 2 and tensor.numel() > 0, f"{part} has the shape {show(tensor.shape)}")
        return matrix(tensor)

    def take_number(self, part: str) -> float | None:
        """A stored scalar, 0-d or of one element, or None."""
        tensor = self.take_optional(part)
        require(tensor is None or tensor.numel() > 0, f"{part} is empty")
        return None if tensor is None else float(tensor.reshape(-1)[0])

    def take_scale(self, rank: float | None, *, root: bool = False) -> float:
        """s: `scale` if stored, else alpha / rank (alpha from the metadata if not stored), else 1; times `scalar`.

        `root`, or an origin that says so: alpha / sqrt(rank) (rs-LoRA, arXiv:2312.03732). Without a rank, alpha does
        not count. A stored alpha of 0 means alpha = rank, as in the loaders of kohya and LyCORIS.
        """
        alpha, scale, scalar = (self.take_number(name) for name in ("alpha", "scale", "scalar"))
        root = root or self.origin.root
        if alpha is None:
            alpha, root = self.origin.alpha, self.origin.alpha_root
            if self.origin.is_alpha_broken:
                self.notes.append("the alpha in its metadata is no finite number; taken as alpha = rank")
            rank = rank or self.origin.rank
        elif alpha == 0 and rank is not None:
            self.notes.append("alpha is 0; taken as alpha = rank, as the trainers do")
            alpha = None
        if scale is None:
            scale = 1.0 if alpha is None or rank is None else alpha / (rank**0.5 if root else rank)
        scale *= 1.0 if scalar is None else scalar
        require(math.isfinite(scale), "its scale is no finite number")
        require(abs(scale) <= MAX_SCALE, f"its scale is {scale:.3g}, which would only make black pictures")
        self.scale = scale
        return scale


# (x, apply) -> what the delta at multiplier 1 adds to the layer's output for x; `apply(x, weight)` is what such a layer
# makes of x with that weight, which may have fewer inputs and outputs. Channels are the last axis of x, of a
# convolution the second.
Form = Callable[[Tensor, Callable[[Tensor, Tensor], Tensor]], Tensor]


class Product(NamedTuple):
    """The delta `scale * up @ down`."""

    up: Tensor  # (o, r)
    down: Tensor  # (r, i*kh*kw)
    scale: float


class Delta(ABC):
    """What one module of an adapter adds to one weight or bias. Immutable; compared by identity.

    Two methods are needed, and what reads the tensors:

    >>> class Sharpen(Delta):
    ...     algorithm, additive = "Sharpen", False  # it asks for the weight
    ...
    ...     def __init__(self, strength: float) -> None:
    ...         self.strength = strength
    ...
    ...     @classmethod
    ...     def from_parts(cls, parts: Parts) -> "Sharpen | None":
    ...         return cls(parts.take_number("strength")) if "strength" in parts else None
    ...
    ...     def misfit(self, shape: Shape) -> str | None:
    ...         return None if len(shape) > 1 else "made for matrices"
    ...
    ...     def value(self, weight: Tensor) -> Tensor:
    ...         return self.strength * weight.sign()

    >>> weight = torch.tensor([[2.0, -3.0]])
    >>> Sharpen.from_parts(Parts({"strength": torch.tensor(0.5)})).add_to(weight, multiplier=2.0)
    >>> weight
    tensor([[ 3., -4.]])
    """

    rank: int | None = None
    additive: ClassVar[bool] = True  # value(W) does not depend on W

    @property
    def algorithm(self) -> str:
        """ "LoRA", "LoHa", ... in sentences; from the table's line of this class."""
        return label_of(type(self))

    @property
    def labels(self) -> tuple[str, ...]:
        """ ("LoHa", "DoRA"): the names of all that it is made of, as a list of adapters has them."""
        return (self.algorithm,)

    @abstractmethod
    def misfit(self, shape: Shape) -> str | None:
        """Why this cannot be added to a weight of `shape` ("320x1024 given"), or None if it can."""

    @abstractmethod
    def value(self, weight: Tensor) -> Tensor:
        """The delta at multiplier 1 for `weight` (float32, any strides), in the weight's shape, dtype and device."""

    def add_to(self, weight: Tensor, multiplier: float) -> None:
        """`weight += multiplier * value(weight)` in place; `weight` is float32, of any strides."""
        weight.add_(self.value(weight), alpha=multiplier)

    def write(self, base: Tensor, multiplier: float, out: Tensor) -> None:
        """`out = base + multiplier * value(base)`: `out` float32 and contiguous, `base` other memory, of any dtype."""
        out.copy_(base)
        self.add_to(out, multiplier)

    def low_rank(self) -> Product | None:
        """The delta at multiplier 1 as a product, or None if it is none.

        The tensors are as stored (dtype, device of the file): deltas that can say this are summed over all adapters in
        one matrix product.
        """
        return None

    def form(self, shape: Shape, near: Tensor) -> Form | None:
        """The delta on activations, for a layer whose weight has `shape`; None if that is no shorter than its value.

        Its factors are moved and cast once, to where `near` is: what the layer sees.
        """
        return None

    def truncated(self, rank: int) -> Delta:
        """The same with only the first `rank` ranks (DyLoRA); self where the algorithm does not define it."""
        return self

    def part(self, begin: int, end: int, total: int) -> Delta | None:
        """Rows begin … end of this delta for `total` rows, or None if they depend on the other rows' weights."""
        return Rows(self, begin, end, total) if self.additive else None


@dataclass(frozen=True, eq=False)
class Wrapper(Delta):
    """A delta made from another one, of which it has the name and the rank."""

    inner: Delta

    @property
    def algorithm(self) -> str:
        return self.inner.algorithm

    @property
    def labels(self) -> tuple[str, ...]:
        return self.inner.labels

    @property
    def rank(self) -> int | None:  # type: ignore[override]
        return self.inner.rank


@dataclass(frozen=True, eq=False)
class Rows(Wrapper):
    """Some rows of a delta that does not depend on the weight."""

    begin: int
    end: int
    total: int

    def misfit(self, shape: Shape) -> str | None:
        return self.inner.misfit((self.total, *shape[1:]))

    def value(self, weight: Tensor) -> Tensor:
        whole = weight.new_zeros(()).expand(self.total, *weight.shape[1:])  # its shape is all that counts
        return self.inner.value(whole)[self.begin : self.end]


def label_of(kind: type[Delta]) -> str:
    return table.TABLE.label(f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}")


def require(condition: bool, otherwise: str) -> None:
    """Raises PartsError."""
    if not condition:
        raise PartsError(otherwise)


def require_rank(left: Tensor, right: Tensor) -> None:
    """Raises PartsError if `left @ right` is not possible."""
    require(left.shape[1] == right.shape[0], f"its factors have ranks {left.shape[1]} and {right.shape[0]}")


def require_core(core: Tensor, left: int, right: int) -> None:
    """Raises PartsError if `core` is not a Tucker core between factors of these ranks."""
    require(core.dim() == 4 and core.numel() > 0, f"its core has the shape {show(core.shape)}")
    require(
        tuple(core.shape[:2]) == (left, right), f"its core has ranks {show(core.shape[:2])}, its factors {left}x{right}"
    )
    require(max(left, right) <= MAX_CORE, f"its core has rank {max(left, right)}, more than any trainer writes")


def matrix(tensor: Tensor) -> Tensor:
    """(a, b, ...) -> (a, b*...)."""
    return tensor.reshape(tensor.shape[0], -1)


def row_slices(weight: Tensor) -> list[slice]:
    """The rows of `weight`, SLICE entries at a time: the first slice is the longest."""
    count = weight.shape[0]
    rows = max(1, SLICE[weight.device.type == "cpu"] * count // weight.numel())
    return [slice(begin, min(begin + rows, count)) for begin in range(0, count, rows)]


def write_product(base: Tensor, product: Product, out: Tensor) -> None:
    """`out = base + product` in one pass; `out` is contiguous, `base` has any dtype and may be `out` itself.

    Computed in the dtype of the product: where `out` has another one, in slices of some rows, which are cast once.
    """
    up, down, scale = product
    if up.dtype != out.dtype:
        slices = row_slices(out)
        wide = up.new_empty((slices[0].stop, down.shape[1]))
        for some in slices:
            part = wide[: some.stop - some.start]
            part.copy_(matrix(base[some]))
            part.addmm_(up[some], down, alpha=scale)
            matrix(out[some]).copy_(part)
    elif base is out or base.dtype != out.dtype or not base.is_contiguous():
        if base is not out:
            out.copy_(base)
        matrix(out).addmm_(up, down, alpha=scale)
    else:
        torch.addmm(matrix(base), up, down, alpha=scale, out=matrix(out))


def like(tensor: Tensor, weight: Tensor) -> Tensor:
    """A stored tensor in the dtype and on the device of the weight that it is for."""
    return tensor.to(weight.device).to(weight.dtype)  # first moved, then cast: half the bytes on the way


def precise(tensor: Tensor, weight: Tensor) -> Tensor:
    """A stored tensor in float64 for small delicate arithmetic, near `weight` (Apple's GPUs know no float64)."""
    return tensor.to(device="cpu" if weight.device.type == "mps" else weight.device).to(torch.float64)


def show(shape: Shape) -> str:
    """ "320x768", "scalar"."""
    return "x".join(map(str, shape)) or "scalar"


def wrong_shape(given: Shape, shape: Shape) -> str:
    """The sentence part used for a misfit."""
    return f"made for {show(given)}, the model has {show(shape)}"


def tucker(core: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """(p, q, kh, kw), (p, o), (q, i) -> (o, i, kh, kw)."""
    return torch.einsum("pqhw,po,qi->oihw", core, left, right)
