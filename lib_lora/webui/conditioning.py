"""The WebUI keeps encoded prompts and may not notice that the text encoder carries something else now.

Its key holds the tags as typed, but neither the time stamp of the file behind a name nor the option that adds an
adapter. So: where the same tags mean something else than last time, what is kept is dropped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from modules import processing

CACHES = ("cached_c", "cached_uc", "cached_hr_c", "cached_hr_uc")  # lists of two: the key and the encoded prompt
REMEMBERED = 64


class ConditioningGuard:
    """Remembers what each set of tags meant when it was last active."""

    def __init__(self) -> None:
        self._meaning: OrderedDict[Hashable, Hashable] = OrderedDict()

    def check(self, p: Any, typed: Hashable, meaning: Hashable) -> None:
        """`typed` (in the WebUI's key) now stands for `meaning`: everything else that decides the encoder's weights."""
        known = self._meaning.pop(typed, None)
        self._meaning[typed] = meaning
        while len(self._meaning) > REMEMBERED:
            self._meaning.popitem(last=False)
        if known != meaning:
            forget(p)


def forget(p: Any) -> None:
    """Drop every encoded prompt. The lists are emptied in place: classes and objects share them."""
    owners = (p, processing.StableDiffusionProcessing, processing.StableDiffusionProcessingTxt2Img)
    for cache in (getattr(owner, name, None) for owner in owners for name in CACHES):
        if isinstance(cache, list):
            cache[:] = [None, None]
