"""The commands that make adapter files, or change them: save, resize, convert, extract, edit, verify."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_lora.cli.common import base_weights, library_in, presets_in
from lib_lora.cli.options import add_presets
from lib_lora.cli.terminal import Bar, complain
from lib_lora.errors import LoraError
from lib_lora.garbage import all_stays

if TYPE_CHECKING:
    from lib_lora.grammar.named import Named
    from lib_lora.tools.layers import Built

Command = Callable[..., argparse.ArgumentParser]
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
NOT_WRITTEN = "If OUT exists, nothing is written; --force writes over it. Errors are ||made - meant|| / ||meant||."


def add_to(commands: Any, command: Command) -> None:
    """All of them."""
    parser = command(commands, "save", _save, "write what a prompt's tags do as one adapter file",
                     f"Products are joined exactly, without loss; with --rank or --error all is cut.\n{NOT_WRITTEN}")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    parser.add_argument("--prompt", required=True, metavar="TAGS", help="'<lora:a:0.8><lora:b:-0.3>'")
    parser.add_argument("--lora-dir", type=Path, action="append", metavar="DIR",
                        help="folder of adapters; may be repeated")  # fmt: skip
    add_presets(parser)
    _add_limit(parser, needs_one=False)
    _add_model(parser, "checkpoint: needed by adapters that depend on its weights")
    _add_dtype(parser, "fp32")
    parser.add_argument("--at", metavar="MOMENT", help="what is kept of weights that change over time: 0.5, 12, s7.2")
    parser.add_argument("--steps", type=_rank, metavar="N", help="of the picture, for moments and tags that count them")
    _add_force(parser)

    parser = command(commands, "resize", _resize, "cut an adapter to fewer ranks", NOT_WRITTEN)
    parser.add_argument("file", type=Path, metavar="IN")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    _add_limit(parser, needs_one=True)
    _add_model(parser, "its checkpoint, if that is no usual SD1, SD2 or SDXL")
    _add_force(parser)

    parser = command(commands, "convert", _convert, "write an adapter in the names of another program", NOT_WRITTEN)
    parser.add_argument("file", type=Path, metavar="IN")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    parser.add_argument("--to", required=True, choices=("kohya", "diffusers", "onetrainer"))
    _add_model(parser, "its checkpoint, if that is no usual SD1, SD2 or SDXL")
    _add_force(parser)

    parser = command(commands, "extract", _extract, "write the difference of two checkpoints as an adapter",
                     NOT_WRITTEN)  # fmt: skip
    parser.add_argument("base", type=Path, metavar="BASE")
    parser.add_argument("tuned", type=Path, metavar="TUNED")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    _add_limit(parser, needs_one=True)
    _add_dtype(parser, "fp16")
    _add_force(parser)

    parser = command(commands, "edit", _edit, "change what an adapter file says of itself; no tensor is touched",
                     "An empty text takes a statement away.")
    parser.add_argument("file", type=Path, metavar="FILE.safetensors")
    for name in ("title", "author", "description", "license", "trigger-words"):
        parser.add_argument(f"--{name}", metavar="TEXT")
    parser.add_argument("--cover", type=Path, metavar="PICTURE", help="PNG, JPEG or WebP")

    parser = command(commands, "verify", _verify, "compare an adapter file with the hashes that it states")
    parser.add_argument("file", type=Path, metavar="FILE")


def _add_limit(parser: argparse.ArgumentParser, *, needs_one: bool) -> None:
    group = parser.add_mutually_exclusive_group(required=needs_one)
    group.add_argument("--rank", type=_rank, metavar="N", help="at most so many ranks in each layer")
    group.add_argument("--energy", type=_share, metavar="E", help="share of each layer's square, at least (0.99)")
    group.add_argument("--error", type=_share, metavar="E", help="relative error of the whole file, at most (0.05)")


def _add_model(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--model", type=Path, metavar="PATH", help=text)


def _add_dtype(parser: argparse.ArgumentParser, usual: str) -> None:
    parser.add_argument("--dtype", choices=tuple(DTYPES), default=usual, help=f"of what is written (default: {usual})")


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="overwrite OUT")


def _save(options: argparse.Namespace) -> int:
    with all_stays():
        import torch

        from lib_lora.algorithms.parallel import side_by_side
        from lib_lora.grammar.editing import edited
        from lib_lora.grammar.moment import USUAL_STEPS
        from lib_lora.tools.keep import save

    prompt, at = edited(options.prompt, options.steps or USUAL_STEPS), _moment(options)
    library, presets = library_in(options.lora_dir), presets_in(options.presets)
    with side_by_side(), base_weights(options.model) as base, Bar("Saving", " layers") as bar:
        saved = save(options.out, prompt.tags, library, errors=prompt.errors, base=base, limit=_limit(options),
                     dtype=getattr(torch, DTYPES[options.dtype]), at=at, typed=options.prompt, presets=presets,
                     overwrite=options.force, progress=bar)  # fmt: skip
    complain("\n".join(saved.report.sentences()))
    print(f"{saved.out}: {_told(saved.built)}")
    return 0


def _resize(options: argparse.Namespace) -> int:
    with all_stays():
        from lib_lora.algorithms.parallel import side_by_side
        from lib_lora.tools.resize import resize

    with side_by_side(), base_weights(options.model) as base, Bar("Resizing", " layers") as bar:
        resized = resize(options.file, options.out, _limit(options, True), base=base, overwrite=options.force,
                         progress=bar)
    if resized.kept:
        complain(f"{len(resized.kept)} layers are no products that could be cut and stay as they are "
                 f"(such as '{resized.kept[0]}')")
    print(f"{resized.out}: {_told(resized.built)}")
    return 0


def _convert(options: argparse.Namespace) -> int:
    with all_stays():
        from lib_lora.tools.convert import convert

    with base_weights(options.model) as base:
        converted = convert(options.file, options.out, options.to, base=base, overwrite=options.force)
    print(f"{converted.out}: {converted.modules} layers in the names of {options.to}")
    return 0


def _extract(options: argparse.Namespace) -> int:
    with all_stays():
        import torch

        from lib_lora.algorithms.parallel import side_by_side
        from lib_lora.tools.extract import extract

    with side_by_side(), Bar("Extracting", " layers") as bar:
        extracted = extract(options.base, options.tuned, options.out, _limit(options, True),
                            dtype=getattr(torch, DTYPES[options.dtype]), overwrite=options.force, progress=bar)
    if extracted.left_out:
        complain(f"{extracted.left_out} biases and norms differ too; no product holds them, and the error counts them")
    print(f"{extracted.out}: {_told(extracted.built)}")
    return 0


def _edit(options: argparse.Namespace) -> int:
    from lib_lora.tools.edit import COVER, FIELDS, cover, edit

    given = {key: getattr(options, name) for name, key in FIELDS.items()}
    changes = {key: text or None for key, text in given.items() if text is not None}
    if options.cover is not None:
        changes[COVER] = cover(options.cover)
    if not changes:
        raise LoraError("nothing to change; say what, such as --title 'Ink wash'")
    edit(options.file, changes)
    print(f"{options.file}: {', '.join(changes)} written; no tensor was touched")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from lib_lora.tools.verify import verify

    found = verify(options.file)
    for each in found.statements:
        said = {True: "right", False: f"WRONG, it is {each.found}", None: "cannot be told"}[each.is_right]
        print(f"{each.key}  {each.stated}  {said}")
    print(f"sha256  {found.hashes.sha256}  {'computed' if found.statements else 'computed; the file states no hash'}")
    return 0 if found.is_right else 1


def _moment(options: argparse.Namespace) -> Named | None:
    """`--at`, in `--steps` steps. Raises LoraError."""
    from lib_lora.grammar.named import named_moment
    from lib_lora.grammar.positions import CurveError

    if options.at is None:
        return None
    try:
        return named_moment(options.at, options.steps)
    except CurveError as error:
        raise LoraError(f"--at {options.at} {error}") from error


def _limit(options: argparse.Namespace, is_needed: bool = False) -> Any:
    from lib_lora.tools.factors import Limit

    if options.rank is None and options.energy is None and options.error is None and not is_needed:
        return None
    return Limit(options.rank, options.energy, options.error)


def _told(built: Built) -> str:
    ranks = built.ranks
    span = f"ranks {min(ranks)} to {max(ranks)}, {sum(ranks) / len(ranks):.1f} on average; " if ranks else ""
    return f"{len(built.tensors)} tensors, {span}relative error {built.error:.2e}"


def _rank(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"'{text}' is not a rank; write a whole number from 1 up")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not between 0 and 1")
    return value
