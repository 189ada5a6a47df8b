"""Pickles are interpreted to plain data: nothing runs, nothing is larger than the file, nothing takes for ever."""

# ruff: noqa: E501  (tables, and pickles by hand)

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zipfile
from collections import OrderedDict

import pytest
import torch

from lib_lora.errors import AdapterFileError
from lib_lora.formats.pickles import OPAQUE, PickledTensor, PickleError, interpret
from lib_lora.formats.torch_file import read_listing
from lib_lora.formats.unpickling import TorchFile, read_pickle

STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x02tQ"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def tensor(shape=b"K\x02\x85", strides=b"K\x01\x85", offset=b"K\0"):
    return REBUILD + b"(" + STORAGE + offset + shape + strides + b"\x89NtR"


def whole(number):
    """Of any size, as pickles write it."""
    content = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<i", len(content)) + content


def archive(path, listing, *, method=zipfile.ZIP_STORED, data=bytes(8), extra=()):
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("archive/data.pkl", listing)
        file.writestr("archive/data/0", data)
        for name in extra:
            file.writestr(f"archive/{name}", b"")
    return path


def problem(path):
    with pytest.raises(AdapterFileError) as caught:
        read_pickle(path)
    with pytest.raises(AdapterFileError) as again:
        read_listing(path)
    assert str(again.value) == str(caught.value)  # the scan says what the reader says
    return str(caught.value)


# what comes out


def test_a_pickle_becomes_dicts_texts_numbers_and_places_of_tensors():
    value, end = interpret(b"\x80\x02}(" + text("a") + tensor() + text("n") + b"K\x05" + text("t") + b"K\x01N\x86u.")
    assert (value["n"], value["t"], end) == (5, (1, None), len(value) and end)
    assert (value["a"].shape, value["a"].strides, value["a"].storage.key) == ((2,), (1,), "0")
    assert type(value) is dict


def test_what_training_leaves_in_a_checkpoint_is_nothing():
    size = b"ctorch\nSize\n(K\x01K\x02t\x85R"
    scalar = b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\0\0\0f8\x85RC\x08" + bytes(8) + b"\x86R"
    callback = b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n"
    value, _ = interpret(b"\x80\x02}(" + text("s") + size + text("n") + scalar + callback + b"}" + b"u.")
    assert value == {"s": OPAQUE, "n": OPAQUE}


def test_the_words_of_an_old_embedding_are_found_in_its_own_kind_of_dict():
    listing = (b"\x80\x02}" + text("string_to_param") + b"ctorch.nn.modules.container\nParameterDict\n)\x81}"
               + text("_parameters") + b"}" + text("*") + tensor() + b"ssbs.")  # fmt: skip
    assert type(interpret(listing)[0]["string_to_param"]["*"]) is PickledTensor


@pytest.mark.parametrize(
    ("protocol", "is_new"), [(2, True), (3, True), (4, True), (5, True), (2, False), (3, False)]
)  # no file of the older kind has a newer protocol
def test_files_of_torch_are_read_as_torch_reads_them(tmp_path, protocol, is_new):
    both = torch.arange(12.0).reshape(3, 4)
    tensors = OrderedDict(a=both, b=both.T, c=both[1:, 2:], d=torch.tensor(3), e=torch.empty(0, 2), f=torch.ones(3).half(),
                          g=torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16)), h=torch.tensor([True, False]))  # fmt: skip
    torch.save({"state_dict": tensors, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "betas": (0.9, 0.99)}},
               tmp_path / "x.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=is_new)  # fmt: skip
    read = read_pickle(tmp_path / "x.pt")
    assert list(read) == list(tensors)
    for name, expected in tensors.items():
        assert torch.equal(read[name], expected)
        assert read[name].dtype == expected.dtype
    with TorchFile(tmp_path / "x.pt", keep=False) as file:
        assert all(torch.equal(file.read(name), tensors[name]) for name in file.names())


# what does not


HOSTILE = {
    "a dict keyed by itself squared": b"}" + b"K\x01" + b"2\x86" * 40 + b"K\x01s.",
    "the same from memory": b"}K\x01q\0" + b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(40)) + b"K\x01s.",
    "a list keyed": b"}]K\x01s.",
    "memory that grows under a tensor": b"\x96" + struct.pack("<Q", 64) + b"A" * 64 + b".",
    "a storage with attributes": b"}" + STORAGE + b"}" + text("data") + b"K\x01sbs.",
    "a tensor with attributes": b"}" + tensor() + b"}bs.",
    "items of a tensor": b"}" + tensor() + b")K\x01ss.",
    "a function with attributes": REBUILD + b"}" + text("a") + b"K\x01sb.",
    "a class of its own": b"c__main__\nEvil\n)\x81.",
    "a name from the stack": text("builtins") + text("eval") + b"\x93.",
    "a name that is a number": b"K\x01K\x02\x93.",
    "a call of a text": text("x") + b")R.",
    "a call of a storage's class": b"ctorch\nFloatStorage\n)R.",
    "a rank of 400 digits": b"}" + text("a") + tensor(shape=whole(10**400) + b"\x85") + b"s.",
    "a shape below zero": b"}" + text("a") + tensor(shape=b"J\xff\xff\xff\xff\x85") + b"s.",
    "a shape of texts": b"}" + text("a") + tensor(shape=text("2") + b"\x85") + b"s.",
    "a shape that is a list": b"}" + text("a") + tensor(shape=b"]K\x02a") + b"s.",
    "an empty shape that is huge": b"}" + text("a") + tensor(
        shape=b"K\0" + whole(2**62) + b"\x86", strides=b"K\x01K\x01\x86") + b"s.",
    "more data than there are": b"}" + text("a") + tensor(shape=b"K\x03\x85") + b"s.",
    "data from far away": b"}" + text("a") + tensor(offset=whole(2**40)) + b"s.",
    "a stack that is empty": b"s.", "a mark that is none": b"t.", "a memory that is none": b"h\x07.", "nothing": b"",
    "no end": b"(" * 5000, "a text longer than the file": b"X\xff\xff\xff\x7fabc.", "a name without end": b"c" + b"a" * 999,
    "a number longer than the file": b"\x8b\xff\xff\xff\x7f.", "deep": b"(" * 200_000 + b"t" * 200_000 + b".",
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_pickle_that_means_harm_is_an_error_or_nothing(tmp_path, what):
    path = archive(tmp_path / "x.pt", b"\x80\x02" + HOSTILE[what])
    start = time.perf_counter()
    if what == "a list keyed":
        assert read_pickle(path) == {}  # such a key names no tensor, and is not looked at
    else:
        assert "x.pt" in problem(path)
    assert time.perf_counter() - start < 30


