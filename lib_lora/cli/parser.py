"""What can stand on the command line."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from lib_lora import __version__
from lib_lora.cli import commands as run
from lib_lora.cli import make_files
from lib_lora.cli.terminal import PROGRAM, complain

EXIT_CODES = """\
exit status:
  0 done; 1 failed, or done without some of the adapters (stderr says why); 2 wrong usage
"""


def make_parser() -> argparse.ArgumentParser:
    """All commands; `run` of the result is the function that carries the chosen one out."""
    parser = _Parser(prog=PROGRAM, description="LoRA and LyCORIS adapters for Stable Diffusion.", epilog=EXIT_CODES,
                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_generate(commands)
    _add_list(commands)
    _add_info(commands)
    _add_inspect(commands)
    _add_merge(commands)
    make_files.add_to(commands, _command)
    _add_sheet(commands)
    _add_compare(commands)
    _add_grammar(commands)
    _add_demo(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong on one line that begins as all others do."""

    def error(self, message: str) -> Any:
        self.print_usage(sys.stderr)
        complain(message)
        raise SystemExit(2)


def _command(commands: Any, name: str, function: Any, text: str, epilog: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"{epilog}\n\n{EXIT_CODES}" if epilog else EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=function)
    return parser


def _add_lora_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lora-dir",
        type=Path,
        action="append",
        metavar="DIR",
        help="folder of adapters; may be repeated (default: those of the demo model)",
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        type=Path,
        metavar="PATH",
        help="SD1, SD2 or SDXL checkpoint, or diffusers folder (default: the demo model)",
    )


def _add_tokenizer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="DIR",
        help="folder with merges.txt and vocab.json, for a checkpoint with a vocabulary of its own",
    )


def _add_generate(commands: Any) -> None:
    parser = _command(
        commands, "generate", run.generate, "draw pictures",
        "An adapter that cannot be used is left out: the picture is drawn without it, stderr and the picture's\n"
        "text say why, and the exit status is 1. The files that were written are printed, one a line.",
    )  # fmt: skip
    parser.add_argument("prompt", help="with tags: 'a red circle <lora:outline:0.8>'")
    parser.add_argument("--out", type=_png, required=True, metavar="FILE.png",
                        help="where to; several pictures become FILE-1.png, FILE-2.png, ...")  # fmt: skip
    parser.add_argument("--negative", default="", metavar="TEXT", help="what the picture shall not show")
    parser.add_argument("--seed", type=int, default=-1, metavar="N", help="default: a random one; picture i gets N + i")
    parser.add_argument("--steps", type=_positive, metavar="N", help="default: what suits the model")
    parser.add_argument("--guidance", type=float, metavar="X", help="default: what suits the model")
    parser.add_argument("--size", type=_size, metavar="WxH", help="pixels (default: the model's own)")
    parser.add_argument("--count", type=_positive, default=1, metavar="N", help="number of pictures (default: 1)")
    _add_model(parser)
    _add_tokenizer(parser)
    _add_lora_dir(parser)
    _add_json(parser)


def _add_list(commands: Any) -> None:
    parser = _command(commands, "list", run.list_adapters, "list the adapters of a folder")
    _add_lora_dir(parser)
    _add_json(parser)


def _add_info(commands: Any) -> None:
    parser = _command(commands, "info", run.info, "tell what an adapter file is")
    parser.add_argument("file", type=Path, metavar="FILE")
    _add_json(parser)


def _add_inspect(commands: Any) -> None:
    parser = _command(
        commands, "inspect", run.inspect, "show what adapters change, layer by layer",
        "Norms are at weight 1. With --model they stand beside those of the checkpoint's own weights, and kinds of\n"
        "adapters that depend on these (DoRA, OFT, ...) can be told. Several files: how they pull at each other.",
    )  # fmt: skip
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--model", type=Path, metavar="PATH", help="SD1, SD2 or SDXL checkpoint, or diffusers folder")
    parser.add_argument("--plot", type=_png, metavar="OUT.png", help="draw the map of the blocks")
    _add_json(parser)


def _add_merge(commands: Any) -> None:
    parser = _command(
        commands,
        "merge",
        run.merge,
        "bake adapters into a checkpoint",
        "If any tag cannot be applied, or OUT exists, nothing is written. Keys, types, metadata and all\n"
        "tensors that no adapter changes stay as they are, byte for byte.",
    )
    parser.add_argument(
        "base", type=Path, metavar="BASE.safetensors", help="SD1, SD2 or SDXL checkpoint, complete or in part"
    )
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    parser.add_argument("--prompt", required=True, metavar="TAGS", help="'<lora:a:0.8><lora:b:-0.3>'")
    parser.add_argument("--force", action="store_true", help="overwrite OUT")
    _add_lora_dir(parser)
    _add_json(parser)


def _add_sheet(commands: Any) -> None:
    parser = _command(commands, "sheet", run.sheet, "draw a contact sheet: adapters x weights")
    parser.add_argument("--out", type=_png, required=True, metavar="FILE.png")
    parser.add_argument(
        "--prompt", metavar="TEXT", help="without tags; a word in {braces} gives way to an adapter's trigger words"
    )
    parser.add_argument("--adapters", nargs="+", metavar="NAME", help="default: all of the folder")
    parser.add_argument("--weights", type=float, nargs="+", metavar="X", help="default: -1 -0.5 0 0.5 1 1.5")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--steps", type=_positive, metavar="N")
    parser.add_argument("--size", type=_size, metavar="WxH", help="of one picture (default: the model's own)")
    _add_model(parser)
    _add_tokenizer(parser)
    _add_lora_dir(parser)


def _add_compare(commands: Any) -> None:
    parser = _command(
        commands, "compare", run.compare, "draw adapters side by side: adapters x weights x prompts x seeds",
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
    parser.add_argument("--steps", type=_positive, metavar="N", help="default: what suits the model")
    parser.add_argument("--guidance", type=float, metavar="X", help="default: what suits the model")
    parser.add_argument("--size", type=_size, metavar="WxH", help="of one picture (default: the model's own)")
    parser.add_argument("--sampler", default="", metavar="NAME", help="by the WebUI's name (default: the model's own)")
    parser.add_argument("--engine", choices=("local", "ray", "webui"), default="local",
                        help="who draws: this machine, a cluster of Ray, or running WebUIs")  # fmt: skip
    parser.add_argument("--worker", action="extend", nargs="+", metavar="URL",
                        help="of the WebUIs, or of the cluster (default: a cluster on this machine)")  # fmt: skip
    parser.add_argument("--workers", type=_positive, metavar="N",
                        help="processes here (default: 1), or actors of the cluster (default: as many as fit)")
    _add_model(parser)
    _add_tokenizer(parser)
    _add_lora_dir(parser)


def _add_grammar(commands: Any) -> None:
    parser = _command(commands, "grammar", run.grammar, "tell what a tag can say")
    parser.add_argument("--markdown", action="store_true", help="print Markdown: docs/grammar.md")


def _add_demo(commands: Any) -> None:
    parser = _command(commands, "demo", run.demo, "open the page in a browser")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this computer only)")
    parser.add_argument("--port", type=int, metavar="N", help="default: the first free one from 7860 on")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME",
                        help="another name of the page, behind a proxy on this computer; may be repeated")  # fmt: skip
    _add_model(parser)
    _add_lora_dir(parser)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size; write 512x768")
    return int(match[1]), int(match[2])


def _positive(text: str) -> int:
    if not re.fullmatch(r"\d{1,6}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 up")
    return int(text)


def _png(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"'{text}' is not the name of a .png file")
    return path
