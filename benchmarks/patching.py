"""What it costs to change, add and remove adapters: ours and the peers' in one run.

    python -m benchmarks.patching [--quick] [--size sd15|sdxl] [--dtype float32] [--device cpu]
                                  [--json OUT] [--plot OUT.png]

Every time is the best of a few interleaved runs; the figures to look at are the ratios, which the machine's speed and
noise affect least. `--quick` measures the SD1.5 size with few repetitions, within 50 s on two cores. In half precision
on a CPU the peers and the bare products are left out: those compute in it there, which takes minutes a change.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks import memory, models, peers
from lib_lora.adapters.adapter import read_adapter
from lib_lora.adapters.cache import AdapterCache
from lib_lora.engine.active import Active
from lib_lora.engine.memory import Memory
from lib_lora.engine.originals import CheckpointFile
from lib_lora.engine.plan import Plan
from lib_lora.engine.schedule import plan
from lib_lora.grammar.tag import LoraTag
from lib_lora.hosts.diffusers import DiffusersHost

ALGORITHMS = {"LoHa": models.write_loha, "LoKr": models.write_lokr, "OFT": models.write_oft,
              "DoRA": lambda path, layers, *, seed: models.write_adapter(path, layers, seed=seed, dora=True)}
PRODUCTS = {"one": 1, "three": 3, "eight": 8}  # adapters
GOALS = {  # ratio -> (what it is, at most (<) or at least (>) on CPU)
    "change_vs_copy": ("change of weight, 1 adapter / plain copy of the touched weights", "<= 2.2"),
    "three_vs_one": ("change of weight, 3 adapters / 1", "<= 2.0"),
    "eight_vs_one": ("change of weight, 8 adapters / 1", "<= 4.2"),
    "first_use_vs_floor": ("first use / reading the file + copying the weights into fresh memory", "<= 1.5"),
    "extra_memory_vs_touched": ("extra memory while active / bytes of the touched weights", "<= 1.05"),
    "diffusers_vs_ours": ("diffusers set_adapters + fuse_lora / ours, change of weight", ">= 3"),
    "lycoris_vs_ours": ("lycoris-lora onfly_merge / ours, change of weight", ">= 3"),
    "first_use_in_file": ("first use, originals in the checkpoint's file / reading the adapter + one pass", "<= 1.5"),
    "extra_memory_in_file": ("extra memory with originals in the file / bytes of the touched weights", "~ 0"),
    "step_vs_idle": ("a step with adapters merged / without", "1"),
    "removal_vs_change": ("removal / change of weight", "~ 0"),
    **{f"{name}_vs_product": (f"change of weight, {count} / the matrix products alone", "~ 1")
       for name, count in PRODUCTS.items()},
}


class Bench:
    """One model, its adapters on disk, and a stopwatch that waits for the device."""

    def __init__(self, size: str, dtype: torch.dtype, device: str, folder: Path, repeat: int) -> None:
        self.device, self.repeat, self.folder = device, repeat, folder
        self.can_compute = device != "cpu" or dtype == torch.float32  # in the dtype of the weights
        self.few = max(2, repeat // 2)  # repetitions of what takes longest
        self.pipe = models.random_pipe(size, dtype=dtype, device=device)
        self.host = DiffusersHost(self.pipe)
        self.index = self.host.targets()
        self.layers = models.attention_layers(self.index)
        self.cache = AdapterCache(limit=16)

    def adapters(self, count: int) -> list[Path]:
        """`count` LoRA files, written once."""
        return [self.written(models.write_adapter, f"lora{number}", number) for number in range(count)]

    def written(self, write: Callable[..., Path], name: str, seed: int = 0) -> Path:
        path = self.folder / f"{name}.safetensors"
        return path if path.exists() else write(path, self.layers, seed=seed)

    def plan(self, weights: dict[Path, float]) -> Plan:
        active = [Active(LoraTag(path.stem, weight, weight), self.cache.read(path)) for path, weight in weights.items()]
        return plan(active, self.index)

    def seconds(self, work: Callable[[], Any]) -> float:
        """Wall-clock time of `work` with the device idle before and after."""
        self.wait()
        begin = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - begin

    def wait(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()

    def change(self, paths: list[Path], number: int) -> Callable[[], Any]:
        """Another weight for all of `paths`; every call has a number of its own, so that none is a repetition."""
        return lambda: self.host.apply(self.plan(dict.fromkeys(paths, 0.5 + 0.01 * number)))


def measure(bench: Bench, *, thorough: bool) -> dict[str, float]:
    """All times in seconds, and memory in bytes. `thorough`: other algorithms too, and the cost of a step."""
    times: dict[str, float] = {}
    eight = bench.adapters(8)
    first = eight[:1]
    touched = [bench.host.bound.slots[key].parameter.data for key in bench.plan({first[0]: 1.0}).terms]
    times["touched_bytes"] = sum(tensor.numel() * tensor.element_size() for tensor in touched)
    times["layers"] = len(touched)

    del touched
    times |= _first_uses(bench, first[0])

    slots = _touched_slots(bench, first[0])
    into = [torch.empty_like(slot.parameter.data) for slot in slots]
    counts = PRODUCTS if bench.can_compute else {}
    products = {f"product_{name}": _Product(slots, into, count) for name, count in counts.items()}
    names = ("one", "copy", "three", "eight", "swap", "removal", *products)
    runs: dict[str, list[float]] = {name: [] for name in names}
    for number in range(1, bench.repeat + 1):
        runs["one"].append(_second_of_two(bench, first, number))
        runs["copy"].append(bench.seconds(partial(_copy, slots, into)))
        for name, product in products.items() if number <= bench.few else ():
            runs[name].append(bench.seconds(product))
        runs["three"].append(_second_of_two(bench, eight[:3], number))
        if number <= bench.few:
            runs["eight"].append(_second_of_two(bench, eight, number))
        bench.change(first, number)()
        runs["swap"].append(bench.seconds(bench.change(eight[1:2], number)))
        runs["removal"].append(bench.seconds(lambda: bench.host.apply(Plan())))
    times |= {name: min(measured) for name, measured in runs.items()}
    del into, slots, products
    times |= _originals_in_file(bench, first[0])
    if thorough:
        for name, write in ALGORITHMS.items():
            path = bench.written(write, name)
            times[name] = min(_second_of_two(bench, [path], number) for number in range(1, bench.repeat + 1))
        times |= _steps(bench, first)
    bench.host.apply(Plan())
    if not bench.can_compute:
        return times
    return times | peers.measure(bench.pipe, first[0], bench.seconds, repeat=max(1, bench.repeat // 2))


def _first_uses(bench: Bench, path: Path) -> dict[str, float]:
    uses, floors, extra = [], [], []
    for _ in range(bench.few):
        gc.collect()
        before = private_bytes(bench.device)
        uses.append(bench.seconds(lambda: _first_use(bench, path)))
        extra.append(private_bytes(bench.device) - before)
        bench.host.apply(Plan())
        for books in bench.host.patcher._roots.books():
            books.memory = Memory()  # what it keeps for the next adapter would be no fresh memory
        floors.append(bench.seconds(lambda: _first_use_floor(bench, path)))
    return {"first_use": min(uses), "first_use_floor": min(floors), "extra_bytes": max(extra)}


def _originals_in_file(bench: Bench, path: Path) -> dict[str, float]:
    """The same with base weights that are not kept but read again from the model's file."""
    bench.host.apply(Plan())
    file, patcher = bench.folder / "checkpoint.safetensors", bench.host.patcher
    keys = bench.plan({path: 1.0}).terms
    save_file({key: bench.host.bound.slots[key].parameter.data.contiguous() for key in keys}, file)
    kept = patcher.keep, patcher.find_checkpoint
    patcher.keep = "checkpoint"
    patcher.find_checkpoint = lambda: CheckpointFile({key: [(file, key)] for key in keys})
    gc.collect()
    before = private_bytes(bench.device)
    times = {"first_use_in_file": bench.seconds(lambda: _first_use(bench, path))}
    times["extra_bytes_in_file"] = private_bytes(bench.device) - before
    bench.host.apply(Plan())
    times["first_use_in_file"] = min(times["first_use_in_file"], bench.seconds(lambda: _first_use(bench, path)))
    times["change_in_file"] = min(_second_of_two(bench, [path], number) for number in (1, 2))
    times["removal_in_file"] = bench.seconds(lambda: bench.host.apply(Plan()))
    times["read_adapter_file"] = bench.seconds(path.read_bytes)
    patcher.keep, patcher.find_checkpoint = kept
    file.unlink()
    return times


