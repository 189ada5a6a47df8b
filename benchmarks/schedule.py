"""What a picture costs whose adapters vary: over time, from side to side, from picture to picture.

    python -m benchmarks.schedule [--quick] [--steps 20] [--size 512] [--turns 3] [--only WHAT ...] [--device cpu]
                                  [--dtype float32] [--json OUT]
    python -m benchmarks.schedule --constants [--device cpu] [--dtype float32]

A UNet of SD1.5's size with random weights, adapters of rank 32 on its 192 attention and feed-forward layers, two rows a
picture (with and without the prompt). A pass is timed step by step: what is told to the model before, and the call of
the UNet. Each call is followed, or preceded, by one of a twin that carries the same adapter at a constant weight: a
machine that is slower for a while is so for both. A ratio is what a pass of 20 steps takes against one of the twin: the
median ratio of the calls beside each other, and what was told besides. The first contestant is the twin's equal: what
its ratio differs from 1, and the lower and upper quartiles, are the noise of the machine. The table and OUT are written
after each turn: what ends early has told what it found.

`--quick`: 4 steps of 128x128 in two turns. What is done besides weighs far more there, since the call of the UNet is
mostly reading its weights, a thirtieth of the arithmetic of 512x512: look at it for what changed, not at the goals. A
window's two changes are set against 20 steps, of which 4 were made.
`--constants` measures what `engine/route.py` has in its table.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks import models
from benchmarks.report import Table
from lib_lora.engine.call import Size
from lib_lora.engine.route import COSTS
from lib_lora.errors import NotFoundError
from lib_lora.grammar.moment import Moment
from lib_lora.grammar.tag import read_prompt
from lib_lora.grammar.who import Row
from lib_lora.model.slots import slots_of
from lib_lora.model.targets import TargetIndex, index_diffusers
from lib_lora.session.session import Session
from lib_lora.session.torch_host import TorchHost
from lib_lora.session.wanted import Wanted

PASS = 20  # steps that the goals are for


@dataclass(frozen=True)
class Contestant:
    """What is typed for each picture."""

    what: str
    prompts: Sequence[str]
    goal: str = ""
    is_told_once: bool = False  # so many changes in a pass, however many steps that has

    @property
    def pictures(self) -> int:
        return len(self.prompts)


CONSTANT = "<lora:a:0.8>"  # what the twin carries
PEER = "diffusers"  # is told by its own words
CONTESTANTS: Mapping[str, Contestant] = {
    "constant": Contestant("one adapter, constant", [CONSTANT], "1.00"),
    "blocks": Contestant("weights by block", ["<lora:a:0.8:lbw=1,1,1,1,0.5,0.5,0.5,1,1,1,1,0.2,0.2,0.2,1,1,1>"],
                         "1.00"),
    "window": Contestant("a window: it comes and goes", ["<lora:a:0.8:start=0.3:stop=0.7>"], "<= 1.02", True),
    "curve": Contestant("a curve: another weight in each step", ["<lora:a:0:0.2@0,1@1>"], "<= 1.10"),
    "side": Contestant("on one side of the guidance", ["<lora:a:0.8:on=cond>"], "<= 1.10"),
    "four own": Contestant("four pictures, each its own", [f"<lora:{name}:0.8>" for name in "abcd"], "<= 1.25"),
    PEER: Contestant("diffusers: set_adapters in each step", [CONSTANT]),
}  # fmt: skip


class Folder:
    """The adapters, as files of one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, name: str) -> Any:
        path = self.path / f"{name}.safetensors"
        if not path.exists():
            raise NotFoundError(name)
        return _Entry(path)


@dataclass(frozen=True)
class _Entry:
    path: Path


class Model:
    """A UNet and its session."""

    def __init__(self, device: str, dtype: torch.dtype, folder: Path) -> None:
        self.unet = models.random_unet("sd15", dtype=dtype, device=device)
        self.host = TorchHost(lambda: slots_of(self.unet, "unet."), _index)
        self.session = Session(self.host, Folder(folder))

    def activate(self, prompts: Sequence[str]) -> None:
        report = self.session.activate(Wanted(tuple(read_prompt(text).tags for text in prompts)))
        assert not report.sentences(), report.sentences()


