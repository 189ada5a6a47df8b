"""What other programs and extensions rely on: routes, options, texts, and that nobody is there twice."""

from __future__ import annotations

import shutil
from xml.etree import ElementTree

import pytest

from tests.webui.files import index_of, write_adapter
from tests.webui.instance import difference

PROMPT = "a red circle, a cat"


def test_the_routes_answer_as_those_of_the_built_in(webui, plain):
    ours, theirs = ({each["name"]: each for each in ui.request("/sdapi/v1/loras")} for ui in (webui, plain))
    assert {"styles/ink", "people/ink"} <= set(ours)
    shared = set(theirs) - {"ink"}
    assert shared <= set(ours)
    for name in shared:
        assert set(ours[name]) >= {"name", "alias", "path", "metadata"}
        assert ours[name]["alias"] == theirs[name]["alias"]
        assert ours[name]["metadata"] == theirs[name]["metadata"]
        assert ours[name]["path"].endswith(f"{name}.safetensors")
    assert webui.request("/sdapi/v1/refresh-loras", {}) is None


def test_there_is_one_of_everything(webui):
    log = webui.log.read_text()
    assert "is in the way" not in log
    assert "Error executing callback" not in log
    assert log.count("lib_lora 0.") == log.count("Startup time:")
    paths = webui.request("/openapi.json")["paths"]
    assert list(paths["/sdapi/v1/loras"]) == ["get"]
    assert list(paths["/sdapi/v1/refresh-loras"]) == ["post"]


def test_the_options_of_the_built_in_are_there(webui):
    options = webui.request("/sdapi/v1/options")
    assert options["sd_lora"] == "None"
    assert options["lora_preferred_name"] == "Alias from file"
    assert options["lora_add_hashes_to_infotext"] is True
    assert options["lora_other_base_models"] == "dim"


def test_a_card_is_what_scripts_and_other_extensions_look_for(webui, plain):
    """Beside the built-in's card for the same file: the same attributes and parts, and more."""
    for ui in (webui, plain):  # both know the hash then
        ui.checkpoint("tiny-sd1")
        ui.draw(f"{PROMPT} <lora:second:1>")
    path = "/sd_extra_networks/get-single-card?page=lora&tabname=txt2img&name=second"
    ours, theirs = (ElementTree.fromstring(f"<p>{ui.request(path)['html']}</p>")[0] for ui in (webui, plain))
    assert ours.attrib["class"] == theirs.attrib["class"] == "card"
    assert ours.attrib["onclick"] == theirs.attrib["onclick"]
    assert set(ours.attrib) >= set(theirs.attrib)
    for kind in ("name", "description", "actions", "additional", "button-row", "copy-path-button card-button"):
        ours_of_kind, theirs_of_kind = (found.findall(f".//*[@class='{kind}']") for found in (ours, theirs))
        assert len(ours_of_kind) == len(theirs_of_kind) == 1, kind
    terms, their_terms = (
        {each.text for each in found.iter() if "search_terms" in each.get("class", "")} for found in (ours, theirs)
    )
    assert terms >= their_terms


def test_the_page_of_cards_asks_what_fits(webui):
    told = webui.request("/lora/v1/cards")
    assert told["checkpoint"] == {"label": "SD 1.5", "possible": ["sd1"]}
    assert (told["others"], told["unknown"], told["favorites"]) == ("dim", False, [])


def test_an_option_adds_an_adapter_to_every_prompt(webui):
    expected = webui.draw(f"{PROMPT}<lora:second:1>")
    webui.request("/sdapi/v1/options", {"sd_lora": "second"})
    try:
        for _ in range(2):
            drawn = webui.draw(PROMPT, n_iter=2)
            assert difference(drawn.pictures[-2], expected.picture) == 0
            assert drawn.texts[-1].count("<lora:second:1>") == 1
            assert "Lora hashes" in drawn.text
    finally:
        webui.request("/sdapi/v1/options", {"sd_lora": "None"})
    assert difference(webui.draw(PROMPT).picture, expected.picture) > 0


def test_hashes_can_be_left_out(webui):
    webui.request("/sdapi/v1/options", {"lora_add_hashes_to_infotext": False})
    try:
        assert "Lora hashes" not in webui.draw(f"{PROMPT} <lora:sd1:1>").text
    finally:
        webui.request("/sdapi/v1/options", {"lora_add_hashes_to_infotext": True})


