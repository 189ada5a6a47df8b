"""Wanted: the tags of a batch of pictures, each with its own prompt and negative prompt, in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from lib_lora.errors import LoraError, TagError
from lib_lora.grammar.presets import BUILT_IN, Presets
from lib_lora.grammar.tag import LoraTag
from lib_lora.grammar.who import FIRST_PASS, Row, Side, Stage, Who

Each = TypeVar("Each")
Tags = tuple[LoraTag, ...]
DEFAULT: dict[str, Literal["uncond", "both"]] = {"prompt": "both", "negative": "uncond"}  # on which side a tag acts


@dataclass(frozen=True)
class Wanted:
    """One entry for each picture; those of `negative` may be missing: no tags there."""

    prompts: tuple[Tags, ...] = ((),)
    negative: tuple[Tags, ...] = ()
    stage: Stage = FIRST_PASS
    errors: tuple[tuple[LoraError, ...], ...] = ()  # what of them could not be read
    seeds: tuple[int, ...] = ()  # of the pictures: R and U among block weights are the same numbers for the same seed
    presets: Presets = field(default=BUILT_IN, repr=False)  # names of block weights

    @property
    def images(self) -> int:
        """How many pictures."""
        return len(self.prompts)

    @property
    def tags(self) -> Tags:
        """Every tag that is typed, each once."""
        return tuple(dict.fromkeys(tag for tags in (*self.prompts, *self.negative) for tag in tags))

    def each(self) -> list[tuple[LoraTag, Who]]:
        """Every tag and whom it acts on, in an order that keeps that of each picture."""
        joined: list[tuple[LoraTag, Side | None, frozenset[int]]] = []
        for image in range(self.images):
            place = 0
            for tag, side in self._of(image):
                same = next((number for number, (*known, images) in enumerate(joined)
                             if number >= place and known == [tag, side] and image not in images), None)  # fmt: skip
                if same is None:
                    joined.insert(place, (tag, side, frozenset({image})))
                    place += 1
                else:
                    joined[same] = (tag, side, joined[same][2] | {image})
                    place = same + 1
        return [(tag, Who(None if len(images) == self.images else images, side)) for tag, side, images in joined]

    def _of(self, image: int) -> Iterator[tuple[LoraTag, Side | None]]:
        negative = self.negative[image] if image < len(self.negative) else ()
        seed = self.seeds[image] if image < len(self.seeds) else 0
        for where, tags in (("prompt", self.prompts[image]), ("negative", negative)):
            for tag in tags:
                side = tag.on or DEFAULT[where]
                yield settled(tag, self.presets, seed), None if side == "both" else side

    def rows(self) -> list[Row]:
        """One for each text that is encoded."""
        return [Row(image, side) for side in ("cond", "uncond") for image in range(self.images)]


def settled(tag: LoraTag, presets: Presets, seed: int = 0) -> LoraTag:
    """See `LoraTag.settled`; as it is where that fails: the session says so, where its other problems are."""
    try:
        return tag.settled(presets, seed)
    except TagError:
        return tag


def repeated(wanted: Wanted, pictures: int) -> Wanted:
    """The same where so many pictures are made of each prompt, one after another."""
    return replace(wanted, prompts=_repeat(wanted.prompts, pictures), negative=_repeat(wanted.negative, pictures),
                   errors=_repeat(wanted.errors, pictures))  # fmt: skip


def _repeat(of_each: Sequence[Each], pictures: int) -> tuple[Each, ...]:
    return tuple(each for each in of_each for _ in range(pictures))