class Bench:
    """One model, its twin, and a stopwatch."""

    def __init__(self, device: str, dtype: torch.dtype, folder: Path, *, size: int, steps: int) -> None:
        self.device, self.dtype, self.steps = device, dtype, steps
        self.latent: Size = (size // 8, size // 8)
        self.model, self.twin = (Model(device, dtype, folder) for _ in range(2))
        layers = models.attention_layers(self.model.host.targets())
        self.layers = len(layers)
        for seed, name in enumerate("abcd"):
            models.write_adapter(folder / f"{name}.safetensors", layers, seed=seed)
        self.folder = folder
        self.twin.activate([CONSTANT])

    def call(self, unet: nn.Module, pictures: int) -> Tensor:
        """The UNet's for so many pictures, each with and without its prompt."""
        rows = 2 * pictures
        like = dict(dtype=self.dtype, device=self.device)
        with torch.no_grad():
            return unet(torch.zeros(rows, 4, *self.latent, **like), 500,
                        encoder_hidden_states=torch.zeros(rows, 77, 768, **like)).sample  # fmt: skip

    def seconds(self, work: Callable[[], Any]) -> float:
        self._wait()
        begin = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - begin

    def _wait(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()

    def steps_of(self, tell: Callable[[int], Any], pictures: int) -> dict[str, list[float]]:
        """Of one pass, step by step: {"told": ..., "call": ..., "twin": ...}, in seconds."""
        found: dict[str, list[float]] = {"told": [], "call": [], "twin": []}
        for step in range(self.steps):
            found["told"].append(self.seconds(lambda step=step: tell(step)))
            one, other = ("call", self.model.unet), ("twin", self.twin.unet)
            for name, unet in (one, other) if step % 2 else (other, one):
                found[name].append(self.seconds(lambda unet=unet: self.call(unet, pictures)))
        return found

    def measure(self, contestant: Contestant) -> dict[str, Any]:
        """One pass, and how many weights were merged or had something beside them at its end."""
        session, patcher, pictures = self.model.session, self.model.host.patcher, contestant.pictures
        self.model.activate(contestant.prompts)
        rows = [Row(image, side) for side in ("cond", "uncond") for image in range(pictures)]  # type: ignore[arg-type]

        def tell(step: int) -> None:
            session.advance(Moment(step, self.steps))
            session.rows(rows, self.latent)

        found = self.steps_of(tell, pictures)
        ways = {"merged": len(patcher.patched), "beside": len(patcher.bypassed)}
        session.clear()
        return {**found, **ways}

    @contextlib.contextmanager
    def peer(self) -> Iterator[Callable[[], dict[str, Any]]]:
        """diffusers with PEFT: the same adapter beside the weights, told another weight in each step."""
        from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline

        pipe = StableDiffusionPipeline(
            vae=AutoencoderKL(), text_encoder=None, tokenizer=None, unet=self.model.unet, scheduler=DDIMScheduler(),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False)  # type: ignore[arg-type]
        pipe.load_lora_weights(load_file(self.folder / "a.safetensors"), adapter_name="a")
        try:
            yield lambda: self.steps_of(lambda step: pipe.set_adapters(["a"], [0.2 + 0.8 * step / self.steps]), 1)
        finally:
            pipe.unload_lora_weights()


Passes = dict[str, list[dict[str, Any]]]  # of each contestant, one a turn


def measure(bench: Bench, turns: int, names: Sequence[str]) -> Iterator[Passes]:
    """What is known after each turn."""
    batches = sorted({CONTESTANTS[name].pictures for name in names})
    for model, pictures in itertools.product((bench.model, bench.twin), batches):
        bench.call(model.unet, pictures)  # nobody pays for the first
    found: Passes = {name: [] for name in names}
    for turn in range(turns):
        for name in names:
            print(f"\rturn {turn + 1} of {turns}: {name:40}", end="", file=sys.stderr, flush=True)
            if name == PEER:
                with bench.peer() as one_pass:
                    found[name].append(one_pass())
            else:
                found[name].append(bench.measure(CONTESTANTS[name]))
        print(file=sys.stderr)
        yield found


@dataclass(frozen=True)
class Against:
    """A contestant against the twin, both in passes of PASS steps."""

    call: float  # seconds, the median
    told: float  # seconds in such a pass
    lower: float  # quartiles of the ratio of calls beside each other, with what was told
    ratio: float
    upper: float


def against(passes: Sequence[Mapping[str, Any]], *, is_told_once: bool) -> Against:
    call, twin, told = ([value for each in passes for value in each[name]] for name in ("call", "twin", "told"))
    in_pass = sum(told) / (len(passes) if is_told_once else len(told) / PASS)
    beside = [one / other for one, other in zip(call, twin, strict=True)]
    lower, ratio, upper = statistics.quantiles(beside, n=4, method="inclusive")
    besides = in_pass / (PASS * statistics.median(twin))
    return Against(statistics.median(call), in_pass, lower + besides, ratio + besides, upper + besides)


def constants(device: str, dtype: torch.dtype) -> dict[str, float]:
    """What this device does in a second, and what telling it costs: see Costs."""
    like = dict(dtype=dtype, device=device)

    def best(work: Callable[[], Any], repeat: int = 20) -> float:
        times = []
        for _ in range(repeat):
            begin = time.perf_counter()
            work()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
        return statistics.median(times)

    x, down, up = torch.ones(2048, 640, **like), torch.ones(32, 640, **like), torch.ones(640, 32, **like)
    out, large = torch.ones(2048, 640, **like), torch.ones(1 << 24, **like)
    copied = torch.empty_like(large)
    layer = nn.Linear(8, 8, bias=False, **like)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        operations = 2 * 2 * 2048 * 640 * 32 / best(lambda: out.addmm_(x @ down.t(), up.t(), alpha=1e-3))
        moved = 2 * large.nbytes / best(lambda: copied.copy_(large))
        models.write_adapter(Path(folder) / "a.safetensors", {NAME: (8, 8)}, seed=0)
        session = Session(TorchHost(lambda: {KEY: slots_of(layer)["weight"]}, _index), Folder(Path(folder)))
        plain = best(lambda: layer(x[:1, :8]), 200)
        session.activate(read_prompt("<lora:a:0@0,1@1:force=1>").tags)
        session.host.patcher.bypass_all = False  # type: ignore[attr-defined]
        steps = iter(range(1, 1 << 20))
        change = best(lambda: session.advance(Moment(next(steps), 1 << 20)), 200)
        session.clear()
        session.host.patcher.bypass_all = True  # type: ignore[attr-defined]
        session.activate(read_prompt("<lora:a:1:force=1>").tags)
        hook = best(lambda: layer(x[:1, :8]), 200) - plain
    return {"operations": operations, "bytes": moved, "change": change, "hook": hook}


NAME = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
KEY = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"


def _index(shapes: Mapping[str, tuple[int, ...]]) -> TargetIndex:
    return index_diffusers({"unet": {key.removeprefix("unet."): shape for key, shape in shapes.items()}})


def table(found: Mapping[str, Sequence[Mapping[str, Any]]], compared: Mapping[str, Against]) -> str:
    lines = Table(["what", "s a call", f"s told in {PASS}", "merged", "beside", "ratio", "quartiles", "goal"])
    for name, one in compared.items():
        contestant, ways = CONTESTANTS[name], found[name][0]
        lines.add(contestant.what, f"{one.call:.3f}", f"{one.told:.3f}",
                  *(str(ways.get(way, "")) for way in ("merged", "beside")), f"{one.ratio:.3f}",
                  f"{one.lower:.3f} to {one.upper:.3f}", contestant.goal)  # fmt: skip
    return str(lines)


def show(found: Passes, about: Mapping[str, Any], path: Path | None) -> None:
    """The table, and the file for programs."""
    compared = {name: against(passes, is_told_once=CONTESTANTS[name].is_told_once) for name, passes in found.items()}
    print(f"\n{', '.join(f'{name} {value}' for name, value in about.items())}\n\n{table(found, compared)}", flush=True)
    if path:
        ratios = {name: asdict(one) for name, one in compared.items()}
        path.write_text(json.dumps({"ratios": ratios, "passes": found, **about}, indent=2))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 steps of 128x128, two turns")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--size", type=int, help="of the picture, in pixels")
    parser.add_argument("--turns", type=int)
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS), metavar="WHAT",
                        help=f"of: {', '.join(CONTESTANTS)}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--constants", action="store_true", help="what engine/route.py has in its table")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    dtype = getattr(torch, options.dtype)
    if options.constants:
        mine = constants(options.device, dtype)
        known = COSTS.get(torch.device(options.device).type, COSTS["cpu"])
        for name, value in mine.items():
            print(f"{name:11} {value:.2g}   in the table {getattr(known, name):.2g}")
        return 0
    usual = (4, 128, 2) if options.quick else (PASS, 512, 3)
    steps, size, turns = (given or use for given, use in zip((options.steps, options.size, options.turns), usual,
                                                            strict=True))  # fmt: skip
    about = {"machine": platform.platform(), "threads": torch.get_num_threads(), "torch": torch.__version__,
             "device": options.device, "dtype": options.dtype, "steps": steps, "size": size}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.device, dtype, Path(folder), size=size, steps=steps)
        for found in measure(bench, turns, options.only):
            show(found, {"layers": bench.layers, **about}, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