def test_keys_that_are_numbers_are_texts_and_huge_ones_are_nothing(tmp_path):
    path = archive(tmp_path / "x.pt", b"\x80\x02}(K\x07" + tensor() + whole(10**5000) + tensor() + b"u.")
    assert list(read_pickle(path)) == list(read_listing(path).shapes) == ["7"]


@pytest.mark.parametrize("inside", [b"N", b"]"])
def test_a_long_name_is_not_made_again_for_each_of_many_things_that_are_no_tensors(tmp_path, inside):
    path = archive(tmp_path / "x.pt", b"\x80\x02}" + text("x" * 1990) + b"](" + inside * 200_000 + b"es.")
    tracemalloc.start()
    try:
        assert read_listing(path).shapes == {}
        assert tracemalloc.get_traced_memory()[1] < 50e6  # 200,000 names of 2 kB are 400 MB
    finally:
        tracemalloc.stop()


def test_names_that_a_few_bytes_make_long_are_no_more_than_20_million_letters(tmp_path):
    tensors = b"(" + tensor() + b"q\x01" + b"h\x01" * 20_000 + b"e"
    path = archive(tmp_path / "x.pt", b"\x80\x02}" + text("x" * 1990) + b"]" + tensors + b"s.")
    assert sum(map(len, read_listing(path).shapes)) < 20_010_000


def test_a_place_in_the_memory_that_no_pickle_reaches_is_damage():
    with pytest.raises(PickleError, match="damaged"):
        interpret(b"\x80\x02}r\xff\xff\xff\x7f.")


def test_a_million_empty_lists_are_not_made(tmp_path):
    tracemalloc.start()
    with pytest.raises(PickleError, match="too many instructions"):
        interpret(b"\x80\x02" + b"]" * 8_000_000 + b".")
    assert tracemalloc.get_traced_memory()[1] < 400e6
    tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_archive_is_refused_and_not_unpacked(tmp_path, method):
    path = archive(tmp_path / "x.pt", b"\x80\x02(" + b"]" * (20 << 20) + b"t.", method=method)
    assert path.stat().st_size < 100_000
    assert "a compressed archive" in problem(path)


def test_one_group_under_many_names_and_one_storage_in_many_tensors_cost_no_more_than_the_file(tmp_path):
    inner = b"}q\0(" + b"".join(text(f"a{n}") + tensor() for n in range(300)) + b"u"
    groups = b"}(" + text("g") + inner + b"".join(text(f"g{n}") + b"h\0" for n in range(5000)) + b"u."
    assert len(read_listing(archive(tmp_path / "x.pt", b"\x80\x02" + groups)).tensors) == 300
    same = b"".join(text(f"a{n}") + tensor(b"M\0\x40\x85") for n in range(50)).replace(b"K\x02tQ", b"M\0\x40tQ")
    path = archive(tmp_path / "y.pt", b"\x80\x02}(" + same + b"u.", data=bytes(1 << 16))
    assert "lie on top of each other" in problem(path)


def test_a_program_of_torch_is_named_whatever_its_ending(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "x.safetensors"))
    assert "a program (TorchScript)" in problem(tmp_path / "x.safetensors")


def test_an_archive_that_lies_about_its_records_is_damaged(tmp_path):
    good = archive(tmp_path / "x.pt", b"\x80\x02}" + text("a") + tensor() + b"s.").read_bytes()
    assert list(read_pickle(tmp_path / "x.pt")) == ["a"]
    directory = good.index(b"PK\1\2")
    for at in (directory + 24, directory + 20, directory + 42, len(good) - 10, len(good) - 6):  # sizes and places
        lie = bytearray(good)
        lie[at : at + 4] = b"\xf0\xff\xff\x7f"
        (tmp_path / "x.pt").write_bytes(lie)
        assert "x.pt" in problem(tmp_path / "x.pt")


def test_a_file_that_becomes_shorter_while_its_tensors_are_read_is_an_error(tmp_path):
    torch.save({"a": torch.ones(5000)}, tmp_path / "x.pt")
    with TorchFile(tmp_path / "x.pt") as file:
        with open(tmp_path / "x.pt", "r+b") as other:
            other.truncate(3000)
        with pytest.raises(AdapterFileError, match=r"x\.pt: its data are incomplete"):
            file.read("a")


def test_numbers_of_another_byte_order_are_not_read_as_ours(tmp_path):
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2)}, buffer)
    (tmp_path / "x.pt").write_bytes(buffer.getvalue().replace(b"little", b"big   "))
    assert "big-endian" in problem(tmp_path / "x.pt")
