"""Graphs: a model called with given weights instead of its own; as a graph, which takes a third of the time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Slot = tuple[nn.Module, str]  # a module, and its weight or bias


class Graphs:
    """`run(*inputs)` with other tensors, or none, in those slots: traced once for each kind of inputs and weights."""

    def __init__(self, run: Callable[..., Tensor], slots: Sequence[Slot]) -> None:
        self.run, self.slots = run, slots
        self._graphs: dict[Any, Any] = {}  # by shapes and dtypes, and by which slots are filled

    @torch.no_grad()
    def __call__(self, weights: Sequence[Tensor | None], *inputs: Tensor) -> Tensor:
        filled = [slot for slot, weight in zip(self.slots, weights, strict=True) if weight is not None]
        given = (*inputs, *(weight.detach() for weight in weights if weight is not None))
        kind = tuple((each.shape, each.dtype) for each in inputs), tuple(weight is not None for weight in weights)
        if kind not in self._graphs:
            def plainly(*given: Tensor) -> Tensor:
                return self._run(filled, *given)

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on what the graph takes for granted: the shapes
                self._graphs[kind] = torch.jit.trace(plainly, given, check_trace=False, strict=False)
        with torch.jit.optimized_execution(False):  # which would cost more than it saves
            return self._graphs[kind](*given)

    def _run(self, filled: Sequence[Slot], *given: Tensor) -> Tensor:
        """The weights are the last ones that are given."""
        inputs, weights = given[: len(given) - len(filled)], given[len(given) - len(filled) :]
        kept = [module._parameters[part] for module, part in self.slots]
        try:
            for module, part in self.slots:
                module._parameters[part] = None
            for (module, part), weight in zip(filled, weights, strict=True):
                module._parameters[part] = weight  # type: ignore[assignment]
            return self.run(*inputs)
        finally:
            for (module, part), own in zip(self.slots, kept, strict=True):
                module._parameters[part] = own