def _steps(bench: Bench, paths: list[Path]) -> dict[str, float]:
    """One pass through the UNet: without adapters, with them merged, and with them beside the weights."""
    patcher = bench.host.patcher
    runs: dict[str, list[float]] = {"step_idle": [], "step": [], "step_bypassed": []}
    for number in range(bench.repeat):
        for name, bypassed in (("step_idle", False), ("step", False), ("step_bypassed", True)):
            patcher.bypass_all = bypassed
            bench.host.apply(Plan())
            if name != "step_idle":
                bench.change(paths, number)()
            runs[name].append(bench.seconds(lambda: models.step(bench.pipe)))
    patcher.bypass_all = False
    return {name: min(measured[1:]) for name, measured in runs.items()}


def ratios(times: dict[str, float]) -> dict[str, float]:
    """The figures that are compared with the goals."""
    found = {
        "change_vs_copy": times["one"] / times["copy"],
        "three_vs_one": times["three"] / times["one"],
        "eight_vs_one": times["eight"] / times["one"],
        "first_use_vs_floor": times["first_use"] / times["first_use_floor"],
        "extra_memory_vs_touched": times["extra_bytes"] / times["touched_bytes"],
        "first_use_in_file": times["first_use_in_file"] / (times["read_adapter_file"] + times["one"]),
        "extra_memory_in_file": times["extra_bytes_in_file"] / times["touched_bytes"],
        "removal_vs_change": times["removal"] / times["one"],
    }
    found |= {f"{name}_vs_product": times[name] / times[f"product_{name}"]
              for name in PRODUCTS if f"product_{name}" in times}
    if "step" in times:
        found["step_vs_idle"] = times["step"] / times["step_idle"]
    for peer in ("diffusers", "lycoris"):
        if peer in times:
            found[f"{peer}_vs_ours"] = times[peer] / times["one"]
    return found | {f"{name}_vs_lora": times[name] / times["one"] for name in ALGORITHMS if name in times}


