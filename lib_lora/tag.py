"""The grammar of `<lora:name:0.8:te=1>`: text to LoraTag and back. The only place that knows it.

    <lora:NAME[:TE[:UNET[:DYN]]][:key=value]...>        alias <lyco:...>

NAME   file name, alias, sub-folder path ("styles/ink") or hash of an installed adapter; no ':' and no '>'
TE     multiplier of the text encoders, 1 if missing; any finite number, negative too
UNET   multiplier of the UNet, TE if missing
DYN    use only the first DYN ranks
key    te, unet, dyn (the same three by name), force=1 (apply an adapter of another base model where it fits)

Spaces around parts do not matter. What cannot be read is a TagError that names the tag; an unknown key is a note and
the tag still counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lib_lora.errors import TagError

TAG = re.compile(r"<(?:lora|lyco):([^>]+)>")
KEYS = ("te", "unet", "dyn", "force")
POSITIONAL = ("te", "unet", "dyn")


@dataclass(frozen=True)
class LoraTag:
    """One tag, read. `notes` says what of the tag was ignored, in words for the user."""

    name: str
    te: float = 1.0
    unet: float = 1.0
    dyn: int | None = None
    force: bool = False
    notes: tuple[str, ...] = field(default=(), compare=False)

    def multiplier(self, component: str) -> float:
        """The weight typed for `component`: `unet`, or any text encoder."""
        return self.unet if component == "unet" else self.te

    def __str__(self) -> str:
        parts = [self.name, _number(self.te)]
        if self.unet != self.te:
            parts.append(_number(self.unet))
        if self.dyn is not None:
            parts.append(f"dyn={self.dyn}")
        if self.force:
            parts.append("force=1")
        return f"<lora:{':'.join(parts)}>"


@dataclass(frozen=True)
class Prompt:
    """A prompt, taken apart."""

    text: str  # the prompt without its tags
    tags: tuple[LoraTag, ...]
    errors: tuple[TagError, ...]


def read_prompt(prompt: str) -> Prompt:
    """Cut the tags out of `prompt`. A tag that cannot be read is cut out too and stands in `errors`."""
    tags: list[LoraTag] = []
    errors: list[TagError] = []
    for match in TAG.finditer(prompt):
        try:
            tags.append(read_tag(match[1]))
        except TagError as error:
            errors.append(error)
    return Prompt(TAG.sub("", prompt), tuple(tags), tuple(errors))


def find_tags(prompt: str) -> Iterator[str]:
    """Every tag as typed, brackets included, in the order of the prompt."""
    return (match[0] for match in TAG.finditer(prompt))


def read_tag(body: str) -> LoraTag:
    """Read what stands between `<lora:` and `>`. Raises TagError."""
    name, *arguments = (part.strip() for part in body.split(":"))
    shown = f"<lora:{body}>"
    if not name:
        raise TagError(f"{shown}: the name is missing; write <lora:name:0.8>")
    positional, named, notes = _sort_arguments(arguments, shown)
    values = dict(zip(POSITIONAL, positional, strict=False)) | named
    te = _weight(values.get("te", "1"), shown)
    unet = _weight(values["unet"], shown) if "unet" in values else te
    dyn = _rank(values["dyn"], shown) if "dyn" in values else None
    force = values.get("force", "0").lower() in ("1", "true", "yes")
    return LoraTag(name, te, unet, dyn, force, notes)


def _sort_arguments(arguments: Sequence[str], shown: str) -> tuple[list[str], dict[str, str], tuple[str, ...]]:
    positional: list[str] = []
    named: dict[str, str] = {}
    notes: list[str] = []
    for argument in arguments:
        key, equals, value = (part.strip() for part in argument.partition("="))
        if not equals:
            positional.append(argument)
        elif key in KEYS:
            named[key] = value
        else:
            notes.append(f"{shown}: '{key}=' is not known and was ignored; known are {', '.join(KEYS)}")
    if len(positional) > len(POSITIONAL):
        notes.append(f"{shown}: only {', '.join(POSITIONAL)} can stand without a name; the rest was ignored")
    return positional[: len(POSITIONAL)], named, tuple(notes)


def _weight(text: str, shown: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        better = text.replace(",", ".") if text.count(",") == 1 else "0.8"
        raise TagError(f"{shown}: '{text}' is not a weight; write a number such as {better}")
    return number


def _rank(text: str, shown: str) -> int:
    try:
        rank = int(text)
    except ValueError:
        rank = 0
    if rank < 1:
        raise TagError(f"{shown}: '{text}' is not a rank; dyn takes a whole number from 1 up")
    return rank


def _number(value: float) -> str:
    return f"{value:.6g}"
