"""The commands, each a function of its options that returns the exit code."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lib_lora.cli.common import attached, folders_of, library_in, presets_in, print_json, require_place
from lib_lora.cli.terminal import Bar, complain, table, terminal_width
from lib_lora.drawing.demo_files import model_at
from lib_lora.formats.text import printable
from lib_lora.garbage import all_stays

STEPS = 20  # in which a tag must count all the time to be merged

if TYPE_CHECKING:
    from lib_lora.library import Entry
    from lib_lora.session.session import Report


def generate(options: argparse.Namespace) -> int:
    """Draw, save, and say which adapters were left out."""
    require_place(options.out)
    presets = presets_in(options.presets)
    model_at(options.model)
    with all_stays():
        from lib_lora.drawing.draw import draw, save_png

    with Bar("Drawing", " steps") as bar:
        drawing = draw(
            attached(options, presets),
            options.prompt,
            negative=options.negative,
            steps=options.steps,
            guidance=options.guidance,
            seed=options.seed,
            size=options.size,
            count=options.count,
            on_step=bar,
        )
    written: list[dict[str, Any]] = []
    for number, picture in enumerate(drawing.pictures, 1):
        out = options.out if options.count == 1 else options.out.with_stem(f"{options.out.stem}-{number}")
        save_png(picture, out)
        written.append({"path": str(out), "seed": picture.seed, "parameters": picture.parameters})
    complain("\n".join(drawing.report.sentences()))
    if options.json:
        print_json({"pictures": written, "adapters": _told(drawing.report)})
    else:
        print("\n".join(each["path"] for each in written))
    return 0 if _all_applied(drawing.report) else 1


def list_adapters(options: argparse.Namespace) -> int:
    """One line, or one JSON object, for each adapter; broken files are listed too, with the reason."""
    library = library_in(options.lora_dir)
    found = library.refresh()
    entries = library.entries()
    complain("\n".join(each for each in found.problems if each not in library.problems))  # those were told already
    if options.json:
        print_json([_listed(entry) for entry in entries])
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
    from lib_lora.cli.inspection import inspect

    told = inspect(options.file)
    if options.json:
        print_json(told)
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
        **_recipe(told["recipe"]),
        **dict(told["training"]),
        "Size": _megabytes(told["size"]),
        "Short hash": told["hashes"]["short"],
        "SHA-256": told["hashes"]["sha256"],
        "Beware": "; ".join(told["warnings"]),
        "Not understood": f"{len(told['unknown'])} tensors, such as {told['unknown'][0]}" if told["unknown"] else "",
    }
    shown = [(f"{label}:", printable(str(value))) for label, value in rows.items() if value]
    wide = max(len(label) for label, _ in shown)
    print("\n".join(f"{label:{wide}}  {value}" for label, value in shown))
    return 0


def inspect(options: argparse.Namespace) -> int:
    """What adapters change, layer by layer."""
    with all_stays():
        from lib_lora.cli import inside

    return inside.run(options)


def merge(options: argparse.Namespace) -> int:
    """Bake the prompt's adapters into a checkpoint."""
    from lib_lora.grammar.editing import edited

    prompt = edited(options.prompt, STEPS)
    if not prompt.tags and not prompt.errors:
        complain("the prompt has no <lora:name:weight> tag; there is nothing to merge")
        return 2
    library, presets = library_in(options.lora_dir), presets_in(options.presets)
    with all_stays():
        from lib_lora.tools.bake import merge as bake

    with Bar("Merging", " MB", scale=1e6) as bar:
        merged = bake(
            options.base, options.out, prompt.tags, library, errors=prompt.errors, presets=presets,
            overwrite=options.force, progress=bar,
        )  # fmt: skip
    complain("\n".join(merged.report.sentences()))
    if options.json:
        told = {
            "out": str(merged.out),
            "changed": merged.changed,
            "tensors": merged.tensors,
            "adapters": _told(merged.report),
        }
        print_json(told)
    else:
        print(f"{options.out}: {merged.changed} of {merged.tensors} tensors changed")
    return 0


def grammar(options: argparse.Namespace) -> int:
    """Print the reference of tags."""
    from lib_lora.cli.reference import plain_text
    from lib_lora.grammar.reference import markdown

    print("\n".join(markdown() if options.markdown else plain_text(terminal_width())).strip("\n"))
    return 0


def demo(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    folders = folders_of(options.lora_dir)
    model_at(options.model)
    with all_stays():
        from lib_lora.demo.page import launch

    launch(options.model, folders, options.host, options.port, not options.no_browser, options.allow_host)
    return 0


def _recipe(told: dict[str, Any] | None) -> dict[str, str]:
    """The tags, to be copied, on a line of their own; and the files that they name."""
    if told is None:
        return {}
    steps = f" of {told['steps']} steps" if told["steps"] else ""
    parents = [f"{of.get('name') or name} ({', '.join(filter(None, (of['sha256'][:12], of.get('license'))))})"
               for name, of in told["parents"].items() if of.get("sha256")]  # fmt: skip
    return {"Made of": told["prompt"], "at": f"{told['at']}{steps}" if told["at"] else "", "from": "; ".join(parents)}


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
        "path": entry.location,
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
