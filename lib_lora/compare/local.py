"""Local: the runner that is a pipeline in this process. Processes and actors hold one each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from lib_lora import __version__
from lib_lora.compare.runner import Drawn, Ground, Needed, Task
from lib_lora.drawing.draw import SAMPLERS, defaults, draw
from lib_lora.drawing.pipelines import load_pipeline, model_name
from lib_lora.errors import LoraError, RunnerError, first_line
from lib_lora.formats.png import png_of
from lib_lora.hosts.diffusers import Attached
from lib_lora.library import Library

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "scheduler")


class Local:
    """Draws with `attached`, in the thread that asks."""

    def __init__(
        self, attached: Attached, name: str = "this process", *, is_over: Callable[[], bool] | None = None
    ) -> None:
        """`is_over` is asked at every step; once it is true, the picture is not finished."""
        self.attached = attached
        self.name = name
        self._on_step = None if is_over is None else _stopper(is_over)
        self._own = attached.pipe.scheduler

    @classmethod
    def load(
        cls, model: Path | None, folders: Sequence[Path], *, tokenizer: Path | None = None, index: Path | None = None
    ) -> Local:
        """Of a checkpoint and folders of adapters. Raises CheckpointError."""
        return cls(Attached(load_pipeline(model, tokenizer=tokenizer), Library(folders, database=index)))

    def open(self) -> Ground:
        """See Runner."""
        pipe = self.attached.pipe
        self.attached.clear()
        usual = defaults(pipe)
        versions = {"lib_lora": __version__, "diffusers": diffusers.__version__,
                    "transformers": transformers.__version__, "torch": str(torch.__version__)}  # fmt: skip
        device = f"{pipe.device.type} {str(pipe.unet.dtype).removeprefix('torch.')}"
        engine = ", ".join([*(f"{name} {version}" for name, version in versions.items()), device])
        return Ground(engine, checkpoint_digest(pipe), model_name(pipe), usual.steps, usual.guidance, usual.size,
                      _sampler(self._own))  # fmt: skip

    def lacks(self, needed: Sequence[Needed]) -> dict[str, str]:
        """See Runner. A file that is missing here is missing in the grid too: the picture's report says it."""
        return {}

    def draw(self, task: Task) -> Drawn:
        """See Runner."""
        try:
            self._sample_with(task.sampler)
            drawing = draw(self.attached, task.prompt, negative=task.negative, steps=task.steps,
                           guidance=task.guidance, seed=task.seed, size=task.size, on_step=self._on_step)  # fmt: skip
        except LoraError as error:
            return Drawn(None, str(error))
        except Exception as error:  # one cell never takes the others with it
            return Drawn(None, f"it could not be drawn ({type(error).__name__}: {first_line(error)[:200]})")
        finally:
            self.attached.pipe.scheduler = self._own
        report, picture = drawing.report, drawing.pictures[0]
        problem = "\n".join(report.sentences())
        is_whole = not report.problems and len(report.applied) == len(report.adapters)
        return Drawn(png_of(picture.image, picture.parameters) if is_whole else None, problem)

    def close(self) -> None:
        """See Runner: the model is as it was."""
        self.attached.clear()

    def _sample_with(self, name: str) -> None:
        if name in ("", _sampler(self._own)):
            return
        kinds = {told: kind for kind, told in SAMPLERS.items()}
        if name not in kinds:
            raise RunnerError(f"{name}: no such sampler; known are {', '.join(kinds)}")
        made = getattr(diffusers, f"{kinds[name]}Scheduler").from_config(self._own.config)
        self.attached.pipe.scheduler = made


def checkpoint_digest(pipe: Any) -> str:
    """Of every tensor that draws, as it lies in memory, and of what the parts are set to."""
    digest = hashlib.sha256()
    for name in PARTS:
        part = getattr(pipe, name, None)
        if part is None:
            continue
        config = part.config if isinstance(part.config, dict) else part.config.to_dict()
        told = {key: value for key, value in config.items() if not key.startswith("_")}
        digest.update(json.dumps([name, told], sort_keys=True, default=str).encode())
        if isinstance(part, torch.nn.Module):
            for key, tensor in sorted(part.state_dict().items()):
                plain = tensor.detach().cpu().contiguous()
                digest.update(f"{key} {tuple(plain.shape)} {plain.dtype}".encode())
                digest.update(plain.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _stopper(is_over: Callable[[], bool]) -> Callable[[int, int], None]:
    def look(done: int, total: int) -> None:
        if is_over():
            raise LoraError("cancelled")

    return look


def _sampler(scheduler: Any) -> str:
    kind = type(scheduler).__name__.removesuffix("Scheduler")
    return SAMPLERS.get(kind, kind)
