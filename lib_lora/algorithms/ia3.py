"""IA3: delta = W ⊙ w, w for each input or output and 0 where nothing changes. arXiv:2205.05638, as LyCORIS has it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from lib_lora.algorithms.base import Delta, Parts, Shape, like


@dataclass(frozen=True, eq=False)
class Ia3(Delta):
    """W_new = W ⊙ (1 + m * w)."""

    additive = False

    factors: Tensor  # (i,) or (o,)
    on_input: bool

    @classmethod
    def from_parts(cls, parts: Parts) -> Ia3:
        """`weight` and `on_input`; a `weight` alone is not one."""
        on_input = parts.take_number("on_input")
        return cls(parts.take("weight").flatten(), bool(on_input))

    def misfit(self, shape: Shape) -> str | None:
        axis = 1 if self.on_input else 0
        if len(shape) > axis and shape[axis] == self.factors.shape[0]:
            return None
        return (
            f"made for {self.factors.shape[0]} {'inputs' if self.on_input else 'outputs'}, "
            f"the model has {shape[axis] if len(shape) > axis else 'none'}"
        )

    def value(self, weight: Tensor) -> Tensor:
        axis = 1 if self.on_input else 0
        shape = [-1 if number == axis else 1 for number in range(weight.dim())]
        return weight * like(self.factors, weight).reshape(shape)

    def part(self, begin: int, end: int, total: int) -> Ia3:
        return self if self.on_input else replace(self, factors=self.factors[begin:end])
