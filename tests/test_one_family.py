"""Which base model an adapter is for is asked in many places, and has one answer: tensors, notes, Civitai, header."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from lib_lora.browser.dry_run import dry_run
from lib_lora.browser.listing import Shelf
from lib_lora.cli import main
from lib_lora.grammar.tag import read_prompt
from lib_lora.library import Library
from lib_lora.model.targets import index_checkpoint
from lib_lora.session.session import Session
from lib_lora.tools.bake import CheckpointHost
from lib_lora.webui.cards.card import fields
from tests.adapter_files import write
from tests.support import Folder

MIDDLE = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
OUTER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
VAGUE = {f"{MIDDLE}.lora_down.weight": (4, 64), f"{MIDDLE}.lora_up.weight": (64, 4)}  # all have it, so wide none
PROVEN = {f"{OUTER}.lora_down.weight": (4, 768), f"{OUTER}.lora_up.weight": (320, 4)}  # text so wide: SD 1
SD1, SD2 = {"ss_base_model_version": "sd_v1"}, {"ss_v2": "True"}
XL = {"ss_base_model_version": "sdxl_base_v1-0"}


class Case(NamedTuple):
    name: str
    shapes: dict[str, tuple[int, ...]]
    header: dict[str, str]
    beside: dict[str, dict]  # {end of the file's name: its content}
    label: str
    sure: bool


def civitai(base: str) -> dict[str, dict]:
    return {".civitai.info": {"baseModel": base}}


def notes(version: str) -> dict[str, dict]:
    return {".json": {"sd version": version}}


CASES = [
    Case("nothing is said", VAGUE, {}, {}, "SD 1.5", False),
    Case("the header", VAGUE, SD2, {}, "SD 2", True),
    Case("Civitai before the header", VAGUE, SD1, civitai("SDXL 1.0"), "SDXL", True),
    Case("the notes before Civitai", VAGUE, SD1, {**civitai("SDXL 1.0"), **notes("SD2")}, "SD 2", True),
    Case("notes that say nothing", VAGUE, SD1, {**civitai("SD 2.1"), **notes("Unknown")}, "SD 2", True),
    Case("Civitai says it closer", VAGUE, SD1, {**civitai("Pony"), **notes("SDXL")}, "Pony (SDXL)", True),
    Case("notes alone", VAGUE, {}, notes("SD2"), "SD 2", True),
    Case("tensors before all", PROVEN, XL, {**civitai("Pony"), **notes("SDXL")}, "SD 1.5", True),
    Case("Lora-Manager", VAGUE, SD1, {".metadata.json": {"base_model": "SDXL 1.0"}}, "SDXL", True),
    Case("SD.Next", VAGUE, SD1, {".json": {"modelVersions": [{"baseModel": "SD 2.1"}]}}, "SD 2", True),
    Case("SD.Next's with notes", VAGUE, {},
         {".json": {"modelVersions": [{"baseModel": "SDXL 1.0"}], "sd version": "SD2"}}, "SD 2", True),
]  # fmt: skip
UNET = "model.diffusion_model."
CHECKPOINTS = {
    family: {f"{UNET}middle_block.1.transformer_blocks.0.attn1.to_q.weight": (64, 64),
             f"{UNET}{block}.1.transformer_blocks.0.attn2.to_k.weight": (320, width)}
    for family, block, width in (("sd1", "input_blocks.1", 768), ("sd2", "input_blocks.1", 1024),
                                 ("sdxl", "input_blocks.4", 2048))
}  # fmt: skip


@pytest.fixture(params=CASES, ids=[case.name for case in CASES])
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def file(case: Case, tmp_path: Path) -> Path:
    for end, content in case.beside.items():
        (tmp_path / f"ink{end}").write_text(json.dumps(content))
    return write(tmp_path / "ink.safetensors", case.shapes, case.header)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def reported(finder, family: str):
    session = Session(CheckpointHost(index_checkpoint(CHECKPOINTS[family])), finder)
    (report,) = session.activate(read_prompt("<lora:ink:1>").tags).adapters
    return report


def bases(problem: str | None) -> str | None:
    """Of a sentence that refuses an adapter: for what it is made, and what the checkpoint is."""
    return problem and re.search(r"made for .*?, the checkpoint is [^;]*", problem)[0]


def test_list_info_page_and_engine_say_the_same(case, file, capsys):
    (listed,) = printed(capsys, "list", "--lora-dir", str(file.parent))
    told = printed(capsys, "info", str(file))
    assert [listed["base_model"], told["base_model"]] == [case.label] * 2
    library = Library([file.parent])
    entry = library.find("ink")
    assert tuple(told["evidence"]) == entry.family.evidence
    assert (entry.family.label, entry.family.sure) == (case.label, case.sure)
    card = Shelf(library).card(entry)
    assert (card["family"]["label"], card["family"]["sure"]) == (case.label, case.sure)
    facts = re.search(r"data-lora-card='([^']*)'", fields(entry, ["ink"], "")["lora_card"])[1]  # the WebUI's card
    shown = json.loads(html.unescape(facts))
    assert (shown["label"], len(shown["possible"]) == 1) == (case.label, case.sure)
    for finder in (library, Folder(file.parent)):  # by its entry, and by its path alone
        assert reported(finder, "sd1").family == entry.family


@pytest.mark.parametrize("family", CHECKPOINTS)
def test_what_a_dry_run_refuses_is_refused_for_the_same_reason(case, file, family):
    library = Library([file.parent])
    index = index_checkpoint(CHECKPOINTS[family])
    assert index.family.id == family
    (tried,) = dry_run(Shelf(library, checkpoint=lambda: index.family), "<lora:ink:1>")["tags"]
    expected = bases(tried["problem"])
    assert (expected is None) == (library.find("ink").family.fits(index.family) is not False)
    for finder in (library, Folder(file.parent)):
        assert bases(reported(finder, family).problem) == expected
