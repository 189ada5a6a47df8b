"""A diffusers pipeline as host, and `attach`: a pipeline that understands `<lora:name:0.8>` in its prompt."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from lib_lora.engine.keeping import Keep
from lib_lora.engine.originals import CheckpointFile
from lib_lora.engine.plan import Plan
from lib_lora.errors import PatchError
from lib_lora.formats.text import encodable
from lib_lora.grammar.tag import cut_out, read_prompt
from lib_lora.grammar.trigger_words import unescaped
from lib_lora.grammar.who import Row
from lib_lora.hosts.embeddings import PromptWords
from lib_lora.library import Library
from lib_lora.model.slots import Slot, slots_of
from lib_lora.model.targets import TargetIndex, index_diffusers
from lib_lora.session.session import Report, Session
from lib_lora.session.torch_host import TorchHost
from lib_lora.session.wanted import Wanted, repeated

OTHER_PROMPTS = {  # of a call of the pipeline, and what a sentence calls them
    "prompt_2": "prompt_2", "prompt_3": "prompt_3", "negative_prompt": "the negative prompt",
    "negative_prompt_2": "negative_prompt_2", "negative_prompt_3": "negative_prompt_3",
}  # fmt: skip
COMPONENTS = ("unet", "text_encoder", "text_encoder_2")


class DiffusersHost(TorchHost):
    """The UNet and the text encoders of a diffusers pipeline (SD1, SD2, SDXL); exchanged components are noticed."""

    def __init__(self, pipe: Any, *, keep: Keep = "auto") -> None:
        self.pipe = pipe
        self.words = PromptWords(pipe)
        self.problems: list[str] = []  # of the last `apply`: embeddings that the pipeline cannot know
        super().__init__(self._slots_of_pipe, _index, self._find_checkpoint)
        self.patcher.keep = keep

    def targets(self) -> TargetIndex:
        """See Host."""
        if not self.words.shown or self._bound is None or self._own_slots() != self._bound.slots:
            self.words.remove()  # the index shall not see a longer matrix, of this pipeline or of one that shares it
        return super().targets()

    def apply(self, plan: Plan) -> None:
        """See Host. The words that the adapters bring come and go with them."""
        self._with_words(plan, lambda: super(DiffusersHost, self).apply(plan))

    def _with_words(self, plan: Plan, apply: Callable[[], None]) -> None:
        """`apply` on the matrices as the pipeline knows them, then the longer ones of the adapters' words."""
        embeddings = plan.embeddings
        same = self.words.shown.keys() == embeddings.keys() and all(
            self.words.shown[word] is parts for word, parts in embeddings.items())  # fmt: skip
        keys = {*self.patcher.patched, *plan.terms}
        if same and not any("token_embedding" in key for key in keys):
            apply()
            return
        self.words.remove()
        apply()
        try:
            self.problems = self.words.show(embeddings)
        except Exception as error:
            self.patcher.restore()
            raise PatchError(
                f"the embeddings of the adapters could not be loaded ({error}); nothing was applied"
            ) from error
        except BaseException:
            self.patcher.restore()
            raise

    def _slots_of_pipe(self) -> Mapping[str, Slot]:
        return {key: slot for name, part in self._components() for key, slot in slots_of(part, f"{name}.").items()}

    def _components(self) -> list[tuple[str, nn.Module]]:
        parts = [(name, getattr(self.pipe, name, None)) for name in COMPONENTS]
        return [(name, part) for name, part in parts if isinstance(part, nn.Module)]

    def _find_checkpoint(self) -> CheckpointFile | None:
        """The files in the folders that `from_pretrained` read."""
        places: dict[str, list[tuple[Path, str]]] = {}
        for name, part in self._components():
            folder = getattr(part.config, "_name_or_path", "") or getattr(part, "name_or_path", "")
            files = sorted(Path(folder).glob("*.safetensors")) if folder else []
            for key in slots_of(part):
                places[f"{name}.{key}"] = [(file, key) for file in files]
        return CheckpointFile(places) if any(places.values()) else None


