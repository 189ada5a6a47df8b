"""Active: a tag and the adapter that was found for it."""

from __future__ import annotations

from dataclasses import dataclass

from lib_lora.adapters.adapter import Adapter
from lib_lora.describe.families import Family
from lib_lora.engine.report import Entry
from lib_lora.grammar.tag import LoraTag
from lib_lora.grammar.who import EVERYONE, Who


@dataclass(frozen=True)
class Active:
    """What the session hands to `plan`."""

    tag: LoraTag
    adapter: Adapter
    entry: Entry | None = None  # by which the finder found it
    judged: Family | None = None  # with what stands beside the file
    who: Who = EVERYONE

    @property
    def family(self) -> Family:
        """As judged, else by the file alone."""
        return self.judged or self.adapter.family
