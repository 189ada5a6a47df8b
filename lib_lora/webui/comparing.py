"""Comparisons in the tab: this WebUI as a runner, one picture at a time in its queue, none saved among its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path

from modules import images, processing, sd_models, shared

from lib_lora import __version__
from lib_lora.compare.job import Host, Usual
from lib_lora.compare.runner import Drawn, Ground, Needed, Task
from lib_lora.compare.runners.webui import GUIDANCE, PROBLEMS, SAMPLER, STEPS, is_missing, side_of, value_of
from lib_lora.errors import RunnerError, first_line
from lib_lora.formats.png import png_of
from lib_lora.webui.a1111.checkpoints import alone, loaded_family
from lib_lora.webui.names.catalogue import Catalogue
from lib_lora.webui.names.protocols import CheckpointInfo

FOLDER = "lora-comparisons"
TOGETHER = "One picture is drawn at a time, in the WebUI's queue: what you generate meanwhile comes in between."


def host_of(catalogue: Catalogue) -> Host:
    """What the WebUI brings for comparisons."""
    return Host(catalogue.library, _folder, Inside, _usual, TOGETHER, _checkpoints, catalogue.name, images.get_font)


class Inside:
    """A runner that is the WebUI around us. `checkpoint` by its name; empty: the one that is chosen on the page."""

    name = "this WebUI"

    def __init__(self, checkpoint: str, over: threading.Event) -> None:
        self._checkpoint, self._over = checkpoint, over
        self._title = ""
        self._drawing = threading.Lock()  # held for moments: whether the picture that is interrupted is ours
        self._is_drawing = False

    def open(self) -> Ground:
        """See Runner. The checkpoint is loaded: what suits it depends on what it is."""
        info = sd_models.checkpoint_aliases.get(self._checkpoint) if self._checkpoint else None
        if self._checkpoint and info is None:
            raise RunnerError(f"{self._checkpoint}: the WebUI has no such checkpoint any more")
        with alone():
            try:
                model = sd_models.reload_model_weights(info=info)
            except Exception as error:  # a broken file, no memory: anything
                raise RunnerError(f"the checkpoint cannot be loaded ({first_line(error)[:200]})") from error
            if model is None:
                raise RunnerError("the WebUI has no checkpoint")
            loaded: CheckpointInfo = model.sd_checkpoint_info
            usual = _usual()
        self._title = loaded.title
        return Ground(_engine(), loaded.sha256 or loaded.title, _name(loaded), STEPS, GUIDANCE, usual.size,
                      SAMPLER)  # fmt: skip

    def lacks(self, needed: Sequence[Needed]) -> dict[str, str]:
        """See Runner: the files are those of the grid."""
        return {}

    def draw(self, task: Task) -> Drawn:
        """See Runner. Interrupting the picture in the WebUI ends the comparison."""
        with alone():
            if self._over.is_set():
                return Drawn(None, "cancelled")
            shared.state.begin(job="lora comparison")
            with self._drawing:
                self._is_drawing = True
            try:
                return self._draw(task)
            except Exception as error:  # one cell never takes the others with it
                return Drawn(None, f"it could not be drawn ({type(error).__name__}: {first_line(error)[:200]})")
            finally:
                with self._drawing:
                    self._is_drawing = False
                shared.state.end()
                shared.total_tqdm.clear()

    def close(self) -> None:
        """See Runner."""
        with self._drawing:
            if self._is_drawing:
                shared.state.interrupt()

    def _draw(self, task: Task) -> Drawn:
        made = processing.StableDiffusionProcessingTxt2Img(
            sd_model=shared.sd_model, prompt=task.prompt, negative_prompt=task.negative, seed=task.seed,
            steps=task.steps, cfg_scale=task.guidance, width=task.size[0], height=task.size[1],
            sampler_name=task.sampler, do_not_save_samples=True, do_not_save_grid=True,
            override_settings={"sd_model_checkpoint": self._title},
        )  # fmt: skip
        with contextlib.closing(made) as p:
            drawn = processing.process_images(p)
        if shared.state.interrupted or shared.state.skipped or shared.state.stopping_generation:
            self._over.set()
            return Drawn(None, "cancelled")
        text = drawn.infotexts[0]
        problem = value_of(PROBLEMS, text)
        names = {each.name: each.name for each in task.files}
        if problem and is_missing(text, names):
            return Drawn(None, problem)
        return Drawn(png_of(drawn.images[0].convert("RGB"), text), problem)


def _engine() -> str:
    """Programs and settings that decide pictures."""
    opts = shared.opts
    settings = {
        "VAE": opts.sd_vae, "clip skip": opts.CLIP_stop_at_last_layers, "noise": opts.randn_source,
        "seed delta": opts.eta_noise_seed_delta, "merged tokens": opts.token_merging_ratio,
    }  # fmt: skip
    said = (f"{name} {value}" for name, value in settings.items() if value not in (None, "", 0))
    return ", ".join([f"WebUI {processing.program_version() or 'unknown'}", f"lib_lora {__version__}", *said])


def _usual() -> Usual:
    family, model = loaded_family(), sd_models.model_data.sd_model
    side = side_of(family.label if family else "")
    return Usual(_name(model.sd_checkpoint_info) if model else "", STEPS, (side, side))


def _name(info: CheckpointInfo) -> str:
    return info.name_for_extra


def _checkpoints() -> list[str]:
    return [info.name for info in sd_models.checkpoints_list.values()]


def _folder() -> Path:
    if shared.opts.outdir_samples:
        return Path(shared.opts.outdir_samples).absolute() / FOLDER
    return Path(shared.opts.outdir_txt2img_samples).absolute().parent / FOLDER
