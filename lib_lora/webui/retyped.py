"""A prompt with another name, weight, curve, window or block weights in one of its tags; ranges of such values.

A value is for the first tag of the prompt, `NAME=value` for the first one of that name.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import StringIO

from lib_lora.grammar.arguments import Reader
from lib_lora.grammar.number import read_number, write_number
from lib_lora.grammar.scan import Found, scan, split_body
from lib_lora.grammar.tag import read_prompt

RANGE = re.compile(r"\s*(-?[\d.]+)\s*-\s*(-?[\d.]+)\s*(?:\(\+?(-?[\d.]+)\)|\[(\d+)\])\s*")  # 0-1 (+0.25), 0-1 [5]
MOST_VALUES = 1000  # of one range


@dataclass
class Arguments:
    """What stands in a tag behind the name, as texts."""

    te: str
    unet: str
    others: dict[str, str]

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Arguments:
        texts = Reader("").texts(arguments)
        te = texts.pop("te", "1")
        return cls(te, texts.pop("unet", te), texts)

    def tag(self, name: str) -> str:
        unet = [] if self.unet == self.te else [self.unet]
        return f"<lora:{':'.join([name, self.te, *unet, *(f'{key}={value}' for key, value in self.others.items())])}>"

    def set_weight(self, value: str) -> None:
        self.te = self.unet = value

    def set_te(self, value: str) -> None:
        self.te = value

    def set_unet(self, value: str) -> None:
        self.unet = value

    def set_blocks(self, value: str) -> None:
        self.others["lbw"] = value.replace(";", ",")

    def set_start(self, value: str) -> None:
        self._part_steps()
        self.others["start"] = value

    def set_stop(self, value: str) -> None:
        self._part_steps()
        self.others["stop"] = value

    def _part_steps(self) -> None:
        """`step=a-b` is another way to say both."""
        start, _, stop = self.others.pop("step", "").partition("-")
        self.others |= {key: value.strip() for key, value in (("start", start), ("stop", stop)) if value.strip()}


CHANGES: dict[str, Callable[[Arguments, str], None]] = {  # of what -> how, beside "name"
    "weight": Arguments.set_weight, "TE": Arguments.set_te, "UNet": Arguments.set_unet,
    "blocks": Arguments.set_blocks, "start": Arguments.set_start, "stop": Arguments.set_stop,
    "curve": Arguments.set_unet,
}  # fmt: skip


def changed(prompt: str, what: str, value: str) -> str:
    """`prompt` with that value in one of its tags. Raises ValueError if there is no such tag or no such value."""
    found, value = _tag_for(prompt, value)
    name, *typed = split_body(found.body)
    if what == "name":
        name, arguments = value, Arguments.of(typed)
    else:
        arguments = Arguments.of(typed)
        CHANGES[what](arguments, value)
    tag = arguments.tag(name)
    if errors := read_prompt(tag).errors:
        raise ValueError(str(errors[0]))
    return prompt[: found.start] + tag + prompt[found.end :]


def _tag_for(prompt: str, value: str) -> tuple[Found, str]:
    tags = list(scan(prompt))
    if not tags:
        raise ValueError("the prompt has no <lora:...> tag to change")
    for found in tags:
        name = split_body(found.body)[0]
        if name and value.startswith(f"{name}="):
            return found, value[len(name) + 1 :]
    return tags[0], value


def values(text: str) -> list[str]:
    """As the plot reads them: between commas, a value with commas in quotes; 0-1 (+0.25) and 0-1 [5] are ranges."""
    typed = (part.strip() for row in csv.reader(StringIO(text), skipinitialspace=True) for part in row)
    return [value for each in typed if each for value in _expanded(each)]


def _expanded(value: str) -> Iterable[str]:
    match = RANGE.fullmatch(value)
    first, last, step, count = match.groups() if match else (None, None, None, None)
    start, stop = read_number(first or ""), read_number(last or "")
    width = read_number(step or "")
    if start is None or stop is None:
        return [value]
    number = int(count) if count else 1 + int((stop - start) / width + 1e-6) if width else 1
    if not 1 <= number <= MOST_VALUES:
        return [value]
    width = (stop - start) / max(number - 1, 1) if count else width or 0.0
    return [write_number(round(start + width * place, 8)) for place in range(number)]
