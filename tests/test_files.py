"""Walking the folders."""

from __future__ import annotations

import os

import pytest

from lib_lora.library.files import Walked, stem_of, walk

linked = pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")


def put(folder, *names, content=b"x"):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def names(*folders):
    return sorted(found.name for found in walk(folders))


def test_adapters_are_found_in_all_folders_below_and_other_files_are_not(tmp_path):
    put(tmp_path, "a.safetensors", "b/c.pt", "b/d/e.ckpt", "F.SafeTensors", "readme.md", "a.json", "a.png")
    assert names(tmp_path) == ["F", "a", "b/c", "b/d/e"]


def test_hidden_files_and_folders_are_left_out(tmp_path):
    put(tmp_path, ".git/a.safetensors", "._mac.safetensors", "seen.safetensors")
    assert names(tmp_path) == ["seen"]


def test_size_time_folder_and_neighbours_come_with_the_file(tmp_path):
    put(tmp_path, "s/ink.v2.safetensors", "s/ink.v2.json", "s/ink.v2.preview.PNG", "s/ink.json", content=b"12345")
    (found,) = walk([tmp_path])
    assert (found.path, found.folder, found.size) == (tmp_path / "s/ink.v2.safetensors", tmp_path, 5)
    assert found.mtime_ns == found.path.stat().st_mtime_ns
    assert [name for name, _ in found.beside] == ["ink.v2.json", "ink.v2.preview.PNG"]


def test_a_bin_counts_if_its_name_and_its_first_bytes_are_those_of_an_adapter(tmp_path):
    put(tmp_path, "pytorch_lora_weights.bin", content=b"PK\x03\x04")
    put(tmp_path, "pytorch_model.bin", content=b"PK\x03\x04")
    put(tmp_path, "lora_notes.bin", content=b"text")
    assert names(tmp_path) == ["pytorch_lora_weights"]


@linked
def test_links_are_followed_but_never_in_circles(tmp_path):
    put(tmp_path / "lib", "a/x.safetensors")
    put(tmp_path / "elsewhere", "y.safetensors")
    (tmp_path / "lib/a/up").symlink_to(tmp_path / "lib")
    (tmp_path / "lib/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "lib/self").symlink_to("self")
    (tmp_path / "lib/gone.safetensors").symlink_to("nowhere")
    (tmp_path / "lib/z.safetensors").symlink_to(tmp_path / "elsewhere/y.safetensors")
    assert names(tmp_path / "lib") == ["a/x", "more/y", "z"]


@linked
def test_a_folder_that_is_both_linked_and_real_goes_by_its_real_name(tmp_path):
    put(tmp_path, "one/deep/x.safetensors", "two/y.safetensors")
    (tmp_path / "one/link").symlink_to(tmp_path / "two")
    (tmp_path / "one/again").symlink_to(tmp_path / "one/deep")
    assert names(tmp_path / "one", tmp_path / "two") == ["deep/x", "y"]


def test_a_folder_inside_another_is_walked_once(tmp_path):
    put(tmp_path, "a/x.safetensors")
    assert len(names(tmp_path, tmp_path / "a", tmp_path)) == 1


def test_a_missing_folder_is_told_and_the_others_are_walked(tmp_path):
    put(tmp_path, "x.safetensors")
    walked = Walked()
    assert [found.name for found in walk([tmp_path / "gone", tmp_path], walked)] == ["x"]
    assert len(walked.problems) == 1
    assert "gone" in walked.problems[0]


def test_a_walk_is_out_of_date_once_a_file_or_the_missing_folder_appears(tmp_path):
    put(tmp_path, "sub/x.safetensors")
    walked = Walked()
    list(walk([tmp_path, tmp_path.with_name("later")], walked))
    assert walked.is_current()
    os.utime(tmp_path / "sub", ns=(1, 1))
    assert not walked.is_current()


@pytest.mark.skipif(os.name == "nt", reason="names that are not Unicode")
def test_a_name_that_is_not_unicode_is_found(tmp_path):
    put(tmp_path, os.fsdecode(b"caf\xe9.safetensors"))
    assert names(tmp_path) == [os.fsdecode(b"caf\xe9")]


@pytest.mark.parametrize(
    ("name", "stem"), [("a.safetensors", "a"), ("a.v1.5", "a.v1.5"), ("a.pt", "a"), ("x/a.b.CKPT", "x/a.b")]
)
def test_only_the_extension_of_an_adapter_is_cut_off(name, stem):
    assert stem_of(name) == stem
