"""Trigger words from the files to the cards, and names with brackets: what is handed out can go into a prompt."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_lora.browser.dry_run import dry_run
from lib_lora.browser.listing import Shelf
from lib_lora.errors import NotFoundError
from lib_lora.grammar.trigger_words import escaped, spoken, unescaped
from lib_lora.library import Library
from tests.adapter_files import SMALL, write

PARTS = st.lists(st.sampled_from(["(", ")", "[", "]", "\\", "a", " ", ",", "<lora:x:1>"]), max_size=10).map("".join)


@given(PARTS)
def test_an_escaped_tag_is_the_tag_when_its_backslashes_are_taken_away(text):
    assert unescaped(escaped(text)) == unescaped(text)
    assert escaped(escaped(text)) == escaped(text)


@given(PARTS)
def test_words_without_tags_stay_as_they_are(text):
    assert "<lora:" not in spoken(text)
    if "<lora:" not in text:
        assert spoken(text) == text
    assert spoken(text, lambda name: name == "x") == text


@pytest.fixture
def folder(tmp_path):
    for name in ("ink", "wash", "name (v2)", "NieR：2"):
        write(tmp_path / f"{name}.safetensors", SMALL)
    return tmp_path


def note(folder, stem, **values):
    (folder / f"{stem}.json").write_text(json.dumps(values))


def card(folder, name):
    library = Library([folder])
    return Shelf(library).card(library.find(name))


def test_a_tag_in_the_users_text_counts_if_it_is_of_another_installed_adapter(folder):
    note(folder, "ink", **{
        "activation text": "ink, <lora:ink:1>, <LoRA:theirs v3:1>, black, <lora:wash:0.5>",
        "negative text": "<lora:wash:1> bad",
    })  # fmt: skip
    entry = Library([folder]).find("ink")
    assert (entry.activation_text, entry.negative_text) == ("ink, black", "bad")
    assert card(folder, "ink")["activation_text"] == "ink, black, <lora:wash:0.5>"
    note(folder, "wash", **{"activation text": "wash, wet"})
    assert card(folder, "wash")["activation_text"] == "wash, wet"


def test_the_notes_themselves_keep_what_the_user_wrote(folder):
    note(folder, "ink", **{"activation text": "ink, <lora:theirs:1>"})
    library = Library([folder])
    assert Shelf(library).detail(library.find("ink"))["editable"]["activation_text"] == "ink, <lora:theirs:1>"


def test_civitais_answer_in_the_notes_place_gives_words_and_base_model(folder):
    versions = [{"baseModel": "Pony", "trainedWords": ["ink style, black"], "files": [{"name": "ink.safetensors"}]}]
    note(folder, "ink", name="The Ink", description="<p>A style</p>", modelVersions=versions)
    entry = Library([folder]).find("ink")
    assert (entry.trigger_words, entry.title, entry.activation_text) == (("ink style, black",), "The Ink", "")
    assert (entry.details.description, entry.warnings) == ("A style", ())


@pytest.mark.parametrize("typed", ["name (v2)", r"name \(v2\)", r"Name \(V2\)", r"name \(v2\).safetensors"])
def test_a_name_is_found_with_the_backslashes_that_a_prompt_needs(folder, typed):
    assert Library([folder]).find(typed).stem == "name (v2)"


def test_an_unknown_name_with_backslashes_has_the_nearest_names(folder):
    with pytest.raises(NotFoundError, match=r"did you mean name \(v2\)\?"):
        Library([folder]).find(r"nam \(v2\)")


def test_every_card_has_a_name_that_a_tag_can_hold(folder):
    library = Library([folder])
    shelf = Shelf(library)
    for entry in library.entries():
        told = dry_run(shelf, f"<lora:{shelf.card(entry)['tag_name']}:0.5>")
        assert told["problems"] == []
        assert told["tags"][0]["adapter"]["id"] == entry.id


def test_a_dry_run_says_what_was_overlooked(folder):
    shelf = Shelf(Library([folder]))
    told = dry_run(shelf, "a ＜LoRA：ink：０．８＞ b <lora:wash:0_8> <lora:ink:1")
    assert told["text"] == "a  b  "
    assert [tag["te"] if tag["adapter"] else tag["problem"] for tag in told["tags"]] == [
        0.8, "<lora:wash:0_8>: '0_8' is not a weight; write a number such as 0.8",
        "<lora:ink:1: the closing > is missing; write <lora:name:0.8>"]  # fmt: skip


def test_many_unknown_names_among_many_files_are_answered_soon(tmp_path):
    for number in range(1000):
        write(tmp_path / f"style_ink_wash_{number}.safetensors", SMALL)
    shelf = Shelf(Library([tmp_path]))
    shelf.library.entries()
    started = time.perf_counter()
    told = dry_run(shelf, "".join(f"<lora:style_inc_{'wash' * 80}{number}:1>" for number in range(200)))
    assert len(told["tags"]) == 129
    assert time.perf_counter() - started < 10
