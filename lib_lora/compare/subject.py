"""Subject: an adapter as a row of a comparison: what of it decides a picture, and what is shown of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from lib_lora.adapters.config import MAX_CONFIG, config_of
from lib_lora.compare.runner import Needed
from lib_lora.errors import AdapterFileError, LoraError
from lib_lora.formats.opening import read_file
from lib_lora.library import Entry, Library

EPOCH = re.compile(r"(.+?)[-_](?:e|epoch[-_]?)?(\d{6})")  # kohya's `ink-000004`, which is what others write too
LAST = 10**9  # the epoch of a file that ends a training and has no number


@dataclass(frozen=True)
class Subject:
    """One adapter. `problem`: a sentence, if it cannot be drawn at all."""

    name: str  # as tags say it
    title: str
    facts: tuple[str, ...] = ()  # lines below its name
    words: tuple[str, ...] = ()  # trigger words
    needed: Needed | None = None
    run: str = ""  # what its training is called; empty: it is no step of one
    epoch: int | None = None
    stated: int | None = None  # what the header says of it
    problem: str = ""

    @property
    def rung(self) -> str:
        """What its step of the ladder is called."""
        return "" if self.epoch is None else "last" if self.epoch == LAST else str(self.epoch)


def subject_of(entry: Entry, name: str | None = None) -> Subject:
    """The row of an installed adapter; its file is hashed, once in its life. `name`: see `sketch_of`."""
    sketch = sketch_of(entry, name)
    if sketch.problem:
        return sketch
    try:
        return replace(sketch, needed=needed_of(entry, sketch.name))
    except AdapterFileError as error:
        return replace(sketch, problem=str(error))


def sketch_of(entry: Entry, name: str | None = None) -> Subject:
    """The same without a look at the file. `name`: what a tag says, if that is another than usual."""
    if entry.broken:
        return Subject(name or entry.name, entry.title or entry.stem, problem=entry.broken)
    run, epoch = _training(entry)
    return Subject(name or entry.name, entry.title or entry.name, _facts(entry), entry.trigger_words, None, run, epoch,
                   _stated(entry))  # fmt: skip


def needed_of(entry: Entry, name: str) -> Needed:
    """What a tag that says `name` needs. Raises AdapterFileError if the file cannot be read."""
    hashes = entry.hashes
    digest = hashes.tensors or hashes.sha256
    config = config_of(entry.path)
    if config is not None:  # PEFT's, which is read with the tensors
        digest += hashlib.sha256(read_file(config, MAX_CONFIG) or b"").hexdigest()
    return Needed(name, hashes.sha256, digest, entry.size, entry.location)


def find_subjects(library: Library, names: Iterable[str] | None) -> list[Subject]:
    """Those of `names`, each once, a training's in order; None: all of the library. What is missing has a problem."""
    if names is None:
        found = [subject_of(entry) for entry in library.entries()]
    else:
        found = [_find(library, name) for name in names]
    return laddered(list({each.name: each for each in found}.values()))


def laddered(subjects: Iterable[Subject]) -> list[Subject]:
    """The same; the epochs of one training stand together, at the place of its first, in the order of training."""
    listed = list(subjects)
    places: dict[str, int] = {}
    for place, each in enumerate(listed):
        if each.epoch is not None:
            places.setdefault(each.run, place)
    steps = {run: sum(each.run == run and each.epoch is not None for each in listed) for run in places}
    for place, each in enumerate(listed):
        if each.epoch is None and each.run in places:  # the file without a number is the end of that training
            listed[place] = replace(each, epoch=each.stated or LAST)
        elif each.epoch is None or (steps[each.run] < 2 and not _has_end(listed, each.run)):
            listed[place] = replace(each, run="", epoch=None)
    order = sorted(range(len(listed)), key=lambda place: (
        (places[listed[place].run], listed[place].epoch or 0) if listed[place].run else (place, 0)))
    return [listed[place] for place in order]


def _has_end(subjects: Iterable[Subject], run: str) -> bool:
    return any(each.run == run and each.name == run for each in subjects)


def _find(library: Library, name: str) -> Subject:
    try:
        return subject_of(library.find(name))
    except LoraError as error:
        return Subject(name, name, problem=str(error))


def _training(entry: Entry) -> tuple[str, int | None]:
    """`(what the training is called, which epoch of it this is)`; None if the name does not say that it is one."""
    folder, _, stem = entry.name.rpartition("/")
    numbered = EPOCH.fullmatch(stem)
    if not numbered:
        return entry.name, None
    run = f"{folder}/{numbered[1]}" if folder else numbered[1]
    return run, _stated(entry) or int(numbered[2])


def _stated(entry: Entry) -> int | None:
    stated = entry.metadata.get("ss_epoch", "").strip()
    return int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 9 else None


def _facts(entry: Entry) -> tuple[str, ...]:
    ranks = sorted(set(entry.rank or ()))
    rank = ", rank " + "-".join(map(str, ranks)) if ranks else ""
    trigger = f"says \N{LEFT DOUBLE QUOTATION MARK}{', '.join(entry.trigger_words)}\N{RIGHT DOUBLE QUOTATION MARK}"
    return (", ".join(entry.algorithms) + rank, *((trigger,) if entry.trigger_words else ()))
