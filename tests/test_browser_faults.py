"""Who asks under which name, and pictures that mean harm."""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lib_lora.browser.answers import JSONResponse
from lib_lora.browser.dry_run import dry_run
from lib_lora.browser.hosts import KnownHosts, is_loopback
from lib_lora.browser.listing import Shelf
from lib_lora.browser.pictures import PictureError, opened, plain, upright
from lib_lora.browser.routes import add_routes
from lib_lora.grammar.tag import MOST_TAGS
from lib_lora.library import Library
from tests.adapter_files import write

LIST, MARKS = "/lora/v1/adapters", "/lora/v1/marks"


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "ink.safetensors")
    return tmp_path


@pytest.fixture
def app(folder):
    app = FastAPI()
    add_routes(app, Library([folder]))
    return app


# names of the page

OURS = ["localhost", "localhost:7860", "LOCALHOST.", "127.0.0.1:7860", "127.8.8.8", "[::1]:7860", "[::1]", 
        "192.168.1.5:80", "page.localhost:7860", "my.name:7860", "MY.NAME"]  # fmt: skip
NOT_OURS = ["evil.test", "evil.test:7860", "localhost.evil.test", "127.0.0.1.evil.test:7860", "evil.localhost.test",
            "testserver", "my.name.evil.test", "xn--80ak6aa92e.com"]  # fmt: skip
SENSELESS = ["", "[", "[::1", "a b", "http://localhost", "localhost/", "localhost:", "localhost:x", "localhost:99999",
             "user@localhost", "localhost#", "[evil]", "localhost\\evil", "[::1].evil.test"]  # fmt: skip


@pytest.mark.parametrize(("hosts", "allowed"), [(OURS, True), (NOT_OURS, False), (SENSELESS, False)])
def test_a_page_of_this_computer_answers_to_its_names_only(app, hosts, allowed):
    app.add_middleware(KnownHosts, allowed=["127.0.0.1", "my.name"])
    client = TestClient(app, raise_server_exceptions=False)
    for host in hosts:
        same = {"Host": host, "Origin": f"http://{host}"}  # as after DNS rebinding
        got = client.get(LIST, headers=same).status_code, client.post(MARKS, json={"ids": []}, headers=same).status_code
        assert got == (200, 200) if allowed else set(got) <= {400, 421}, host
    assert "--allow-host evil.test" in client.get(LIST, headers={"Host": "evil.test:1"}).json()["error"]


def test_which_addresses_are_this_computers_only():
    names = "localhost", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "", "x"
    assert list(filter(is_loopback, names)) == ["localhost", "127.0.0.1", "127.9.9.9", "::1"]


@pytest.mark.parametrize("origin", [
    "null", "", "x", "http://", "http://[", "http://[::1", "http://a b", "http://testserver:99999999",
    "http://testserver:x", "file://testserver", "http://testserver@evil.test", "http://testserver/",
    "http://testserver, http://evil.test", "http://evil.test#http://testserver", "\x7f", "é", "http://ｔestserver",
])  # fmt: skip
def test_an_odd_origin_is_refused_and_no_error(app, origin):
    client = TestClient(app, raise_server_exceptions=False)
    sent = {"Origin": origin.encode("utf-8")}
    assert client.post(MARKS, json={"ids": []}, headers=sent).status_code == 403


# answers


def test_answers_are_valid_json_whatever_is_in_them():
    odd = {"nan": float("nan"), "inf": [float("inf"), 1.5], "half": "\ud800", "many": 10**400, ("a", 1): True}
    told = json.loads(JSONResponse({key: value for key, value in odd.items() if isinstance(key, str)}).body)
    assert told == {"nan": None, "inf": [None, 1.5], "half": "?", "many": None}


# prompts


@pytest.mark.parametrize("prompt", ["<lora:" * 16_000, "<lora:" * 16_000 + ">", "<" * 100_000, "<lora:a:" * 12_000,
                                    "".join(f"<lora:nothing called {n}:1>" for n in range(4000))])  # fmt: skip
def test_a_long_prompt_is_tried_quickly(tmp_path, prompt):
    for number in range(300):
        write(tmp_path / f"adapter number {number}.safetensors")
    shelf = Shelf(Library([tmp_path], patience=1e9))
    shelf.stock()
    started = time.process_time()
    told = dry_run(shelf, prompt[:100_000])
    assert time.process_time() - started < 4  # about 0.3
    assert len(told["tags"]) <= MOST_TAGS + 1
    assert len(told["tags"]) < MOST_TAGS or f"a prompt can have {MOST_TAGS} tags" in told["problems"][-1]


def test_the_dry_run_says_that_there_are_two_of_one_name(tmp_path):
    write(tmp_path / "a/ink.safetensors")
    write(tmp_path / "b/ink.safetensors", fill=1)
    (tag,) = dry_run(Shelf(Library([tmp_path])), "<lora:ink:1>")["tags"]
    assert "<lora:b/ink:1>" in tag["notes"][0]


# pictures


