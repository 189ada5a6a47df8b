"""Host: whatever carries adapters. Two methods; `TorchHost` gives both to anything made of torch modules."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from lib_lora.engine.originals import CheckpointFile
from lib_lora.engine.patch import Patcher
from lib_lora.engine.plan import Plan, split
from lib_lora.model.slots import Slot
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


class TorchHost:
    """A host whose parameters are those of torch modules.

    `find_slots` lists the parameters that may be targets, each time anew; `make_index` turns their shapes into a
    TargetIndex and runs again only when a module has been exchanged for another. `find_checkpoint` tells the file that
    the weights were loaded from, for originals that are not kept.
    """

    def __init__(
        self,
        find_slots: Callable[[], Mapping[str, Slot]],
        make_index: Callable[[Mapping[str, tuple[int, ...]]], TargetIndex],
        find_checkpoint: Callable[[], CheckpointFile | None] = lambda: None,
    ) -> None:
        self._find_slots = find_slots
        self._make_index = make_index
        self._slots: Mapping[str, Slot] = {}
        self._index: TargetIndex | None = None
        self.patcher = Patcher(find_checkpoint=find_checkpoint)

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else changes what the model carries meanwhile, whoever shares it: for a call of `targets` and `apply`
        in a row, or until the picture is made."""
        if self._index is None:
            self.targets()  # of which parts it is
        return self.patcher.held()

    def targets(self) -> TargetIndex:
        """See Host."""
        slots = self._own_slots()
        if self._index is None or slots != self._slots:
            index = self._make_index({key: slot.shape for key, slot in slots.items()})
            self._index = index.with_new_biases({key for key, slot in slots.items() if slot.lacks_bias})
        self._slots = slots
        return self._index

    def _own_slots(self) -> dict[str, Slot]:
        """Those of the model itself, without biases that were made for an adapter."""
        return self.patcher.own(self._find_slots())

    def apply(self, plan: Plan) -> None:
        """See Host."""
        self.patcher.apply(plan, self._slots)

    def apply_each(self, plans: Sequence[Plan], *, pictures: int = 1) -> None:
        """See BatchHost.

        What all plans have in common is merged into the weights, the rest stands beside them. A batch that the UNet
        gets holds all pictures in order, once or several times over; one that a text encoder gets holds the prompts.
        """
        common, rows = split(plans, pictures)
        self.patcher.apply(common, self._slots, rows=rows)

    def detach(self) -> None:
        """The base weights, and no hook left."""
        self.patcher.release()
