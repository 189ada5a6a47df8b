"""What a model's text encoders carry now, as something that can be compared: equal means that they encode alike."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from lib_lora.engine.plan import Term
from lib_lora.engine.schedule import Encoding
from lib_lora.webui.a1111.host import WebUISession, existing_session

UNET = "unet"


def carried_by_encoders(sd_model: nn.Module | None) -> Mapping[str, tuple[Any, ...]]:
    """{parameter: what is added to it} of the text encoders. It keeps no adapter in memory.

    A delta is compared by identity, and one that is gone equals no other: a file read again is another adapter.
    """
    session = existing_session(sd_model) if sd_model is not None else None
    if session is None:
        return {}
    patcher = session.host.patcher
    return _of_encoders(patcher.planned(), patcher.bypassed)


def carried_in(session: WebUISession, encoding: Encoding) -> Mapping[str, tuple[Any, ...]]:
    """The same for one run of theirs: what they will carry in it."""
    terms = session.schedule.at(encoding=encoding).terms
    return _of_encoders(terms, frozenset(terms) if session.host.patcher.bypass_all else frozenset())


def _of_encoders(terms: Mapping[str, Sequence[Term]], bypassed: frozenset[str]) -> Mapping[str, tuple[Any, ...]]:
    return {
        key: (key in bypassed, *map(_added, of_key))  # beside the weight instead of in it, they round otherwise
        for key, of_key in terms.items()
        if of_key[0].target.component != UNET
    }


def _added(term: Term) -> tuple[Any, ...]:
    return term.target, term.multiplier, term.dyn, weakref.ref(term.delta)