def png(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def picture(form: str, size=(8, 8), mode: str = "RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, form, **options)
    return buffer.getvalue()


def webp_of(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


REFUSED = {
    "a PNG of 10^18 pixels": (png(10**9, 10**9), "million pixels"),
    "a PNG of 64 million pixels": (png(8000, 8000), "million pixels"),
    "a GIF of 4 billion pixels": (b"GIF89a" + struct.pack("<HH", 65535, 65535) + picture("GIF")[10:], "million"),
    "a WebP of 10^14 pixels": (webp_of(1 << 24, 1 << 24), "million pixels"),
    "a JPEG of a thousand passes": (picture("JPEG", (2000, 2000)) + b"\xff\xda" * 1000, "passes"),
    "a PNG that breaks off": (picture("PNG", (500, 500))[:60], ""),
    "a web page": (b"<!DOCTYPE html><script>alert(1)</script>", "no picture that can be read"),
    "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', "no picture that can be read"),
    "a sound": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(50), "no WebP"),
    "a TIFF": (picture("TIFF"), "no picture that can be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_pictures_are_refused_with_a_sentence(app, folder, name):
    content, words = REFUSED[name]
    client = TestClient(app)
    number = client.get(LIST).json()["items"][0]["id"]
    answer = client.post(f"{LIST}/{number}/preview", content=content)
    assert (answer.status_code, words in answer.json()["error"]) == (400, True)
    (folder / "ink.png").write_bytes(content)
    client.post("/lora/v1/rescan")
    shown = client.get(f"{LIST}/{number}/thumbnail")
    assert shown.status_code == 204
    assert [each for each in client.get(f"{LIST}/{number}").json()["warnings"] if "ink.png" in each and words in each]
    sent = client.get(f"{LIST}/{number}/thumbnail?original=1")
    assert sent.status_code == 204 or sent.headers["content-type"].startswith("image/")
    assert sent.status_code == 204 or sent.headers["content-type"] != "image/svg+xml"


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]), st.data())
def test_damaged_pictures_are_opened_or_refused_and_nothing_else(form, data):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 50
    options = {} if form == "GIF" else {"exif": exif}
    content = bytearray(picture(form, (9, 7), **options))
    places = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    for place, value in data.draw(st.lists(places, max_size=9)):
        content[place] = value
    with contextlib.suppress(PictureError), opened(bytes(content[: data.draw(st.integers(1, len(content)))])) as found:
        assert upright(plain(found)).mode in ("RGB", "RGBA")


def test_a_picture_with_damaged_exif_data_becomes_the_preview(app, folder):
    (folder / "ink.preview.png").write_bytes(picture("PNG"))
    exif = Image.Exif()
    exif[0x0112] = 6
    content = picture("JPEG", exif=exif).replace(b"MM\0*", b"MM\x01*").replace(b"II*\0", b"II\0*")
    client = TestClient(app)
    number = client.get(LIST).json()["items"][0]["id"]
    assert client.post(f"{LIST}/{number}/preview", content=content).status_code == 200
    with Image.open(folder / "ink.preview.png") as saved:
        assert saved.size == (8, 8)


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux counts it")
def test_several_large_pictures_at_once_take_the_memory_of_one():
    code = """
import io, resource, sys, threading
from PIL import Image
from lib_lora.browser.thumbnail import _small
buffer = io.BytesIO(); Image.new("RGBA", (6000, 6000), (200, 30, 30, 255)).save(buffer, "PNG")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
threads = [threading.Thread(target=lambda: sizes.append(len(_small(buffer.getvalue()).content))) for _ in range(5)]
sizes = []
[each.start() for each in threads], [each.join() for each in threads]
print(len(sizes), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True,
                          cwd=Path(__file__).parents[1], env={**os.environ, "PYTHONPATH": "."})  # fmt: skip
    count, grown = map(int, done.stdout.split())
    assert (count, grown < 400) == (5, True)  # MB; one picture has 144


def test_a_video_is_the_preview_where_there_is_no_picture(app, folder):
    content = b"\0\0\0\x18ftypmp42" + bytes(100)
    (folder / "ink.mp4").write_bytes(content)
    client = TestClient(app)
    (card,) = client.get(LIST).json()["items"]
    assert (card["has_preview"], card["has_video"]) == (True, True)
    assert client.get(f"{LIST}/{card['id']}/thumbnail").status_code == 204
    sent = client.get(f"{LIST}/{card['id']}/thumbnail?original=1")
    assert (sent.content, sent.headers["content-type"]) == (content, "video/mp4")
    (folder / "ink.mp4").write_bytes(b"<script>alert(1)</script>")
    assert client.get(f"{LIST}/{card['id']}/thumbnail?original=1").status_code == 204
    assert "no video" in client.get(f"{LIST}/{card['id']}").json()["warnings"][0]
    (folder / "ink.png").write_bytes(picture("PNG"))
    client.post("/lora/v1/rescan")
    assert client.get(LIST).json()["items"][0]["has_video"] is False
