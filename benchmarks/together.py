"""From how much on adapters together spoil a picture, seen with the demo model and three of its adapters.

    python -m benchmarks.together [--prompts N] [--json OUT]

Every mixture of `night`, `warm` and `bigger` is drawn at weights that make it the given number of `times` what the
strongest of them does alone at weight 1 (`lib_lora.analysis.load`), with the rough measure of the demo's training: a
shape is recognised if that which was asked for covers the figure best; the overlap is how well. None of these adapters
changes the shape, so that what is lost is lost to excess. Some five minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.report import Table
from lib_lora.adapters.adapter import read_adapter
from lib_lora.algorithms.parallel import side_by_side
from lib_lora.analysis.conflicts import conflicts
from lib_lora.analysis.load import load_of, scale_of
from lib_lora.demo.training.check import GUIDANCE, STEPS, Seen, figure_mask, fits, fixed_prompts, measure
from lib_lora.drawing.demo_files import ADAPTERS, MODEL
from lib_lora.drawing.pipelines import load_pipeline
from lib_lora.hosts.diffusers import Attached
from lib_lora.library import Library
from lib_lora.model.base_weights import BaseWeights

NAMES = ("night", "warm", "bigger")
TIMES = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
FRAME = 4  # pixels at the border, where the background is
MIXTURES = [mix for count in (2, 3) for mix in combinations(NAMES, count)]
ALONE = [(name,) for name in NAMES]


@cache
def times_of(names: Sequence[str]) -> float:
    """What these do together at weight 1, in what the strongest does alone."""
    with BaseWeights(MODEL) as base:
        adapters = [(read_adapter(ADAPTERS / f"{name}.safetensors"), 1.0) for name in names]
        found = conflicts(adapters, base.index, base)
        return load_of(found, found, scale_of(base.index, base)).times


def drawn(attached: Attached, asked: Sequence[Seen], weights: Mapping[str, float]) -> list[np.ndarray]:
    """A picture of each, (H, W, 3) in 0..1."""
    tags = "".join(f"<lora:{name}:{weight:.4f}>" for name, weight in weights.items())
    made = attached([f"{each.prompt()}{tags}" for each in asked], num_inference_steps=STEPS, guidance_scale=GUIDANCE,
                    generator=[torch.Generator().manual_seed(seed) for seed in range(len(asked))], output_type="np")
    return list(made.images)


def judged(asked: Seen, picture: np.ndarray) -> tuple[bool, float]:
    """(whether its shape is recognised, the overlap of the shape that fits best)"""
    tensor = torch.from_numpy(picture).permute(2, 0, 1).float()
    frame = torch.ones(tensor.shape[1:], dtype=torch.bool)
    frame[FRAME:-FRAME, FRAME:-FRAME] = False
    mask = figure_mask(tensor, tensor[:, frame].median(dim=1).values)
    if not mask.any() or mask.all():
        return False, 0.0  # there is no figure
    return measure(tensor).shape == asked.shape, max(fit[0] for fit in fits(mask))


def row(attached: Attached, asked: Sequence[Seen], mixes: Sequence[Sequence[str]], times: float) -> dict[str, Any]:
    """Of all `mixes` at that strength."""
    seen = []
    for names in mixes:
        weight = times / times_of(tuple(names))
        pictures = drawn(attached, asked, dict.fromkeys(names, weight))
        seen += [judged(each, picture) for each, picture in zip(asked, pictures, strict=True)]
    return {"times": times, "pictures": len(seen), "recognised": sum(right for right, _ in seen),
            "overlap": sum(overlap for _, overlap in seen) / len(seen)}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=12, metavar="N")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    pipe = load_pipeline(MODEL)
    pipe.set_progress_bar_config(disable=True)
    attached = Attached(pipe, Library([ADAPTERS]))
    asked = fixed_prompts(options.prompts)
    found: dict[str, list[dict[str, Any]]] = {"together": [], "alone": []}
    with side_by_side(), torch.no_grad():
        for times in TIMES:
            for name, mixes in (("together", MIXTURES), ("alone", ALONE)):
                found[name].append(row(attached, asked, mixes, times))
            print(f"{times:g} times ...", file=sys.stderr, flush=True)
    table = Table(["times what one does", "several: shapes recognised", "overlap", "one alone, as strong", "overlap"])
    for several, one in zip(found["together"], found["alone"], strict=True):
        table.add(f"{several['times']:g}", *(cell for of in (several, one) for cell in (
            f"{of['recognised']} of {of['pictures']}", f"{of['overlap']:.2f}")))  # fmt: skip
    print(table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
