"""Hashes, computed and stated."""

from __future__ import annotations

import hashlib

import pytest

from lib_lora.errors import AdapterFileError
from lib_lora.formats.hashes import NOTHING, Hashes, hash_file, short_hash, stated_hashes, stored_hash, tensor_hash
from tests.adapter_files import write, write_raw


def test_the_full_hash_covers_the_file_and_the_tensor_hash_all_after_the_header(tmp_path):
    path = write(tmp_path / "a.safetensors", {"x": (3,)}, {"k": "v"}, fill=7)
    found = hash_file(path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.tensors == hashlib.sha256(b"\x07" * 6).hexdigest() == tensor_hash(path)
    assert (found.autov2, found.autov3, found.autov1) == (found.sha256[:10], found.tensors[:12], "")


def test_the_tensor_hash_does_not_change_with_the_metadata(tmp_path):
    assert tensor_hash(write(tmp_path / "a.safetensors", metadata={})) == tensor_hash(
        write(tmp_path / "b.safetensors", metadata={"long": "x" * 5000})
    )


def test_the_oldest_hash_covers_64_kib_at_one_mib(tmp_path):
    data = bytes(range(256)) * 6000
    path = write_raw(tmp_path / "a.safetensors", b"{}", data)
    content = path.read_bytes()
    assert hash_file(path).autov1 == hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8]
    assert hash_file(path).sha256 == hashlib.sha256(content).hexdigest()


def test_a_pickled_file_has_no_tensor_hash(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(b"anything")
    assert hash_file(path) == Hashes(hashlib.sha256(b"anything").hexdigest())
    assert short_hash({}, hash_file(path)) == hashlib.sha256(b"anything").hexdigest()[:12]


def test_a_file_with_a_lying_length_is_an_error(tmp_path):
    with pytest.raises(AdapterFileError, match=r"a\.safetensors"):
        hash_file(write_raw(tmp_path / "a.safetensors", b"{}", length=1 << 60))
    with pytest.raises(AdapterFileError, match="cannot be read"):
        hash_file(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("stored", ["0x" + "ab" * 32, NOTHING, "", "abc", "zz" * 32])
def test_a_stored_hash_that_is_known_to_be_wrong_is_computed_instead(stored):
    computed = Hashes("11" * 32, "22" * 32)
    assert stored_hash({"sshs_model_hash": stored}) == ""
    assert short_hash({"sshs_model_hash": stored}, computed) == "22" * 6


def test_a_stored_hash_is_the_short_hash_as_in_the_webui():
    assert short_hash({"sshs_model_hash": "AB" * 32}, Hashes("11" * 32, "22" * 32)) == "ab" * 6


def test_stated_hashes_are_those_that_people_may_paste():
    metadata = {"sshs_model_hash": "0x" + "ab" * 32, "sshs_legacy_hash": "12345678", "modelspec.hash_sha256": NOTHING}
    assert stated_hashes(metadata) == ("ab" * 32, "12345678")
