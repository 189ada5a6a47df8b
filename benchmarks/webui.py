"""What adapters add to a picture in the real WebUI: its built-in Lora extension and ours, in one run.

    python -m benchmarks.webui --webui-root PATH --webui-python PATH --checkpoint FILE.safetensors
                               [--quick] [--turns N] [--threads N] [--system-malloc] [--json OUT] [--plot OUT.png]

Every contestant is started, measured and stopped in turn, several times over. A figure is the median of how many
seconds a picture of one step took longer than one without tags; text encoding is a part of it. Needs a WebUI v1.10.1
that starts by itself, about 10 GB of memory, and an SD1 checkpoint of any content, such as the random one that
`python -m tests.webui.checkpoints sd15 FOLDER` writes; on Linux libtcmalloc, as webui.sh, unless `--system-malloc` asks
for what a WebUI has that is started otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from safetensors import safe_open

from benchmarks import models
from benchmarks.memory import private_bytes, warm
from benchmarks.report import Table, plot_bars
from lib_lora.model.targets import index_checkpoint
from tests.webui.instance import WebUI, difference

PROMPT = "a red circle, a cat"
SIZE = dict(steps=1, width=64, height=64)
OPTION = "lora_originals"  # where base weights are meanwhile
CONTESTANTS: dict[str, dict[str, Any] | None] = {  # name -> its options; None: without this extension
    "built-in": None,
    "ours": {},
    "ours, originals in the file": {OPTION: "checkpoint"},
}
BUILT_IN, OURS, REREAD = CONTESTANTS
ENOUGH = 6 << 30  # bytes for a first use
GOALS = {  # case -> what ours may take of the built-in's seconds; and with the originals in the file
    "first use": (1 / 4, 1 / 10),
    "change": (1 / 2.5, 1 / 2.5),
    "one of three": (1 / 5, 1 / 5),
}
CASES = {
    "first use": "first use of an adapter since the start, file just written",
    "next first use": "first use of another one in its place, file just written",
    "change": "change of weight",
    "unet": "change of weight for the UNet alone",
    "swap": "another adapter in its place",
    "one of three": "one of three changed",
    "back": "a weight set back to what it was before",
    "removal": "all tags removed",
}


@dataclass
class Measured:
    """Of one contestant: seconds added to a picture by case, one picture of each prompt, bytes."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    plain: list[float] = field(default_factory=list)  # pictures without tags: the whole time
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    memory: list[int] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        base = median(self.plain)
        return {case: median(times) - base for case, times in self.seconds.items()}


class Turn:
    """One start of one contestant."""

    def __init__(self, webui: WebUI, write: Callable[[str, int], object], into: Measured) -> None:
        self.webui, self.write, self.into = webui, write, into

    def draw(self, prompt: str, *cases: str) -> None:
        """One picture; its time counts for `cases`."""
        begin = time.perf_counter()
        drawn = self.webui.draw(f"{PROMPT} {prompt}", **SIZE)
        seconds = time.perf_counter() - begin
        assert "problems" not in drawn.text, drawn.text
        self.into.pictures.setdefault(prompt, drawn.picture)
        for case in cases:
            self.into.seconds[case].append(seconds)
        if not prompt and not cases:
            self.into.plain.append(seconds)

    def fresh(self, name: str, seed: int) -> None:
        """An adapter that was never used, and memory for whoever uses it."""
        self.write(name, seed)
        warm(ENOUGH)

    def run(self, repeat: int) -> None:
        """All cases. No weight comes twice except where that is the case."""
        for _ in range(3):
            self.webui.draw(PROMPT, **SIZE)
        for _ in range(repeat):
            self.draw("")
        self.fresh("a", 0)
        before = private_bytes(self.webui.pid)
        self.draw("<lora:a:1>", "first use")
        self.into.memory.append(private_bytes(self.webui.pid) - before)
        for number in range(repeat):
            self.draw(f"<lora:a:0.{50 + number}>", "change")
            self.draw(f"<lora:a:0.{50 + number}:0.3>", "unet")
            self.draw(f"<lora:a:0.{50 + number}>", "back")
        self.fresh("b", 1)
        self.draw("<lora:b:1>", "next first use")
        for number in range(repeat):
            self.draw(f"<lora:{'ab'[number % 2]}:0.{70 + number}>", "swap")
            self.draw("", "removal")
            self.draw("")
        self.fresh("c", 2)
        self.draw("<lora:a:0.2><lora:b:0.4><lora:c:0.6>")
        for number in range(repeat):
            self.draw(f"<lora:a:0.2><lora:b:0.{41 + number}><lora:c:0.6>", "one of three")


def measure(start: Callable[..., WebUI], layers: dict[str, tuple[int, ...]], *, turns: int, repeat: int
            ) -> dict[str, Measured]:
    """Every contestant that this version has, in turn."""
    found = {name: Measured() for name in CONTESTANTS}
    for number in range(turns):
        for name in list(found):
            with tempfile.TemporaryDirectory() as folder:
                webui = start(Path(folder), extension=CONTESTANTS[name] is not None)
                try:
                    if not _set(webui, CONTESTANTS[name] or {}):
                        del found[name]
                        continue
                    print(f"turn {number + 1} of {turns}: {name}", file=sys.stderr)
                    write = _writer(webui.loras, layers)
                    Turn(webui, write, found[name]).run(repeat)
                finally:
                    webui.stop()
    return found