class Attached:
    """A pipeline with a folder of adapters. Call it like the pipeline; tags in the prompt are understood."""

    def __init__(self, pipe: Any, library: Library, *, keep: Keep = "auto") -> None:
        self.pipe = pipe
        self.library = library
        self.host = DiffusersHost(pipe, keep=keep)
        self.session = Session(self.host, library)

    @property
    def report(self) -> Report:
        """What became of the tags of the last call."""
        return self.session.report

    def activate(self, prompt: str | Sequence[str], *, pictures: int = 1) -> str | list[str]:
        """Make the pipeline carry the tags of `prompt`, and return the prompt without them.

        Several prompts (a batch) may have different tags: what they do not share is added to the layers' outputs, for
        each picture its own, which costs a little in every step. `pictures` are made of each prompt.
        """
        prompts = [read_prompt(text) for text in ([prompt] if isinstance(prompt, str) else prompt)]
        wanted = Wanted(tuple(read.tags for read in prompts) or ((),))
        errors = [error for read in prompts for error in read.errors]
        with self.host.held():
            report = self.session.activate(repeated(wanted, pictures), errors)
            self.session.rows([Row(image) for image in range(wanted.images * pictures)])
            self.session.report = replace(report, problems=(*report.problems, *self.host.problems))
        texts = [" ".join(read.text.split()) for read in prompts]
        return texts[0] if isinstance(prompt, str) else texts

    def __call__(self, prompt: str | Sequence[str], *args: Any, **options: Any) -> Any:
        """`pipe(prompt, ...)` with the tags of `prompt` active; they stay so until the next call or `clear`.

        Tags in the other prompts (negative, second encoder) have no effect yet: they are left out, and the report says
        so. A bracket with a backslash, as trigger words have it for the WebUI's emphasis, is a bracket. Several threads
        may call it, and several `attach`ed pipelines may share a model: each waits until the picture of the other is
        made.
        """
        pictures = options.get("num_images_per_prompt") or 1
        with self.host.held():
            texts = self.activate(prompt, pictures=pictures)
            text = _plain(texts) if isinstance(texts, str) else [_plain(each) for each in texts]
            others, named, stray = _without_tags(self.pipe, args, options)
            if stray:
                self.session.report = replace(self.report, problems=(*self.report.problems, *stray))
            return self.pipe(text, *others, **named)

    def clear(self) -> None:
        """The untouched pipeline."""
        self.session.clear()


def attach(pipe: Any, folder: str | Path | Sequence[str | Path], *, keep: Keep = "auto") -> Attached:
    """Give a diffusers pipeline the adapters in `folder` (or folders; sub-folders too).

    `keep`: where the touched base weights are meanwhile, "device", "cpu", "checkpoint" or "auto" (see `Patcher`).

    >>> draw = attach(pipe, "models/Lora")
    >>> picture = draw("a castle <lora:watercolor:0.8>", num_inference_steps=20).images[0]
    """
    folders = [folder] if isinstance(folder, str | Path) else list(folder)
    return Attached(pipe, Library([Path(each) for each in folders]), keep=keep)


def _plain(text: str) -> str:
    """`text` as tokenizers take it: half characters of a shell's are none of theirs, and brackets mean themselves."""
    return unescaped(encodable(text))


def _without_tags(
    pipe: Any, args: Sequence[Any], options: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any], list[str]]:
    """What `pipe` is called with besides its prompt, without the tags in it, and a sentence for each of those."""
    sentences: list[str] = []

    def cut(name: str, value: Any) -> Any:
        if name not in OTHER_PROMPTS or not isinstance(value, str | list | tuple):
            return value
        if not isinstance(value, str):
            return [cut(name, each) for each in value]
        text, left_out = cut_out(value, OTHER_PROMPTS[name])
        sentences.extend(left_out)
        return " ".join(text.split()) if left_out else value

    names = list(inspect.signature(pipe.__call__).parameters)[1:]  # without the prompt
    positional = [cut(name, value) for name, value in zip(names, args, strict=False)]
    named = {name: cut(name, value) for name, value in options.items()}
    return [*positional, *args[len(names) :]], named, list(dict.fromkeys(sentences))


def _index(shapes: Mapping[str, tuple[int, ...]]) -> TargetIndex:
    components: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, shape in shapes.items():
        component, _, name = key.partition(".")
        components.setdefault(component, {})[name] = shape
    return index_diffusers(components)
