"""The browser's routes: what they tell, what they find, and that nothing but ids and plain text goes through them."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from lib_lora.browser.listing import show
from lib_lora.browser.markup import head_html, listing_html, scripts, strip_html
from lib_lora.browser.routes import add_routes
from lib_lora.browser.search import Query, Scene, find
from lib_lora.browser.stock import Stock
from lib_lora.describe.families import Family
from lib_lora.grammar.presets import read_presets
from lib_lora.library import Library
from tests.support import write_lora

SD1 = {"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": (32, 768)}
SDXL = {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k": (64, 2048)}
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "styles").mkdir()
    write_lora(tmp_path / "outline.safetensors", SD1, rank=4)
    said = {"ss_output_name": "Ink Wash v2", "modelspec.trigger_phrase": f"ink wash, {HOSTILE}"}
    write_lora(tmp_path / "styles" / "ink wash.safetensors", SD1, rank=8, metadata=said)
    write_lora(tmp_path / "grain.safetensors", SDXL, metadata={"ss_base_model_version": "sdxl_base_v1-0"})
    (tmp_path / "half.safetensors").write_bytes(b"hello")
    return tmp_path


@pytest.fixture
def client(folder):
    app = FastAPI()
    add_routes(app, Library([folder]), checkpoint=lambda: Family("sd1", possible=("sd1",)))
    return TestClient(app)


def listed(client, query=""):
    return [card["name"] for card in client.get(f"/lora/v1/adapters{query}").json()["items"]]


def by_name(client, name):
    return next(card for card in client.get("/lora/v1/adapters").json()["items"] if card["name"] == name)


def tried(client, prompt):
    return client.post("/lora/v1/prompt", json={"prompt": prompt}).json()


def test_the_list_names_every_file_with_its_base_model_and_leaves_headers_out(client):
    told = client.get("/lora/v1/adapters").json()
    assert [(card["name"], card["family"]["id"], card["compatible"]) for card in told["items"]] == [
        ("grain", "sdxl", False),
        ("half", "unknown", None),
        ("styles/ink wash", "sd1", True),
        ("outline", "sd1", True),
    ]
    assert told["total"] == told["installed"] == 4
    assert "metadata" not in told["items"][0]
    assert told["items"][0]["reason"] == "made for SDXL, the checkpoint is SD 1.5"
    assert "half.safetensors is a text, not a model" in told["items"][1]["broken"]


@pytest.mark.parametrize(("query", "expected"), [
    ("?q=ink", ["styles/ink wash"]),
    ("?q=WASH+v2", ["styles/ink wash"]),  # alias, any case, several words
    ("?q=ink+grain", []),
    ("?q=styles/", ["styles/ink wash"]),
    ("?q=sdxl", ["grain"]),
    ("?family=sd1&sort=rank", ["styles/ink wash", "outline"]),
    ("?family=sd1&family=sdxl&sort=path", ["grain", "outline", "styles/ink wash"]),
    ("?folder=styles", ["styles/ink wash"]),
    ("?state=broken", ["half"]),
    ("?state=words&family=sdxl", []),
    ("?offset=1&limit=2", ["half", "styles/ink wash"]),
    ("?reverse=1&limit=1", ["outline"]),
    ("?sort=nonsense&limit=1", ["grain"]),
])  # fmt: skip
def test_search_facets_order_and_pages(client, query, expected):
    assert listed(client, query) == expected


def test_a_facet_counts_what_choosing_another_value_would_show(client):
    facets = client.get("/lora/v1/adapters?family=sd1").json()["facets"]
    assert {each["value"]: each["count"] for each in facets["family"]} == {"sd1": 2, "sdxl": 1, "unknown": 1}
    assert {each["value"]: each["count"] for each in facets["folder"]} == {"": 1, "styles": 1}


def test_details_come_with_evidence_and_the_header_only_when_asked(client):
    number = by_name(client, "styles/ink wash")["id"]
    told = client.get(f"/lora/v1/adapters/{number}").json()
    assert told["evidence"]
    assert told["trigger_words"] == ["ink wash", HOSTILE]
    assert "metadata" not in told
    assert client.get(f"/lora/v1/adapters/{number}?metadata=1").json()["metadata"]["ss_output_name"] == "Ink Wash v2"
    assert len(client.get(f"/lora/v1/adapters/{number}?hashes=1").json()["sha256"]) == 64


@pytest.mark.parametrize(
    "number", ["0", "999", "-1", "1.0", "x", "%2e%2e", "..%2f..%2fetc%2fpasswd", "1%00", "²", "9" * 40]
)
def test_what_is_no_id_is_not_found_and_no_path_is_understood(client, number):
    for ending in ("", "/thumbnail", "/thumbnail?original=1"):
        assert client.get(f"/lora/v1/adapters/{number}{ending}").status_code == 404


def test_a_preview_is_sent_small(client, folder):
    Image.new("RGB", (1000, 500), "red").save(folder / "outline.png")
    client.post("/lora/v1/rescan")
    card = by_name(client, "outline")
    answer = client.get(f"/lora/v1/{card['thumbnail']}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    assert Image.open(io.BytesIO(answer.content)).size == (384, 192)
    assert client.get(f"/lora/v1/{card['thumbnail']}&original=1").headers["content-type"] == "image/png"


@pytest.mark.parametrize("content", [b"", b"<svg onload='alert(1)'/>", b"<html>", b"\x89PNG\r\n\x1a\n broken"])
def test_a_preview_that_is_no_picture_is_not_sent_small(client, folder, content):
    (folder / "outline.png").write_bytes(content)
    client.post("/lora/v1/rescan")
    number = by_name(client, "outline")["id"]
    assert client.get(f"/lora/v1/adapters/{number}/thumbnail").status_code == 204
    answer = client.get(f"/lora/v1/adapters/{number}/thumbnail?original=1")
    assert answer.status_code == 204 or answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers.get("content-type") in (None, "image/png")


def test_a_dry_run_says_for_each_tag_what_it_means(client):
    told = tried(client, "a <lora:outline:0.5> b <lora:Ink Wash v2> <lora:otline:1> <lora:grain> <lora:outline:x>")
    assert [tag["adapter"] and tag["adapter"]["name"] for tag in told["tags"]] == [
        "outline",
        "styles/ink wash",
        None,
        "grain",
        None,
    ]
    assert [tag["problem"] for tag in told["tags"]] == [
        None,
        None,
        "Lora not found: otline; did you mean outline?",
        "grain: made for SDXL, the checkpoint is SD 1.5; it will not be applied",
        "<lora:outline:x>: 'x' is not a weight; write a number such as 0.8",
    ]
    assert told["tags"][2]["nearest"] == ["outline"]
    assert told["text"].split() == ["a", "b"]
    assert tried(client, "<lora:grain:1:force=1>")["problems"] == []


def test_the_dry_run_tells_curves_as_text_and_unknown_presets_as_problems(client):
    told = tried(client, "<lora:outline:1:0~0;1~1:lbw=OUTAL> <lora:outline:0.5:w=outall:on=cond>")
    assert [tag["problem"] for tag in told["tags"]] == [
        "<lora:outline:1:0@0,1@1:lbw=OUTAL>: 'OUTAL' is no preset of block weights (did you mean OUTALL?); there are "
        "NONE, ALL, INS, IND, INALL, MIDD, OUTD, OUTS, OUTALL, ALL0.5",
        None,
    ]
    assert [(tag["te"], tag["unet"]) for tag in told["tags"]] == [(1, "0@0,1@1"), (0.5, 0.5)]
    assert told["tags"][1]["reads"] == "<lora:outline:0.5:lbw=outall:on=cond>"


@pytest.mark.parametrize(("family", "usual", "counts"), [("sd1", 17, {"17", "26"}), ("sdxl", 12, {"12", "20"})])
def test_the_strip_learns_blocks_and_presets_of_the_loaded_model(folder, family, usual, counts):
    app = FastAPI()
    own = read_presets("MINE:" + ",".join(["0.25"] * usual) + "\nDICE:" + ",".join(["R"] * usual))
    add_routes(app, Library([folder]), checkpoint=lambda: family, presets=lambda: own)
    told = TestClient(app).get("/lora/v1/strength").json()
    assert (told["usual"], set(told["vectors"])) == (usual, counts)
    assert str(told["whole"]) == max(counts)
    assert all(len(names) == int(count) for count, names in told["vectors"].items())
    presets = {preset["name"]: preset["numbers"] for preset in told["presets"]}
    assert presets["MINE"] == [0.25] * usual
    assert presets["DICE"] is None
    assert presets["NONE"] == [0] * usual
    assert presets["OUTALL"][-1] == 1
    assert told["arguments"]["lbw"]["meaning"].startswith("a factor for each block")


def test_a_name_that_two_files_share_is_qualified_by_its_folder(client, folder):
    (folder / "old").mkdir()
    write_lora(folder / "old" / "ink wash.safetensors", SD1)
    client.post("/lora/v1/rescan")
    assert [by_name(client, name)["tag_name"] for name in ("old/ink wash", "styles/ink wash", "outline")] == [
        "old/ink wash",
        "styles/ink wash",
        "outline",
    ]
    assert tried(client, "<lora:ink wash>")["tags"][0]["also"] == ["styles/ink wash"]
    assert tried(client, "<lora:styles/ink wash>")["tags"][0]["adapter"]["name"] == "styles/ink wash"


def test_a_name_that_no_tag_can_hold_is_inserted_as_its_hash(client, folder):
    try:
        write_lora(folder / "a:b>.safetensors", SD1, seed=5)
    except (OSError, RuntimeError):
        pytest.skip("this file system has no such names")
    client.post("/lora/v1/rescan")
    name = by_name(client, "a:b>")["tag_name"]
    assert tried(client, f"<lora:{name}:1>")["tags"][0]["adapter"]["name"] == "a:b>"


def test_files_that_appear_and_vanish_are_found_by_a_rescan(client, folder):
    write_lora(folder / "new.safetensors", SD1)
    (folder / "half.safetensors").unlink()
    listed(client)
    write_lora(folder / "newer.safetensors", SD1)
    told = client.post("/lora/v1/rescan").json()
    assert told == {"added": 1, "changed": 0, "removed": 0, "broken": 0, "problems": []}
    assert listed(client, "?q=new") == ["new", "newer"]
    assert client.get("/lora/v1/rescan").json()["running"] is False


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"prompt": 1}', b"\xff", b"[" * 100_000, json.dumps({"prompt": "x" * 100_001}).encode()],
)
def test_a_body_that_cannot_be_read_is_an_error_in_a_sentence(client, body):
    answer = client.post("/lora/v1/prompt", content=body)
    assert answer.status_code == 400
    assert "prompt" in answer.json()["error"]


@pytest.mark.parametrize("query", ["?offset=x", "?limit=1e3"])
def test_numbers_that_are_none_are_an_error_in_a_sentence(client, query):
    assert client.get(f"/lora/v1/adapters{query}").json() == {"error": "offset and limit are whole numbers"}


def test_markup_in_selectors_stays_inside_the_attribute():
    hostile = '"><script>alert(1)</script>'
    assert "<script>" not in listing_html({hostile: hostile}, api=hostile)
    assert "<script>" not in strip_html(hostile)


def test_scripts_can_stand_inside_a_page():
    head = head_html()
    assert head.count("</script>") == head.count("<script>") == len(scripts())
    assert head.count("</style>") == 1


def test_the_scripts_never_make_elements_from_text():
    head = head_html()
    assert not [
        word for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(") if word in head
    ]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Ten thousand entries, made of one file: what they say is what costs."""
    folder = tmp_path_factory.mktemp("many")
    write_lora(folder / "ink.safetensors", SD1)
    only = Library([folder]).find("ink")
    entries = [
        replace(only, id=n, name=f"{n % 50}/style {n}", location=str(folder / f"{n % 50}" / f"style {n}.safetensors"))
        for n in range(10_000)
    ]
    texts = [(entry, f"{'some words that stand in every note ' * 80}{entry.name}") for entry in entries]
    return Stock([show(entry, False) for entry in entries], lambda new: texts if new else (), lambda start: set())


@pytest.mark.parametrize(("text", "expected"), [
    ("77", sum("77" in str(n) for n in range(10_000))),
    ("words 77 style", sum("77" in str(n) for n in range(10_000))),
    ("stand", 10_000),
    ("nowhere", 0),
])  # fmt: skip
def test_ten_thousand_entries_are_searched_between_two_key_presses(many, text, expected):
    scene = Scene(Family("sd1", possible=("sd1",)))
    find(many, Query(text="prepared"), scene)
    started = time.process_time()
    found = find(many, Query(text=text, chosen={"family": ["sd1"]}), scene)
    assert time.process_time() - started < 0.3  # seconds; 0.03 on two slow cores that do nothing else
    assert len(found.kept) == expected


def test_a_search_that_goes_on_from_another_finds_the_same_as_one_that_does_not(many):
    scene, words = Scene(), ("1", "12", "12 style", "12 style 9", "2 style 9", "12 sty 99")
    for text in words:
        fresh = Stock(many.shown, lambda new: [(entry, "") for entry in new], lambda start: set())
        assert find(many, Query(text=text), scene).kept == find(fresh, Query(text=text), scene).kept, text
