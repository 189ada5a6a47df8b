"""Prompt editing around tags: `[<lora:a:1>:<lora:b:1>:0.5]` has one until the middle and the other from there on.

A tag counts exactly in those steps in which a word in its place would be shown. So one private-use letter stands in
for each tag, the text is edited as it always is, and where a letter is left, its tag counts. Whoever has a parser of
its own hands over what that made of `lettered(prompt).text`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from lib_lora.errors import TagError
from lib_lora.grammar.brackets import schedule
from lib_lora.grammar.curve import ALWAYS, Window
from lib_lora.grammar.others import others
from lib_lora.grammar.scan import without
from lib_lora.grammar.tag import LoraTag, typed_tags

PRIVATE_USE = range(0xE000, 0xF900)  # letters that no text and no vocabulary has a meaning for


class Segment(NamedTuple):
    """What a prompt is in the steps from `start` on and before `stop`, counted from 0."""

    start: float
    stop: float
    text: str


@dataclass(frozen=True)
class Lettered:
    """A prompt with one letter in the place of each tag."""

    text: str
    tags: Mapping[str, LoraTag]  # by letter, in the order of the prompt
    errors: tuple[TagError, ...] = ()

    def shown(self, segments: Iterable[Segment]) -> tuple[LoraTag, ...]:
        """The tags, each with the steps in which it counts; `segments` of several texts (AND) may overlap."""
        ranges: dict[str, list[tuple[float, float]]] = {letter: [] for letter in self.tags}
        for start, stop, text in segments:
            for letter in ranges.keys() & set(text):
                ranges[letter].append((start, stop))
        return tuple(replace(tag, shown=_window(ranges[letter])) for letter, tag in self.tags.items())

    def spoken(self, text: str) -> str:
        """`text` without the letters."""
        return text.translate({ord(letter): None for letter in self.tags})


def lettered(prompt: str) -> Lettered:
    """A letter that `prompt` does not have for each of its tags; those that cannot be read are cut out and told."""
    letters = (letter for letter in map(chr, PRIVATE_USE) if letter not in prompt)
    tags: dict[str, LoraTag] = {}
    errors, pieces, place = [], [], 0
    for typed in typed_tags(prompt):
        pieces.append(prompt[place : typed.found.start])
        place = typed.found.end
        if typed.tag is not None:
            letter = next(letters)
            tags[letter] = typed.tag
            pieces.append(letter)
        if typed.error is not None:
            errors.append(typed.error)
    return Lettered("".join([*pieces, without(prompt[place:])]), tags, (*errors, *others(prompt)))


@dataclass(frozen=True)
class Edited:
    """A prompt over the steps of one pass."""

    tags: tuple[LoraTag, ...]  # each with the steps in which it counts
    texts: tuple[tuple[int, str], ...]  # (the first step that shows it no more, the text without tags), in order
    errors: tuple[TagError, ...] = ()


def edited(prompt: str, steps: int, before: int | None = None) -> Edited:
    """`prompt` as the WebUI edits it, for hosts that have no parser of their own.

    `before`: in a hires pass, how many steps were made before it.
    """
    read = lettered(prompt)
    made = [each for each in segments(schedule(read.text, steps, before)) if each.start < max(steps, 1)]
    made[-1] = made[-1]._replace(stop=math.inf)
    texts: list[tuple[int, str]] = []
    for each in made:
        text, stop = read.spoken(each.text), int(min(each.stop, steps))
        if texts and texts[-1][1] == text:
            texts.pop()
        texts.append((stop, text))
    return Edited(read.shown(made), tuple(texts), read.errors)


def segments(planned: Sequence[tuple[int, str]], calls: int = 1) -> Iterator[Segment]:
    """Of a schedule as the WebUI makes it, `(the last step, the text)`: it shows a text up to that step included.

    `[a:b:5]` is `a` in the steps 0 to 5. `calls`: how many of the WebUI's steps the sampler takes for one.
    """
    start = 0.0
    for number, (last, text) in enumerate(planned, 1):
        stop = math.inf if number == len(planned) else (last + 1) / calls
        yield Segment(start, stop, text)
        start = stop


def _window(ranges: Iterable[tuple[float, float]]) -> Window:
    joined: list[tuple[float, float]] = []
    for start, stop in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return ALWAYS if joined == [(0.0, math.inf)] else Window(tuple(joined), "step")
