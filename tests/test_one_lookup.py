"""A tag's name is looked up once for each activation, and everybody reads from the report what was found."""

from __future__ import annotations

import gc
import importlib
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import pytest

from lib_lora.grammar.tag import read_prompt
from lib_lora.hosts.diffusers import Attached, DiffusersHost
from lib_lora.library import Library
from lib_lora.session.session import Session
from tests.support import Folder, kohya_shapes, tiny_pipe, write_lora
from tests.support_webui import tiny_sd_model, webui_host

PROMPT = "a <lora:one:1> <lora:two:0.5> <lora:one:0.2> <lora:none:1>"
ONCE = {"one": 1, "two": 1, "none": 1}


class Counting(Library):
    """Counts by name what it is asked, in whatever way."""

    def __init__(self, folder: Path) -> None:
        super().__init__([folder])
        self.asked: Counter[str] = Counter()
        self.entries()  # the first scan

    def find(self, name, **options):
        self.asked[name] += 1
        return super().find(name, **options)

    def look_up(self, name, **options):
        self.asked[name] += 1
        return super().look_up(name, **options)

    def means(self, name, entry):
        self.asked[name] += 1
        return super().means(name, entry)

    def meanings(self, name):
        self.asked[name] += 1
        return super().meanings(name)


@pytest.fixture(scope="module")
def pipe() -> SimpleNamespace:
    return tiny_pipe("sd1")


@pytest.fixture
def library(pipe, tmp_path):
    shapes = kohya_shapes(DiffusersHost(pipe).targets(), limit=5)
    for seed, name in enumerate(("one", "two")):
        write_lora(tmp_path / f"{name}.safetensors", shapes, seed=seed)
    return Counting(tmp_path)


def test_a_session_looks_each_name_up_once(pipe, library):
    session = Session(DiffusersHost(pipe), library)
    report = session.activate(read_prompt(PROMPT).tags)
    assert library.asked == ONCE
    assert [each.name for each in report.applied] == ["one", "two"]
    session.activate(read_prompt("<lora:one:1>").tags)
    assert library.asked["one"] == 2
    session.clear()


def test_so_does_an_attached_pipeline_also_for_a_batch_of_different_prompts(pipe, library):
    draw = Attached(pipe, library)
    draw.activate(PROMPT)
    assert library.asked == ONCE
    library.asked.clear()
    draw.activate([PROMPT, "b <lora:two:1>", "c <lora:one:1> <lora:none:1>"])
    assert library.asked == ONCE
    draw.clear()


def test_the_hashes_of_a_pictures_text_come_from_what_was_found(pipe, library):
    from lib_lora.drawing.draw import lora_hashes

    draw = Attached(pipe, library)
    draw.activate(PROMPT)
    hashes = lora_hashes(draw)
    assert library.asked == ONCE
    assert hashes == {name: library.find(name).shorthash for name in ("one", "two")}
    draw.clear()


def test_the_report_has_the_entry_and_the_adapter_but_does_not_keep_the_adapter_in_memory(pipe, library):
    session = Session(DiffusersHost(pipe), library)
    one, two, none = session.activate(read_prompt(PROMPT).tags).adapters
    for report in (one, two):
        assert report.entry is library.find(report.name)
        assert report.adapter is session.cache.read(report.entry.path)
        assert report.family is report.entry.family
    assert (none.entry, none.adapter, none.family) == (None, None, None)
    session.clear()
    session.cache.clear()
    gc.collect()
    assert (one.adapter, one.entry.name) == (None, "one")


def test_of_a_broken_file_the_report_has_the_entry(pipe, library):
    (library.folders[0] / "half.safetensors").write_bytes(b"hello")
    (report,) = Session(DiffusersHost(pipe), library).activate(read_prompt("<lora:half:1>").tags).adapters
    assert report.entry is library.find("half")
    assert (report.adapter, report.applied) == (None, False)


