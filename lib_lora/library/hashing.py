"""Hashes of the whole library, computed in the background."""

from __future__ import annotations

from lib_lora.library.gently import Gently
from lib_lora.library.index import Library


def hasher(library: Library) -> Gently:
    """Computes what is missing, once it is started."""
    return Gently(library, "hashes", lambda entry: not library.known_hashes(entry), lambda entry: entry.hashes,
                  library.follow_marks)  # fmt: skip
