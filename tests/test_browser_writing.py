"""What the browser may change: notes, marks, previews; and what it asks about the whole library."""

from __future__ import annotations

import io
import json
import os
import shutil
import time

import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from PIL import Image

from lib_lora.browser.routes import add_routes
from lib_lora.library import Library
from tests.adapter_files import write, write_raw

ROUTES = "/lora/v1"
WRITING = ("adapters/1/notes", "adapters/1/preview", "marks", "hashing", "rescan", "prompt")


@pytest.fixture
def folder(tmp_path):
    tags = {"ss_tag_frequency": json.dumps({"1_ink": {"Katana": 3, "moon": 2}})}
    write(tmp_path / "ink.safetensors", metadata=tags)
    write(tmp_path / "styles" / "ink.safetensors", fill=1)
    write(tmp_path / "wash.safetensors", fill=2)
    return tmp_path


@pytest.fixture
def client(folder):
    app = FastAPI()
    add_routes(app, Library([folder]), checkpoint=lambda: "sd1")
    return TestClient(app)


def get(client, path, **query):
    return client.get(f"{ROUTES}/{path}", params=query).json()


def post(client, path, value):
    return client.post(f"{ROUTES}/{path}", json=value)


def listed(client, **query):
    return [card["name"] for card in get(client, "adapters", **query)["items"]]


def card(client, name):
    return next(each for each in get(client, "adapters")["items"] if each["name"] == name)


def picture(form, colour="red", size=(8, 8)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, form)
    return buffer.getvalue()


def colour_shown(client, name):
    shown = client.get(f"{ROUTES}/{card(client, name)['thumbnail']}")
    return max(zip(Image.open(io.BytesIO(shown.content)).convert("RGB").getpixel((2, 2)), "rgb", strict=True))[1]


# notes


def test_saved_notes_stand_in_the_file_and_in_the_listing_at_once(client, folder):
    (folder / "ink.json").write_text('{"modelId": 7, "notes": "old"}')
    client.post(f"{ROUTES}/rescan")
    number = card(client, "ink")["id"]
    before = get(client, f"adapters/{number}")["editable"]
    assert (before["notes"], before["preferred_weight"]) == ("old", 0)
    given = {"digest": before["digest"], "notes": "Größe <b>", "preferred_weight": -0.5, "activation_text": "ink, wash"}
    told = post(client, f"adapters/{number}/notes", given).json()
    assert json.loads((folder / "ink.json").read_bytes()) == {
        "modelId": 7,
        "notes": "Größe <b>",
        "preferred weight": -0.5,
        "activation text": "ink, wash",
    }
    assert (told["editable"]["notes"], told["weight"], told["notes_digest"]) == (
        "Größe <b>",
        -0.5,
        told["editable"]["digest"],
    )
    shown = card(client, "ink")
    assert (shown["id"], shown["weight"], shown["activation_text"]) == (number, -0.5, "ink, wash")
    assert listed(client, q="old") == []
    assert listed(client, q="GRÖSSE") == listed(client, q="größe") == ["ink"]


def test_of_two_windows_the_second_is_told_and_nothing_is_lost(client, folder):
    number = card(client, "ink")["id"]
    digest = get(client, f"adapters/{number}")["editable"]["digest"]
    assert post(client, f"adapters/{number}/notes", {"digest": digest, "notes": "first"}).status_code == 200
    answer = post(client, f"adapters/{number}/notes", {"digest": digest, "notes": "second"})
    assert answer.status_code == 409
    assert "changed" in answer.json()["error"]
    assert answer.json()["current"]["notes"] == "first"
    again = {"digest": answer.json()["current"]["digest"], "notes": "both"}
    assert post(client, f"adapters/{number}/notes", again).status_code == 200
    assert json.loads((folder / "ink.json").read_text())["notes"] == "both"


