"""What the WebUI calls for `<lora:...>` and `<lyco:...>`: make the model carry the tags, and say what happened.

`activate` alone must suffice: it comes for every prompt, also without tags, several times within one picture (hires
fix), with a bare `p` when a model was loaded, and is not followed by `deactivate` after an error.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from modules import extra_networks, shared

from lib_lora.adapters.adapter import AdapterCache
from lib_lora.errors import LoraError
from lib_lora.grammar.tag import LoraTag, cut_out, find_tags
from lib_lora.session.session import Report
from lib_lora.webui import infotext, settings
from lib_lora.webui.bundled import BundledWords, Word
from lib_lora.webui.catalogue import Catalogue
from lib_lora.webui.host import session_of
from lib_lora.webui.legacy import Legacy
from lib_lora.webui.typed import cut_negative, read_params

KEPT = 8  # adapter files kept open; the user's option can only raise it


class LoraNetwork(extra_networks.ExtraNetwork):
    """The entry named `lora` in the WebUI's registry; `lyco` is its alias."""

    def __init__(self, catalogue: Catalogue, legacy: Legacy) -> None:
        super().__init__("lora")
        self.errors: dict[str, int] = {}  # {adapter: layers that did not fit}; other extensions look here
        self.wanted: tuple[LoraTag, ...] = ()  # of the picture that is being made
        self._catalogue = catalogue
        self._legacy = legacy
        self.cache = AdapterCache(KEPT)
        self.news: Callable[[], list[str]] = list  # about the installation rather than a picture, each thing once
        self._words = BundledWords()
        self._printed: frozenset[str] = frozenset()

    def activate(self, p: Any, params_list: Sequence[Any]) -> None:
        """Make the current checkpoint carry exactly what `params_list` says. Never raises for a bad tag or file."""
        tags, errors = read_params(params_list)
        cut_negative(p)
        default = self._default_tag(p, tags)
        if default is not None:
            tags.append(default)
        self.wanted = tuple(tags)
        with infotext.hashing(tags, self._catalogue):
            report = self._apply(shared.sd_model, tags, errors)
        problems = self._words.show(shared.sd_model, self._words_of(report)) if shared.sd_model else []
        self.errors = {each.name: len(each.misfits) for each in report.adapters if each.misfits}
        self._legacy.show_loaded(report)
        sentences = [*report.sentences(), *problems, *_prompt_notes(p)]
        infotext.write(p, report, sentences, self._catalogue)
        self._tell(p, report, sentences)
        for sentence in self.news() if p.all_prompts is not None else ():
            p.comment(sentence)
            print(f"Lora: {sentence}", file=sys.stderr)

    def deactivate(self, p: Any) -> None:
        """The picture is finished; the weights stay, so that the next picture with these tags starts at once."""
        self.wanted = ()
        if self.errors:
            p.comment("Networks with errors: " + ", ".join(f"{name} ({count})" for name, count in self.errors.items()))
            self.errors = {}

    def follow(self, sd_model: Any, wanted: tuple[LoraTag, ...]) -> None:
        """The checkpoint was changed in the middle of a picture (refiner): it gets the same tags, where they fit."""
        self.wanted = wanted
        if wanted:
            self._apply(sd_model, wanted, ())

    def _apply(self, sd_model: Any, tags: Sequence[LoraTag], errors: Sequence[LoraError]) -> Report:
        if sd_model is None:
            return Report(problems=tuple(map(str, errors)))
        self.cache.limit = max(KEPT, int(settings.get("lora_in_memory_limit") or 0))
        self.cache.budget = int(settings.get("lora_memory_budget") or 0) << 20
        session = session_of(sd_model, self._catalogue, self.cache)
        session.host.patcher.keep = settings.get("lora_originals")
        session.host.patcher.bypass_all = bool(settings.get("lora_functional"))
        try:
            return session.activate(tags, errors)
        except Exception as error:  # the rim: the WebUI would carry on with no adapters and tell nobody
            traceback.print_exc()
            session.host.patcher.restore()
            return Report(problems=(f"an error in lib_lora, no adapter is active: {type(error).__name__}: {error}",))

    def _words_of(self, report: Report) -> dict[str, Word]:
        """The embeddings inside active adapters; of two of one name, the first in the prompt."""
        words: dict[str, Word] = {}
        for each in report.applied:
            if each.path and (each.tag.te or each.tag.unet):
                for word, parts in self.cache.read(Path(each.path)).embeddings.items():
                    words.setdefault(word, Word(each.name, each.path, parts))
        return words

    def _default_tag(self, p: Any, tags: Sequence[LoraTag]) -> LoraTag | None:
        """What the option "Add network to prompt" adds, unless the prompt has it."""
        name = settings.get("sd_lora")
        if name in (None, "", "None") or p.all_prompts is None or name not in self._catalogue.by_name:
            return None
        if any(tag.name == name for tag in tags):
            return None
        tag = LoraTag(name, *[float(shared.opts.extra_networks_default_multiplier)] * 2)
        p.all_prompts = [text if str(tag) in text else f"{text}{tag}" for text in p.all_prompts]
        return tag

    def _tell(self, p: Any, report: Report, sentences: Iterable[str]) -> None:
        sentences = frozenset(sentences)
        for sentence in sentences:
            p.comment(sentence)
        if p.all_prompts is None:
            return
        for sentence in sorted(sentences - self._printed):
            print(f"Lora: {sentence}", file=sys.stderr)
        self._printed = sentences
        if settings.get("lora_not_found_gradio_warning"):
            for each in report.adapters:
                if each.problem and each.problem.startswith("Lora not found"):
                    gr.Warning(each.problem)


def _prompt_notes(p: Any) -> list[str]:
    """What the WebUI does with the tags of other prompts: nothing, and it does not say so."""
    notes = []
    prompts, negative = _batch(p)
    if len({tuple(find_tags(prompt)) for prompt in prompts}) > 1:
        notes.append("the prompts of this batch have different <lora:...> tags: those of the first count for all; "
                     "with batch size 1 each prompt has its own")
    return [*notes, *(told for prompt in dict.fromkeys(negative) for told in cut_out(prompt, "the negative prompt")[1])]


def _batch(p: Any) -> tuple[Sequence[str], Sequence[str]]:
    """The prompts with their tags and the negative prompts of the pictures that are made at once."""
    hires = "hr_" if getattr(p, "is_hr_pass", False) else ""
    prompts, negative = getattr(p, f"all_{hires}prompts", None), getattr(p, f"all_{hires}negative_prompts", None)
    some = slice(p.iteration * p.batch_size, (p.iteration + 1) * p.batch_size)
    return (prompts or [])[some], (negative or [])[some]
