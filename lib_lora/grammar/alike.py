"""What somebody probably meant who typed a word that is none of the known ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 40  # letters of a word that is compared
ALIKE = 0.6


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of `known` that is most like `word`, whatever its case; None if none is."""
    by_letters = {each.lower(): each for each in reversed(list(known))}
    found = difflib.get_close_matches(word[:LONGEST].lower(), by_letters, n=1, cutoff=ALIKE)
    return by_letters[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean MIDD?)`, to stand behind the word; nothing where none is alike."""
    found = nearest(word, known)
    return f" (did you mean {found}?)" if found else ""
