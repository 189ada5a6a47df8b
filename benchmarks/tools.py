"""What the tools cost that make adapters of adapters, beside kohya's scripts and LyCORIS on the same files.

    python -m benchmarks.tools [--quick] [--kohya DIR] [--json OUT]

DIR is a checkout of kohya's scripts (`git clone https://github.com/kohya-ss/sd-scripts`); without it their rows stay
empty. LyCORIS is `pip install lycoris-lora`. Each contestant works in a process of its own, one after the other: the
seconds are those of its work, files read and written, without Python's start and imports; the memory is what it takes
beside these at its peak. The error is ||made - meant|| / ||meant|| over all layers, every delta built whole in float64
from the file that was written, so that it holds whatever the contestant says of itself.

Peers take the singular values of each whole matrix, hours for a file of real size. So they are compared on a part:
three transformers of SD1.5, one of each width. What ours take for whole files stands below; `inspect` is the whole
command with Python's start. `--quick`: of the transformers one layer of each shape of no more than 1280 x 1280 numbers,
no file of SDXL's size, and two starts of `inspect`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks import models
from benchmarks.report import Table
from benchmarks.tools_process import ABSENT
from lib_lora.model.targets import TargetIndex
from lib_lora.model.usual import usual_index

ROOT = Path(__file__).parents[1]
RANK = 16  # of what is made
WEIGHTS = {"a": 0.7, "b": 0.3}  # of the two that become one
TRANSFORMERS = ("down_blocks_0_attentions_0_", "down_blocks_1_attentions_0_", "mid_block_attentions_0_")
QUICK = 1280 * 1280  # numbers of a layer, at most: of larger ones peers take a minute each
LEARNED = 128  # ranks of what the tuned checkpoint has learned, each weaker than the one before
NOISE = 2e-5  # beside it
STARTS, QUICK_STARTS = 4, 2  # of `inspect`: the first finds nothing in memory
Meant = Mapping[str, Callable[[], Tensor]]  # module -> its delta, float64 (o, i*kh*kw)


@dataclass(frozen=True)
class Job:
    """One thing that is made, and who makes it."""

    what: str
    peers: Mapping[str, str]  # job of benchmarks.tools_process -> who


JOBS: Mapping[str, Job] = {
    "resize": Job(f"resize rank {models.RANK} to {RANK}", {"kohya_resize": "kohya resize_lora"}),
    "save": Job(f"two of rank {models.RANK} as one of {RANK}", {"kohya_merge": "kohya svd_merge_lora"}),
    "extract": Job(f"extract rank {RANK}",
                   {"kohya_extract": "kohya extract_lora_from_models", "lycoris_extract": "LyCORIS extract"}),
}
ALONE: Mapping[str, str] = {
    "inspect": "inspect, the whole command",
    "resize": JOBS["resize"].what,
    "save": JOBS["save"].what,
    "join": "two joined without loss",
}


def write_files(folder: Path, index: TargetIndex, layers: Mapping[str, tuple[int, ...]], *, checkpoints: bool) -> None:
    """a, b: two adapters; base, tuned: two checkpoints with these layers only."""
    folder.mkdir()
    for seed, name in enumerate("ab"):
        models.write_adapter(folder / f"{name}.safetensors", dict(layers), seed=seed)
    if not checkpoints:
        return
    generator = torch.Generator().manual_seed(7)
    base, tuned = {}, {}
    for name, shape in layers.items():
        key = index.modules[name]["weight"].key
        base[key] = torch.randn(shape, generator=generator) * 0.05
        outputs, inputs = shape[0], shape[1]
        strength = 0.02 / torch.arange(1, LEARNED + 1).sqrt()
        learned = torch.randn(outputs, LEARNED, generator=generator) * strength
        learned = learned @ torch.randn(LEARNED, inputs, generator=generator) / LEARNED
        tuned[key] = base[key] + (learned + NOISE * torch.randn(outputs, inputs, generator=generator)).reshape(shape)
    save_file(base, folder / "base.safetensors")
    save_file(tuned, folder / "tuned.safetensors")


def run(job: str, folder: Path, out: Path, kohya: Path | None = None) -> dict[str, Any] | None:
    """{"seconds", "memory"} of one contestant; None if it is not there."""
    if job.startswith("kohya") and kohya is None:
        return None
    command = [sys.executable, "-m", "benchmarks.tools_process", job, str(folder), str(out), str(RANK)]
    done = subprocess.run([*command, str(kohya or "")], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == ABSENT:
        print(f"{job}: {done.stderr.strip()}", file=sys.stderr)
        return None
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def inspect(file: Path) -> dict[str, Any]:
    """The command, from its start to its end."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "lib_lora", "inspect", str(file), "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["files"]
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return {"seconds": time.perf_counter() - begin, "memory": used.ru_maxrss * 1024}


def made(file: Path) -> Meant:
    """What an adapter file in kohya's names does."""
    tensors = load_file(file)
    names = {key.partition(".")[0] for key in tensors}

    def delta(name: str) -> Tensor:
        up, down = (tensors[f"{name}.lora_{side}.weight"].double().flatten(1) for side in ("up", "down"))
        return up @ down * (float(tensors[f"{name}.alpha"]) / len(down))

    return {name: partial(delta, name) for name in sorted(names)}


def summed(files: Sequence[tuple[Path, float]]) -> Meant:
    """What several of them do together, all of the same layers."""
    each = [(made(file), weight) for file, weight in files]
    return {name: lambda name=name: sum((of[name]() * weight for of, weight in each), start=torch.zeros(()).double())
            for name in each[0][0]}  # fmt: skip


