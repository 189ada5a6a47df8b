"""The commands: generate, list, info, merge, sheet, demo. `main(argv) -> int` is the exit code.

    0    done
    1    failed, or done without some of the adapters; stderr says why, one line each: `lib_lora: sentence`
    2    the command line cannot be understood
    130  Ctrl-C;  141  the reader of the output is gone

Standard output carries results only. Each command imports what it needs when it runs: `list` and `info` need no torch.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_lora import __version__
from lib_lora.errors import LoraError
from lib_lora.terminal import PROGRAM, Bar, complain, printable, table, terminal_width

if TYPE_CHECKING:
    from lib_lora.entry import Entry
    from lib_lora.session import Report

DEMO_ADAPTERS = Path(__file__).parent / "demo" / "adapters"
EXIT_CODES = """\
exit status:
  0 done; 1 failed, or done without some of the adapters (stderr says why); 2 wrong usage
"""
NEEDS = "{} is not installed; this command needs it: `python install.py demo`, or `pip install 'lib-lora[demo]'`"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Never raises for what a user can do wrong."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal cannot show is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    try:
        options = _parser().parse_args(argv)
        code = options.run(options)
        sys.stdout.flush()
        return code
    except SystemExit as exit_:  # argparse: --help, --version, wrong usage
        return exit_.code if isinstance(exit_.code, int) else 2
    except LoraError as error:
        complain(str(error))
        return 1
    except ModuleNotFoundError as error:
        complain(NEEDS.format(error.name))
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter complains when it ends
        return 141
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return 1
    except MemoryError:
        complain("not enough memory")
        return 1


# the command line


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=PROGRAM, description="LoRA and LyCORIS adapters for Stable Diffusion.", epilog=EXIT_CODES,
                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_generate(commands)
    _add_list(commands)
    _add_info(commands)
    _add_merge(commands)
    _add_sheet(commands)
    _add_demo(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong on one line that begins as all others do."""

    def error(self, message: str) -> Any:
        self.print_usage(sys.stderr)
        complain(message)
        raise SystemExit(2)


def _command(commands: Any, name: str, run: Any, text: str, epilog: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=f"{epilog}\n\n{EXIT_CODES}" if epilog else EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run)
    return parser


def _add_lora_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lora-dir", type=Path, action="append", metavar="DIR",
                        help="folder of adapters, may be given several times (default: those of the demo model)")  # fmt: skip


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, metavar="PATH",
                        help="SD1, SD2 or SDXL checkpoint (.safetensors, .ckpt) or diffusers folder (default: the demo model)")  # fmt: skip
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="folder with merges.txt and vocab.json, for a "
                        "checkpoint with a vocabulary of its own")  # fmt: skip


def _add_generate(commands: Any) -> None:
    parser = _command(
        commands, "generate", generate, "draw pictures",
        "An adapter that cannot be used is left out: the picture is drawn without it, stderr and the picture's text\n"
        "say why, and the exit status is 1. The files that were written are printed, one a line.",
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
    _add_lora_dir(parser)
    _add_json(parser)


def _add_list(commands: Any) -> None:
    parser = _command(commands, "list", list_adapters, "list the adapters of a folder")
    _add_lora_dir(parser)
    _add_json(parser)


def _add_info(commands: Any) -> None:
    parser = _command(commands, "info", info, "tell what an adapter file is")
    parser.add_argument("file", type=Path, metavar="FILE")
    _add_json(parser)


def _add_merge(commands: Any) -> None:
    parser = _command(
        commands, "merge", merge, "bake adapters into a checkpoint",
        "If any tag cannot be applied, or OUT exists, nothing is written. Keys, types, metadata and all tensors that no\n"
        "adapter changes stay as they are, byte for byte.",
    )  # fmt: skip
    parser.add_argument("base", type=Path, metavar="BASE.safetensors", help="SD1, SD2 or SDXL checkpoint, complete or in part")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    parser.add_argument("--prompt", required=True, metavar="TAGS", help="'<lora:a:0.8><lora:b:-0.3>'")
    parser.add_argument("--force", action="store_true", help="overwrite OUT")
    _add_lora_dir(parser)
    _add_json(parser)


def _add_sheet(commands: Any) -> None:
    parser = _command(commands, "sheet", sheet, "draw a contact sheet: adapters x weights")
    parser.add_argument("--out", type=_png, required=True, metavar="FILE.png")
    parser.add_argument("--prompt", metavar="TEXT", help="without tags (default: one that suits the demo model)")
    parser.add_argument("--adapters", nargs="+", metavar="NAME", help="default: all of the folder")
    parser.add_argument("--weights", type=float, nargs="+", metavar="X", help="default: -1 -0.5 0 0.5 1 1.5")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--steps", type=_positive, metavar="N")
    parser.add_argument("--size", type=_size, metavar="WxH", help="of one picture (default: the model's own)")
    _add_model(parser)
    _add_lora_dir(parser)


def _add_demo(commands: Any) -> None:
    parser = _command(commands, "demo", demo, "open the page in a browser")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this computer only)")
    parser.add_argument("--port", type=int, metavar="N", help="default: the first free one from 7860 on")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
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


