"""`inspect`: what adapters change, as bars in the terminal, as JSON, as a picture."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib_lora.adapters.adapter import Adapter, read_adapter
from lib_lora.algorithms.parallel import side_by_side
from lib_lora.analysis.conflicts import Conflicts, alone, conflicts
from lib_lora.analysis.measure import KINDS, Measured, measure
from lib_lora.cli.common import base_weights, print_json, require_place
from lib_lora.cli.terminal import Bar, complain, terminal_width
from lib_lora.errors import LoraError
from lib_lora.formats.text import printable
from lib_lora.model.base_weights import BaseWeights
from lib_lora.model.targets import TargetIndex
from lib_lora.model.usual import usual_index

SIGNS = dict(zip(KINDS, "█▓▒░▤▥·", strict=True))  # one for each kind of layer, in bars
WIDEST = 48  # places of the longest bar


def measured(files: Sequence[Path], model: Path | None) -> tuple[list[tuple[Adapter, Measured]], Conflicts]:
    """Of every file, and of all of them together at weight 1. Raises AdapterFileError, CheckpointError."""
    with side_by_side(), base_weights(model) as base, Bar("Measuring", " layers") as bar:
        adapters = [read_adapter(path) for path in files]
        found = [(adapter, measure(adapter, _index(adapter, base), base, progress=bar)) for adapter in adapters]
        if len(found) == 1:
            return found, alone(found[0][1])
        index = base.index if base is not None else _common_index(adapters)
        return found, conflicts([(adapter, 1.0) for adapter in adapters], index, base, progress=bar)


def as_json(found: Sequence[tuple[Adapter, Measured]], together: Conflicts) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "files": [_file_json(adapter, each) for adapter, each in found],
        "cosine": together.cosine(),
        "together": together.together,
    }


def shown(found: Sequence[tuple[Adapter, Measured]], together: Conflicts) -> Iterator[str]:
    """Lines for a terminal."""
    for adapter, each in found:
        yield f"{printable(adapter.path.name)}: {adapter.family.label}, {', '.join(adapter.algorithms)}"
        yield f"‖delta‖ {each.delta:.4g} in {len(each.layers)} layers{_ranks(each)}"
        yield from _bars(each)
        yield ""
    if len(found) > 1:
        yield from _matrix([adapter.path.stem for adapter, _ in found], together)


def save_plot(found: Sequence[tuple[Adapter, Measured]], together: Conflicts, out: Path) -> None:
    """The maps of all files, one below the other; at the end how they pull at each other. Raises OSError."""
    from PIL import Image

    from lib_lora.analysis.picture import PAPER, draw_conflicts, draw_map
    from lib_lora.formats.write import writing

    maps = [draw_map(each, adapter.path.stem) for adapter, each in found]
    if len(found) > 1:
        maps.append(draw_conflicts(together, [adapter.path.stem for adapter, _ in found]))
    sheet = Image.new("RGB", (max(each.width for each in maps), sum(each.height for each in maps)), PAPER)
    top = 0
    for each in maps:
        sheet.paste(each, (0, top))
        top += each.height
    with writing(out) as file:
        sheet.save(file, format="PNG")


def run(options: argparse.Namespace) -> int:
    """The command."""
    if options.plot is not None:
        require_place(options.plot)
    found, together = measured(options.files, options.model)
    if options.plot is not None:
        save_plot(found, together, options.plot)
    for adapter, each in found:
        complain("\n".join(f"{adapter.path.name}: {sentence}" for sentence in _sentences(adapter, each, options.model)))
    if options.json:
        print_json(as_json(found, together))
    else:
        print("\n".join(shown(found, together)).rstrip())
    return 0


def _index(adapter: Adapter, base: BaseWeights | None) -> TargetIndex | None:
    return usual_index(adapter.family.id) if base is None else base.index


def _common_index(adapters: Sequence[Adapter]) -> TargetIndex | None:
    families = {adapter.family.id for adapter in adapters}
    if len(families) > 1:
        labels = ", ".join(f"{adapter.path.name} ({adapter.family.label})" for adapter in adapters)
        raise LoraError(f"adapters of several base models have no layers in common: {labels}; give them one by one")
    return usual_index(families.pop())


def _sentences(adapter: Adapter, each: Measured, model: Path | None) -> list[str]:
    told = [*adapter.refused, *adapter.notes, *each.oddities()]
    if each.untold:
        why = "do not fit that model" if model else "depend on the base weights; give the checkpoint with --model"
        told.append(f"{len(each.untold)} of {len(each.layers)} layers {why} (such as '{each.untold[0]}')")
    return told


def _file_json(adapter: Adapter, each: Measured) -> dict[str, Any]:
    return {
        "name": adapter.path.stem,
        "path": str(adapter.path),
        "family": adapter.family.id,
        "delta": each.delta,
        "blocks": {block: {kind: {"delta": delta, "base": base} for kind, (delta, base) in kinds.items()}
                   for block, kinds in each.blocks().items()},
        "modules": {
            layer.name: {
                "block": layer.block, "kind": layer.kind, "delta": layer.delta, "base": layer.base,
                "rank": layer.spectrum.rank if layer.spectrum else None,
                "effective_rank": layer.spectrum.effective_rank if layer.spectrum else None,
                "energy": list(layer.spectrum.energy) if layer.spectrum else None,
            }
            for layer in each.layers
        },
        "untold": list(each.untold),
        "notes": each.oddities(),
    }  # fmt: skip


def _ranks(each: Measured) -> str:
    return "" if each.effective_rank is None else f", effective rank {each.effective_rank:.1f} on average"


def _bars(each: Measured) -> Iterator[str]:
    """One bar for each block; its signs are the kinds of layers, each as long as its share of the square."""
    blocks = each.blocks()
    norms = {block: sum(delta**2 for delta, _ in kinds.values()) ** 0.5 for block, kinds in blocks.items()}
    most = max(norms.values(), default=0.0) or 1.0
    width = min(WIDEST, max(8, (terminal_width() or 80) - 32))
    used = [kind for kind in KINDS if any(kind in kinds for kinds in blocks.values())]
    yield "  " + "  ".join(f"{SIGNS[kind]} {kind}" for kind in used)
    for block, kinds in blocks.items():
        yield f"  {block or 'other':6} {norms[block]:9.4g}  {_bar(kinds, norms[block], width * norms[block] / most)}"


def _bar(kinds: Mapping[str, tuple[float, float | None]], norm: float, places: float) -> str:
    text, share = "", 0.0
    for kind, (delta, _) in kinds.items():
        share += (delta / norm) ** 2 if norm else 0.0
        text += SIGNS[kind] * (round(share * places) - len(text))
    return text


def _matrix(names: Sequence[str], together: Conflicts) -> Iterator[str]:
    wide = max(len(name) for name in names)
    yield "cosine: 1 pulls the same way, 0 minds its own, -1 undoes it"
    for name, row in zip(names, together.cosine(), strict=True):
        yield f"  {printable(name):{wide}}  " + "  ".join(f"{value:6.3f}" for value in row)
    alone = [together.whole[number][number] ** 0.5 for number in range(len(names))]
    largest = max(alone, default=0.0)
    times = f": {together.together / largest:.2f} times what '{names[alone.index(largest)]}' adds" if largest else ""
    yield f"together ‖delta‖ {together.together:.4g}{times}"