class Asked(Folder):
    """A stranger's finder: `find` and nothing else."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked: Counter[str] = Counter()

    def find(self, name):
        self.asked[name] += 1
        if name == "two":
            raise KeyError(name)  # not what a finder should raise
        return super().find(name)


def test_a_finder_that_can_only_find_is_one(pipe, library):
    finder = Asked(library.folders[0])
    session = Session(DiffusersHost(pipe), finder)
    one, two, none = session.activate(read_prompt(PROMPT).tags).adapters
    assert finder.asked == ONCE
    assert (one.applied, one.family, one.entry.path.name) == (True, library.find("one").family, "one.safetensors")
    assert two.problem == "two: cannot be used (KeyError: 'two'); the others are"
    assert none.problem.startswith("Lora not found: none")
    session.clear()


def test_what_was_looked_up_before_is_taken_over(pipe, library):
    session, tags = Session(DiffusersHost(pipe), library), read_prompt(PROMPT).tags
    answers = session.look_up(tags)
    assert answers["one"].entry is library.find("one")
    library.asked.clear()
    session.activate(tags, answers=answers)
    assert not library.asked
    session.clear()


# the WebUI


@pytest.fixture
def webui(monkeypatch):
    """As much of the WebUI as `LoraNetwork` reads. Our modules that import it are forgotten afterwards."""
    pytest.importorskip("gradio")
    before = set(sys.modules)
    modules = ModuleType("modules")
    for name in ("cache", "extensions", "extra_networks", "patches", "paths", "processing", "prompt_parser", "scripts",
                 "sd_hijack", "sd_models", "sd_samplers", "sd_samplers_common", "sd_samplers_timesteps", "shared",
                 "textual_inversion", "textual_inversion.textual_inversion"):  # fmt: skip
        monkeypatch.setitem(sys.modules, f"modules.{name}", MagicMock(name=f"modules.{name}"))
        setattr(modules, name.partition(".")[0], sys.modules[f"modules.{name.partition('.')[0]}"])
    monkeypatch.setitem(sys.modules, "modules", modules)
    modules.extra_networks.ExtraNetwork = type("ExtraNetwork", (), {"__init__": lambda self, name: None})
    modules.extra_networks.ExtraNetworkParams = type("ExtraNetworkParams", (), {})
    modules.shared.opts = SimpleNamespace()
    modules.sd_hijack.model_hijack.embedding_db.word_embeddings = {}
    yield modules
    for name in set(sys.modules) - before:
        if name.startswith("lib_lora.webui."):
            parent, _, last = name.rpartition(".")
            vars(sys.modules.get(parent) or ModuleType(parent)).pop(last, None)
            del sys.modules[name]


class Processing(SimpleNamespace):
    """One picture's parameters; unlike its parent it may be referred to weakly."""


def test_the_webuis_network_looks_each_name_up_once_and_shows_and_hashes_what_was_found(webui, tmp_path, monkeypatch):
    webui.shared.sd_model = model = tiny_sd_model("sd1")
    model.is_sdxl = False
    shapes = kohya_shapes(webui_host(model).targets(), limit=5)
    for seed, name in enumerate(("one", "two")):
        write_lora(tmp_path / f"{name}.safetensors", shapes, seed=seed)
    library = Counting(tmp_path)
    names = importlib.import_module("lib_lora.webui.names.catalogue")
    monkeypatch.setattr(names, "_open_library", lambda: library)
    catalogue = names.Catalogue()
    legacy = importlib.import_module("lib_lora.webui.legacy").Legacy(catalogue)
    legacy.networks = SimpleNamespace(loaded_networks=[])
    network = importlib.import_module("lib_lora.webui.network").LoraNetwork(catalogue, legacy)
    p = Processing(
        all_prompts=[PROMPT], all_negative_prompts=[""], iteration=0, batch_size=1, is_hr_pass=False,
        extra_generation_params={}, comments=[])  # fmt: skip
    p.comment = p.comments.append
    network.activate(p, [SimpleNamespace(items=str(tag)[6:-1].split(":")) for tag in read_prompt(PROMPT).tags])
    assert library.asked == ONCE
    assert [loaded.network_on_disk.entry.name for loaded in legacy.networks.loaded_networks] == ["one", "two"]
    hashes = {name: library.find(name).shorthash for name in ("one", "two")}
    assert p.extra_generation_params["Lora hashes"] == ", ".join(f"{name}: {short}" for name, short in hashes.items())
    assert [comment.partition(";")[0] for comment in p.comments] == ["Lora not found: none"]
