"""What a model's text encoders carry now, as something that can be compared: equal means that they encode alike."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from lib_lora.engine.plan import Step
from lib_lora.webui.host import existing_session

UNET = "unet"


def carried_by_encoders(sd_model: Any) -> Mapping[str, tuple[Any, ...]]:
    """{parameter: what is added to it} of the text encoders. It keeps no adapter in memory.

    A delta is compared by identity, and one that is gone equals no other: a file read again is another adapter.
    """
    session = existing_session(sd_model) if sd_model is not None else None
    if session is None:
        return {}
    patcher = session.host.patcher
    bypassed = patcher.bypassed  # beside the weight instead of in it, they round otherwise
    return {
        key: (key in bypassed, *map(_added, steps))
        for key, steps in patcher.planned().items()
        if steps[0].target.component != UNET
    }


def _added(step: Step) -> tuple[Any, ...]:
    return step.target, step.multiplier, step.dyn, weakref.ref(step.delta)