@pytest.mark.parametrize(("fields", "word"), [
    ({"preferred_weight": "1"}, "preferred_weight"),
    ({"preferred_weight": True}, "preferred_weight"),
    ({"preferred_weight": float("nan")}, "preferred_weight"),
    ({"preferred_weight": float("inf")}, "preferred_weight"),
    ({"notes": None}, "notes"),
    ({"description": ["x"]}, "description"),
    ({"activation_text": "x" * 300_000}, "activation_text"),
    ({"digest": 5}, "digest"),
])  # fmt: skip
def test_a_field_of_a_wrong_kind_is_named_and_nothing_is_written(client, folder, fields, word):
    number = card(client, "ink")["id"]
    body = json.dumps({"digest": "", **fields})
    answer = client.post(f"{ROUTES}/adapters/{number}/notes", content=body)
    assert (answer.status_code, word in answer.json()["error"]) == (400, True)
    assert not (folder / "ink.json").exists()


def test_broken_notes_are_not_written_over(client, folder):
    (folder / "ink.json").write_text("{")
    number = card(client, "ink")["id"]
    assert "ink.json" in get(client, f"adapters/{number}")["editable"]["problem"]
    answer = post(client, f"adapters/{number}/notes", {"digest": "", "notes": "x"})
    assert (answer.status_code, "ink.json" in answer.json()["error"]) == (400, True)
    assert (folder / "ink.json").read_text() == "{"


def test_an_adapter_that_vanished_is_not_found(client, folder):
    number = card(client, "wash")["id"]
    (folder / "wash.safetensors").unlink()
    client.post(f"{ROUTES}/rescan")
    assert post(client, f"adapters/{number}/notes", {"digest": ""}).status_code == 404
    assert client.post(f"{ROUTES}/adapters/{number}/preview", content=picture("PNG")).status_code == 404


# marks


def test_marks_are_listed_searched_counted_and_taken_away_again(client):
    ink, wash = card(client, "ink")["id"], card(client, "wash")["id"]
    told = post(client, "marks", {"ids": [ink, wash, 999], "favorite": True, "add_tags": ["Line  art", "b"]}).json()
    assert (told["changed"], [each["user_tags"] for each in told["items"]]) == (2, [["Line art", "b"]] * 2)
    assert listed(client) == ["ink", "wash", "styles/ink"]  # favourites first
    assert listed(client, q="line ART") == listed(client, tag="b") == listed(client, state="tagged") == ["ink", "wash"]
    post(client, "marks", {"ids": [wash], "favorite": False, "remove_tags": ["LINE art"]})
    facets = get(client, "adapters")["facets"]
    assert {each["value"]: each["count"] for each in facets["tag"]} == {"b": 2, "Line art": 1}
    assert listed(client, state="favorite") == ["ink"]
    assert post(client, "marks", {"ids": [wash], "add_tags": ["B"]}).json()["changed"] == 0  # it has that tag


def test_ones_own_mark_counts_more_than_another_tools(client, folder):
    (folder / "wash.metadata.json").write_text('{"favorite": true}')
    client.post(f"{ROUTES}/rescan")
    assert card(client, "wash")["favorite"] is True
    post(client, "marks", {"ids": [card(client, "wash")["id"]], "favorite": False})
    assert card(client, "wash")["favorite"] is False


@pytest.mark.parametrize("given", [
    [], {}, {"ids": "1"}, {"ids": [1.5]}, {"ids": [True]}, {"ids": ["../x"]}, {"ids": [1], "favorite": 1},
    {"ids": [1], "add_tags": "x"}, {"ids": [1], "remove_tags": [1]},
])  # fmt: skip
def test_marks_that_make_no_sense_are_an_error_in_a_sentence(client, given):
    answer = post(client, "marks", given)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_all_that_fits_can_be_marked_in_one_go(client):
    found = get(client, "adapters", q="ink", ids=1)
    assert found == {"ids": [card(client, "ink")["id"], card(client, "styles/ink")["id"]], "total": 2}
    assert post(client, "marks", {"ids": found["ids"] * 300, "add_tags": ["x"]}).json() == {"changed": 2, "items": []}
    assert listed(client, tag="x") == ["ink", "styles/ink"]


