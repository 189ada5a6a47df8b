"""What is measured in a process of its own: `python -m benchmarks.tools_process JOB FOLDER OUT RANK [KOHYA]`.

FOLDER has a, b (adapters) and base, tuned (checkpoints). The last line: the seconds of the work, and the memory that it
took at its peak beside Python and all imports.

kohya's scripts run as they are, from a checkout. What they import of their trainer (its data sets, its loaders of
whole checkpoints) asks for packages that nothing here needs: in its place stand empty modules, and a loader that gives
the layers of the file. So what is timed is their own reading, arithmetic and writing, without their hashes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import logging
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.models import attention_layers
from lib_lora.cli import main as lib_lora
from lib_lora.model.usual import usual_index

ABSENT = 3  # exit status
BOTH = ("--prompt", "<lora:a:0.7><lora:b:0.3>", "--dtype", "fp16")
STAND_INS = ("library", "library.train_util", "library.model_util", "library.sdxl_model_util", "library.utils",
             "library.sai_model_spec", "library.sdxl_original_unet", "library.device_utils")  # fmt: skip


def ours_resize(folder: Path, out: Path, rank: int) -> None:
    _command("resize", folder / "a.safetensors", out, "--rank", rank)


def ours_save(folder: Path, out: Path, rank: int) -> None:
    _command("save", out, *BOTH, "--lora-dir", folder, "--rank", rank)


def ours_join(folder: Path, out: Path, rank: int) -> None:
    _command("save", out, *BOTH, "--lora-dir", folder)


def ours_extract(folder: Path, out: Path, rank: int) -> None:
    _command("extract", folder / "base.safetensors", folder / "tuned.safetensors", out, "--rank", rank)


def _command(*words: Any) -> None:
    assert lib_lora(list(map(str, words))) == 0


def lycoris_extract(folder: Path, out: Path, rank: int) -> None:
    from lycoris.utils import extract_diff

    base, tuned = (_unet(folder / f"{name}.safetensors") for name in ("base", "tuned"))
    found = extract_diff([], [], base, tuned, "fixed", rank, rank)
    save_file(found, out)


def kohya_resize(folder: Path, out: Path, rank: int) -> None:
    script: Any = importlib.import_module("resize_lora")
    tensors, _ = script.load_state_dict(str(folder / "a.safetensors"), torch.float)
    tensors, _, _ = script.resize_lora_model(tensors, rank, rank, torch.float16, None, None, None, False)
    save_file(tensors, out)


def kohya_merge(folder: Path, out: Path, rank: int) -> None:
    script: Any = importlib.import_module("svd_merge_lora")
    files = [str(folder / f"{name}.safetensors") for name in "ab"]
    tensors, *_ = script.merge_lora_models(files, [0.7, 0.3], [], rank, rank, None, torch.float)
    save_file({key: tensor.half() for key, tensor in tensors.items()}, out)


def kohya_extract(folder: Path, out: Path, rank: int) -> None:
    script: Any = importlib.import_module("extract_lora_from_models")
    script.args = argparse.Namespace(device=None)  # which it asks for as a global
    script.svd(str(folder / "base.safetensors"), str(folder / "tuned.safetensors"), str(out), rank, False, False,
               save_precision="fp16", no_metadata=True)  # fmt: skip


class Transformer2DModel(nn.Module):
    """By this name kohya's network finds the layers."""


def _unet(file: Path) -> nn.Module:
    """The layers of a checkpoint as modules, each transformer one that has its layers under flat names."""
    index = usual_index("sd1")
    assert index is not None
    tensors, unet = load_file(file), nn.Module()
    for name, shape in attention_layers(index).items():
        weight = tensors.get(index.modules[name]["weight"].key)
        if weight is None:
            continue
        with torch.device("meta"):
            layer: nn.Module = (nn.Conv2d(shape[1], shape[0], 1, bias=False) if len(shape) == 4
                                else nn.Linear(shape[1], shape[0], bias=False))  # fmt: skip
        layer.weight = nn.Parameter(weight, requires_grad=False)
        place, _, path = name.removeprefix("lora_unet_").partition("_attentions_0_")
        place += "_attentions_0"
        if place not in dict(unet.named_children()):
            unet.add_module(place, Transformer2DModel())
        unet.get_submodule(place).add_module(path, layer)
    return unet


class _StandIn(ModuleType):
    """Any name that is asked for is a class that does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *args, **options: None})


def _open_kohya(checkout: Path) -> None:
    logging.disable(logging.WARNING)
    for name in STAND_INS:
        sys.modules[name] = _StandIn(name)
        if "." in name:
            setattr(sys.modules["library"], name.partition(".")[2], sys.modules[name])
    loaders: Any = sys.modules["library.model_util"]
    loaders.is_safetensors = lambda path: path.endswith(".safetensors")
    loaders.get_model_version_str_for_sd1_sd2 = lambda *_: ""
    loaders.load_models_from_stable_diffusion_checkpoint = lambda _, path: (nn.Module(), None, _unet(Path(path)))
    trainer: Any = sys.modules["library.train_util"]
    trainer.precalculate_safetensors_hashes = lambda *_: ("", "")
    trainer.load_metadata_from_safetensors = lambda _: {}
    sys.path.insert(0, str(checkout / "networks"))


WORK: dict[str, Callable[[Path, Path, int], None]] = {
    "resize": ours_resize, "save": ours_save, "join": ours_join, "extract": ours_extract,
    "kohya_resize": kohya_resize, "kohya_merge": kohya_merge, "kohya_extract": kohya_extract,
    "lycoris_extract": lycoris_extract,
}  # fmt: skip


def _prepare(job: str, kohya: str) -> None:
    """Import what the work needs. Raises ImportError."""
    if job.startswith("kohya"):
        _open_kohya(Path(kohya))
        importlib.import_module({"kohya_resize": "resize_lora", "kohya_merge": "svd_merge_lora",
                                 "kohya_extract": "extract_lora_from_models"}[job])  # fmt: skip
    elif job.startswith("lycoris"):
        importlib.import_module("lycoris.utils")
    else:
        for name in ("keep", "resize", "extract"):
            importlib.import_module(f"lib_lora.tools.{name}")
    usual_index("sd1")


def main(job: str, folder: str, out: str, rank: str, kohya: str = "") -> int:
    try:
        _prepare(job, kohya)
    except ImportError as error:
        print(error, file=sys.stderr)
        return ABSENT
    before, begin = _peak(), time.perf_counter()
    with torch.no_grad():
        WORK[job](Path(folder), Path(out), int(rank))
    print()
    print(json.dumps({"seconds": time.perf_counter() - begin, "memory": _peak(forget=False) - before}))
    return 0


def _peak(*, forget: bool = True) -> int:
    """Bytes of main memory, at most so far; from now on, if the system can `forget` what was before."""
    with contextlib.suppress(OSError):
        if forget:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
