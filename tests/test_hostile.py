"""Files from the internet and requests from other pages that mean harm, against the routes of the listing.

What a browser does with the same files: tests/page/test_hostile_page.py.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient

from lib_lora.browser.routes import PREFIX, add_routes
from lib_lora.library import Library
from tests.hostile_files import MARKUP, SECRET, header_file, write_hostile_files

LIST = f"{PREFIX}/adapters"
IDS = [
    "-1",
    "0",
    "1.0",
    "1e3",
    "0x1",
    "+1",
    " 1",
    "%201",
    "1%00",
    "%00",
    "NaN",
    "null",
    "true",
    "１",
    "9" * 18,
    "9" * 400,
    "..",
    "%2e%2e",
    "..%2f..%2fetc%2fpasswd",
    "%2fetc%2fpasswd",
    "..%5c..%5c",
    "ink.safetensors",
    "1;2",
    "1,2",
    "<script>",
    "%f0%9f%92%a9",
    "%ff",
    "1%0d%0aX-Injected:%201",
]
VALUES = [
    "-1",
    "1.5",
    "1e9",
    "9" * 400,
    "１",
    "NaN",
    "",
    "x",
    "\x00",
    "../..",
    "/etc/passwd",
    "%s%n",
    "' OR 1=1 --",
    '"',
    "[",
    "\u202e",
    "<script>",
    "x" * 20_000,
]
PARAMETERS = (
    "q",
    "sort",
    "reverse",
    "offset",
    "limit",
    "ids",
    "family",
    "flavour",
    "algorithm",
    "folder",
    "state",
    "tag",
    "metadata",
    "hashes",
    "original",
)
BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"1",
    b'"x"',
    b"\xff\xfe",
    b"[" * 50_000,
    b'{"a":' * 50_000,
    json.dumps({"ids": "1"}).encode(),
    b'{"ids": [-1]}',
    b'{"ids": [1.5]}',
    b'{"ids": [1e400]}',
    b'{"ids": [9007199254740993000000]}',
    b'{"ids": [null, true, "1", {}]}',
    b'{"ids": {"$gt": 0}}',
    b'{"ids": [1], "add_tags": "x"}',
    b'{"ids": [1], "add_tags": [1, null]}',
    b'{"ids": [1], "favorite": "yes"}',
    b'{"digest": 1}',
    b'{"digest": "", "preferred_weight": 1e999}',
    b'{"digest": "", "preferred_weight": NaN}',
    b'{"digest": "", "preferred_weight": {}}',
    b'{"digest": "", "notes": 5}',
    b'{"prompt": ["x"]}',
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    top = tmp_path_factory.mktemp("hostile")
    (top / "secrets").mkdir()
    (top / "secrets" / "passwd").write_text(SECRET)
    (top / "adapters").mkdir()
    write_hostile_files(top / "adapters")
    return top / "adapters"


@pytest.fixture(scope="module")
def app(folder):
    made = FastAPI()
    add_routes(made, Library([folder]), checkpoint=lambda: "sd1")
    return made


@pytest.fixture(scope="module")
def client(app):
    """Errors of the server are errors of the test. One loop answers all, which costs less than one for each."""
    with TestClient(app) as made:
        yield made


def routes(app):
    """(method, path) of everything below /lora/v1."""
    return sorted(
        (method, route.path)
        for route in app.routes
        if getattr(route, "path", "").startswith(PREFIX)
        for method in route.methods
        if method not in ("HEAD", "OPTIONS")
    )


def cards(client, query="limit=500"):
    return client.get(f"{LIST}?{query}").json()["items"]


def by_stem(client, stem):
    return next(card for card in cards(client) if card["name"].rpartition("/")[2] == stem)


def everything(client, card):
    return client.get(f"{LIST}/{card['id']}?metadata=1").json()


def files_below(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# what stands in files


def test_markup_arrives_as_it_was_written(client):
    told = everything(client, by_stem(client, "markup"))
    for field in ("title", "author", "license", "description", "notes", "activation_text"):
        assert MARKUP in told[field], field
    assert MARKUP in told["trigger_words"] + [tag for tag, _ in told["trained_tags"]]
    assert told["metadata"][MARKUP] == MARKUP


def test_every_answer_says_that_it_is_json_and_nothing_else(client, app):
    number = by_stem(client, "markup")["id"]
    for method, path in routes(app):
        answer = client.request(method, path.replace("{number}", str(number)), json={})
        if answer.content and answer.status_code < 300 and not path.endswith(("thumbnail", "preview")):
            assert answer.headers["content-type"] == "application/json", path


@pytest.mark.parametrize("name", ["svg", "html", "script", "link to a secret"])
def test_what_poses_as_a_picture_is_never_sent(client, name):
    number = by_stem(client, name)["id"]
    for query in ("", "?original=1"):
        answer = client.get(f"{LIST}/{number}/thumbnail{query}")
        assert (answer.status_code, answer.content) == (204, b"")


def test_a_picture_with_markup_behind_its_signature_is_sent_as_a_picture_only(client):
    number = by_stem(client, "polyglot")["id"]
    assert client.get(f"{LIST}/{number}/thumbnail").status_code == 204
    answer = client.get(f"{LIST}/{number}/thumbnail?original=1")
    assert answer.headers["content-type"] == "image/gif"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "stem",
    [
        "length 2^63",
        "length 2^64-1",
        "offsets 2^63",
        "shape 2^63",
        "negative",
        "deep",
        "no object",
        "empty",
        "overlapping",
        "not text",
        "metadata twice",
    ],
)
def test_a_lying_header_is_a_broken_file_with_a_sentence(client, stem):
    card = by_stem(client, stem)
    assert f"{stem}.safetensors" in card["broken"]
    assert client.get(f"{LIST}/{card['id']}?metadata=1").status_code == 200


@pytest.mark.parametrize(
    "stem", ["deep metadata", "duplicate keys", "wrong types", "huge numbers", "long", "surrogates", "many tags"]
)
def test_odd_metadata_costs_nobody_anything(client, stem):
    card = by_stem(client, stem)
    assert card["broken"] is None
    assert everything(client, card)["name"] == stem
    assert len(json.dumps(card)) < 60_000


@pytest.mark.parametrize(
    "stem",
    [
        "list sidecars",
        "deep sidecars",
        "huge sidecars",
        "binary sidecars",
        "folder sidecars",
        "numbers sidecars",
        "linked sidecars",
    ],
)
def test_odd_sidecars_are_named_and_the_adapter_stays_usable(client, stem):
    card = by_stem(client, stem)
    told = everything(client, card)
    assert card["broken"] is None
    assert SECRET not in json.dumps(told)
    assert all(len(warning) < 500 for warning in told["warnings"])
    if stem not in ("folder sidecars", "numbers sidecars"):
        assert any(".json" in warning or ".civitai.info" in warning for warning in told["warnings"])


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_file_name_that_is_no_unicode_hides_nothing(client, folder):
    path = header_file(Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9 \xff.safetensors")), {})
    path.write_bytes(path.read_bytes()[:-1] + b"\1")  # a content, and so a hash, of its own
    client.post(f"{PREFIX}/rescan", json={})
    told = cards(client)
    assert len([card for card in told if card["name"].startswith("caf")]) == 1
    odd = next(card for card in told if card["name"].startswith("caf"))
    assert everything(client, odd)["id"] == odd["id"]
    tried = client.post(f"{PREFIX}/prompt", json={"prompt": f"<lora:{odd['tag_name']}:1>"}).json()
    assert tried["tags"][0]["adapter"]["id"] == odd["id"]
    path.unlink()


# what stands in addresses and bodies


@pytest.mark.parametrize("number", IDS)
def test_an_id_that_is_none_is_an_error_on_every_route(client, app, number):
    for method, path in routes(app):
        if "{number}" in path:
            answer = client.request(method, path.replace("{number}", number), json={})
            assert answer.status_code in (400, 404, 405, 422), (path, number)
            assert "x-injected" not in answer.headers
            assert SECRET not in answer.text


@pytest.mark.parametrize("value", VALUES)
def test_odd_parameters_are_errors_in_sentences_or_find_nothing_odd(client, app, value):
    number = str(by_stem(client, "plain")["id"])
    for method, path in routes(app):
        if method == "GET":
            for name in PARAMETERS:
                answer = client.get(path.replace("{number}", number), params={name: value})
                assert answer.status_code in (200, 204, 400), (path, name)
                assert SECRET not in answer.text


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:40].decode("latin-1"))
def test_odd_bodies_are_errors_in_sentences_and_change_no_file(client, app, folder, body):
    number, before = str(by_stem(client, "plain")["id"]), files_below(folder)
    for method, path in routes(app):
        if method != "GET":
            answer = client.request(
                method, path.replace("{number}", number), content=body, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code in (200, 400, 409, 413, 415, 422), (path, answer.text[:200])
            assert answer.status_code == 200 or answer.json().get("error"), path
    assert files_below(folder) == before


def test_no_answer_leaves_the_folders(client, app):
    """Ids are numbers of the index; a path that a client sends is just a text that finds nothing."""
    for text in ("../secrets/passwd", "..\\secrets\\passwd", "/etc/passwd", "secrets/passwd", "link"):
        assert cards(client, f"q={text}") == [] or SECRET not in str(cards(client, f"q={text}"))
        told = client.post(f"{PREFIX}/prompt", json={"prompt": f"<lora:{text}:1>"}).json()
        assert told["tags"][0]["adapter"] is None or "passwd" not in told["tags"][0]["adapter"]["name"]
    assert not any(re.search(r"\{\w*(path|file|folder|name)\w*\}", path) for _, path in routes(app))


def test_links_in_circles_and_to_nothing_are_walked_once(tmp_path):
    folder = tmp_path / "adapters"
    (folder / "inner").mkdir(parents=True)
    header_file(folder / "inner" / "ink.safetensors", {})
    for link, target in {
        "itself": "itself",
        "up": "..",
        "inner/top": "../../adapters",
        "dead.safetensors": "nowhere",
        "loop.safetensors": "loop.safetensors",
        "root": "inner",
    }.items():
        (folder / link).symlink_to(target)
    library = Library([folder])
    assert [entry.name for entry in library.entries()] == ["inner/ink"]


# who asks


def login() -> None:
    raise HTTPException(401, "log in first")


def test_every_route_asks_for_the_login(folder):
    app = FastAPI()
    add_routes(app, Library([folder]), dependencies=[Depends(login)])
    client, asked = TestClient(app), routes(app)
    assert len(asked) >= 6
    for method, path in asked:
        for number in ("1", "x"):
            answer = client.request(method, path.replace("{number}", number), json={})
            assert answer.status_code == 401, (method, path)


OTHER = {"Origin": "http://evil.test"}
HOME = {"Origin": "http://testserver"}


@pytest.mark.parametrize(
    "headers",
    [
        {**OTHER, "Content-Type": "text/plain"},
        {**OTHER, "Content-Type": "text/plain; charset=utf-8"},
        {**OTHER, "Content-Type": "application/x-www-form-urlencoded"},
        {**OTHER, "Content-Type": "multipart/form-data; boundary=x"},
        {**OTHER, "Content-Type": "application/json"},  # Gradio tells some browsers that it may be sent
        OTHER,
        {"Origin": "null", "Content-Type": "text/plain"},  # a page in a sandbox, or a file
        {"Origin": "http://testserver.evil.test", "Content-Type": "TEXT/PLAIN"},
        {"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"},
        {"Sec-Fetch-Site": "same-site", **OTHER, "Content-Type": "text/plain"},
    ],
)
def test_another_page_in_the_users_browser_changes_nothing(client, app, folder, headers):
    number, before = str(by_stem(client, "plain")["id"]), files_below(folder)
    header_file(folder / "new.safetensors", {})
    for method, path in routes(app):
        if method != "GET":
            body = json.dumps({"ids": [int(number)], "favorite": True, "digest": "", "notes": "x"})
            answer = client.request(method, path.replace("{number}", number), content=body, headers=headers)
            assert answer.status_code == 403, (method, path)
    (folder / "new.safetensors").unlink()
    assert files_below(folder) == before
    assert not by_stem(client, "plain")["favorite"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json"},  # no browser
        {"Content-Type": "text/plain"},
        {},
        {**HOME, "Content-Type": "text/plain"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://behind.a.proxy", "Content-Type": "text/plain"},
    ],
)
def test_the_page_itself_and_programs_are_let_in(client, headers):
    assert client.post(f"{PREFIX}/rescan", headers=headers).status_code == 200


def test_no_other_page_is_told_that_it_may_ask(client, app):
    for method, path in routes(app):
        answer = client.options(
            path.replace("{number}", "1"),
            headers={
                **OTHER,
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": "content-type",
            },
        )
        assert not [name for name in answer.headers if name.startswith("access-control-")]
