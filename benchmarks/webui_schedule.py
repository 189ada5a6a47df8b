"""What a weight that changes within a picture adds to it in the real WebUI, in one run: with loractl and with
lora-block-weight beside the built-in Lora extension, and with ours.

    python -m benchmarks.webui_schedule --webui-root PATH --webui-python PATH --neighbours FOLDER --checkpoint FILE
                                        [--steps 6] [--size 64] [--rounds 12] [--only WHAT ...] [--threads N]
                                        [--json OUT]

`--neighbours`: a folder with checkouts of sd-webui-loractl and sd-webui-lora-block-weight. One WebUI after the other
is started, draws, and is stopped. It draws in rounds, in each of them two pictures of each tag, of which the first is
not counted: it loads, encodes and undoes the tag before. What a tag adds is the median, over the rounds, of what its
picture takes more than that of the same adapter at a constant weight in the same round: a machine that is slower for a
while is so for both. `+-` is two standard errors of that. The ratio is at least the least that theirs adds over the
most that ours adds, within these.

The pictures are small, else nothing would be seen of it on a processor. What is merged anew does not take longer for
larger ones; what is added beside the weights does, by the same share as the call of the UNet (`benchmarks.schedule`).
A curve adds to every step, a window twice to a picture; in three steps a curve changes no more often than a window, and
is merged as that is.

Needs what `benchmarks.webui` needs. The random checkpoint that `python -m tests.webui.checkpoints sd15 FOLDER` writes
is of SD1.5's size; the adapter has rank 32 on its 264 attention and feed-forward layers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from math import pi, sqrt
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import models
from benchmarks.report import Table
from benchmarks.webui import PROMPT, allocator, layers_of
from tests.webui.instance import WebUI, difference

CONSTANT = "<lora:a:1:0.8>"
CASES = {  # what varies -> the tag, as each of them reads it; for so many steps
    "a curve": "<lora:a:1:0@0,1@1>",
    "a window": "<lora:a:1:0.8:start={early}:stop={late}>",
    "weights by block": "<lora:a:1:0.8:lbw=1,1,1,1,0.5,0.5,0.5,1,1,1,1,0.2,0.2,0.2,1,1,1>",
}
GOAL = 5  # times less than theirs


@dataclass(frozen=True)
class Contestant:
    """Who draws which of CASES."""

    cases: Sequence[str]
    neighbour: str = ""  # its folder; none is ours


CONTESTANTS: Mapping[str, Contestant] = {
    "built-in + loractl": Contestant(["a curve"], "sd-webui-loractl"),
    "built-in + lora-block-weight": Contestant(["a window", "weights by block"], "sd-webui-lora-block-weight"),
    "ours": Contestant(list(CASES)),
}
OURS = list(CONTESTANTS)[-1]
Seconds = dict[str, list[float]]  # case (CONSTANT among them) -> those of each picture


@dataclass(frozen=True)
class Pictures:
    """How they are drawn."""

    steps: int
    size: int
    rounds: int

    def tag(self, case: str) -> str:
        """Of one of CASES, or CONSTANT itself."""
        early = max(self.steps // 3, 1)
        return CASES.get(case, CONSTANT).format(early=early, late=max(2 * self.steps // 3, early + 1))

    def draw(self, webui: WebUI, case: str, seed: int) -> np.ndarray:
        drawn = webui.draw(f"{PROMPT} {self.tag(case)}", steps=self.steps, width=self.size, height=self.size, seed=seed)
        assert "problems" not in drawn.text, drawn.text
        return drawn.picture

    def measure(self, webui: WebUI, cases: Iterable[str]) -> Seconds:
        """Of one picture in each round; the one before it has always the same seed, which shows that what varies is
        seen."""
        seconds: Seconds = defaultdict(list)
        seen = {}
        for seed in range(1, self.rounds + 1):
            for case in (CONSTANT, *cases):
                seen[case] = self.draw(webui, case, 0)
                begin = time.perf_counter()
                self.draw(webui, case, seed)
                seconds[case].append(time.perf_counter() - begin)
        alike = [case for case in cases if difference(seen[case], seen[CONSTANT]) == 0]
        assert not alike, f"{', '.join(alike)}: nothing is seen of it"
        return seconds


def measure(start: Callable[..., WebUI], write: Callable[[Path], object], neighbours: Path,
            pictures: Pictures, only: Collection[str]) -> dict[str, Seconds]:
    """Of every contestant that has one of these cases."""
    found: dict[str, Seconds] = {}
    for name, contestant in CONTESTANTS.items():
        cases = [case for case in contestant.cases if case in only]
        if not cases:
            continue
        print(name, file=sys.stderr)
        others = [neighbours / contestant.neighbour] if contestant.neighbour else []
        with tempfile.TemporaryDirectory() as folder:
            webui = start(Path(folder), extension=not others, neighbours=others)
            try:
                write(webui.loras / "a.safetensors")
                found[name] = pictures.measure(webui, cases)
            finally:
                webui.stop()
    return found


@dataclass(frozen=True)
class Added:
    """By one case in one WebUI, in seconds."""

    constant: float  # a picture
    added: float
    noise: float  # of that: two standard errors

    @classmethod
    def of(cls, seconds: Seconds, case: str) -> Added:
        more = [varied - constant for varied, constant in zip(seconds[case], seconds[CONSTANT], strict=True)]
        return cls(median(seconds[CONSTANT]), median(more), 2 * error(more))

    @property
    def least(self) -> float:
        return self.added - self.noise

    @property
    def most(self) -> float:
        return self.added + self.noise


def error(seconds: Sequence[float]) -> float:
    """The standard error of their median, were they normal; from what they mostly differ by, so that one that somebody
    else's work made slow does not count."""
    middle = median(seconds)
    return 1.4826 * median(abs(each - middle) for each in seconds) * sqrt(pi / 2 / len(seconds))


