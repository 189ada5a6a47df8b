"""What encoding a prompt says for the picture's text: kept with the encoding, and said again whenever that is used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from modules import sd_hijack

from lib_lora.grammar.scan import scan, split_body
from lib_lora.webui.names.protocols import Hijack, Processing

TI_HASHES = "TI hashes"
HASH = re.compile("[0-9a-f]{8,64}")  # of a file; a word that an adapter brings has the adapter's name instead


@dataclass
class Said:
    """What encoding a prompt adds to the picture's text."""

    parameters: dict[str, str] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)


class OfEach(str):
    """A text that is another one for each picture; as a text, it is that of the first.

    The WebUI calls what can be called, with its own variables. `index` counts in the list `all_prompts`, which are
    those of the whole job, or only of the pictures that are made at once.
    """

    texts: Mapping[int, str]  # by the number of the picture within the job

    def __new__(cls, texts: Mapping[int, str]) -> OfEach:
        self = super().__new__(cls, next((text for text in texts.values() if text), ""))
        self.texts = texts
        return self

    def __reduce__(self) -> Any:
        return OfEach, (self.texts,)  # a copy of it

    def __call__(self, **variables: Any) -> str | None:
        return self.texts.get(number_of(**variables)) or None


class Hashes(str):
    """"word: hash, word: hash" of all prompts of a batch, and for each picture those of its own."""

    __slots__ = ()

    def __call__(self, p: Processing, prompt_text: str, negative_prompt: str, **variables: Any) -> str | None:
        """Without the words that others have and this one has not, or that an adapter of others alone brings."""
        own = _texts(p, number_of(p=p, **variables)) | {prompt_text, negative_prompt}
        others = set[str]().union(*(_texts(p, number) for number in range(len(p.all_prompts or ()))))
        return ", ".join(pair for pair in self.split(", ") if _has(own, pair) or not _has(others, pair)) or None


def number_of(p: Processing, index: int, all_prompts: Any, use_main_prompt: bool, **_others: Any) -> int:
    """Which picture of the job is meant."""
    if use_main_prompt or all_prompts is p.all_prompts or len(all_prompts) != len(p.prompts):
        return index
    return p.iteration * p.batch_size + index


def _has(texts: set[str], pair: str) -> bool:
    """True if the word stands in `texts`, and the adapter too, if it is one that brings the word."""
    word, _, source = pair.rpartition(": ")
    written = "\n".join(texts).replace(":", "").replace(",", "").casefold()  # as the WebUI spells words there
    names = {split_body(found.body)[0] for text in texts for found in scan(text)}
    return word.casefold() in written and (HASH.fullmatch(source) is not None or source in names)


def _texts(p: Processing, number: int) -> set[str]:
    """Everything that is written for one picture, with its tags."""
    names = ("all_prompts", "all_negative_prompts", "all_hr_prompts", "all_hr_negative_prompts")
    lists = (getattr(p, name, None) or [] for name in names)
    return {each[number] for each in lists if number < len(each)}


@contextmanager
def overheard() -> Iterator[Said]:
    """What is said while a prompt is encoded is kept with it; the WebUI itself says it only the first time."""
    hijack: Hijack = sd_hijack.model_hijack
    said = Said()
    before = hijack.extra_generation_params, hijack.comments
    hijack.extra_generation_params, hijack.comments = said.parameters, said.comments
    try:
        yield said
    finally:
        hijack.extra_generation_params, hijack.comments = before


def say(said: Said) -> None:
    """Each thing once: the WebUI starts anew with each picture, or batch of pictures."""
    told = sd_hijack.model_hijack.extra_generation_params
    for label, text in said.parameters.items():
        earlier = told.get(label)
        if label == TI_HASHES:
            told[label] = Hashes(f"{text}, {earlier}" if earlier and text not in earlier else earlier or text)
        else:
            told[label] = text
    comments = sd_hijack.model_hijack.comments
    comments += [comment for comment in said.comments if comment not in comments]
