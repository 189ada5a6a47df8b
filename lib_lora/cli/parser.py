"""What can stand on the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from lib_lora import __version__
from lib_lora.cli import commands as run
from lib_lora.cli import comparing, make_files
from lib_lora.cli.options import add_json, add_lora_dir, add_model, add_presets, add_tokenizer, png, positive, size
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
    comparing.add_to(commands, _command)
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


def _add_generate(commands: Any) -> None:
    parser = _command(
        commands, "generate", run.generate, "draw pictures",
        "An adapter that cannot be used is left out: the picture is drawn without it, stderr and the picture's\n"
        "text say why, and the exit status is 1. The files that were written are printed, one a line.",
    )  # fmt: skip
    parser.add_argument("prompt", help="with tags: 'a red circle <lora:outline:0.8>'")
    parser.add_argument("--out", type=png, required=True, metavar="FILE.png",
                        help="where to; several pictures become FILE-1.png, FILE-2.png, ...")  # fmt: skip
    parser.add_argument("--negative", default="", metavar="TEXT", help="what the picture shall not show")
    parser.add_argument("--seed", type=int, default=-1, metavar="N", help="default: a random one; picture i gets N + i")
    parser.add_argument("--steps", type=positive, metavar="N", help="default: what suits the model")
    parser.add_argument("--guidance", type=float, metavar="X", help="default: what suits the model")
    parser.add_argument("--size", type=size, metavar="WxH", help="pixels (default: the model's own)")
    parser.add_argument("--count", type=positive, default=1, metavar="N", help="number of pictures (default: 1)")
    add_model(parser)
    add_tokenizer(parser)
    add_lora_dir(parser)
    add_presets(parser)
    add_json(parser)


def _add_list(commands: Any) -> None:
    parser = _command(commands, "list", run.list_adapters, "list the adapters of a folder")
    add_lora_dir(parser)
    add_json(parser)


def _add_info(commands: Any) -> None:
    parser = _command(commands, "info", run.info, "tell what an adapter file is")
    parser.add_argument("file", type=Path, metavar="FILE")
    add_json(parser)


def _add_inspect(commands: Any) -> None:
    parser = _command(
        commands, "inspect", run.inspect, "show what adapters change, layer by layer",
        "Norms are at weight 1. With --model they stand beside those of the checkpoint's own weights, and kinds of\n"
        "adapters that depend on these (DoRA, OFT, ...) can be told. Several files: how they pull at each other.",
    )  # fmt: skip
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--model", type=Path, metavar="PATH", help="SD1, SD2 or SDXL checkpoint, or diffusers folder")
    parser.add_argument("--plot", type=png, metavar="OUT.png", help="draw the map of the blocks")
    add_json(parser)


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
    add_lora_dir(parser)
    add_presets(parser)
    add_json(parser)


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
    add_model(parser)
    add_lora_dir(parser)
