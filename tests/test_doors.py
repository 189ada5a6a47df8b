"""The table of seams says what the source does: nothing is asked of the WebUI that is not in it, and nothing is in it
that is not asked. Whether a WebUI has it all: tests/webui/test_doors.py."""

from __future__ import annotations

import ast
import inspect
import re
from collections import Counter
from pathlib import Path

import pytest

from lib_lora.webui import doors
from lib_lora.webui.names import protocols
from tests.support_doors import Reader, asked

ROOT = Path(__file__).parents[1]
SOURCES = {name: "\n".join(path.read_text("utf-8") for path in sorted((ROOT / name).rglob(pattern)))
           for name, pattern in (("javascript", "*.js"), ("lib_lora/webui/cards", "*.py"))}  # fmt: skip


def test_whatever_is_asked_of_the_webui_is_in_the_table():
    table = {(door.name, door.use) for door in doors.DOORS}
    assert {each: places for each, places in asked().items() if each not in table} == {}


def test_whatever_is_in_the_table_is_asked_of_the_webui():
    unseen = {(door.name, door.use) for door in doors.DOORS} - set(asked())
    members = {(f"{each.name}.{member}", "patched") for each in doors.OBJECTS for member in members_of(each.protocol)}
    assert unseen - members == set()


@pytest.mark.parametrize("table", ["DOORS", "OBJECTS", "TEMPLATES", "SCRIPTS"])
def test_no_line_stands_there_twice(table):
    lines = [(each.name, getattr(each, "use", None)) for each in getattr(doors, table)]
    assert [line for line, count in Counter(lines).items() if count > 1] == []


def test_every_protocol_has_a_class_of_the_webui():
    written = {each for each in vars(protocols).values()
               if inspect.isclass(each) and each.__module__ == protocols.__name__}  # fmt: skip
    assert {each.protocol for each in doors.OBJECTS} == written
    assert all(each.ours <= members_of(each.protocol) for each in doors.OBJECTS)


def test_what_is_asked_of_templates_and_scripts_is_asked_there():
    cards = SOURCES["lib_lora/webui/cards"]
    for door in doors.TEMPLATES:
        assert door.name in cards or f'"{door.name.strip("{}")}"' in cards, door
    for door in doors.SCRIPTS:
        assert re.search(rf"\b{door.name}\b", SOURCES["javascript"] + cards), door


def members_of(protocol: type) -> set[str]:
    methods = {name for name, value in vars(protocol).items() if inspect.isfunction(value) and not name.startswith("_")}
    return methods | set(protocol.__annotations__)


WAYS = {  # a way to ask -> what is seen of it
    "from modules import shared\nshared.opts.width": {("modules.shared.opts.width", "read")},
    "from modules import shared\nopts = shared.opts\ngetattr(opts, 'width', 8)": {
        ("modules.shared.opts", "read"), ("modules.shared.opts.width", "read")},
    "from modules.shared import state\nstate.interrupt()": {("modules.shared.state.interrupt", "called")},
    "import modules.shared as s\ns.opts.data['a'] = 1": {("modules.shared.opts.data", "patched")},
    "from modules import scripts\nscripts.on_save(print)": {("modules.scripts.on_save", "registered")},
    "from modules import scripts\nclass Ours(scripts.Script):\n def run(self): self.title()": {
        ("modules.scripts.Script", "derived"), ("modules.scripts.Script.run", "overridden"),
        ("modules.scripts.Script.title", "called")},
    "from modules import scripts\nPATCHED = scripts, 'load'": {("modules.scripts.load", "patched")},
    "import sys\nsys.modules['networks'].loaded_networks.clear()": {("networks.loaded_networks", "patched")},
    "from modules import scripts\nfor each in scripts.lists.values(): each.append(1)": {
        ("modules.scripts.lists", "patched"), ("modules.scripts.lists", "read")},
}  # fmt: skip


@pytest.mark.parametrize("source", WAYS)
def test_no_way_to_ask_is_overlooked(source):
    reader = Reader()
    reader.visit(ast.parse(source))
    assert reader.found == WAYS[source]