# previews


@pytest.mark.parametrize(("there", "form", "name"), [
    ((), "PNG", "ink.png"),
    ((), "JPEG", "ink.jpg"),
    ((), "WEBP", "ink.webp"),
    (("ink.png",), "PNG", "ink.png"),
    (("ink.preview.png", "ink.png"), "PNG", "ink.preview.png"),
    (("ink.png",), "JPEG", "ink.preview.jpg"),
    (("ink.webp",), "JPEG", "ink.jpg"),
    (("ink.preview.png",), "JPEG", "ink.preview.png"),  # nothing in JPEG would be shown: it becomes PNG
    (("INK.PNG",), "PNG", "INK.PNG"),
])  # fmt: skip
def test_a_picture_that_was_sent_is_the_preview_whatever_lay_there(client, folder, there, form, name):
    for each in there:
        (folder / each).write_bytes(picture("PNG" if each.lower().endswith("png") else "WEBP", "blue"))
    client.post(f"{ROUTES}/rescan")
    number = card(client, "ink")["id"]
    answer = client.post(f"{ROUTES}/adapters/{number}/preview", content=picture(form))
    assert (answer.status_code, answer.json()["has_preview"]) == (200, True)
    assert colour_shown(client, "ink") == "r"
    with Image.open(folder / name) as saved:
        assert saved.format == ("PNG" if name.lower().endswith("png") else form)
    pictures = {path.name for path in folder.iterdir() if path.suffix not in (".safetensors", "")}
    assert pictures == {*there, name}  # the others are untouched, and nothing unfinished is left


@pytest.mark.parametrize("content", [b"", b"<svg onload='alert(1)'/>", b"\x89PNG\r\n\x1a\n broken", picture("BMP")])
def test_what_is_no_picture_is_refused_and_the_preview_stays(client, folder, content):
    (folder / "ink.png").write_bytes(picture("PNG", "blue"))
    number = card(client, "ink")["id"]
    answer = client.post(f"{ROUTES}/adapters/{number}/preview", content=content)
    assert (answer.status_code, "picture" in answer.json()["error"]) == (400, True)
    assert (folder / "ink.png").read_bytes() == picture("PNG", "blue")


def test_a_picture_that_is_too_large_is_refused(client, folder):
    number = card(client, "ink")["id"]
    answer = client.post(f"{ROUTES}/adapters/{number}/preview", content=bytes(33 * 1024 * 1024))
    assert (answer.status_code, answer.json()["error"]) == (413, "the picture is larger than 32 MB")


# who may


@pytest.mark.parametrize("path", WRITING)
def test_who_is_not_logged_in_changes_nothing(folder, path):
    def refuse():
        raise HTTPException(401, "log in first")

    app = FastAPI()
    add_routes(app, Library([folder]), dependencies=[Depends(refuse)])
    before = sorted(each.name for each in folder.rglob("*"))
    assert TestClient(app).post(f"{ROUTES}/{path}", json={"ids": [1], "digest": ""}).status_code == 401
    assert sorted(each.name for each in folder.rglob("*")) == before


@pytest.mark.parametrize("number", ["0", "-1", "x", "..%2fink", "%2e%2e%2fink", "1%00"])
def test_only_ids_are_understood_where_something_is_written(client, number):
    assert post(client, f"adapters/{number}/notes", {"digest": "", "notes": "x"}).status_code == 404
    assert client.post(f"{ROUTES}/adapters/{number}/preview", content=picture("PNG")).status_code == 404


# search, duplicates, hashes


