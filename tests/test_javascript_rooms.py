"""The walls between the scripts of `javascript/`: who may use what of whom.

The scripts are plain ones, loaded in any order, and meet in one object, `lib`. A script's room is its prefix. What it
shares is written once, `lib.x = ...;`; what it uses of others is written `lib.x` at every use: so reading is enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from lib_lora.browser.markup import scripts

FOLDER = Path(__file__).parents[1] / "javascript"

ROOMS = {  # a room's prefix: the rooms that it may use, besides itself
    "lora": (),  # bare names: what the others share
    "lora_strip": ("lora",),  # the sliders below a prompt
    "lora_compare": ("lora",),  # adapters side by side
    "lora_listing": ("lora", "lora_compare"),  # the installed adapters
    "lora_page": ("lora", "lora_strip", "lora_compare", "lora_listing"),  # what only the WebUI's own pages need
}
OPENING = "const lib = (globalThis.loraLib = globalThis.loraLib || {});"
COMMENT = re.compile(r"(?:^|(?<=\s))//.*$", re.MULTILINE)
SHARED = re.compile(r"^    lib\.(\w+) = (?:(\w+)|\{([\w,\s]+)\});$", re.MULTILINE)  # lib.x = y;  lib.x = {y, z};
UNPACKED = re.compile(r"const \{([\w,\s]+)\} = lib\.(\w+);")  # const {y, z} = lib.x;
USED = re.compile(r"\blib\.(\w+)(?:\.(\w+))?")


def room_of(name: str) -> str:
    return next((room for room in ROOMS if room != "lora" and f"{name}_".startswith(f"{room}_")), "lora")


def code_of(text: str) -> str:
    return COMMENT.sub("", text).replace(OPENING, "", 1)


def shared_by(text: str) -> Iterator[tuple[str, frozenset[str]]]:
    """(x, {y, z}) of every `lib.x = {y, z};`; (x, nothing) where it is one function or class."""
    for name, _, parts in SHARED.findall(code_of(text)):
        yield name, frozenset(re.findall(r"\w+", parts))


def used_by(text: str) -> Iterator[tuple[str, str]]:
    """(x, y) of every `lib.x.y`; (x, "") where only `lib.x` is written."""
    code = SHARED.sub("", code_of(text))
    for parts, name in UNPACKED.findall(code):
        yield from ((name, part) for part in re.findall(r"\w+", parts))
    yield from USED.findall(UNPACKED.sub("", code))


def unreadable(text: str) -> Iterator[str]:
    """Mentions of `lib` that are neither of these."""
    if OPENING not in text:
        yield f"does not begin with {OPENING}"
    code = USED.sub("", UNPACKED.sub("", SHARED.sub("", code_of(text))))
    strange = [line.strip() for line in code.splitlines() if re.search(r"\blib\b|loraLib", line)]
    yield from (f"cannot be followed: {line}" for line in strange)
    for name in re.findall(r"\blib\.(\w+)(?:\.\w+)? (?:[-+*?|&]*=)(?![=>])", SHARED.sub("", code_of(text))):
        yield f"lib.{name} is written where nothing is shared"


def faults(texts: Mapping[str, str]) -> list[str]:
    """What is wrong with these scripts, {name: text}; whoever reads a line knows what to mend."""
    found = [f"{name}: {fault}" for name, text in texts.items() for fault in unreadable(text)]
    owners: dict[str, list[str]] = {}
    parts: dict[str, frozenset[str]] = {}
    for name, text in texts.items():
        for shared, its_parts in shared_by(text):
            owners.setdefault(shared, []).append(name)
            parts[shared] = its_parts
    found += [f"lib.{shared} is defined more than once: {names}" for shared, names in owners.items() if len(names) > 1]
    graph: dict[str, set[str]] = {name: set() for name in texts}
    for name, text in texts.items():
        for shared, part in sorted(set(used_by(text))):
            if shared not in owners:
                found.append(f"{name}: nobody defines lib.{shared}")
                continue
            if parts[shared] and part not in parts[shared]:
                what = f"lib.{shared} has no {part}" if part else f"takes lib.{shared} as a whole"
                found.append(f"{name}: {what}")
            owner = owners[shared][0]
            if owner != name:
                graph[name].add(owner)
    for name, owners_of_name in graph.items():
        may = {room_of(name), *ROOMS[room_of(name)]}
        found += [f"{name} may not use {owner}" for owner in sorted(owners_of_name) if room_of(owner) not in may]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append("a circle: " + " -> ".join(reversed(error.args[1])))
    return found


def test_the_scripts_keep_to_their_rooms():
    texts = {path.stem: path.read_text("utf-8") for path in sorted(FOLDER.glob("*.js"))}
    assert {room_of(name) for name in texts} == set(ROOMS)
    assert faults(texts) == []


def test_a_page_of_ours_has_all_but_the_webuis():
    names = {path.stem for path in scripts()}
    assert {room_of(name) for name in names} == set(ROOMS) - {"lora_page"}
    assert names == {path.stem for path in FOLDER.glob("*.js") if room_of(path.stem) != "lora_page"}


def script(*lines: str) -> str:
    body = "".join(f"    {line};\n" for line in lines)
    return f'(function () {{\n    "use strict";\n\n    {OPENING}\n{body}}})();\n'


@pytest.mark.parametrize(
    ("bodies", "told"),
    [
        ({"lora_a": "lib.a = {x, y}", "lora_listing_b": "lib.a.x(); const {y} = lib.a; lib.B = B"}, ""),
        ({"lora_a": "lib.nothing()"}, "lora_a: nobody defines lib.nothing"),
        ({"lora_a": "lib.a = {x}", "lora_b": "lib.a.z()"}, "lora_b: lib.a has no z"),
        ({"lora_a": "lib.a = {x}", "lora_b": "const {x, z} = lib.a"}, "lora_b: lib.a has no z"),
        ({"lora_a": "lib.a = {x}", "lora_b": "const a = lib.a"}, "lora_b: takes lib.a as a whole"),
        ({"lora_a": "lib.a = x; lib.a = y"}, "lib.a is defined more than once: ['lora_a', 'lora_a']"),
        ({"lora_a": "lib.a = x", "lora_b": "lib.a = {x}"}, "lib.a is defined more than once: ['lora_a', 'lora_b']"),
        ({"lora_a": "lib.a = x; lib.b()", "lora_b": "lib.b = x; lib.a()"}, "a circle: lora_a -> lora_b -> lora_a"),
        ({"lora_a": "lib.b()", "lora_strip": "lib.b = x"}, "lora_a may not use lora_strip"),
        ({"lora_strip_a": "lib.b()", "lora_listing_c": "lib.b = x"}, "lora_strip_a may not use lora_listing_c"),
        ({"lora_listing": "lib.b()", "lora_page_c": "lib.b = x"}, "lora_listing may not use lora_page_c"),
        ({"lora_page_a": "lib.b()", "lora_listing": "lib.b = x"}, ""),
        ({"lora_a": "const {b} = lib"}, "lora_a: cannot be followed: const {b} = lib;"),
        ({"lora_a": 'lib["b"]()'}, 'lora_a: cannot be followed: lib["b"]();'),
        ({"lora_a": "globalThis.loraLib.b()"}, "lora_a: cannot be followed: globalThis.loraLib.b();"),
        ({"lora_a": "lib.a = x; if (y) lib.a = z"}, "lora_a: lib.a is written where nothing is shared"),
        ({"lora_a": "lib.a = x", "lora_b": "lib.a.x ??= 2"}, "lora_b: lib.a is written where nothing is shared"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_scripts_is_seen(bodies, told):
    found = faults({name: script(*body.split("; ")) for name, body in bodies.items()})
    assert found == ([told] if told else [])


def test_a_script_without_the_common_object_is_seen():
    assert faults({"lora_a": "const x = 1;"}) == [f"lora_a: does not begin with {OPENING}"]


def codes() -> dict[str, str]:
    return {path.stem: code_of(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.js"))}


def test_one_script_remembers():
    """Storage may be forbidden, full or broken: who thinks of that is in one place."""
    assert [name for name, code in codes().items() if re.search("(local|session)Storage", code)] == ["lora_remembered"]


HANDED_ON = re.compile(r"(?<!\bassign)(?<!\bbind)\(\s*this\s*[,)]|[,\[:]\s*this\s*[,)\]}]")


def test_nobody_hands_itself_to_its_parts():
    """They get callbacks: what a part can do to others is written where it is made."""
    assert [name for name, code in codes().items() if HANDED_ON.search(code)] == []
    for line in ("new lib.Details(this);", "make(card, this)", "{listing: this}", "part(this, api)"):
        assert HANDED_ON.search(line), line
