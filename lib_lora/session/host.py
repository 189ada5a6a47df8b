"""Host: whatever carries adapters. Two methods; `TorchHost` has both, for anything made of torch modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from lib_lora.engine.call import Size
from lib_lora.engine.plan import Plan
from lib_lora.grammar.who import Row
from lib_lora.model.targets import TargetIndex


class Host(Protocol):
    """A model as the Session sees it: two methods. Here it is the tensors of a checkpoint in a dict.

    >>> class Weights:
    ...     def __init__(self, base: dict[str, Tensor]) -> None:
    ...         self.base, self.now = base, dict(base)
    ...
    ...     def targets(self) -> TargetIndex:
    ...         return index_checkpoint({key: tuple(tensor.shape) for key, tensor in self.base.items()})
    ...
    ...     def apply(self, plan: Plan) -> None:
    ...         self.now = dict(self.base)
    ...         for key, terms in plan.terms.items():
    ...             self.now[key] = torch.empty_like(self.base[key])
    ...             fold(self.base[key], terms, self.now[key])

    >>> host = Weights(load_file("model.safetensors"))
    >>> session = Session(host, Library([Path("loras")]))
    >>> session.activate(read_prompt("a castle <lora:ink:0.5>").tags).sentences()
    []
    >>> [key for key in host.base if not torch.equal(host.now[key], host.base[key])]
    ['model.diffusion_model.input_blocks.1.1.proj_in.weight']
    """

    def targets(self) -> TargetIndex:
        """What can be patched, as the model is now."""
        ...

    def apply(self, plan: Plan) -> None:
        """Make the weights what `plan` says. Raises PatchError, with every base weight back in place."""
        ...


@runtime_checkable
class RowHost(Host, Protocol):
    """A host whose plans may have terms that act on some rows of a call only, or on a part of the picture."""

    def rows(self, rows: Sequence[Row], size: Size | None = None) -> None:
        """Whose rows the next call of the UNet has, in order, and the height and width of its latent."""
        ...
