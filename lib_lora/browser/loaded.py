"""LoadedModel: the model that a page draws with, as far as its routes ask. No torch before one of them does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_lora.browser.jobs import Progress
from lib_lora.errors import CheckpointError, LoraError

if TYPE_CHECKING:
    from torch import Tensor

    from lib_lora.model.base_weights import BaseWeights
    from lib_lora.model.targets import Target, TargetIndex
    from lib_lora.session.torch_host import TorchHost

MOST_NAMED = 3  # weights in an answer


class LoadedModel:
    """Whatever takes time waits until no picture is made, and pictures wait for it.

    host   the host of the model that is loaded now; None if none is
    place  the file or the folder that its weights came from; None if nobody knows
    alone  in a `with`: nobody draws meanwhile
    """

    def __init__(
        self, host: Callable[[], TorchHost | None] = lambda: None, place: Callable[[], Path | None] = lambda: None,
        alone: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:  # fmt: skip
        self._host, self._place, self._alone = host, place, alone
        self._lock = threading.Lock()
        self._scale: tuple[object, Mapping[str, float]] | None = None  # (of which model, {block: norm})
        self._measuring: object = None

    def index(self) -> TargetIndex | None:
        """Of its layers."""
        host = self._host()
        return None if host is None else host.bound.index

    def scale(self) -> Mapping[str, float] | None:
        """The norms of its blocks' weights; None as long as they are not known, and then they are measured."""
        host = self._host()
        if host is None:
            return None
        asked = id(host), self._place()
        with self._lock:
            if self._scale is not None and self._scale[0] == asked:
                return self._scale[1]
            if self._measuring != asked:
                self._measuring = asked
                threading.Thread(target=self._measure, args=(host, asked), name="lib_lora scale", daemon=True).start()
        return None

    @contextmanager
    def weights(self) -> Iterator[BaseWeights | None]:
        """As its file has them, one after the other; None where there is no file that can be read so."""
        from lib_lora.model.base_weights import BaseWeights

        place = self._place()
        try:
            opened = None if place is None else BaseWeights(place)
        except CheckpointError:
            opened = None
        with opened or nullcontext() as weights:
            yield weights

    def check(self, *, repair: bool, progress: Progress) -> dict[str, Any]:
        """Compare its weights with its file. Raises LoraError."""
        from lib_lora.engine.check import check

        host = self._host()
        if host is None:
            raise LoraError("no model is loaded; draw a picture, or choose a checkpoint")
        with self._alone(), host.held():
            host.targets()
            file = host.patcher.find_checkpoint()
            if file is None:
                raise LoraError("the model was not loaded from a .safetensors file; there is nothing to compare with")
            try:
                found = check(host.patcher, host.bound.slots, file, repair=repair, progress=progress)
            except OSError as error:
                raise LoraError(f"the checkpoint's file cannot be read: {error}") from error
        if not found.total:
            raise LoraError(f"{found.file or 'its file'} has none of the weights that are loaded")
        return {"file": found.file, "same": found.same, "total": found.total, "repaired": found.repaired,
                "differing": list(found.differing[:MOST_NAMED]), "unknown": len(found.unknown),
                "carrying": found.carrying}  # fmt: skip

    def _measure(self, host: TorchHost, asked: object) -> None:
        from lib_lora.analysis.load import scale_of
        from lib_lora.model.slots import is_plain

        def base_of(target: Target) -> Tensor | None:
            slot = host.bound.slots[target.key]
            base = host.patcher.base(target.key, slot) if is_plain(slot.parameter) else None
            return None if base is None else target.view(base)

        with self._alone(), host.held():
            found = scale_of(host.bound.index, base_of)
        with self._lock:
            self._scale = asked, found
