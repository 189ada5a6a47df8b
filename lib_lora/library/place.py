"""Where the index of a user's own folders is kept, for the commands and the standalone page alike."""

from __future__ import annotations

import os
from pathlib import Path


def default_index() -> Path | None:
    """`~/.cache/lib_lora/library.sqlite`, or below `$XDG_CACHE_HOME`; None where there is no home."""
    named = Path(os.environ.get("XDG_CACHE_HOME") or "")
    try:
        folder = named if named.is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    return folder / "lib_lora" / "library.sqlite"
