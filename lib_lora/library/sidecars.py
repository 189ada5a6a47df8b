"""What stands beside an adapter file, read together: the user's notes and what other tools left; and what both make of
the file's family.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from lib_lora.describe.families import Family, Narrowed, conclude
from lib_lora.library.helpers import Helpers, read_helpers
from lib_lora.library.sidecar import CIVITAI, MANAGER, Notes, SidecarError, notes_path, read_notes

TELLING = (".json", CIVITAI, MANAGER)  # the family


@dataclass(frozen=True)
class Sidecars:
    """What was found; empty where there is nothing."""

    notes: Notes
    helpers: Helpers
    problems: tuple[str, ...]  # sentences: files that could not be read

    def family(self, narrowed: Narrowed, metadata: Mapping[str, str]) -> Family:
        """The family of the file that these stand beside, with its tensors and its header: see `describe.families`."""
        return conclude(narrowed, metadata, self.helpers.base_model, self.notes.sd_version)


def read_sidecars(adapter: Path, beside: Collection[str] | None = None) -> Sidecars:
    """Never raises: a file that cannot be read is named in `problems`.

    `beside` are the names of the files that lie there, so that looking costs no disk access; without them only those
    are looked for that tell the family.
    """
    if beside is None:
        names = (f"{adapter.stem}{end}" for end in TELLING)
        beside = frozenset(name for name in names if os.path.exists(os.path.join(adapter.parent, name)))
    notes, unread = Notes(), []
    try:
        notes = read_notes(adapter) if notes_path(adapter).name in beside else notes
    except SidecarError as error:
        unread.append(str(error))
    helpers = read_helpers(adapter, beside, notes.everything)
    return Sidecars(notes, helpers, (*helpers.problems, *unread))