# the commands


def generate(options: argparse.Namespace) -> int:
    """Draw, save, and say which adapters were left out."""
    _require_folder(options.out.parent)
    folders = _folders(options.lora_dir)
    from lib_lora.demo.drawing import draw, save_png

    with Bar("Drawing", " steps") as bar:
        drawing = draw(
            _attached(options, folders), options.prompt, negative=options.negative, steps=options.steps, guidance=options.guidance,
            seed=options.seed, size=options.size, count=options.count, on_step=bar,
        )  # fmt: skip
    written = []
    for number, picture in enumerate(drawing.pictures, 1):
        out = options.out if options.count == 1 else options.out.with_stem(f"{options.out.stem}-{number}")
        save_png(picture, out)
        written.append({"path": str(out), "seed": picture.seed, "parameters": picture.parameters})
    complain("\n".join(drawing.report.sentences()))
    if options.json:
        _print_json({"pictures": written, "adapters": _told(drawing.report)})
    else:
        print("\n".join(each["path"] for each in written))
    return 0 if _all_applied(drawing.report) else 1


def list_adapters(options: argparse.Namespace) -> int:
    """One line, or one JSON object, for each adapter; broken files are listed too, with the reason."""
    from lib_lora.library import Library

    library = Library(_folders(options.lora_dir))
    entries = library.entries()
    if options.json:
        _print_json([_listed(entry) for entry in entries])
    elif entries:
        rows = [
            (entry.name, entry.family.label, ", ".join(entry.algorithms), _span(entry.rank), _megabytes(entry.size),
             entry.broken or ", ".join(entry.trigger_words))
            for entry in entries
        ]  # fmt: skip
        head = ("NAME", "BASE MODEL", "ALGORITHM", "RANK", "SIZE", "TRIGGER WORDS")
        print("\n".join(table(head, rows, width=terminal_width())))
    else:
        complain(f"no adapters in {', '.join(map(str, library.folders))}")
    return 0


def info(options: argparse.Namespace) -> int:
    """Everything that the header tells about one file."""
    from lib_lora.inspection import inspect

    told = inspect(options.file)
    if options.json:
        _print_json(told)
        return 0
    rows = {
        "Name": told["name"],
        "Title": told["title"],
        "Base model": told["base_model"] + (f" ({told['flavour']})" if told["flavour"] else ""),
        "because": "; ".join(told["evidence"]),
        "Algorithm": ", ".join(told["algorithms"]),
        "Rank": _span(told["ranks"]),
        "Modules": f"{told['modules']} ({', '.join(told['components'])})",
        "Trigger words": ", ".join(told["trigger_words"]),
        "Embeddings": ", ".join(told["embeddings"]),
        **dict(told["training"]),
        "Size": _megabytes(told["size"]),
        "Short hash": told["hashes"]["short"],
        "SHA-256": told["hashes"]["sha256"],
        "Not understood": f"{len(told['unknown'])} tensors, such as {told['unknown'][0]}" if told["unknown"] else "",
    }
    shown = [(f"{label}:", printable(str(value))) for label, value in rows.items() if value]
    wide = max(len(label) for label, _ in shown)
    print("\n".join(f"{label:{wide}}  {value}" for label, value in shown))
    return 0


