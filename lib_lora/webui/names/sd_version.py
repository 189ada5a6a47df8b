"""The base models that the WebUI's pages tell apart, and which of them an adapter is for."""

from __future__ import annotations

import enum

from lib_lora.describe.family_rules import CHOICES
from lib_lora.library.entry import Entry
from lib_lora.library.sidecar import Notes


class SdVersion(enum.Enum):
    """Names and numbers as the built-in extension has them: others compare with these."""

    Unknown = 1
    SD1 = 2
    SD2 = 3
    SDXL = 4

    @classmethod
    def of(cls, entry: Entry) -> SdVersion:
        return FAMILIES.get(entry.family.id, cls.Unknown)


FAMILIES = {family: SdVersion[choice] for choice, families in CHOICES.items() for family in families}


def shown_version(entry: Entry, notes: Notes) -> str:
    """"SD1", "SD2", "SDXL" or "Unknown": as the user says, else as the file says."""
    return notes.sd_version if notes.sd_version in SdVersion.__members__ else SdVersion.of(entry).name
