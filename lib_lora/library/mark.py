"""Mark: what the user says about one adapter, and what shall become of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lib_lora.formats.text import encodable

MAX_TAGS = 100  # of one adapter
MAX_TAG = 100  # characters


@dataclass(frozen=True)
class Mark:
    """What the user says about one adapter."""

    favorite: bool | None = None  # None: as other tools' sidecars say
    tags: tuple[str, ...] = ()  # in the order in which they were given


NO_MARK = Mark()


@dataclass(frozen=True)
class Change:
    """What shall become of some marks."""

    favorite: bool | None = None  # None: stays
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    def applied(self, mark: Mark) -> Mark:
        gone = {tag.casefold() for tag in self.remove}
        tags = {tag.casefold(): tag for tag in reversed((*mark.tags, *self.add)) if tag.casefold() not in gone}
        kept = tuple(reversed(tags.values()))[:MAX_TAGS]  # of two spellings the older one stays
        return Mark(mark.favorite if self.favorite is None else self.favorite, kept)


def clean_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags as they are kept: one line each, no longer than MAX_TAG."""
    texts = (" ".join(encodable(tag).split())[:MAX_TAG].strip() for tag in tags)
    return tuple(dict.fromkeys(text for text in texts if text))[:MAX_TAGS]
