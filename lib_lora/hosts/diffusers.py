"""A diffusers pipeline as host, and `attach`: a pipeline that understands `<lora:name:0.8>` in its prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from lib_lora.engine.keeping import Keep
from lib_lora.engine.originals import CheckpointFile
from lib_lora.engine.plan import Plan
from lib_lora.errors import PatchError
from lib_lora.grammar.moment import USUAL_STEPS
from lib_lora.grammar.presets import BUILT_IN, Presets
from lib_lora.grammar.who import FIRST_PASS
from lib_lora.hosts.embeddings import PromptWords
from lib_lora.hosts.prompts import Prompts, read_call, read_prompts
from lib_lora.hosts.sampling import Sampling
from lib_lora.hosts.texts import Texts
from lib_lora.library import Library
from lib_lora.model.slots import Slot, slots_of
from lib_lora.model.targets import TargetIndex, index_diffusers
from lib_lora.session.session import Report, Session
from lib_lora.session.torch_host import TorchHost

TEXT_MODEL = "text_model."  # a level of names that files of text encoders have, and newer transformers do not
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
                places[f"{name}.{key}"] = [(file, own) for own in (key, f"{TEXT_MODEL}{key}") for file in files]
        return CheckpointFile(places) if any(places.values()) else None


class Attached:
    """A pipeline with a folder of adapters. Call it like the pipeline; tags in its prompts are understood."""

    def __init__(
        self, pipe: Any, library: Library, *, keep: Keep = "auto", presets: Presets = BUILT_IN
    ) -> None:
        self.pipe = pipe
        self.library = library
        self.presets = presets  # names of block weights
        self.host = DiffusersHost(pipe, keep=keep)
        self.session = Session(self.host, library)
        self.stage = FIRST_PASS  # which pass a call is: Stage(hires=True) where a first pass was made before

    @property
    def report(self) -> Report:
        """What became of the tags of the last call; `report.of(image)` says it of one picture."""
        return self.session.report

    def activate(self, prompt: str | Sequence[str], *, pictures: int = 1) -> str | list[str]:
        """Make the pipeline carry the tags of `prompt`, and return the prompt without them.

        This is what it carries at the first step, for a pipeline that is called without us: tags whose weight changes
        on the way, or acts on some of the rows, need a call (see `__call__`). `pictures` are made of each prompt.
        """
        prompts = read_prompts({"prompt": prompt}, USUAL_STEPS, pictures)
        self._activate(prompts)
        return prompts.plain()["prompt"]

    def _activate(self, prompts: Prompts) -> None:
        with self.host.held():
            report = self.session.activate(replace(prompts.wanted(self.stage), presets=self.presets))
            self.session.report = replace(report, problems=(*report.problems, *self.host.problems))

    def __call__(self, prompt: str | Sequence[str], *args: Any, **options: Any) -> Any:
        """`pipe(prompt, ...)` with the tags of its prompts active; they stay so until the next call or `clear`.

        Several prompts (a batch) may have different tags: each picture is what it would be alone. Tags in a negative
        prompt act on that side of the guidance. Weights may change from step to step, with every scheduler; after an
        error in mid-picture the model is the untouched one. A bracket with a backslash, as trigger words have it for
        the WebUI's emphasis, is a bracket. Several threads may call it, and several `attach`ed pipelines may share a
        model: each waits until the picture of the other is made.
        """
        prompts, named = read_call(self.pipe, prompt, args, options)
        with self.host.held():
            self._activate(prompts)
            texts = Texts(self.pipe, self.session, prompts, named) if Texts.are_needed(self.session, prompts) else None
            with Sampling(self.pipe, self.session, prompts.images, texts).told():
                return self.pipe(**named, **(prompts.plain() if texts is None else texts.first()))

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


def _index(shapes: Mapping[str, tuple[int, ...]]) -> TargetIndex:
    components: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, shape in shapes.items():
        component, _, name = key.partition(".")
        components.setdefault(component, {})[name] = shape
    return index_diffusers(components)
