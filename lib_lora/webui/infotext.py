"""What a picture's text says about its adapters, and what pasting such a text back makes of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

from modules import scripts

from lib_lora.grammar.scan import renamed
from lib_lora.library import Entry, Library
from lib_lora.session.finder import Answer
from lib_lora.session.session import Report
from lib_lora.webui.a1111.said import OfEach
from lib_lora.webui.names import settings
from lib_lora.webui.names.catalogue import Catalogue
from lib_lora.webui.names.protocols import Processing

HASHES = "Lora hashes"
PROBLEMS = "Lora problems"
SEPARATORS = str.maketrans("", "", ":,")  # they separate names and hashes
ADDNET_NAME = re.compile(r"(.{0,300}?)\s{0,9}\([0-9a-fA-F]{1,64}\)")
HASH = re.compile(r"[0-9a-f]{8,64}")
PROMPTS = ("Prompt", "Hires prompt", "Negative prompt", "Hires negative prompt")


@dataclass
class Picture:
    """What is to be said of one picture, in order and each once."""

    hashes: dict[str, str] = field(default_factory=dict)
    problems: dict[str, None] = field(default_factory=dict)


def write(p: Processing, report: Report, problems: Iterable[str] = (), *, is_hires: bool = False) -> None:
    """Put hashes and problems of each picture where the WebUI reads them. The hires pass adds to the first pass's.

    `problems`: of all pictures, beside those in `report`.
    """
    is_first = not is_hires
    if (is_first and not p.iteration) or not hasattr(p, "lora_pictures"):
        p.lora_pictures = {}
    if is_first or not hasattr(p, "lora_hashes"):
        p.lora_hashes = {}
    with_hashes = settings.get("lora_add_hashes_to_infotext")
    for image, number in enumerate(_numbers(p)):
        picture = Picture() if is_first else p.lora_pictures.get(number, Picture())
        p.lora_pictures[number] = picture
        if with_hashes:
            picture.hashes.update(_hashes(report.of(image)))
        told = (*report.of(image).sentences(), *problems)
        picture.problems.update((_one_line(sentence), None) for sentence in told)
        p.lora_hashes.update(picture.hashes)
    _put_all(p)


def add(p: Processing, sentence: str) -> None:
    """One more problem of the pictures that are made just now."""
    for number in _numbers(p):
        p.lora_pictures.setdefault(number, Picture()).problems[_one_line(sentence)] = None
    _put_all(p)


def _numbers(p: Processing) -> range:
    """Of the pictures that are made at once, among all that the click on "Generate" makes."""
    first = p.iteration * p.batch_size
    return range(first, min(first + p.batch_size, len(p.all_prompts or ())))


def _put_all(p: Processing) -> None:
    pictures = [p.lora_pictures.get(number) for number in range(len(p.all_prompts or ()))]
    hashes = [each and ", ".join(f"{name}: {short}" for name, short in each.hashes.items()) for each in pictures]
    _put(p, HASHES, hashes)
    _put(p, PROBLEMS, [each and "; ".join(each.problems) for each in pictures])


@contextmanager
def hashing(answers: Iterable[Answer], library: Library) -> Iterator[None]:
    """While something else is done, the hashes that `write` will need: each is a pass over a file, once in its life."""
    is_wanted = settings.get("lora_add_hashes_to_infotext")
    entries = [answer.entry for answer in answers if isinstance(answer.entry, Entry)] if is_wanted else []
    unknown = [entry for entry in entries if library.known_hashes(entry) is None]
    thread = Thread(target=lambda: [entry.shorthash for entry in unknown])
    if unknown:
        thread.start()
    try:
        yield
    finally:
        if unknown:
            thread.join()


def _put(p: Processing, label: str, texts: Sequence[str | None]) -> None:
    """One text where it is the same for all pictures that are made already."""
    known = {number: text for number, text in enumerate(texts) if text is not None}
    different = set(known.values())
    if different - {""}:
        p.extra_generation_params[label] = different.pop() if len(different) == 1 else OfEach(known)
    else:
        p.extra_generation_params.pop(label, None)


def _hashes(report: Report) -> Iterator[tuple[str, str]]:
    for adapter in report.applied:
        if isinstance(adapter.entry, Entry) and (short := adapter.entry.shorthash):
            yield adapter.name.translate(SEPARATORS), short


def _one_line(sentence: str) -> str:
    return " ".join(sentence.split())


class Paste:
    """Turns a pasted text into what is installed here."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def rename_by_hash(self, _infotext: str, values: dict[str, Any]) -> None:
        """`<lora:their name:1>` becomes `<lora:our name:1>` where a file with the same hash is installed."""
        hashes = read_hashes(values.get(HASHES) or "")
        for label in PROMPTS if hashes else ():
            if values.get(label):
                values[label] = renamed(values[label], lambda typed: self._new_name(typed, hashes))

    def _new_name(self, typed: str, hashes: Mapping[str, str]) -> str | None:
        """None where the name stays: it means nothing that is installed under another, or a file with this hash."""
        short = hashes.get(typed.translate(SEPARATORS).strip(), "").lower()
        here = self._catalogue.get(typed)
        if not HASH.fullmatch(short) or (here is not None and self._catalogue.has_hash(here, short)):
            return None
        fitting = [entry for entry in self._catalogue.library.entries() if self._catalogue.has_hash(entry, short)]
        if not fitting or (here is not None and here.shorthash == short):  # that may be a pass over the file
            return None
        namesakes = self._catalogue.library.meanings(typed)  # of several files of one name, another may be meant
        return self._catalogue.prompt_name(next((entry for entry in fitting if entry in namesakes), fitting[0]))

    def tags_of_additional_networks(self, _infotext: str, values: dict[str, Any]) -> None:
        """The fields of the old "Additional Networks" extension become tags, unless it is there to read them itself."""
        if "AddNet Module 1" in [field[1] for field in scripts.scripts_txt2img.infotext_fields]:
            return
        numbers = [label.removeprefix("AddNet Model ") for label in values if label.startswith("AddNet Model ")]
        tags = [_tag(values, number) for number in numbers if values.get(f"AddNet Module {number}") == "LoRA"]
        if tags:
            values["Prompt"] = f"{values.get('Prompt', '')}\n{''.join(tags)}"


def read_hashes(text: str) -> dict[str, str]:
    """{name: short hash} of "name: hash, name: hash"."""
    pairs = (item.rpartition(":") for item in text.split(","))
    return {name.strip(): short.strip() for name, colon, short in pairs if colon and short.strip()}


def _tag(values: Mapping[str, Any], number: str) -> str:
    shown = str(values[f"AddNet Model {number}"])
    name = match[1] or "" if (match := ADDNET_NAME.match(shown)) else shown
    return f"<lora:{name}:{values.get(f'AddNet Weight A {number}', '1.0')}>"
