"""Host: whatever carries adapters. Two methods; `TorchHost` has both, for anything made of torch modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from lib_lora.engine.plan import Plan
from lib_lora.model.targets import TargetIndex


class Host(Protocol):
    """A model as the Session sees it."""

    def targets(self) -> TargetIndex:
        """What can be patched, as the model is now."""
        ...

    def apply(self, plan: Plan) -> None:
        """Make the weights what `plan` says. Raises PatchError, with every base weight back in place."""
        ...


@runtime_checkable
class BatchHost(Host, Protocol):
    """A host that can carry other adapters for each picture of a batch."""

    def apply_each(self, plans: Sequence[Plan], *, pictures: int = 1) -> None:
        """`apply` for a batch in which every prompt has a plan of its own, and `pictures` pictures are made of each.

        Raises PatchError, with every base weight back in place.
        """
        ...
