"""From a tag's name to the adapter that it means. Whatever finds files will do; a Library says more about them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from lib_lora.adapters.adapter import Adapter
from lib_lora.describe.families import Family
from lib_lora.engine.report import Entry
from lib_lora.library.sidecars import read_sidecars


class Finder(Protocol):
    """Finds installed adapters by what users type: `lib_lora.library.Library` is one."""

    def find(self, name: str) -> Entry:
        """Raises NotFoundError."""
        ...


class Meaning(Protocol):
    """What a name means: `lib_lora.library.lookup.Meaning` is one."""

    @property
    def entry(self) -> Entry: ...

    @property
    def ambiguity(self) -> str | None:
        """A sentence if the name may mean several files: which was taken, and how to name each."""
        ...


@runtime_checkable
class Chooser(Finder, Protocol):
    """A finder that says in the same answer where it had to choose."""

    def look_up(self, name: str) -> Meaning:
        """Raises NotFoundError."""
        ...


@dataclass(frozen=True)
class Answer:
    """What became of looking one name up."""

    entry: Entry | None = None
    ambiguity: str | None = None
    error: Exception | None = None


def look_up(finder: Finder, names: Iterable[str]) -> dict[str, Answer]:
    """Each name's answer, asked for once. Never raises for a name."""
    chooser = finder if isinstance(finder, Chooser) else None
    return {name: _look_up(finder, chooser, name) for name in dict.fromkeys(names)}


def _look_up(finder: Finder, chooser: Chooser | None, name: str) -> Answer:
    try:
        if chooser is None:
            return Answer(finder.find(name))
        meaning = chooser.look_up(name)
        return Answer(meaning.entry, meaning.ambiguity)
    except Exception as error:  # a finder may be anybody's; the session tells of it where it tells of all others
        return Answer(error=error)


def family_of(entry: Entry, adapter: Adapter) -> Family:
    """What the library's list says; of a file that it could not read, and of any other finder's, what it would say."""
    family = getattr(entry, "family", None)
    if isinstance(family, Family) and not getattr(entry, "broken", None):
        return family
    return read_sidecars(entry.path).family(adapter.narrowed, adapter.metadata)
