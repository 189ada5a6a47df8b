"""The table of algorithms: one line and one file are an algorithm, and whoever reads a module says the same of it."""

from __future__ import annotations

import re
import sys
from itertools import combinations
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import lib_lora.algorithms
from lib_lora.adapters.adapter import read_adapter
from lib_lora.algorithms import read, table
from lib_lora.algorithms.base import Delta, PartsError, Wrapper
from lib_lora.algorithms.facts import Algorithm, size
from lib_lora.algorithms.table import ALGORITHMS, BIASES, TABLE, WRAPPERS, Table
from lib_lora.cli import main
from lib_lora.cli.inspection import inspect
from lib_lora.errors import AdapterFileError
from lib_lora.grammar.tag import LoraTag, read_prompt
from lib_lora.library import Library
from lib_lora.tools.bake import merge
from tests.support import Folder
from tests.support_golden import by_plan

# A new algorithm: a file in the room of the algorithms,

SPREAD = '''
"""Spread: delta = rows + columns, each value of the one with each of the other."""

from dataclasses import dataclass

from torch import Tensor

from lib_lora.algorithms.base import Delta, like, wrong_shape


@dataclass(frozen=True, eq=False)
class Spread(Delta):
    rows: Tensor  # (o, 1)
    columns: Tensor  # (1, i)

    @classmethod
    def from_parts(cls, parts):
        return cls(parts.take("rows"), parts.take("columns"))

    def misfit(self, shape):
        given = self.rows.shape[0], self.columns.shape[1]
        return None if given == shape else wrong_shape(given, shape)

    def value(self, weight):
        return like(self.rows, weight) + like(self.columns, weight)
'''

# and a line in its table.

LINE = Algorithm("Spread", "spread.Spread", (("rows", "columns"),),
                 {"spread_rows.weight": "rows", "spread_columns.weight": "columns"},
                 inputs=size("columns", axis=1), products=(("rows",), ("columns",)))  # fmt: skip

KEY = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
MODULE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


@pytest.fixture
def folder(tmp_path):
    """With `spread.safetensors`, an adapter of the new algorithm for the one layer of `base.safetensors`."""
    tensors = {"spread_rows.weight": torch.arange(4.0)[:, None], "spread_columns.weight": torch.ones(1, 768)}
    save_file({f"{MODULE}.{part}": tensor for part, tensor in tensors.items()}, tmp_path / "spread.safetensors")
    save_file({KEY: torch.full((4, 768), 10.0)}, tmp_path / "base.safetensors")
    return tmp_path


@pytest.fixture
def added(tmp_path_factory, monkeypatch):
    """The file is there, and the line."""
    room = tmp_path_factory.mktemp("room")
    (room / "spread.py").write_text(SPREAD, encoding="utf-8")
    monkeypatch.setattr(lib_lora.algorithms, "__path__", [*lib_lora.algorithms.__path__, str(room)])
    monkeypatch.setattr(table, "TABLE", Table(algorithms=(*ALGORITHMS, LINE)))
    yield
    read._class.cache_clear()
    sys.modules.pop("lib_lora.algorithms.spread", None)


def listed(folder: Path, name: str):
    return next(entry for entry in Library([folder]).entries() if entry.name == name)


def test_without_its_line_nobody_knows_an_algorithm(folder):
    path = folder / "spread.safetensors"
    sentence = listed(folder, "spread").broken
    assert "no adapter that is known here" in sentence
    for look in (inspect, read_adapter):
        with pytest.raises(AdapterFileError, match=re.escape(sentence)):
            look(path)


def test_with_its_file_and_its_line_everybody_knows_it(folder, capsys, request):
    path = folder / "spread.safetensors"
    assert listed(folder, "spread").broken  # what was understood before is understood anew
    request.getfixturevalue("added")
    entry = listed(folder, "spread")
    assert (entry.broken, entry.algorithms, entry.modules, entry.family.id) == (None, ("Spread",), 1, "sd1")
    told = inspect(path)
    assert (told["algorithms"], told["rank"], told["unknown"], told["warnings"]) == (["Spread"], None, [], [])
    for command in (["info", str(path)], ["list", "--lora-dir", str(folder)]):
        assert main(command) == 0
        assert "Spread" in capsys.readouterr().out
    adapter = read_adapter(path)
    assert (adapter.algorithms, adapter.refused, adapter.unknown, adapter.notes) == (("Spread",), (), (), ())


def test_its_delta_is_planned_and_merged(folder, added):
    base = load_file(folder / "base.safetensors")
    expected = 10 + 0.5 * (torch.arange(4.0)[:, None] + 1).expand(4, 768)
    after = by_plan(base, folder / "spread.safetensors", LoraTag("spread", 0.5, 0.5))
    assert torch.equal(after[KEY], expected)
    tags = read_prompt("<lora:spread:0.5>").tags
    merge(folder / "base.safetensors", folder / "out.safetensors", tags, Folder(folder))
    assert torch.equal(load_file(folder / "out.safetensors")[KEY], expected)


