"""Prompts: what one call of a diffusers pipeline says, as the pipeline takes it and as the session does.

`prompt`, `prompt_2`, `prompt_3` are one picture's prompt, told to several text encoders: their tags count together. So
do those of the negative ones, each of which may be one for all pictures.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lib_lora.errors import TagError
from lib_lora.formats.text import encodable
from lib_lora.grammar.editing import edited
from lib_lora.grammar.tag import LoraTag
from lib_lora.grammar.trigger_words import unescaped
from lib_lora.grammar.who import FIRST_PASS, Side, Stage
from lib_lora.session.wanted import Wanted, repeated

NAMES: dict[Side, tuple[str, ...]] = {
    "cond": ("prompt", "prompt_2", "prompt_3"),
    "uncond": ("negative_prompt", "negative_prompt_2", "negative_prompt_3"),
}
STEPS = "num_inference_steps"
Text = tuple[str | None, ...]  # in the order of NAMES; None: the pipeline is not told one


@dataclass(frozen=True)
class Spoken:
    """One text, read: what is told of it at which steps, and what its tags say."""

    texts: tuple[tuple[float, str], ...]  # (the first step after it, the text)
    tags: tuple[LoraTag, ...] = ()
    errors: tuple[TagError, ...] = ()

    def at(self, step: int) -> str:
        """The text then."""
        return next((text for stop, text in self.texts if step < stop), self.texts[-1][1])


@dataclass(frozen=True)
class Prompts:
    """The prompts of a call, each taken apart."""

    read: Mapping[str, tuple[Spoken, ...]]  # by argument: one for each picture, or one for all
    lists: frozenset[str] = frozenset()  # the arguments that are lists
    pictures: int = 1  # of each prompt
    seeds: tuple[int, ...] = ()  # of the pictures

    @property
    def count(self) -> int:
        """How many prompts."""
        return len(self.read["prompt"])

    @property
    def images(self) -> int:
        """How many pictures."""
        return self.count * self.pictures

    def wanted(self, stage: Stage = FIRST_PASS) -> Wanted:
        """What the session shall make of it."""
        each = range(self.count)
        wanted = Wanted(tuple(self._tags(number, "cond") for number in each) or ((),),
                        tuple(self._tags(number, "uncond") for number in each), stage,
                        errors=tuple(self._errors(number) for number in each))  # fmt: skip
        return replace(repeated(wanted, self.pictures), seeds=self.seeds)

    @property
    def are_edited(self) -> bool:
        """True if one of them is another at some steps than at others."""
        return any(len(each.texts) > 1 for spoken in self.read.values() for each in spoken)

    def at(self, image: int, side: Side, step: int) -> Text:
        """What the text encoders are told of that picture then."""
        return tuple(None if (spoken := self._of(image // self.pictures, name)) is None else spoken.at(step)
                     for name in NAMES[side])  # fmt: skip

    def plain(self) -> dict[str, str | list[str]]:
        """As the pipeline takes them: without tags, as at the beginning."""
        texts = {name: [each.at(0) for each in spoken] for name, spoken in self.read.items()}
        return {name: of_name if name in self.lists else of_name[0] for name, of_name in texts.items()}

    def _of(self, number: int, name: str) -> Spoken | None:
        spoken = self.read.get(name)
        return None if spoken is None else spoken[number if name in self.lists else 0]

    def _each(self, number: int, side: Side) -> Iterator[Spoken]:
        return (spoken for name in NAMES[side] if (spoken := self._of(number, name)) is not None)

    def _tags(self, number: int, side: Side) -> tuple[LoraTag, ...]:
        return tuple(tag for spoken in self._each(number, side) for tag in spoken.tags)

    def _errors(self, number: int) -> tuple[TagError, ...]:
        return tuple(error for side in NAMES for spoken in self._each(number, side) for error in spoken.errors)


def read_call(
    pipe: Any, prompt: Any, args: Sequence[Any], options: Mapping[str, Any]
) -> tuple[Prompts, dict[str, Any]]:
    """`(the prompts of the call pipe(prompt, *args, **options), everything else it says by name)`.

    Raises TypeError for arguments that the pipeline does not have, ValueError for lists of several lengths.
    """
    signature = inspect.signature(pipe.__call__)
    named = dict(signature.bind_partial(prompt, *args, **options).arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            named |= named.pop(name, {})
    if not _is_text(prompt):
        raise TypeError(f"the prompt is a {type(prompt).__name__}; write a text or a list of texts")
    given = {name: named.pop(name) for names in NAMES.values() for name in names if _is_text(named.get(name))}
    steps = signature.parameters.get(STEPS)
    usual = steps.default if steps is not None and isinstance(steps.default, int) else 1
    planned = next((len(named[name]) for name in ("timesteps", "sigmas") if named.get(name) is not None), None)
    prompts = read_prompts(given, planned or named.get(STEPS) or usual, named.get("num_images_per_prompt") or 1)
    return replace(prompts, seeds=tuple(_seeds(named.get("generator"), prompts.images))), named


def read_prompts(texts: Mapping[str, str | Sequence[str]], steps: int, pictures: int = 1) -> Prompts:
    """The prompts by the names of the pipeline's arguments. Raises ValueError for lists of several lengths."""
    lists = {name: len(text) for name, text in texts.items() if not isinstance(text, str)}
    if not isinstance(texts.get("prompt"), str):
        for name, length in lists.items():
            if length != lists.get("prompt"):
                raise ValueError(f"{name} has {length} texts for {lists.get('prompt', 0)} prompts")
    read = {name: tuple(_read(each, steps) for each in ([text] if isinstance(text, str) else text))
            for name, text in texts.items()}  # fmt: skip
    return Prompts(read, frozenset(lists), pictures)


def _seeds(generator: Any, images: int) -> Iterator[int]:
    """Of one generator for all pictures those that follow its own."""
    if isinstance(generator, list | tuple):
        return (each.initial_seed() for each in generator)
    return iter(range(first := generator.initial_seed(), first + images) if generator is not None else ())


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list | tuple) and all(isinstance(each, str) for each in value))


def _read(prompt: str, steps: int) -> Spoken:
    read = edited(prompt, steps)
    return Spoken(tuple((stop, _plain(text)) for stop, text in read.texts), read.tags, read.errors)


def _plain(text: str) -> str:
    """`text` as tokenizers take it: half characters of a shell's are none of theirs, and brackets mean themselves."""
    return unescaped(encodable(" ".join(text.split())))