def learned(folder: Path, index: TargetIndex, layers: Iterator[str]) -> Meant:
    """The difference of the two checkpoints."""
    base, tuned = load_file(folder / "base.safetensors"), load_file(folder / "tuned.safetensors")
    keys = {name: index.modules[name]["weight"].key for name in layers}
    return {name: lambda key=key: (tuned[key].double() - base[key].double()).flatten(1) for name, key in keys.items()}


def error(file: Path, meant: Meant) -> float:
    """||made - meant|| / ||meant||."""
    found, missed, whole = made(file), 0.0, 0.0
    for name, delta in meant.items():
        wanted = delta()
        whole += float(wanted.square().sum())
        missed += float((wanted - found[name]() if name in found else wanted).square().sum())
    return float((missed / whole) ** 0.5)


def beside_peers(folder: Path, kohya: Path | None, is_quick: bool) -> dict[str, Any]:
    """{job: {who: {"seconds", "memory", "error"} or None}} on a part of SD1.5."""
    index = usual_index("sd1")
    assert index is not None
    layers = {name: shape for name, shape in models.attention_layers(index).items()
              if any(each in name for each in TRANSFORMERS)}  # fmt: skip
    if is_quick:
        of_shape = {shape[:2]: name for name, shape in reversed(layers.items()) if math.prod(shape) <= QUICK}
        layers = {name: layers[name] for name in of_shape.values()}
    files = folder / "part"
    write_files(files, index, layers, checkpoints=True)
    meant = {
        "resize": partial(made, files / "a.safetensors"),
        "save": partial(summed, [(files / f"{name}.safetensors", weight) for name, weight in WEIGHTS.items()]),
        "extract": partial(learned, files, index, iter(layers)),
    }
    found: dict[str, Any] = {"layers": len(layers)}
    for name, job in JOBS.items():
        whole = meant[name]()
        of_job: dict[str, Any] = {}
        for contestant in (name, *job.peers):
            out = folder / f"{contestant}.safetensors"
            print(f"{job.what}: {contestant} ...", file=sys.stderr, flush=True)
            told = run(contestant, files, out, kohya)
            of_job[contestant] = None if told is None else {**told, "error": error(out, whole)}
        found[name] = of_job
    return found


def whole_files(folder: Path, families: Sequence[str], starts: int = STARTS) -> dict[str, Any]:
    """{family: {job: {"seconds", "memory"}}} of ours."""
    found: dict[str, Any] = {}
    for family in families:
        index = usual_index(family)
        assert index is not None
        layers = models.attention_layers(index)
        files = folder / family
        write_files(files, index, layers, checkpoints=False)
        size = (files / "a.safetensors").stat().st_size
        found[family] = {"layers": len(layers), "bytes": size}
        print(f"whole files of {family} ...", file=sys.stderr, flush=True)
        runs = [inspect(files / "a.safetensors") for _ in range(starts)][1:]
        found[family]["inspect"] = min(runs, key=lambda each: each["seconds"])
        for job in ("resize", "save", "join"):
            found[family][job] = run(job, files, folder / "out.safetensors")
            (folder / "out.safetensors").unlink()
    return found


def tables(part: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    lines = Table(["what", "by", "seconds", "ours in", "MB", "error", "ours"])
    for name, job in JOBS.items():
        ours = part[name][name]
        lines.add(job.what, "lib_lora", f"{ours['seconds']:.2f}", "", _megabytes(ours), f"{ours['error']:.5f}")
        for contestant, who in job.peers.items():
            theirs = part[name][contestant]
            if theirs is None:
                lines.add("", who, "not there")
                continue
            lines.add("", who, f"{theirs['seconds']:.1f}", f"1/{theirs['seconds'] / ours['seconds']:.0f}",
                      _megabytes(theirs), f"{theirs['error']:.5f}",
                      f"{ours['error'] / theirs['error']:.4f} of it")  # fmt: skip
    sizes = [f"{family}, {of['layers']} layers, {of['bytes'] / 1e6:.0f} MB" for family, of in whole.items()]
    alone = Table(["whole files", *(f"{size}: {unit}" for size in sizes for unit in ("s", "MB"))])
    for job, what in ALONE.items():
        alone.add(what, *(cell for of in whole.values() for cell in (f"{of[job]['seconds']:.2f}", _megabytes(of[job]))))
    return f"{lines}\n\n{alone}"


def _megabytes(told: Mapping[str, float]) -> str:
    return f"{told['memory'] / 1e6:.0f}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one layer of each shape up to 1280 x 1280; SD1.5 only")
    parser.add_argument("--kohya", type=Path, metavar="DIR", help="a checkout of kohya's scripts")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    kohya = options.kohya.resolve() if options.kohya else None
    if kohya is not None and not (kohya / "networks" / "resize_lora.py").is_file():
        parser.error(f"{kohya}: no checkout of kohya's scripts; git clone https://github.com/kohya-ss/sd-scripts")
    with tempfile.TemporaryDirectory() as folder:
        part = beside_peers(Path(folder), kohya, options.quick)
        whole = whole_files(Path(folder), *((("sd1",), QUICK_STARTS) if options.quick else (("sd1", "sdxl"), STARTS)))
    about = {"machine": platform.platform(), "threads": torch.get_num_threads(), "torch": torch.__version__,
             "date": date.today().isoformat()}  # fmt: skip
    print(f"a part of SD1.5, {part['layers']} layers; {about['threads']} threads, torch {about['torch']}\n")
    print(tables(part, whole))
    if kohya is None:
        print("\nFor kohya's: git clone https://github.com/kohya-ss/sd-scripts, and --kohya DIR")
    if options.json:
        options.json.write_text(json.dumps({"part": part, "whole": whole, **about}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
