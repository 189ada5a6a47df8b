"""AdapterReport: what became of one tag, and the sentences for the person who typed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from weakref import ReferenceType

from lib_lora.adapters.adapter import Adapter
from lib_lora.describe.families import Family
from lib_lora.formats.text import printable
from lib_lora.grammar.tag import LoraTag
from lib_lora.grammar.who import EVERYONE, Who


class Entry(Protocol):
    """An installed adapter, as far as a model needs to know it: `lib_lora.library.Entry` is one."""

    @property
    def path(self) -> Path:
        """The file."""
        ...


@dataclass(frozen=True)
class AdapterReport:
    """What became of one tag."""

    tag: LoraTag
    path: str | None = None
    matched: int = 0  # modules that found a target and fit it, with their weight or their bias
    total: int = 0  # modules in the file
    unmatched: tuple[str, ...] = ()  # module names this model does not have
    misfits: tuple[str, ...] = ()  # sentences: modules whose shape does not fit
    unknown: tuple[str, ...] = ()  # keys that no algorithm understands
    refused: tuple[str, ...] = ()  # sentences: modules of the file that cannot be used on any model
    notes: tuple[str, ...] = ()  # sentences for the user; the adapter works all the same
    problem: str | None = None  # a sentence: why nothing of it is applied
    entry: Entry | None = field(default=None, repr=False, compare=False)  # what the tag's name was found to mean
    family: Family | None = None  # of the adapter, if it could be read
    who: Who = EVERYONE  # the pictures of the batch whose prompt has it
    read: ReferenceType[Adapter] | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """As typed."""
        return self.tag.name

    @property
    def adapter(self) -> Adapter | None:
        """As it was read. Its session has it in memory until the next activation; a report alone does not keep it."""
        return self.read() if self.read is not None else None

    @property
    def applied(self) -> bool:
        """True if it changes the model (or would, at a weight other than 0)."""
        return self.problem is None

    def sentences(self) -> list[str]:
        """Everything worth telling the person who typed the tag."""
        return [printable(sentence) for sentence in self._sentences()]

    def _sentences(self) -> list[str]:
        if self.problem is not None:
            return [self.problem]
        sentences = [*self.notes, *summary(self.name, self.refused)]
        if self.misfits:
            count = f"{self.name}: {len(self.misfits)} of {self.total}"
            sentences.append(f"{count} layers do not fit this checkpoint ({self.misfits[0]})")
        if self.unmatched:
            count = f"{self.name}: {len(self.unmatched)} of {self.total}"
            sentences.append(f"{count} layers are not in this model and were left out (such as '{self.unmatched[0]}')")
        if self.unknown:
            count = f"{self.name}: {len(self.unknown)}"
            sentences.append(f"{count} tensors are not understood (such as '{self.unknown[0]}')")
        return sentences


def summary(name: str, sentences: Sequence[str]) -> list[str]:
    """The first of many like sentences, and how many there are."""
    if not sentences:
        return []
    more = f" (and {len(sentences) - 1} more)" if len(sentences) > 1 else ""
    return [f"{name}: {sentences[0]}{more}"]