def test_search_finds_trained_tags_descriptions_paths_and_hashes(client, folder):
    (folder / "wash.txt").write_text("For watercolour landscapes")
    client.post(f"{ROUTES}/rescan")
    assert listed(client, q="katana MOON") == ["ink"]
    assert listed(client, q="watercolour") == ["wash"]
    assert listed(client, q="styles/ink.safe") == ["styles/ink"]
    number = card(client, "wash")["id"]
    digits = get(client, f"adapters/{number}", hashes=1)["sha256"]
    assert listed(client, q=digits) == listed(client, q=f"wash {digits[:10]}") == ["wash"]
    assert listed(client, q=get(client, f"adapters/{number}")["hashes"]["autov3"]) == ["wash"]


def test_a_name_that_two_share_ticks_only_the_one_that_it_means(client):
    assert card(client, "ink")["names"] == ["ink"]
    assert card(client, "styles/ink")["names"] == ["styles/ink"]
    assert card(client, "wash")["names"] == ["wash"]


def test_duplicates_are_told_with_what_they_share(client, folder):
    shutil.copy(folder / "wash.safetensors", folder / "styles" / "copy.safetensors")
    write(folder / "same size.safetensors", fill=3)
    write_raw(folder / "empty.safetensors", b"")
    client.post(f"{ROUTES}/rescan")
    found = get(client, "duplicates")["groups"]
    assert [(group["kind"], [each["name"] for each in group["items"]]) for group in found] == [
        ("content", ["styles/copy", "wash"]),
        ("name", ["ink", "styles/ink"]),
    ]
    assert listed(client, state="duplicate") == ["styles/copy", "ink", "styles/ink", "wash"]
    told = get(client, f"adapters/{card(client, 'wash')['id']}")["duplicates"]
    assert [(each["name"], each["reason"]) for each in told] == [("styles/copy", "the same content")]


def test_the_same_name_in_one_content_group_is_told_once(client, folder):
    shutil.copy(folder / "wash.safetensors", folder / "styles" / "wash.safetensors")
    client.post(f"{ROUTES}/rescan")
    kinds = [(group["kind"], group["items"][0]["name"]) for group in get(client, "duplicates")["groups"]]
    assert kinds == [("content", "styles/wash"), ("name", "ink")]


def test_all_hashes_are_computed_in_the_background(client, folder):
    write_raw(folder / "cut.safetensors", b"{}", length=10_000)  # cannot be hashed, and does not stop the others
    client.post(f"{ROUTES}/rescan")
    assert get(client, "hashing") == {"running": False, "done": 0, "total": 0}
    assert client.post(f"{ROUTES}/hashing").json()["total"] == 4
    client.post(f"{ROUTES}/hashing")  # under way already: nothing new begins
    deadline = time.monotonic() + 30
    while get(client, "hashing")["running"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert get(client, "hashing") == {"running": False, "done": 4, "total": 4}
    known = {name: get(client, f"adapters/{card(client, name)['id']}")["hashes"]["sha256"] for name in ("ink", "cut")}
    assert (len(known["ink"]), known["cut"]) == (64, "")


def test_compatible_and_other_adapters_can_be_told_apart(client, folder):
    sdxl = {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": (4, 2048),
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_up.weight": (640, 4)}  # fmt: skip
    write(folder / "big.safetensors", sdxl, {"ss_base_model_version": "sdxl_base_v1-0"})
    client.post(f"{ROUTES}/rescan")
    assert listed(client, state="incompatible") == ["big"]
    assert "big" not in listed(client, state="compatible")
    assert len(listed(client, state="compatible")) == 3


def test_a_licence_stands_on_the_card(client, folder):
    model = {"allowNoCredit": False, "allowCommercialUse": [], "allowDerivatives": True}
    (folder / "ink.civitai.info").write_text(json.dumps({"model": model}))
    write(folder / "wash.safetensors", metadata={"modelspec.license": "MIT"})
    os.utime(folder / "wash.safetensors", (1, 1))
    client.post(f"{ROUTES}/rescan")
    assert card(client, "ink")["license"] == "Civitai: credit the author; no commercial use"
    assert (card(client, "wash")["license"], card(client, "styles/ink")["license"]) == ("MIT", "")