def merge(options: argparse.Namespace) -> int:
    """Bake the prompt's adapters into a checkpoint."""
    from lib_lora.library import Library
    from lib_lora.tag import read_prompt

    prompt = read_prompt(options.prompt)
    if not prompt.tags and not prompt.errors:
        complain("the prompt has no <lora:name:weight> tag; there is nothing to merge")
        return 2
    library = Library(_folders(options.lora_dir))
    from lib_lora.merge import merge as bake

    with Bar("Merging", " MB", scale=1e6) as bar:
        merged = bake(options.base, options.out, prompt.tags, library, errors=prompt.errors, overwrite=options.force, progress=bar)
    complain("\n".join(merged.report.sentences()))
    if options.json:
        told = {"out": str(merged.out), "changed": merged.changed, "tensors": merged.tensors, "adapters": _told(merged.report)}
        _print_json(told)
    else:
        print(f"{options.out}: {merged.changed} of {merged.tensors} tensors changed")
    return 0


def sheet(options: argparse.Namespace) -> int:
    """Draw the contact sheet."""
    _require_folder(options.out.parent)
    folders = _folders(options.lora_dir)
    from lib_lora.demo.sheet import PROMPT, SEED, WEIGHTS, draw_sheet

    with Bar("Drawing", " pictures") as bar:
        image, report = draw_sheet(
            _attached(options, folders), options.prompt or PROMPT, names=options.adapters, weights=options.weights or WEIGHTS,
            seed=SEED if options.seed is None else options.seed, steps=options.steps, size=options.size, on_picture=bar,
        )  # fmt: skip
    image.save(options.out, optimize=True)
    complain("\n".join(report))
    print(options.out)
    return 1 if report else 0


def demo(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    folders = _folders(options.lora_dir)
    from lib_lora.demo.page import launch

    launch(options.model, folders[0] if len(folders) == 1 else folders, options.host, options.port, not options.no_browser)
    return 0


# what several commands need


def _attached(options: argparse.Namespace, folders: Sequence[Path]) -> Any:
    from lib_lora.demo.models import load_pipeline
    from lib_lora.diffusers_host import attach

    return attach(load_pipeline(options.model, tokenizer=options.tokenizer), folders)


def _folders(given: Sequence[Path] | None) -> list[Path]:
    for folder in given or ():
        _require_folder(folder)
    return list(given or (DEMO_ADAPTERS,))


def _require_folder(path: Path) -> None:
    if not path.is_dir():
        raise LoraError(f"{path}: no such folder")


def _all_applied(report: Report) -> bool:
    return not report.problems and len(report.applied) == len(report.adapters)


def _told(report: Report) -> list[dict[str, Any]]:
    tags = [
        {"tag": str(each.tag), "name": each.name, "path": each.path, "applied": each.applied, "matched": each.matched,
         "modules": each.total, "messages": each.sentences()}
        for each in report.adapters
    ]  # fmt: skip
    unread = [{"tag": None, "applied": False, "messages": [problem]} for problem in report.problems]
    return [*tags, *unread]


def _listed(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "path": str(entry.path),
        "alias": entry.alias,
        "title": entry.title,
        "base_model": entry.family.label,
        "family": entry.family.id,
        "flavour": entry.family.flavour,
        "algorithms": list(entry.algorithms),
        "rank": entry.rank[1] if entry.rank else None,
        "ranks": list(entry.rank) if entry.rank else None,
        "modules": entry.modules,
        "components": list(entry.components),
        "trigger_words": list(entry.trigger_words),
        "size": entry.size,
        "broken": entry.broken,
    }


def _span(ranks: Sequence[int] | None) -> str:
    if not ranks:
        return ""
    return str(ranks[0]) if ranks[0] == ranks[1] else f"{ranks[0]}-{ranks[1]}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))
