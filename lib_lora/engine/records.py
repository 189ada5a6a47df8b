"""Record: one thing on a root module (a UNet, a text encoder) that is not its own, and how to undo it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from lib_lora.engine.originals import Original
from lib_lora.engine.plan import Term
from lib_lora.model.slots import Slot

PLACES, IN_ROW = 16, 4  # values by which a patched weight is recognised after the host moved or cast it
CAST_ERROR = 2**-7  # relative: what a weight may lose on the way through bf16


class Record(Protocol):
    """Something on a root module that is not its own."""

    @property
    def slot(self) -> Slot:
        """Where it is."""
        ...

    @property
    def planned(self) -> tuple[Term, ...]:
        """The terms that made it, of all rows."""
        ...

    def undo(self) -> None:
        """As if it had never been there; once more does no harm."""
        ...

    def copied(self, memo: dict[int, Any]) -> Record:
        """The same on a deep copy of the root module."""
        ...


class Words(Protocol):
    """Words that adapters have brought to a text encoder (`embeddings.py`)."""

    @property
    def embedding(self) -> nn.Module:
        """The matrix of its words, a longer one now."""
        ...

    def undo(self) -> None:
        """As if they had never been there; once more does no harm."""
        ...

    def copied(self, memo: dict[int, Any]) -> Words:
        """The same on a deep copy of the text encoder."""
        ...


@dataclass
class Patched:
    """One parameter that is not its base weight at the moment."""

    slot: Slot
    original: Original
    terms: tuple[Term, ...] | None  # None while it is written
    memory: StorageWeakRef | None  # of the patched weight; unlike an address it is never that of another one
    sample: Tensor  # a few values of the patched weight

    @property
    def planned(self) -> tuple[Term, ...]:
        """See Record."""
        return self.terms or ()

    def is_same_memory(self, tensor: Tensor) -> bool:
        """True if `tensor` lies where it was written."""
        return self.memory is not None and StorageWeakRef(tensor.untyped_storage()) == self.memory

    def is_exact(self, tensor: Tensor) -> bool:
        """True if `tensor` is what was written, moved perhaps."""
        if self.is_same_memory(tensor):
            return True
        return tensor.dtype == self.sample.dtype and torch.equal(sample(tensor), self.sample.to(tensor.device))

    def is_here(self, tensor: Tensor) -> bool:
        """True if `tensor` came from what was written, moved or cast; False if somebody put another weight there."""
        if self.is_same_memory(tensor):
            return True
        if tensor.is_meta or not tensor.is_floating_point():
            return False  # the host has let go of the weights
        written, values = self.sample.to(tensor.device), sample(tensor).float()
        if values.shape != written.shape:
            return False
        if torch.equal(values, written.to(tensor.dtype).float()):
            return True  # cast, however coarsely
        return torch.allclose(values, written.float(), rtol=CAST_ERROR, atol=1e-6)

    def undo(self) -> None:
        """See Record. Raises OSError if the base weight is in a file that was changed meanwhile."""
        parameter = getattr(self.slot.module, self.slot.attribute, None)
        if parameter is None:
            return  # the host has taken the layer apart
        # Who offloads weights may have taken the patched one for the model's own.
        elsewhere = self.slot.elsewhere if parameter.is_meta or self.slot.copy is not None else None
        if elsewhere is not None and self.is_here(elsewhere):
            elsewhere.copy_(self.original.base(elsewhere))
        if self.is_here(parameter.data):
            self.original.put_back(parameter)

    def copied(self, memo: dict[int, Any]) -> Patched:
        """See Record. The copy's memory is not known: it is recognised by its values."""
        slot, original = copy.deepcopy(self.slot, memo), copy.deepcopy(self.original, memo)
        return replace(self, slot=slot, original=original, memory=None)


@dataclass
class NewBias:
    """A bias that the model does not have of its own."""

    slot: Slot
    terms: tuple[Term, ...] | None  # None while it is made
    like: torch.dtype  # the weight's
    bias: Tensor  # the Parameter

    @property
    def planned(self) -> tuple[Term, ...]:
        """See Record."""
        return self.terms or ()

    def undo(self) -> None:
        """See Record."""
        bias = self.slot.module._parameters.get("bias")
        if bias is not None and self._is_here(bias):
            self.slot.module.register_parameter("bias", None)

    def _is_here(self, bias: Tensor) -> bool:
        """False if somebody else has given the layer a bias meanwhile."""
        if bias is self.bias or bias.is_meta:
            return True
        own = self.bias.detach().to(bias.device)
        return bias.shape == own.shape and torch.allclose(bias.float(), own.float(), rtol=CAST_ERROR, atol=1e-6)

    def copied(self, memo: dict[int, Any]) -> NewBias:
        """See Record."""
        return replace(self, slot=copy.deepcopy(self.slot, memo), bias=copy.deepcopy(self.bias, memo))


def sample(tensor: Tensor) -> Tensor:
    """Some values from PLACES places, in the order of the indices; some in a row cost no more than one."""
    flat = tensor.detach().reshape(-1)
    if flat.numel() < PLACES * IN_ROW:
        return flat.clone()
    stride = (flat.numel() - IN_ROW) // (PLACES - 1)
    return flat.as_strided((PLACES, IN_ROW), (stride, 1), flat.storage_offset()).clone()