def ratios(seconds: dict[str, dict[str, float]]) -> dict[str, float]:
    """{"change": ours / built-in, "change, originals in the file": ...}"""
    theirs = seconds[BUILT_IN]
    return {f"{case}{name.removeprefix(OURS)}": own[case] / theirs[case]
            for name, own in seconds.items() if name != BUILT_IN for case in own}


def table(measured: dict[str, Measured], seconds: dict[str, dict[str, float]]) -> Table:
    """In Markdown, to be read in a terminal too."""
    names = list(measured)
    rows = Table(["seconds added to a picture by", *names, *(f"{name} / {BUILT_IN}" for name in names[1:]), "goal"])
    for case, what in CASES.items():
        of_theirs = [seconds[name][case] / seconds[BUILT_IN][case] for name in names[1:]]
        goals = [f"1/{1 / goal:g}" for goal in dict.fromkeys(GOALS[case][: len(names) - 1])] if case in GOALS else []
        goal = " and ".join(goals) or ("about 0" if case == "removal" else "")
        rows.add(what, *(f"{seconds[name][case]:.2f}" for name in names), *map(_fraction, of_theirs), goal)
    sizes = [median(each.memory) for each in measured.values()]
    rows.add("memory added, GB", *(f"{size / 1e9:.1f}" for size in sizes),
             *(f"{size / sizes[0]:.2f}" for size in sizes[1:]))
    return rows


def agreement(measured: dict[str, Measured]) -> int:
    """The largest difference of any picture between the contestants, of 255; the adapters must be visible in them."""
    theirs = measured[BUILT_IN].pictures
    assert all(difference(picture, theirs[""]) > 0 for prompt, picture in theirs.items() if prompt)
    return max(difference(picture, theirs[prompt])
               for each in measured.values() for prompt, picture in each.pictures.items())


def _set(webui: WebUI, options: dict[str, Any]) -> bool:
    """False if this version does not have one of `options`."""
    if missing := options.keys() - webui.request("/sdapi/v1/options").keys():
        print(f"left out: there is no option {', '.join(missing)}", file=sys.stderr)
        return False
    webui.request("/sdapi/v1/options", options)
    return True


def _writer(folder: Path, layers: dict[str, tuple[int, ...]]) -> Callable[[str, int], object]:
    return lambda name, seed: models.write_adapter(folder / f"{name}.safetensors", layers, seed=seed)


def _fraction(ratio: float) -> str:
    return f"1/{1 / ratio:.1f}" if 0.02 < ratio < 1 else f"{ratio:.2f}"


def layers_of(checkpoint: Path) -> dict[str, tuple[int, ...]]:
    """The layers that kohya's trainer takes by default."""
    with safe_open(checkpoint, "np") as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    return models.attention_layers(index_checkpoint(shapes))


def allocator() -> str:
    """The library that the WebUI's own starter, webui.sh, puts before the C library's `malloc` where it finds it."""
    if sys.platform != "linux":
        return ""
    known = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"libtcmalloc(?:_minimal)?\.so\.\d+", known)
    return found[0] if found else ""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--webui-root", type=Path, required=True)
    parser.add_argument("--webui-python", required=True, help="the Python that runs it")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="one turn, few repetitions")
    parser.add_argument("--turns", type=int, default=3, help="how often each is started")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--system-malloc", action="store_true", help="no tcmalloc, also where it is installed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args(argv)
    checkpoint, threads = options.checkpoint.resolve(), options.threads

    def start(folder: Path, *, extension: bool) -> WebUI:
        return WebUI(folder, checkpoint.parent, checkpoint=checkpoint.name, extension=extension,
                     root=options.webui_root.resolve(), python=options.webui_python, threads=threads).start()

    layers = layers_of(checkpoint)
    preloaded = "" if options.system_malloc else allocator()
    if preloaded:
        os.environ["LD_PRELOAD"] = preloaded
    elif not options.system_malloc:
        print("no tcmalloc: pictures take longer and times vary more than with webui.sh", file=sys.stderr)
    turns, repeat = (1, 3) if options.quick else (options.turns, 5)
    measured = measure(start, layers, turns=turns, repeat=repeat)
    seconds = {name: each.medians() for name, each in measured.items()}
    plain = {name: median(each.plain) for name, each in measured.items()}
    found, differs = ratios(seconds), agreement(measured)
    title = f"{len(layers)} layers of {checkpoint.stem}, rank {models.RANK}, fp32, {threads} threads"
    print(f"{title}, {preloaded or 'no tcmalloc'}, {platform.platform()}\n\n{table(measured, seconds)}\n")
    print(f"A picture without tags: {', '.join(f'{name} {value:.2f} s' for name, value in plain.items())}.")
    print(f"Largest difference between the pictures: {differs} of 255.")
    if options.json:
        machine = {"machine": platform.platform(), "threads": threads, "layers": len(layers), "malloc": preloaded}
        options.json.write_text(json.dumps(
            {**found, "pictures_differ_by": differs, "seconds": seconds, "plain": plain, **machine,
             "memory": {name: median(each.memory) for name, each in measured.items()}}, indent=2))
    if options.plot:
        plot_bars({CASES[case]: [seconds[name][case] for name in measured] for case in CASES}, list(measured),
                  f"seconds added to a picture; {title}", options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
