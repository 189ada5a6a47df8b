"""What a picture's text says about its adapters, and what pasting such a text back makes of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

from modules import scripts

from lib_lora.errors import NotFoundError
from lib_lora.grammar.scan import renamed
from lib_lora.grammar.tag import LoraTag
from lib_lora.session.session import Report
from lib_lora.webui import settings
from lib_lora.webui.catalogue import Catalogue

HASHES = "Lora hashes"
PROBLEMS = "Lora problems"
SEPARATORS = str.maketrans("", "", ":,")  # they separate names and hashes
ADDNET_NAME = re.compile(r"(.{0,300}?)\s{0,9}\([0-9a-fA-F]{1,64}\)")
HASH = re.compile(r"[0-9a-f]{8,64}")
PROMPTS = ("Prompt", "Hires prompt")


def write(p: Any, report: Report, sentences: Iterable[str], catalogue: Catalogue) -> None:
    """Put hashes and problems where the WebUI reads them. The hires pass adds to what the first pass wrote."""
    if not getattr(p, "is_hr_pass", False) or not hasattr(p, "lora_hashes"):
        p.lora_hashes, p.lora_problems = {}, {}
    if settings.get("lora_add_hashes_to_infotext"):
        p.lora_hashes.update(_hashes(report, catalogue))
    p.lora_problems.update((_one_line(sentence), None) for sentence in sentences)
    _put(p, HASHES, ", ".join(f"{name}: {short}" for name, short in p.lora_hashes.items()))
    _put(p, PROBLEMS, "; ".join(p.lora_problems))


@contextmanager
def hashing(tags: Iterable[LoraTag], catalogue: Catalogue) -> Iterator[None]:
    """While something else is done, the hashes that `write` will need: each is a pass over a file, once in its life."""
    unknown = []
    for tag in tags if settings.get("lora_add_hashes_to_infotext") else ():
        with suppress(NotFoundError):
            entry = catalogue.find(tag.name)
            unknown += [entry] if catalogue.library.known_hashes(entry) is None else []
    thread = Thread(target=lambda: [entry.shorthash for entry in unknown])
    if unknown:
        thread.start()
    try:
        yield
    finally:
        if unknown:
            thread.join()


def _put(p: Any, label: str, text: str) -> None:
    if text:
        p.extra_generation_params[label] = text
    else:
        p.extra_generation_params.pop(label, None)


def _hashes(report: Report, catalogue: Catalogue) -> Iterable[tuple[str, str]]:
    for adapter in report.applied:
        try:
            short = catalogue.find(adapter.name).shorthash
        except NotFoundError:  # it vanished between then and now
            continue
        if short:
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
