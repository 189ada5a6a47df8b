"""Grid: what is compared: adapters x weights x prompts x seeds x checkpoints; a weight is all that a tag can say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import PurePath

from lib_lora.compare.runner import Ground, Needed, Task
from lib_lora.compare.subject import Subject, find_subjects, laddered, needed_of
from lib_lora.errors import LoraError
from lib_lora.formats.text import encodable
from lib_lora.grammar.number import read_number, write_number
from lib_lora.grammar.tag import LoraTag, is_typable, read_prompt, read_tag
from lib_lora.library import Library

BRACES = re.compile(r"\{([^{}]*)\}")
MOST_SEED = 2**32 - 1
HASH = re.compile(r" \[[0-9a-f]{6,64}\]$")  # which the WebUI adds to a checkpoint's name


@dataclass(frozen=True)
class Settings:
    """What all pictures have in common; None and empty: what suits the model."""

    negative: str = ""
    steps: int | None = None
    guidance: float | None = None
    size: tuple[int, int] | None = None  # width, height
    sampler: str = ""  # the WebUI's name

    def on(self, ground: Ground) -> Settings:
        """With nothing left open."""
        return Settings(self.negative, self.steps or ground.steps,
                        ground.guidance if self.guidance is None else self.guidance,
                        self.size or ground.size, self.sampler or ground.sampler)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One picture of a grid."""

    subject: Subject
    weight: str
    prompt: str  # as given: without the adapter's tag
    seed: int
    text: str  # what is drawn
    checkpoint: str = ""  # empty: the one that there is

    @property
    def value(self) -> float | str:
        """The weight as a number, if it is one."""
        return weight_value(self.weight)


@dataclass(frozen=True)
class Grid:
    """A comparison, before anything is drawn. `needed`: files of tags that stand in the prompts themselves."""

    subjects: tuple[Subject, ...]
    weights: tuple[str, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Settings = Settings()
    needed: tuple[Needed, ...] = ()
    adds_words: bool = False  # trigger words go to the end of a prompt that has no place for them
    checkpoints: tuple[str, ...] = ("",)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """All, checkpoint by checkpoint, so that each is loaded once, and adapter by adapter."""
        return tuple(self._cells())

    @property
    def pictures(self) -> int:
        """How many of them are different: weight 0 is one picture for all adapters."""
        return len({(cell.checkpoint, cell.text, cell.seed) for cell in self.cells})

    def on(self, checkpoint: str) -> Grid:
        """Its cells of one checkpoint."""
        return replace(self, checkpoints=(checkpoint,))

    def _cells(self) -> Iterator[Cell]:
        for checkpoint, subject, weight in product(self.checkpoints, self.subjects, self.weights):
            for prompt, seed in product(self.prompts, self.seeds):
                yield Cell(subject, weight, prompt, seed, self._text(subject, weight, prompt), checkpoint)

    def task(self, cell: Cell, ground: Ground) -> Task:
        """What a runner is told to draw."""
        chosen = self.settings.on(ground)
        assert chosen.steps is not None
        assert chosen.guidance is not None
        assert chosen.size is not None
        typed = {tag.name for tag in read_prompt(cell.text).tags}
        own = () if cell.subject.needed is None else (cell.subject.needed,)
        files = tuple(each for each in (*own, *self.needed) if each.name in typed)
        return Task(cell.text, chosen.negative, chosen.steps, float(chosen.guidance), chosen.size, chosen.sampler,
                    cell.seed, files)  # fmt: skip

    def _text(self, subject: Subject, weight: str, prompt: str) -> str:
        text = with_words(prompt, subject.words, adds=self.adds_words)
        return text if is_untouched(weight) else f"{text} <lora:{subject.name}:{weight}>"


def make_grid(
    library: Library, *, prompts: Iterable[str], weights: Iterable[str | float], seeds: Iterable[int],
    adapters: Iterable[str] | None = None, subjects: Iterable[Subject] | None = None,
    settings: Settings | None = None, adds_words: bool = False, checkpoints: Iterable[str] = (), is_plan: bool = False,
) -> Grid:  # fmt: skip
    """The grid of these names, or of `subjects`; None: all that are installed. What is named twice is there once.

    checkpoints  empty: the one that the runners have
    is_plan      it is counted and not drawn: no file that a prompt names is read
    Raises LoraError for a weight that no tag can have, and if nothing is left to draw.
    """
    texts = list(dict.fromkeys(encodable(" ".join(prompt.split())) for prompt in prompts))
    chosen = list(dict.fromkeys(read_weight(weight) for weight in weights))
    numbers = list(dict.fromkeys(seeds))
    for seed in numbers:
        if not 0 <= seed <= MOST_SEED:
            raise LoraError(f"{seed} is no seed; write whole numbers from 0 to {MOST_SEED}")
    rows = find_subjects(library, adapters) if subjects is None else laddered(subjects)
    rows = [_typable(subject) for subject in rows]
    for what, found in {"adapters": rows, "weights": chosen, "prompts": texts, "seeds": numbers}.items():
        if not found:
            raise LoraError(f"there are no {what} to compare")
    return Grid(tuple(rows), tuple(chosen), tuple(texts), tuple(numbers), settings or Settings(),
                () if is_plan else tuple(_needed(library, texts)), adds_words,
                tuple(dict.fromkeys(checkpoints)) or ("",))  # fmt: skip


def read_weight(weight: str | float) -> str:
    """As it stands in a tag. Raises LoraError if it cannot."""
    if not isinstance(weight, str):
        return write_number(weight)
    number = read_number(weight.strip())
    if number is not None:
        return write_number(number)
    text = "".join(weight.split())
    read_tag(f"name:{text}")  # raises TagError
    return text


def weight_value(weight: str) -> float | str:
    """A number if it is one: whole ones without a point."""
    number = read_number(weight)
    return weight if number is None else int(number) if number == int(number) else number


def checkpoint_names(checkpoints: Iterable[str]) -> dict[str, str]:
    """{checkpoint: what it is called where there is little room}"""
    short = {each: _stem(HASH.sub("", each)) for each in checkpoints}
    said = list(short.values())
    return {each: name if said.count(name) == 1 else each for each, name in short.items()}


def is_untouched(weight: str) -> bool:
    """Whether nothing of the adapter acts: such a picture is the same for all, and needs none of them."""
    tag = read_tag(f"name:{weight}")
    return not any((tag.te, tag.unet, tag.hires_te, tag.hires_unet, tag.refiner))


def with_words(prompt: str, words: Sequence[str], *, adds: bool = False) -> str:
    """`prompt` with trigger words in place of what stands in braces, or at its end."""
    said = ", ".join(words)
    if adds and said and not BRACES.search(prompt):
        return f"{prompt}, {said}"
    return BRACES.sub(lambda match: said or match[1], prompt)


def _stem(name: str) -> str:
    path = PurePath(name.replace("\\", "/"))
    return path.stem if path.suffix in (".safetensors", ".ckpt", ".pt") else path.name


def _typable(subject: Subject) -> Subject:
    if subject.problem or is_typable(subject.name):
        return subject
    return replace(subject, problem=f"{subject.name}: no tag can name this file; give it a name without : < and >")


def _needed(library: Library, prompts: Iterable[str]) -> Iterator[Needed]:
    tags: dict[str, LoraTag] = {tag.name: tag for prompt in prompts for tag in read_prompt(prompt).tags}
    for name in tags:
        try:
            yield needed_of(library.find(name), name)
        except LoraError:  # its cells will say so
            yield Needed(name, "", "")
