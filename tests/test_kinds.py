"""What a file is decides its content; what is no model is called by its name, with what to do."""

from __future__ import annotations

import json
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from lib_lora.adapters.adapter import read_adapter
from lib_lora.errors import AdapterFileError
from lib_lora.formats.hashes import hash_file
from lib_lora.library import Library
from tests.adapter_files import Q

TENSORS = {f"{Q}.lora_down.weight": torch.ones(1, 768), f"{Q}.lora_up.weight": torch.ones(320, 1)}
NO_MODELS = {
    "login page": (b"<!DOCTYPE html><html><head><title>Log in</title></head></html>", "a web page", "log in there"),
    "page with blanks before it": (b"\n  <HTML lang=en>", "a web page", "log in there"),
    "answer in XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an answer", "log in there"),
    "answer in JSON": (b'{"error":"Unauthorized","message":"Log in to download it"}',
                       'it says "Unauthorized: Log in to download it"', "API key"),
    "answer that is a list": (b"[1, 2, 3, 4, 5, 6]", "an answer of a website", "download it again"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345678\n",
                "a git-lfs pointer", "git lfs pull"),
    "empty": (b"", "is empty", "download it again"),
    "zeros": (bytes(5000), "full of zeros", "download it again"),
    "text": ("Für Elise, read me".encode(), 'a text, not a model; it begins with "Für Elise', "download it again"),
    "RAR": (b"Rar!\x1a\x07\x01\x00" + bytes(50), "a RAR archive", "unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(50), "a 7z archive", "unpack it"),
    "gzip": (b"\x1f\x8b\x08" + bytes(50), "a compressed file", "unpack it"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(50), "a picture", "take it out of the folder"),
    "photo": (b"\xff\xd8\xff\xe0" + bytes(50), "a picture", "take it out of the folder"),
    "video": (b"\0\0\0\x20ftypisom" + bytes(50), "a video", "take it out of the folder"),
    "GGUF": (b"GGUF\3\0\0\0" + bytes(50), "GGUF", ".safetensors"),
    "noise": (b"\xfe\xdc\xba\x98" * 20, "not a safetensors file", "download it again"),
}  # fmt: skip


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
@pytest.mark.parametrize("what", NO_MODELS)
def test_what_is_no_model_is_called_by_its_name(tmp_path, what, ending):
    content, name, step = NO_MODELS[what]
    path = tmp_path / f"ink.{ending}"
    path.write_bytes(content)
    with pytest.raises(AdapterFileError) as caught:
        read_adapter(path)
    said = str(caught.value)
    assert said.startswith(f"ink.{ending} ")
    assert name in said
    assert step in said
    assert Library([tmp_path]).find("ink").broken == said


def test_what_a_site_says_is_repeated_in_one_short_line(tmp_path):
    answer = {"error": "no\n\x1b[31m" + "x" * 5000, "message": ["a list"]}
    (tmp_path / "ink.safetensors").write_text(json.dumps(answer))
    with pytest.raises(AdapterFileError) as caught:
        read_adapter(tmp_path / "ink.safetensors")
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_an_archive_with_a_model_in_it_is_to_be_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "ink.safetensors", "w") as file:
        file.writestr("ink/ink.safetensors", b"...")
    with pytest.raises(AdapterFileError, match="is a zip archive, not a model: unpack it"):
        read_adapter(tmp_path / "ink.safetensors")


@pytest.mark.parametrize("name", ["a.pt", "a.ckpt", "lora.bin", "a.safetensors"])
@pytest.mark.parametrize("kind", ["safetensors", "torch", "torch before 2020"])
def test_the_content_decides_and_not_the_ending(tmp_path, kind, name):
    path = tmp_path / name
    if kind == "safetensors":
        save_file(TENSORS, path, metadata={"modelspec.title": "Ink"})
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization=kind == "torch")
    adapter = read_adapter(path)
    assert list(adapter.modules) == [Q]
    entry = Library([tmp_path]).find(path.stem)
    assert (entry.broken, entry.rank, entry.family.id) == (None, (1, 1), "sd1")
    assert entry.title == ("Ink" if kind == "safetensors" else "")
    assert bool(hash_file(path).tensors) == (kind == "safetensors")


@pytest.mark.parametrize("kind", ["safetensors", "torch", "torch before 2020"])
def test_every_cut_of_a_download_is_refused_by_name(tmp_path, kind):
    path = tmp_path / "a.safetensors"
    if kind == "safetensors":
        save_file(TENSORS, path)
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization=kind == "torch")
    content = path.read_bytes()
    for end in [*range(0, 1500, 97), *range(1500, len(content), 1009), len(content) - 1]:
        path.write_bytes(content[:end])
        with pytest.raises(AdapterFileError, match=r"a\.safetensors"):
            read_adapter(path)
