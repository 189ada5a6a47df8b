"""Entry: one installed adapter file, as the index knows it.

What lists and searches need is in memory; descriptions and the header's metadata stay in the database
until somebody asks. A file that cannot be used is an entry too: `broken` says why.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lib_lora.describe.families import Family
from lib_lora.describe.metadata import cover, trained_tags, training_facts
from lib_lora.formats.hashes import Hashes
from lib_lora.library.sidecar import VIDEOS

if TYPE_CHECKING:
    from lib_lora.library.mark import Mark


class Store(Protocol):
    """What an entry asks of the library it belongs to."""

    def metadata(self, entry: Entry) -> dict[str, str]: ...

    def readable_json(self, entry: Entry) -> str: ...

    def details(self, entry: Entry) -> Details: ...

    def hashes(self, entry: Entry) -> Hashes: ...

    def shorthash(self, entry: Entry) -> str: ...

    def mark(self, entry: Entry) -> Mark: ...

    def change(self, entry: Entry) -> float | None: ...


@dataclass(frozen=True)
class Details:
    """What a detail view shows besides; from the header, the user's notes and other tools' sidecars."""

    description: str = ""
    notes: str = ""
    sd_version: str = ""  # the user's own choice: "SD1", "SD2", "SDXL", "Unknown"
    author: str = ""
    license: str = ""
    prediction_type: str = ""
    tags: tuple[str, ...] = ()  # as on Civitai
    embeddings: tuple[str, ...] = ()  # bundled textual inversions
    unknown: tuple[str, ...] = ()  # tensors that no algorithm understands

    @classmethod
    def from_json(cls, text: str) -> Details:
        return cls(**{name: _frozen(value) for name, value in json.loads(text or "{}").items()})


@dataclass(frozen=True, eq=False)
class Entry:
    """Equal to itself only; a changed file gets a new one with the same id."""

    id: int
    location: str  # its path as text
    folder: Path  # the configured folder
    name: str  # path below it, "/" and no extension: "styles/ink"
    size: int
    mtime_ns: int
    alias: str  # the name given in training, else the file's
    title: str
    family: Family
    algorithms: tuple[str, ...]  # the most frequent first
    rank: tuple[int, int] | None  # (smallest, largest)
    modules: int
    components: tuple[str, ...]
    trigger_words: tuple[str, ...]  # from Civitai, else from the header; words and phrases, as they go into a prompt
    activation_text: str  # the user's own, without tags in it
    activation_typed: str  # the same with its tags; empty if it has none
    negative_text: str
    preferred_weight: float | None  # the user's, else Lora-Manager's; None: not set
    preview_name: str | None  # of the picture or video beside the file
    stated_hashes: tuple[str, ...]  # by the header and by sidecars, not checked
    stated_favorite: bool  # by other tools' sidecars
    license: str
    notes_digest: str  # of `<stem>.json` when it was read; empty: there is none
    warnings: tuple[str, ...]  # sentences: sidecars that could not be read
    broken: str | None  # a sentence: why the file cannot be used
    _store: Store = field(repr=False)

    @cached_property
    def path(self) -> Path:
        return Path(self.location)

    @cached_property
    def stem(self) -> str:
        """The file's name without its extension."""
        return self.name.rpartition("/")[2]

    @property
    def extension(self) -> str:
        """".safetensors", as it is written."""
        return os.path.splitext(self.location)[1]

    @property
    def preview(self) -> Path | None:
        """The picture beside the file, or the video."""
        return self.path.with_name(self.preview_name) if self.preview_name else None

    @property
    def has_video(self) -> bool:
        """The preview is one."""
        return self.preview_name is not None and self.preview_name.lower().endswith(VIDEOS)

    @property
    def prompt_text(self) -> str:
        """What goes into the prompt with the tag: the user's activation text, else the trigger words."""
        return self.activation_text or ", ".join(self.trigger_words)

    @property
    def favorite(self) -> bool:
        """The user's own mark, else what other tools' sidecars say."""
        own = self._store.mark(self).favorite
        return self.stated_favorite if own is None else own

    @property
    def user_tags(self) -> tuple[str, ...]:
        """The user's own tags."""
        return self._store.mark(self).tags

    @property
    def change(self) -> float | None:
        """How much it changes of a model in all, at weight 1; None as long as nobody has measured it."""
        return self._store.change(self)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The header's metadata, read anew each time."""
        return self._store.metadata(self)

    @property
    def metadata_json(self) -> str:
        """The same as JSON text."""
        return json.dumps(self.metadata)

    @property
    def readable_json(self) -> str:
        """The same with the important things first and JSON inside strings read, as it stands in the database."""
        return self._store.readable_json(self)

    @cached_property
    def details(self) -> Details:
        return self._store.details(self)

    @property
    def hashes(self) -> Hashes:
        """Computed when first asked for (a pass over the file) and stored. Raises AdapterFileError."""
        return self._store.hashes(self)

    @property
    def shorthash(self) -> str:
        """12 digits, as in a picture's `Lora hashes`; computed where not stored; empty if the file cannot be read."""
        return self._store.shorthash(self)

    @property
    def trained_tags(self) -> tuple[tuple[str, int], ...]:
        """(trained tag, number of pictures), most frequent first."""
        return trained_tags(self.metadata)

    @property
    def training_facts(self) -> tuple[tuple[str, str], ...]:
        """("Steps", "2000"), in the order in which to show them."""
        return training_facts(self.metadata)

    @property
    def cover(self) -> bytes | None:
        """The picture inside the header, or None."""
        return cover(self.metadata)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
