"""The grammar of `<lora:name:0.8:te=1>`: text to LoraTag and back. The only place that knows it.

    <lora:NAME[:TE[:UNET[:DYN]]][:key=value]...>        alias <lyco:...>

NAME   file name, alias, sub-folder path ("styles/ink") or hash of an installed adapter; no ':' and no '>'
TE     multiplier of the text encoders, 1 if missing; a number as people write it (number.py), negative too
UNET   multiplier of the UNet, TE if missing
DYN    use only the first DYN ranks
key    te, unet, dyn (the same three by name), force=1 (apply an adapter of another base model where it fits)

Spaces around parts do not matter, nor how brackets and colons are typed (scan.py). What cannot be read is a
TagError that names the tag; an unknown key is a note and the tag still counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lib_lora.errors import TagError
from lib_lora.grammar import later
from lib_lora.grammar.number import meant, read_number, read_whole, write_number
from lib_lora.grammar.scan import Found, scan, shortened, split_body, stripped, without

KEYS = ("te", "unet", "dyn", "force")
POSITIONAL = ("te", "unet", "dyn")
PLAIN = re.compile(r"[\w./()-](?:[\w ./()-]{0,200}[\w./()-])?", re.ASCII)  # most names
FORCE = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
MOST_TAGS = 128  # of one prompt
MOST_LETTERS = 400  # of a name
MOST_NOTES = 8  # of one tag


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
        parts = [self.name, write_number(self.te)]
        if self.unet != self.te:
            parts.append(write_number(self.unet))
        if self.dyn is not None:
            parts.append(f"dyn={self.dyn}")
        if self.force:
            parts.append("force=1")
        return f"<lora:{':'.join(parts)}>"


@dataclass(frozen=True)
class Typed:
    """One tag as it stands in a prompt, read or not: either `tag` or `error` is None."""

    found: Found
    tag: LoraTag | None
    error: TagError | None

    @property
    def name(self) -> str:
        """As it is typed."""
        return split_body(self.found.body)[0]


@dataclass(frozen=True)
class Prompt:
    """A prompt, taken apart."""

    text: str  # the prompt without its tags
    tags: tuple[LoraTag, ...]
    errors: tuple[TagError, ...]


def read_prompt(prompt: str) -> Prompt:
    """Cut the tags out of `prompt`. A tag that cannot be read is cut out too and stands in `errors`."""
    typed = list(typed_tags(prompt))
    tags = tuple(each.tag for each in typed if each.tag is not None)
    return Prompt(without(prompt), tags, tuple(each.error for each in typed if each.error is not None))


def typed_tags(prompt: str) -> Iterator[Typed]:
    """Every tag of `prompt` in order. If there are too many, the last that is told says so; the rest is left out."""
    for count, found in enumerate(scan(prompt)):
        if count == MOST_TAGS:
            yield Typed(found, None, TagError(
                f"{found.shown}: a prompt can have {MOST_TAGS} tags; this one and those after it were left out"))
            return
        try:
            yield Typed(found, _read(found), None)
        except TagError as error:
            yield Typed(found, None, error)


def find_tags(prompt: str) -> Iterator[str]:
    """Every tag as typed, brackets included, in the order of the prompt."""
    return (found.source for found in scan(prompt))


def cut_out(text: str, place: str) -> tuple[str, tuple[str, ...]]:
    """`text`, where tags have no effect, without them, and a sentence for each. `place`: "the negative prompt"."""
    told = (f"{typed.found.shown} in {place} has no effect yet; it was left out. Put it into the prompt"
            for typed in typed_tags(text))  # fmt: skip
    return without(text), tuple(dict.fromkeys(told))


def is_typable(name: str) -> bool:
    """Whether a tag can name a file so: `Re：Zero` can, `NieR：2` cannot, because the 2 would be its weight."""
    return bool(PLAIN.fullmatch(name)) or read_prompt(f"<lora:{name}:1>").tags == (LoraTag(name),)


def read_tag(body: str) -> LoraTag:
    """Read what stands between `<lora:` and `>`. Raises TagError."""
    return _read_body(body, shortened(f"<lora:{body}>"))


def _read(found: Found) -> LoraTag:
    if found.fault:
        raise TagError(f"{found.shown}: {found.fault}")
    return _read_body(found.body, found.shown)


def _read_body(body: str, shown: str) -> LoraTag:
    name, *arguments = split_body(body)
    if not name:
        raise TagError(f"{shown}: the name is missing; write <lora:name:0.8>")
    if len(name) > MOST_LETTERS:
        raise TagError(f"{shown}: the name has more than {MOST_LETTERS} letters; is a > missing?")
    positional, named, notes = _sort_arguments(arguments, shown)
    values = dict(zip(POSITIONAL, positional, strict=False)) | named
    te = _weight(values.get("te", "1"), shown)
    unet = _weight(values["unet"], shown) if "unet" in values else te
    dyn = _rank(values["dyn"], shown) if "dyn" in values else None
    force = FORCE.get(values.get("force", "0").lower())
    if force is None:
        notes += (f"{shown}: 'force={shortened(values['force'])}' is not known and was ignored; write force=1",)
    return LoraTag(name, te, unet, dyn, bool(force), notes)


def _sort_arguments(arguments: Sequence[str], shown: str) -> tuple[list[str], dict[str, str], tuple[str, ...]]:
    positional: list[str] = []
    named: dict[str, str] = {}
    unknown: list[str] = []
    for argument in arguments:
        key, equals, value = (stripped(part) for part in argument.partition("="))
        if not equals:
            positional.append(argument)
        elif key.lower() in KEYS:
            named[key.lower()] = value
        else:
            unknown.append(shortened(key))
    known = f"is not known and was ignored; known are {', '.join(KEYS)}"
    notes = [f"{shown}: '{key}=' {later.KEYS.get(key.lower(), known)}" for key in dict.fromkeys(unknown)]
    if len(positional) > len(POSITIONAL):
        notes.append(f"{shown}: only {', '.join(POSITIONAL)} can stand without a name; the rest was ignored")
    return positional[: len(POSITIONAL)], named, tuple(notes[:MOST_NOTES])


def _weight(text: str, shown: str) -> float:
    number = read_number(text)
    if number is None:
        if what := later.unsupported(text):
            raise TagError(
                f"{shown}: '{shortened(text)}' is {what}, which does not work yet; write one number such as 1")
        raise TagError(f"{shown}: '{shortened(text)}' is not a weight; write a number such as {meant(text)}")
    return number


def _rank(text: str, shown: str) -> int:
    rank = read_whole(text)
    if rank is None:
        raise TagError(f"{shown}: '{shortened(text)}' is not a rank; dyn takes a whole number from 1 up")
    return rank