def test_its_zeros_and_its_half_are_told_like_those_of_any(folder, added):
    save_file(
        {f"{MODULE}.spread_rows.weight": torch.zeros(4, 1), f"{MODULE}.spread_columns.weight": torch.zeros(1, 768)},
        folder / "zeros.safetensors",
    )
    assert inspect(folder / "zeros.safetensors")["warnings"] == ["all its values are zero: it changes nothing"]
    save_file({f"{MODULE}.spread_rows.weight": torch.zeros(4, 1)}, folder / "half.safetensors")
    half = f"half.safetensors is an adapter with no usable module: {MODULE}: incomplete: rows alone is not enough"
    assert listed(folder, "half").broken == half


# the lines that are there


@pytest.mark.parametrize("line", [*ALGORITHMS, *WRAPPERS, *BIASES], ids=lambda line: line.home)
def test_a_line_leads_to_its_class_and_names_only_parts_that_files_can_have(line):
    kind = read._class(line.home)
    assert issubclass(kind, Delta)
    assert issubclass(kind, Wrapper) == (line in WRAPPERS)
    known = {*line.parts.values(), *table.ACCESSORIES}
    if line in BIASES:
        known |= {"up", "down"}
    assert {part for needed in line.needs for part in needed} <= known
    assert line.named <= {spelled.split(".")[0] for spelled in line.parts}
    assert {part for product in line.products for part in product} | line.acting | line.whole <= known


def test_no_two_lines_have_one_class_and_no_two_mean_one_spelling_differently():
    homes = [line.home for line in TABLE.rows]
    assert len(homes) == len(set(homes))
    for line in TABLE.rows:
        assert line.parts.items() <= TABLE.parts.items()


def test_what_is_refused_is_no_part_of_what_is_supported():
    supported = {part for line in TABLE.rows for part in line.parts.values()}
    assert supported.isdisjoint(part for row in TABLE.refused for part in row.parts)


# every pair of parts, and every algorithm beside every other part

ONLY_BY_VALUES = re.compile("|".join((  # the refusals that a list, which knows which parts there are, cannot tell
    r"has the shape|have the shape|different shapes|do not fit each other|contradicts itself|cores is missing",
    r"^its factors have ranks|^its core |triangle of a block|stages are too many|singular values for rank",
)))  # fmt: skip


SHAPES = {
    "oft_blocks": (1, 4, 4), "oft_diag": (1, 4, 4), "oft_r": (1, 6), "diff_b": (4,), "b_norm": (4,),
    "lambda_layer": (4,), **dict.fromkeys(("alpha", "scale", "scalar"), ()),
    **dict.fromkeys(("mid", "hada_t1", "hada_t2", "lokr_t1", "lokr_t2"), (4, 4, 1, 1)),
}  # fmt: skip


def modules() -> set[frozenset[str]]:
    parts = sorted({*TABLE.parts.values(), "bias"})
    pairs = {frozenset(pair) for pair in combinations(parts, 2)} | {frozenset({part}) for part in parts}
    wholes = [frozenset(needed) for line in TABLE.rows for needed in line.needs]
    return pairs | {whole | {part} for whole in wholes for part in parts} | {whole for whole in wholes if whole}


@pytest.mark.parametrize(("module", "blocks", "names"), [
    ("lora_unet_x", (1, 4, 4), {line.label for line in ALGORITHMS} - {"OFT", "BOFT"}),
    ("oft_unet_x", (1, 4, 4), {"OFT", "diag-OFT"}), ("lora_unet_x", (1, 1, 4, 4), {"BOFT", "diag-OFT"}),
])  # fmt: skip
def test_the_list_and_the_engine_say_the_same_of_every_module(module, blocks, names):
    """The name where both read it, and where one refuses it, the sentence."""
    read_ones, refused_ones = set(), set()
    for parts in modules() if "LoRA" in names else (each for each in modules() if each & {"oft_blocks", "oft_diag"}):
        shapes = {part: blocks if part == "oft_blocks" else SHAPES.get(part, (4, 4)) for part in parts}
        told = TABLE.understand(module, shapes)
        labels, left_over, why = read_by_the_engine(module, shapes)
        if told.refused or why:
            assert why == told.refused or (not told.refused and ONLY_BY_VALUES.search(why)), parts
            refused_ones.add(told.refused)
            continue
        assert labels == told.labels, parts
        assert labels or left_over == parts <= table.ACCESSORIES
        read_ones.update(labels[:1])
    assert read_ones >= names
    assert refused_ones >= {row.why for row in TABLE.refused}


def read_by_the_engine(module: str, shapes: dict[str, tuple[int, ...]]) -> tuple[tuple[str, ...], set[str], str]:
    """(labels, parts left over, why not)."""
    try:
        tensors = {part: torch.ones(shape) for part, shape in shapes.items()}
        found, left_over, _ = read.read_module(tensors, module=module)
    except PartsError as error:
        return (), set(), str(error)
    named = found.get("weight") or found.get("bias")
    return named.labels if named else (), set(left_over), ""
