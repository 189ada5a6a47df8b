"""Every name that is asked of the WebUI is in the checkout, in the file that the table says. Nothing is started."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

import pytest

from lib_lora.webui.doors import DOORS, OBJECTS, SCRIPTS, TEMPLATES
from tests.support_doors import defined
from tests.test_doors import SOURCES, members_of

CHECKOUT = Path(os.environ["WEBUI_ROOT"])
USED = r"(?:globalThis\.|(?<![\w.$\"'`-]))%s\b(?=[(.?:\[,;)\s])"
OURS = re.compile(r"(?:const|let|function|class) (\w+)|(\w+)(?=[^()]*\) =>)")
DECLARED = re.compile(r"^(?:async )?(?:function|var|let|const) (\w+)", re.MULTILINE)  # at the beginning of a line
PAGE = [CHECKOUT / "script.js", *sorted((CHECKOUT / "javascript").glob("*.js"))]
COMMENTS = re.compile(r"(?<!:)//.*")

defined = cache(defined)


@pytest.mark.parametrize("door", [door for door in DOORS if door.a1111], ids=lambda door: f"{door.name} {door.use}")
def test_a_name_is_where_the_table_says(door):
    assert door.name.rpartition(".")[2] in defined(CHECKOUT, door.a1111)


@pytest.mark.parametrize("each", OBJECTS, ids=lambda each: each.protocol.__name__)
def test_an_object_has_what_is_asked_of_it(each):
    assert members_of(each.protocol) - each.ours - defined(CHECKOUT, each.a1111) == set()


@pytest.mark.parametrize("door", TEMPLATES, ids=lambda door: door.name)
def test_a_template_has_the_place(door):
    assert door.name in (CHECKOUT / door.a1111).read_text("utf-8")


@pytest.mark.parametrize("door", SCRIPTS, ids=lambda door: door.name)
def test_a_script_has_the_name(door):
    text = (CHECKOUT / door.a1111).read_text("utf-8")
    assert door.name in DECLARED.findall(text) or f"window.{door.name} = " in text


def test_every_function_of_the_page_that_our_scripts_use_is_in_the_table():
    declared = {name for path in PAGE for name in DECLARED.findall(path.read_text("utf-8"))}
    ours = COMMENTS.sub("", "\n".join(SOURCES.values()))
    used = {name for name in declared if re.search(USED % name, ours)}
    own = {name for names in OURS.findall(ours) for name in names}
    assert used - own - {door.name for door in SCRIPTS} == set()