@pytest.fixture(scope="module")
def short(webui):
    return webui.parse(webui.draw(f"{PROMPT} <lora:second:0.8>").text)["Lora hashes"].removeprefix("second: ")


def test_pasting_renames_by_hash(webui, short):
    hashes = f'Lora hashes: "their name: {short}"'
    text = f"{PROMPT} <lora:their name:0.8> <lora:second:1>\nSteps: 3, Seed: 1, Size: 64x64, {hashes}"
    assert webui.parse(text)["Prompt"] == f"{PROMPT} <lora:second:0.8> <lora:second:1>"


def test_pasting_leaves_alone_what_it_does_not_know(webui, short):
    text = f'{PROMPT} <lora:theirs:0.8>\nSteps: 3, Seed: 1, Size: 64x64, Lora hashes: "theirs: 0123456789ab"'
    assert webui.parse(text)["Prompt"] == f"{PROMPT} <lora:theirs:0.8>"


def test_pasting_keeps_a_name_whose_file_has_the_hash(webui, short, adapters, checkpoints):
    """Also where another file has it too: a copy, or one whose trainer stored the same."""
    stored = "ab" * 32
    for name in ("copy of second.safetensors", "a second copy.safetensors"):
        shutil.copy(adapters / "second.safetensors", webui.loras / name)
    index = index_of(checkpoints / "tiny-sd1.safetensors")
    for seed, name in enumerate(("one", "two"), 60):
        path = webui.loras / f"{name} stored.safetensors"
        write_adapter(path, index, seed=seed, only="lora_te", metadata={"sshs_model_hash": stored})
    webui.request("/sdapi/v1/refresh-loras", {})
    try:
        for name, known in (("second", short), ("copy of second", short), ("a second copy", short),
                            ("one stored", stored[:12]), ("two stored", stored[:12])):
            hashes = f'Lora hashes: "{name}: {known}"'
            text = f"{PROMPT} <lora:{name}:0.8>\nSteps: 3, Seed: 1, Size: 64x64, {hashes}"
            assert webui.parse(text)["Prompt"] == f"{PROMPT} <lora:{name}:0.8>"
    finally:
        for path in [*webui.loras.glob("* stored.safetensors"), *webui.loras.glob("*copy*.safetensors")]:
            path.unlink()
        webui.request("/sdapi/v1/refresh-loras", {})


def test_pasting_a_picture_back_gives_the_picture(webui):
    drawn = webui.draw(f"{PROMPT} <lora: sd1 : 0.8 ><lora:墨 v1.5 (final):0.5>")
    parsed = webui.parse(drawn.text)
    assert difference(webui.draw(parsed["Prompt"]).picture, drawn.picture) == 0


def test_fields_of_additional_networks_become_tags(webui):
    fields = "AddNet Module 1: LoRA, AddNet Model 1: second(0123456789ab), AddNet Weight A 1: 0.6"
    parsed = webui.parse(f"{PROMPT}\nSteps: 3, Seed: 1, Size: 64x64, {fields}")
    assert parsed["Prompt"] == f"{PROMPT}\n<lora:second:0.6>"


def test_other_extensions_find_what_they_read(webui):
    """`tests/webui/probe.py` is installed as an extension and looks at `networks` and `lora` from inside."""
    webui.draw(f"{PROMPT} <lora:second:0.8:0.5>")
    seen = webui.request("/probe")
    assert {"second", "sd1", "styles/ink"} <= set(seen["available"])
    assert "the sd1 one" in seen["aliases"]
    assert seen["loaded"] == [["second", 0.8, 0.5]]
    assert seen["same objects"] is True
    assert seen["torch is patched"] is False
    assert seen["registry"] == "lib_lora.webui.network"
    assert seen["pages"] == ["lib_lora.webui.cards.extra_page"]
    assert seen["layers"] > 300
    assert seen["caches"] == [2, 2, 2, 2]  # their other places are for others


def test_the_hash_of_an_adapter_stands_in_the_cache_of_the_webui(webui, short):
    """Where other extensions look for it, under the name that the built-in gives it."""
    cached = webui.request("/probe/hash", {"path": str(webui.loras / "second.safetensors"), "title": "lora/second"})
    assert (len(cached), cached[:12]) == (64, short)
    path = str(webui.loras / "people" / "ink.safetensors")
    missing = webui.request("/probe/hash", {"path": path, "title": "lora/ink"})
    assert missing is None  # there are two