@dataclass(frozen=True)
class Compared:
    """One case in both."""

    case: str
    who: str  # has it beside us
    theirs: Added
    ours: Added

    @property
    def ratio(self) -> float | None:
        """How many times as much theirs adds, as measured; None where it is not sure that ours adds anything."""
        return self.theirs.added / self.ours.added if self.ours.least > 0 else None

    @property
    def bound(self) -> float | None:
        """How many times as much it is at least; None where it is not sure that theirs adds anything."""
        return self.theirs.least / self.ours.most if self.theirs.least > 0 and self.ours.most > 0 else None

    def __str__(self) -> str:
        if self.bound is None:
            return "lost in the noise"
        return f"{f'{self.ratio:.1f}, ' if self.ratio else ''}at least {self.bound:.1f}"


def compare(found: Mapping[str, Seconds]) -> list[Compared]:
    return [Compared(case, name, Added.of(found[name], case), Added.of(found[OURS], case))
            for name, contestant in CONTESTANTS.items() if name != OURS
            for case in contestant.cases if case in found[OURS]]  # fmt: skip


def table(compared: Sequence[Compared]) -> Table:
    """In Markdown."""
    lines = Table(["what varies", "whose", "s, constant", "adds", "+-", "ours: s, constant", "adds", "+-",
                   "theirs / ours", "goal"])
    for each in compared:
        seconds = (astuple(of) for of in (each.theirs, each.ours))
        lines.add(each.case, each.who, *(f"{value:.2f}" for of in seconds for value in of), str(each), f">= {GOAL}")
    return lines


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--webui-root", type=Path, required=True)
    parser.add_argument("--webui-python", required=True, help="the Python that runs it")
    parser.add_argument("--neighbours", type=Path, required=True, help="the folder with the other extensions")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--size", type=int, default=64, help="of the picture, in pixels")
    parser.add_argument("--rounds", type=int, default=12, help="how often each tag has its turn")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="WHAT",
                        help=f"of {', '.join(CASES)}")  # fmt: skip
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    checkpoint = options.checkpoint.resolve()
    layers = layers_of(checkpoint)

    def start(folder: Path, *, extension: bool, neighbours: Iterable[Path]) -> WebUI:
        return WebUI(folder, checkpoint.parent, checkpoint=checkpoint.name, extension=extension, neighbours=neighbours,
                     root=options.webui_root.resolve(), python=options.webui_python, threads=options.threads).start()

    preloaded = allocator()
    if preloaded:
        os.environ["LD_PRELOAD"] = preloaded
    pictures = Pictures(options.steps, options.size, options.rounds)
    found = measure(start, lambda path: models.write_adapter(path, layers, seed=0), options.neighbours, pictures,
                    options.only)  # fmt: skip
    compared = compare(found)
    print(f"{len(layers)} layers of {checkpoint.stem}, rank {models.RANK}, fp32, {options.steps} steps of "
          f"{options.size}x{options.size}, {options.rounds} pictures of each, {options.threads} threads, "
          f"{preloaded or 'no tcmalloc'}, {platform.platform()}\n\n{table(compared)}")
    if options.json:
        options.json.write_text(json.dumps({
            "ratios": {each.case: each.ratio for each in compared},
            "at_least": {each.case: each.bound for each in compared},
            "seconds": found, "steps": options.steps, "size": options.size, "threads": options.threads,
            "malloc": preloaded, "machine": platform.platform()}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
