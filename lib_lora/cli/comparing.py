"""The commands that draw adapters side by side: sheet, compare."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lib_lora.cli.common import attached, library_in, require_folder, require_place
from lib_lora.cli.options import add_lora_dir, add_model, add_tokenizer, png, positive, size
from lib_lora.cli.terminal import Bar, complain
from lib_lora.drawing.demo_files import model_at
from lib_lora.errors import LoraError
from lib_lora.formats.write import writing
from lib_lora.garbage import all_stays

if TYPE_CHECKING:
    from lib_lora.compare.runner import Runner
    from lib_lora.library import Library

Command = Callable[..., argparse.ArgumentParser]


def add_to(commands: object, command: Command) -> None:
    """Both of them."""
    parser = command(commands, "sheet", _sheet, "draw a contact sheet: adapters x weights")
    parser.add_argument("--out", type=png, required=True, metavar="FILE.png")
    parser.add_argument("--prompt", metavar="TEXT",
                        help="without tags; a word in {braces} gives way to an adapter's trigger words")  # fmt: skip
    parser.add_argument("--adapters", nargs="+", metavar="NAME", help="default: all of the folder")
    parser.add_argument("--weights", type=float, nargs="+", metavar="X", help="default: -1 -0.5 0 0.5 1 1.5")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--steps", type=positive, metavar="N")
    parser.add_argument("--size", type=size, metavar="WxH", help="of one picture (default: the model's own)")
    add_model(parser)
    add_tokenizer(parser)
    add_lora_dir(parser)

    parser = command(
        commands, "compare", _compare, "draw adapters side by side: adapters x weights x prompts x seeds",
        "DIR gets cells/ (a PNG for each cell), cells.json, sheet.png and report.html. What is there already is not\n"
        "drawn again, so that a run that was ended goes on. A weight is a number or whatever can stand in a tag:\n"
        "0@0,1@1 or te=0:unet=1 or 1:lbw=MIDD.",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder; made if it is missing")
    parser.add_argument("--adapters", nargs="+", metavar="NAME", help="default: all of the folder")
    parser.add_argument("--weights", nargs="+", default=["0", "0.5", "1"], metavar="X", help="default: 0 0.5 1")
    parser.add_argument("--prompt", action="append", metavar="TEXT",
                        help="may be repeated; a word in {braces} gives way to an adapter's trigger words")  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], metavar="N", help="default: 1")
    parser.add_argument("--negative", default="", metavar="TEXT", help="what the pictures shall not show")
    parser.add_argument("--steps", type=positive, metavar="N", help="default: what suits the model")
    parser.add_argument("--guidance", type=float, metavar="X", help="default: what suits the model")
    parser.add_argument("--size", type=size, metavar="WxH", help="of one picture (default: the model's own)")
    parser.add_argument("--sampler", default="", metavar="NAME", help="by the WebUI's name (default: the model's own)")
    parser.add_argument("--engine", choices=("local", "ray", "webui"), default="local",
                        help="who draws: this machine, a cluster of Ray, or running WebUIs")  # fmt: skip
    parser.add_argument("--worker", action="extend", nargs="+", metavar="URL",
                        help="of the WebUIs, or of the cluster (default: a cluster on this machine)")  # fmt: skip
    parser.add_argument("--workers", type=positive, metavar="N",
                        help="processes here (default: 1), or actors of the cluster (default: as many as fit)")
    parser.add_argument("--checkpoints", nargs="+", default=[], metavar="PATH",
                        help="several in the place of --model: all is drawn with each in turn")  # fmt: skip
    add_model(parser)
    add_tokenizer(parser)
    add_lora_dir(parser)


def _sheet(options: argparse.Namespace) -> int:
    require_place(options.out)
    model_at(options.model)
    with all_stays():
        from lib_lora.compare.sheet import PROMPT, SEED, WEIGHTS, draw_sheet

    with Bar("Drawing", " pictures") as bar:
        image, report = draw_sheet(
            attached(options),
            options.prompt or PROMPT,
            names=options.adapters,
            weights=options.weights or WEIGHTS,
            seed=SEED if options.seed is None else options.seed,
            steps=options.steps,
            size=options.size,
            on_picture=bar,
        )
    with writing(options.out) as file:
        image.save(file, format="PNG", optimize=True)
    complain("\n".join(report))
    print(options.out)
    return 1 if report else 0


def _compare(options: argparse.Namespace) -> int:
    """Draw, or go on where it stopped; write the sheet and the report."""
    require_folder(options.out.absolute().parent)
    if options.checkpoints and options.model:
        raise LoraError("--model is one checkpoint and --checkpoints are several; give one of the two")
    from lib_lora.compare.grid import Settings, make_grid
    from lib_lora.compare.report import write_report
    from lib_lora.compare.run import compare_each
    from lib_lora.compare.sheet import PROMPT, write_sheet

    library = library_in(options.lora_dir)
    settings = Settings(options.negative, options.steps, options.guidance, options.size, options.sampler)
    grid = make_grid(library, adapters=options.adapters, weights=options.weights, prompts=options.prompt or [PROMPT],
                     seeds=options.seeds, settings=settings, checkpoints=options.checkpoints)  # fmt: skip
    runners = _runners(options, library)
    with Bar("Comparing", " pictures") as bar:
        done = compare_each(grid, options.out, runners, on_cell=lambda now: bar(now.done, now.total, now.left))
    write_sheet(done, options.out / "sheet.png")
    write_report(done, options.out / "report.html")
    complain("\n".join(done.problems))
    print(options.out / "sheet.png")
    print(options.out / "report.html")
    return 0 if all(result.file for result in done.results) else 1


def _runners(options: argparse.Namespace, library: Library) -> Callable[[str], Sequence[Runner]]:
    """Those that draw with a checkpoint; empty: the one of `--model`."""
    from lib_lora.compare.runners.chosen import choose

    def runners(checkpoint: str) -> Sequence[Runner]:
        return choose(options.engine, library, model=Path(checkpoint) if checkpoint else options.model,
                      tokenizer=options.tokenizer, addresses=options.worker or (), count=options.workers)  # fmt: skip

    return runners
