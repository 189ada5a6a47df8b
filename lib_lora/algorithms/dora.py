"""DoRA: any other delta, with the length of every row or column of the new weight set anew. arXiv:2402.09353.

W_new = V ⊙ (g / ‖V‖), V = W + delta. The norm is taken over all axes but one, which the stored magnitude g tells: of
shape (o, 1[, 1, 1]) the outputs' (LyCORIS since 3.2, PEFT), of shape (1, i[, 1, 1]) the inputs' (LyCORIS before,
OneTrainer).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lib_lora.algorithms.base import Delta, Parts, Product, Shape, Wrapper, label_of, like, require, write_product
from lib_lora.algorithms.lora import Lora


@dataclass(frozen=True, eq=False)
class Dora(Wrapper):
    """The wrapped delta and the magnitudes. Linear in the multiplier between W and W_new."""

    additive = False

    magnitude: Tensor  # (o,) or (i,)
    on_input: bool

    @classmethod
    def wrap(cls, inner: Delta, parts: Parts) -> Delta:
        """`dora_scale`, or PEFT's `magnitude`, always of the outputs."""
        name = "dora_scale" if "dora_scale" in parts else "magnitude"
        magnitude = parts.take(name)
        on_input = name == "dora_scale" and magnitude.dim() > 1 and magnitude.shape[0] == 1
        magnitude = magnitude.flatten()
        require(magnitude.numel() > 0, "its magnitude is empty")
        require(
            bool((magnitude > 0).float().mean() > 0.5),
            "most of its magnitudes are negative: LyCORIS 2.2.0 wrote them by a formula that no other version can read",
        )
        return cls(inner, magnitude, on_input)

    @property
    def algorithm(self) -> str:
        """ "DoRA (LoHa)"; of LoRA just "DoRA"."""
        label, of = label_of(type(self)), self.inner
        return label if isinstance(of, Lora) else f"{label} ({of.algorithm})"

    @property
    def labels(self) -> tuple[str, ...]:
        return *self.inner.labels, label_of(type(self))

    def misfit(self, shape: Shape) -> str | None:
        axis = 1 if self.on_input else 0
        if len(shape) < 2 or self.magnitude.shape[0] != shape[axis]:
            return f"has {self.magnitude.shape[0]} magnitudes for a weight of {'x'.join(map(str, shape))}"
        return self.inner.misfit(shape)

    def value(self, weight: Tensor) -> Tensor:
        delta = self.inner.value(weight)
        ratio = self._ratio(weight + delta)
        return delta * ratio + weight * (ratio - 1)

    def add_to(self, weight: Tensor, multiplier: float) -> None:
        whole = torch.empty_like(weight, memory_format=torch.contiguous_format)
        self.write(weight, multiplier, whole)
        weight.copy_(whole)

    def write(self, base: Tensor, multiplier: float, out: Tensor) -> None:
        factors = self.inner.low_rank()
        if factors is None:
            self.inner.write(base, 1.0, out)
        else:
            write_product(base, Product(like(factors.up, out), like(factors.down, out), factors.scale), out)
        out.mul_(self._ratio(out) * multiplier)
        if multiplier != 1:
            out.add_(base, alpha=1 - multiplier)

    def _ratio(self, whole: Tensor) -> Tensor:
        """g / ‖V‖, to be multiplied with V."""
        axis = 1 if self.on_input else 0
        norm = torch.linalg.vector_norm(whole, dim=[n for n in range(whole.dim()) if n != axis], keepdim=True)
        ratio = like(self.magnitude, whole).reshape(norm.shape) / norm
        return torch.where(norm > 0, ratio, torch.ones_like(ratio))

    def truncated(self, rank: int) -> Dora:
        return replace(self, inner=self.inner.truncated(rank))

    def part(self, begin: int, end: int, total: int) -> Dora | None:
        inner = self.inner.part(begin, end, total)
        if inner is None or self.on_input:
            return None
        return replace(self, inner=inner, magnitude=self.magnitude[begin:end])
