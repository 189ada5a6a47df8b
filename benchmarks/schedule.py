"""What a picture costs whose adapters vary: over time, from side to side, from picture to picture.

    python -m benchmarks.schedule [--quick] [--steps 20] [--size 512] [--device cpu] [--dtype float32] [--json OUT]
    python -m benchmarks.schedule --constants [--device cpu] [--dtype float32]

A UNet of SD1.5's size with random weights, adapters of rank 32 on its 192 attention and feed-forward layers, two rows a
picture (with and without the prompt). A pass is timed step by step: what is told to the model before, and the call of
the UNet. Passes of all contestants take turns, and every ratio is the median of those within one turn.

`--quick`: 4 steps of 128x128 in two turns. What is done besides weighs far more there, since the call of the UNet is
mostly reading its weights, a thirtieth of the arithmetic of 512x512: look at it for what changed, not at the goals. A
window's two changes are set against 20 steps, of which 4 were made.
`--constants` measures what `engine/route.py` has in its table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    """What is typed for each picture, and against whom its time is held."""

    what: str
    prompts: Sequence[str]
    against: str = "constant"
    goal: str = ""


CONTESTANTS: Mapping[str, Contestant] = {
    "constant": Contestant("one adapter, constant", ["<lora:a:0.8>"]),
    "blocks": Contestant("weights by block", ["<lora:a:0.8:lbw=1,1,1,1,0.5,0.5,0.5,1,1,1,1,0.2,0.2,0.2,1,1,1>"],
                         goal="1.00"),
    "window": Contestant("a window: it comes and goes", ["<lora:a:0.8:start=0.3:stop=0.7>"], goal="<= 1.02"),
    "curve": Contestant("a curve: another weight in each step", ["<lora:a:0:0.2@0,1@1>"], goal="<= 1.10"),
    "side": Contestant("on one side of the guidance", ["<lora:a:0.8:on=cond>"], goal="<= 1.10"),
    "four shared": Contestant("four pictures, one adapter", ["<lora:a:0.8>"] * 4),
    "four own": Contestant("four pictures, each its own", [f"<lora:{name}:0.8>" for name in "abcd"], "four shared",
                           "<= 1.25"),
}  # fmt: skip
PEER = "diffusers: set_adapters in each step"


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


class Bench:
    """One UNet, its session, and a stopwatch."""

    def __init__(self, device: str, dtype: torch.dtype, folder: Path, *, size: int, steps: int) -> None:
        self.device, self.dtype, self.steps = device, dtype, steps
        self.latent: Size = (size // 8, size // 8)
        self.unet = models.random_unet("sd15", dtype=dtype, device=device)
        self.host = TorchHost(lambda: slots_of(self.unet, "unet."), _index)
        self.session = Session(self.host, Folder(folder))
        layers = models.attention_layers(self.host.targets())
        self.layers = len(layers)
        for seed, name in enumerate("abcd"):
            models.write_adapter(folder / f"{name}.safetensors", layers, seed=seed)
        self.folder = folder

    def call(self, pictures: int) -> Tensor:
        """The UNet's for so many pictures, each with and without its prompt."""
        rows = 2 * pictures
        like = dict(dtype=self.dtype, device=self.device)
        with torch.no_grad():
            return self.unet(torch.zeros(rows, 4, *self.latent, **like), 500,
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

    def measure(self, contestant: Contestant) -> dict[str, float]:
        """One pass: {"told": all that is said before the calls, "call": a call, "pass": of PASS steps}."""
        report = self.session.activate(Wanted(tuple(read_prompt(text).tags for text in contestant.prompts)))
        assert not report.sentences(), report.sentences()
        pictures = len(contestant.prompts)
        rows = [Row(image, side) for side in ("cond", "uncond") for image in range(pictures)]  # type: ignore[arg-type]

        def tell(step: int) -> None:
            self.session.advance(Moment(step, self.steps))
            self.session.rows(rows, self.latent)

        told, calls = [], []
        for step in range(self.steps):
            told.append(self.seconds(lambda step=step: tell(step)))
            calls.append(self.seconds(lambda: self.call(pictures)))
        patcher = self.host.patcher
        ways = {"merged": float(len(patcher.patched)), "beside": float(len(patcher.bypassed))}
        self.session.clear()
        changes = sum(told) if contestant.what.startswith("a window") else sum(told) * PASS / self.steps
        call = statistics.median(calls)
        return {"told": sum(told), "call": call, "pass": PASS * call + changes, **ways}

    @contextlib.contextmanager
    def peer(self) -> Iterator[Callable[[], dict[str, float]]]:
        """diffusers with PEFT: the same adapter beside the weights, told another weight in each step."""
        from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline

        pipe = StableDiffusionPipeline(
            vae=AutoencoderKL(), text_encoder=None, tokenizer=None, unet=self.unet, scheduler=DDIMScheduler(),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False)  # type: ignore[arg-type]
        pipe.load_lora_weights(load_file(self.folder / "a.safetensors"), adapter_name="a")

        def one_pass() -> dict[str, float]:
            told, calls = [], []
            for step in range(self.steps):
                told.append(self.seconds(lambda step=step: pipe.set_adapters(["a"], [0.2 + 0.8 * step / self.steps])))
                calls.append(self.seconds(lambda: self.call(1)))
            call = statistics.median(calls)
            return {"told": sum(told), "call": call, "pass": PASS * (call + statistics.median(told))}

        try:
            yield one_pass
        finally:
            pipe.unload_lora_weights()


def measure(bench: Bench, turns: int) -> dict[str, list[dict[str, float]]]:
    """{contestant: its passes, one a turn}."""
    for pictures in (1, 4):
        bench.call(pictures)  # nobody pays for the first
    found: dict[str, list[dict[str, float]]] = {name: [] for name in (*CONTESTANTS, PEER)}
    for _ in range(turns):
        for name, contestant in CONTESTANTS.items():
            found[name].append(bench.measure(contestant))
        with bench.peer() as one_pass:
            found[PEER].append(one_pass())
    return found


def ratios(found: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, float]:
    """Each pass against that of the same turn which it is held against."""
    compared = {name: contestant.against for name, contestant in CONTESTANTS.items() if contestant.goal}
    return {name: statistics.median(one["pass"] / other["pass"]
                                    for one, other in zip(found[name], found[against], strict=True))
            for name, against in {**compared, PEER: "constant"}.items()}  # fmt: skip


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


def table(found: Mapping[str, Sequence[Mapping[str, float]]], compared: Mapping[str, float]) -> str:
    lines = Table(["what", "s a call", "s told in a pass", "merged", "beside", "ratio", "goal"])
    for name, passes in found.items():
        middle = {key: statistics.median(each[key] for each in passes) for key in passes[0]}
        contestant = CONTESTANTS.get(name)
        lines.add(contestant.what if contestant else name, f"{middle['call']:.3f}", f"{middle['told']:.3f}",
                  *(f"{middle[way]:.0f}" if way in middle else "" for way in ("merged", "beside")),
                  f"{compared[name]:.3f}" if name in compared else "",
                  contestant.goal if contestant else "")  # fmt: skip
    return str(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 steps of 128x128, two turns")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--size", type=int, help="of the picture, in pixels")
    parser.add_argument("--turns", type=int)
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
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.device, dtype, Path(folder), size=size, steps=steps)
        found = measure(bench, turns)
    compared = ratios(found)
    print(f"{bench.layers} layers, {steps} steps of {size}x{size}, {turns} turns, {options.dtype}, {options.device}\n")
    print(table(found, compared))
    if options.json:
        about = {"machine": platform.platform(), "threads": torch.get_num_threads(), "torch": torch.__version__,
                 "device": options.device, "dtype": options.dtype, "steps": steps, "size": size, "turns": turns}
        options.json.write_text(json.dumps({"ratios": compared, "passes": found, **about}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
