"""What the WebUI calls for `<lora:...>` and `<lyco:...>`: make the model carry the tags, and say what happened.

`activate` alone must suffice: it comes for every prompt, also without tags, several times within one picture (hires
fix), with a bare `p` when a model was loaded, and is not followed by `deactivate` after an error.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from weakref import ref

import gradio as gr
from modules import extra_networks, shared
from torch import nn

from lib_lora.adapters.cache import AdapterCache
from lib_lora.grammar.tag import LoraTag
from lib_lora.grammar.who import Who
from lib_lora.session.session import Report
from lib_lora.session.wanted import Wanted
from lib_lora.webui import infotext
from lib_lora.webui.a1111.bundled import BundledWords, Word
from lib_lora.webui.a1111.host import session_of
from lib_lora.webui.a1111.sampling import Sampling, is_refiner
from lib_lora.webui.legacy import Legacy
from lib_lora.webui.names import settings
from lib_lora.webui.names.catalogue import Catalogue
from lib_lora.webui.names.protocols import ExtraNetworkData, Params, Processing
from lib_lora.webui.wanted import asked, for_all, with_tags

KEPT = 8  # adapter files kept open; the user's option can only raise it


@dataclass(frozen=True)
class Pictures:
    """What is being made."""

    wanted: Wanted = field(default_factory=Wanted)
    p: Callable[[], Processing | None] = lambda: None  # whose pictures they are, if it still lives


class LoraNetwork(extra_networks.ExtraNetwork):
    """The entry named `lora` in the WebUI's registry; `lyco` is its alias."""

    def __init__(self, catalogue: Catalogue, legacy: Legacy) -> None:
        super().__init__("lora")
        self.errors: dict[str, int] = {}  # {adapter: layers that did not fit}; other extensions look here
        self.now = Pictures()
        self.sampling = Sampling(self.failed)
        self._catalogue = catalogue
        self._legacy = legacy
        self.cache = AdapterCache(KEPT)
        self.news: Callable[[], list[str]] = list  # about the installation rather than a picture, each thing once
        self.words = BundledWords()
        self._printed: frozenset[str] = frozenset()
        self._announced: ExtraNetworkData | None = None

    def announce(self, networks: ExtraNetworkData) -> None:
        """Told before `activate`: of which pictures its tags are, in which pass."""
        self._announced = networks

    def activate(self, p: Processing, params_list: Sequence[Params]) -> None:
        """Make the current checkpoint carry exactly what `params_list` says. Never raises for a bad tag or file."""
        self.sampling.rest()
        networks, self._announced = self._announced, None
        try:
            wanted = asked(p, params_list, networks)
        except Exception:  # the rim: a picture of a kind that nobody has thought of has the first prompt's tags
            traceback.print_exc()
            wanted = for_all(p, params_list)
        default = self._default_tag(p, wanted.tags)
        if default is not None:
            wanted = with_tags(wanted, [default])
        self.now = Pictures(wanted, ref(p))
        report = self._apply(shared.sd_model, wanted)
        problems = self.words.bring(shared.sd_model, _words_of(report)) if shared.sd_model else []
        self.errors = {each.name: len(each.misfits) for each in report.adapters if each.misfits}
        self._legacy.show_loaded(report)
        infotext.write(p, report, problems, is_hires=wanted.stage.hires)
        self._tell(p, report, [*report.sentences(), *problems])
        for sentence in self.news() if p.all_prompts is not None else ():
            p.comment(sentence)
            print(f"Lora: {sentence}", file=sys.stderr)

    def deactivate(self, p: Processing) -> None:
        """The picture is finished; the weights stay, so that the next picture with these tags starts at once."""
        self.sampling.rest()
        self.now = Pictures()
        if self.errors:
            p.comment("Networks with errors: " + ", ".join(f"{name} ({count})" for name, count in self.errors.items()))
            self.errors = {}

    def follow(self, sd_model: nn.Module, before: Pictures) -> None:
        """The checkpoint was changed in the middle of a picture (refiner): it gets the same tags, where they fit.

        Loading it may have activated nothing for nobody; `before` is of before that.
        """
        self.now = before
        if before.wanted.tags:
            stage = replace(before.wanted.stage, refiner=is_refiner(before.p(), sd_model))
            self._apply(sd_model, replace(before.wanted, stage=stage))

    def failed(self, p: Processing | None, sentence: str) -> None:
        """The pictures that are made now go on without adapters."""
        print(f"Lora: {sentence}", file=sys.stderr)
        if p is not None:
            p.comment(sentence)
            infotext.add(p, sentence)

    def _apply(self, sd_model: nn.Module | None, wanted: Wanted) -> Report:
        if sd_model is None:
            return Report(problems=tuple(str(error) for errors in wanted.errors for error in errors))
        self.cache.limit = max(KEPT, int(settings.get("lora_in_memory_limit") or 0))
        self.cache.budget = int(settings.get("lora_memory_budget") or 0) << 20
        session = session_of(sd_model, self._catalogue, self.cache)
        session.host.patcher.keep = settings.get("lora_originals")
        session.host.patcher.bypass_all = bool(settings.get("lora_functional"))
        answers = session.look_up(wanted.tags)
        try:
            with infotext.hashing(answers.values(), self._catalogue.library):
                return session.activate(wanted, answers=answers)
        except Exception as error:  # the rim: the WebUI would carry on with no adapters and tell nobody
            traceback.print_exc()
            session.host.patcher.restore()
            return Report(problems=(f"an error in lib_lora, no adapter is active: {type(error).__name__}: {error}",))

    def _default_tag(self, p: Processing, tags: Sequence[LoraTag]) -> LoraTag | None:
        """What the option "Add network to prompt" adds, unless the prompt has it."""
        name = settings.get("sd_lora")
        if name in (None, "", "None") or p.all_prompts is None or name not in self._catalogue.by_name:
            return None
        if any(tag.name == name for tag in tags):
            return None
        weight = float(shared.opts.extra_networks_default_multiplier)
        tag = LoraTag(name, weight, weight)
        p.all_prompts = [text if str(tag) in text else f"{text}{tag}" for text in p.all_prompts]
        return tag

    def _tell(self, p: Processing, report: Report, sentences: Iterable[str]) -> None:
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


def _words_of(report: Report) -> Iterator[tuple[Who, dict[str, Word]]]:
    """The embeddings inside active adapters, and whose prompts they are words of."""
    for each in report.applied:
        if each.path and each.adapter is not None and (each.tag.te or each.tag.unet):
            yield each.who, {word: Word(each.name, each.path, parts) for word, parts in each.adapter.embeddings.items()}
