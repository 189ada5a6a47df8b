"""TorchHost: anything made of torch modules as host."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lib_lora.engine.call import Size
from lib_lora.engine.originals import CheckpointFile
from lib_lora.engine.patch import Patcher
from lib_lora.engine.plan import Plan
from lib_lora.errors import PatchError
from lib_lora.grammar.who import Row
from lib_lora.model.slots import Slot
from lib_lora.model.targets import TargetIndex


@dataclass(frozen=True)
class BoundModel:
    """A model as it was looked at once: the index that plans are made for, and the slots that they go into."""

    index: TargetIndex
    slots: Mapping[str, Slot] = field(repr=False)


class TorchHost:
    """A host whose parameters are those of torch modules.

    `find_slots` lists the parameters that may be targets, each time anew; `make_index` turns their shapes into a
    TargetIndex and runs again only when a module has been exchanged for another. `find_checkpoint` tells the file that
    the weights were loaded from, for originals that are not kept.

    A plan is applied to the very model that it was made for: the one that `targets` found, which gave its index.
    """

    def __init__(
        self,
        find_slots: Callable[[], Mapping[str, Slot]],
        make_index: Callable[[Mapping[str, tuple[int, ...]]], TargetIndex],
        find_checkpoint: Callable[[], CheckpointFile | None] = lambda: None,
    ) -> None:
        self._find_slots = find_slots
        self._make_index = make_index
        self._bound: BoundModel | None = None
        self.patcher = Patcher(find_checkpoint=find_checkpoint)

    @property
    def bound(self) -> BoundModel:
        """The model as it was looked at last: cheap, for those who ask often."""
        if self._bound is None:
            self.targets()
        assert self._bound is not None
        return self._bound

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else changes what the model carries meanwhile, whoever shares it: for a call of `targets` and `apply`
        in a row, or until the picture is made."""
        if self._bound is None:
            self.targets()  # of which root modules it is
        return self.patcher.held()

    def targets(self) -> TargetIndex:
        """See Host."""
        slots, known = self._own_slots(), self._bound
        if known is None or slots != known.slots:
            index = self._make_index({key: slot.shape for key, slot in slots.items()})
            index = index.with_new_biases(self.patcher.without_bias(slots))
        else:
            index = known.index
        self._bound = BoundModel(index, slots)
        return index

    def _own_slots(self) -> dict[str, Slot]:
        """Those of the model itself, without biases that were made for an adapter."""
        return self.patcher.own(self._find_slots())

    def apply(self, plan: Plan) -> None:
        """See Host."""
        self.patcher.apply(plan, self._bound_for(plan).slots)

    def rows(self, rows: Sequence[Row], size: Size | None = None) -> None:
        """See RowHost."""
        self.patcher.rows(rows, size)

    def _bound_for(self, plan: Plan) -> BoundModel:
        """The model that `plan` was made for. Raises PatchError if it has been exchanged for another since."""
        if plan.index is not None and plan.index is not self.bound.index:
            self.patcher.restore()
            raise PatchError("the model was exchanged while adapters were put in; nothing was applied, draw again")
        return self.bound

    def detach(self) -> None:
        """The base weights, and no hook left."""
        self.patcher.release()