def private_bytes(device: str) -> int:
    """Memory of this process that is not a file's, or of the GPU."""
    return torch.cuda.memory_allocated() if device.startswith("cuda") else memory.private_bytes()


def _first_use(bench: Bench, path: Path) -> None:
    adapter = read_adapter(path)
    bench.host.apply(plan([Active(LoraTag(path.stem), adapter)], bench.index))


def _first_use_floor(bench: Bench, path: Path) -> list[torch.Tensor]:
    path.read_bytes()
    fresh = Memory()  # what `torch.empty` gives may have been used before
    weights = [slot.parameter.data for slot in _touched_slots(bench, path)]
    return [fresh.like(weight).copy_(weight) for weight in weights]  # all of it, at once


def _touched_slots(bench: Bench, path: Path) -> list[SimpleNamespace]:
    return [bench.host.bound.slots[key] for key in bench.plan({path: 1.0}).terms]


def _copy(slots: list[Any], into: list[torch.Tensor]) -> None:
    for slot, tensor in zip(slots, into, strict=True):
        tensor.copy_(slot.parameter.data)


class _Product:
    """What no program can be faster than: the matrix products alone, their factors in the dtype of the weights."""

    def __init__(self, slots: list[Any], into: list[torch.Tensor], adapters: int) -> None:
        self.slots, self.into, rank = slots, into, adapters * models.RANK
        weights = [slot.parameter.data.flatten(1) for slot in slots]
        self.factors = [(weight.new_full((weight.shape[0], rank), 1e-3), weight.new_full((rank, weight.shape[1]), 1e-3))
                        for weight in weights]

    def __call__(self) -> None:
        for slot, out, (up, down) in zip(self.slots, self.into, self.factors, strict=True):
            torch.addmm(slot.parameter.data.flatten(1), up, down, out=out.flatten(1))


def _second_of_two(bench: Bench, paths: list[Path], number: int) -> float:
    """A change of weight while the same adapters are active already."""
    bench.change(paths, -number)()
    return bench.seconds(bench.change(paths, number))


def table(times: dict[str, float], found: dict[str, float]) -> str:
    lines = [f"{int(times['layers'])} layers, {times['touched_bytes'] / 1e6:.0f} MB touched", ""]
    sizes = ("touched_bytes", "layers", "extra_bytes", "extra_bytes_in_file")
    lines += [f"{name:18} {times[name]:8.3f} s" for name in times if name not in sizes]
    lines += ["", f"{'ratio':26} {'measured':>9}   goal (CPU)"]
    for name, value in found.items():
        what, goal = GOALS.get(name, ("its pass / LoRA's pass", "<= 3"))
        lines.append(f"{name:26} {value:9.2f}   {goal:8} {what}")
    return "\n".join(lines)


def plot(found: dict[str, float], title: str, path: Path) -> None:
    """The ratios as bars, the goals as marks. Needs the extra `bench`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [name for name in found if GOALS.get(name, ("", "3"))[1][0] != "~"]
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(names) + 1.2))
    goals = [GOALS.get(name, ("", "<= 3"))[1] for name in names]
    axes.barh(names, [found[name] for name in names], color="#4f7cac")
    for place, goal in enumerate(goals):
        edge = float(goal.split()[-1])
        axes.plot([edge, edge], [place - 0.45, place + 0.45], color="#c1440e", linewidth=2)
    axes.set_yticks(range(len(names)), [f"{name}  ({goal})" for name, goal in zip(names, goals, strict=True)])
    axes.invert_yaxis()
    axes.set_title(f"{title}; red: goal", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="SD1.5 size, few repetitions")
    parser.add_argument("--size", choices=sorted(models.UNETS), default="sd15")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        dtype = getattr(torch, options.dtype)
        bench = Bench(options.size, dtype, options.device, Path(folder), 3 if options.quick else 7)
        times = measure(bench, thorough=not options.quick)
    found = ratios(times)
    machine = {"machine": platform.platform(), "threads": torch.get_num_threads(), "torch": torch.__version__,
               "device": torch.cuda.get_device_name() if options.device.startswith("cuda") else "cpu",
               "size": options.size, "dtype": options.dtype}
    print(table(times, found))
    if options.json:
        options.json.write_text(json.dumps({**found, "seconds": times, **machine}, indent=2))
    if options.plot:
        plot(found, f"{options.size}, {options.dtype}, {machine['device']}", options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
