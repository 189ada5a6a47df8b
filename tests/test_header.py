"""Headers, honest and hostile."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib_lora.errors import AdapterFileError
from lib_lora.formats.header import MAX_HEADER, Layouts, read_header
from tests.adapter_files import SMALL, write, write_raw
from tests.support import SHARED


def entry(dtype="F16", shape=(2, 2), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_names_shapes_places_and_metadata_are_those_of_the_safetensors_library(tmp_path):
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    save_file({"x": torch.zeros(2, 3, dtype=torch.bfloat16), "alpha": torch.tensor(4.0)}, path, metadata={"k": "größe"})
    header = read_header(path)
    assert {name: (each.dtype, each.shape) for name, each in header.tensors.items()} == {
        "x": ("BF16", (2, 3)),
        "alpha": ("F32", ()),
    }
    assert header.metadata == {"k": "größe"} == json.loads(header.metadata_json)
    assert path.stat().st_size == header.data_start + 2 * 6 + 4


@pytest.mark.skipif(not SHARED.exists(), reason="needs the golden data")
def test_every_golden_file_has_the_keys_that_the_safetensors_library_sees():
    from safetensors import safe_open

    for path in sorted((SHARED / "golden/dev/adapters").glob("*.safetensors"))[::5]:
        with safe_open(path, "pt") as file:
            assert set(read_header(path).tensors) == set(file.keys())
            assert read_header(path).metadata == (file.metadata() or {})


@pytest.mark.parametrize(
    ("header", "data", "said"),
    [
        (b"{" * 100_000, b"", "header is broken"),
        (b"[" * 100_000, b"", "header is broken"),
        (b'{"a": ' * 5000 + b"1" + b"}" * 5000, b"", "."),
        (b"not json at all", b"", "header is broken"),
        (b"[1, 2]", b"", "header is broken"),
        (b'{"a": 1} trailing', b"", "."),
        (b"\xff\xfe{}", b"", "not text"),
        (json.dumps({"a": entry(offsets=(0, 80))}).encode(), bytes(8), "contradicts itself"),
        (json.dumps({"a": entry(shape=(2, 20), offsets=(0, 80))}).encode(), bytes(8), "72 bytes are missing"),
        (json.dumps({"a": entry(offsets=(8, 0))}).encode(), bytes(8), "contradicts itself"),
        (json.dumps({"a": entry(offsets=(-8, 0))}).encode(), bytes(8), "contradicts itself"),
        (json.dumps({"a": entry(shape=(-2, -2))}).encode(), bytes(8), "contradicts itself"),
        (json.dumps({"a": entry(shape=(2.0, 2))}).encode(), bytes(8), "contradicts itself"),
        (json.dumps({"a": entry(shape=(True, 4))}).encode(), bytes(8), "contradicts itself"),
        (json.dumps({"a": entry(shape=[1] * 1000, offsets=(0, 2))}).encode(), bytes(8), "contradicts itself"),
        (json.dumps({"a": entry(shape=(1 << 62, 1 << 62))}).encode(), bytes(8), "contradicts itself"),
        (json.dumps({"a": entry(dtype="F99")}).encode(), bytes(8), "unknown number type"),
        (json.dumps({"a": entry(dtype=["F16"])}).encode(), bytes(8), "contradicts itself"),
        (json.dumps({"a": entry(), "b": entry()}).encode(), bytes(8), "on top of each other"),
        (json.dumps({"a": "no"}).encode(), bytes(8), "contradicts itself"),
        (json.dumps({"a": [1]}).encode(), bytes(8), "contradicts itself"),
        (b'{"a":{"dtype":"F16","shape":[NaN],"data_offsets":[0,Infinity]}}', bytes(8), "contradicts itself"),
    ],
)
def test_a_hostile_header_is_an_error_that_names_the_file(tmp_path, header, data, said):
    path = write_raw(tmp_path / "evil.safetensors", header, data)
    with pytest.raises(AdapterFileError, match=said) as caught:
        read_header(path)
    assert "evil.safetensors" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("length", [0, 1, 1 << 62, (1 << 64) - 1, MAX_HEADER + 1, 1000])
def test_a_length_beyond_the_file_is_refused_before_anything_is_read(tmp_path, length):
    with pytest.raises(AdapterFileError, match="not a safetensors file"):
        read_header(write_raw(tmp_path / "a.safetensors", b"{}", length=length))


@pytest.mark.parametrize("content", [b"", b"\x02", b"PK\x03\x04 a zip file that somebody renamed"])
def test_short_and_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(AdapterFileError, match=r"a\.safetensors"):
        read_header(path)


def test_a_missing_file_and_a_folder_are_errors_with_the_reason(tmp_path):
    with pytest.raises(AdapterFileError, match="No such file"):
        read_header(tmp_path / "gone.safetensors")
    with pytest.raises(AdapterFileError, match="cannot be read"):
        read_header(tmp_path)


def test_metadata_that_are_no_texts_become_texts_and_lone_surrogates_vanish(tmp_path):
    raw = b'{"__metadata__":{"number":5,"list":[1],"bad\\ud800":"x\\udfff","good":"\\u00e9"}}'
    header = read_header(write_raw(tmp_path / "a.safetensors", raw))
    assert header.metadata == {"number": "5", "list": "[1]", "bad?": "x?", "good": "é"}
    assert json.loads(header.metadata_json) == header.metadata
    header.metadata_json.encode()


def test_metadata_may_stand_last_be_missing_or_be_nonsense(tmp_path):
    tensor = json.dumps(entry())
    last = read_header(
        write_raw(tmp_path / "a.safetensors", f'{{"x":{tensor},"__metadata__":{{"k":"v"}}}}'.encode(), bytes(8))
    )
    none = read_header(write_raw(tmp_path / "b.safetensors", f'{{"x":{tensor}}}   '.encode(), bytes(8)))
    odd = read_header(write_raw(tmp_path / "c.safetensors", f'{{"__metadata__": 7, "x":{tensor}}}'.encode(), bytes(8)))
    assert (last.metadata, none.metadata, odd.metadata) == ({"k": "v"}, {}, {})
    assert set(last.tensors) == set(none.tensors) == set(odd.tensors) == {"x"}


def test_files_with_the_same_tensors_share_a_layout_whatever_their_metadata(tmp_path):
    layouts = Layouts()
    one = read_header(write(tmp_path / "a.safetensors", metadata={"k": "1"}), layouts=layouts)
    two = read_header(write(tmp_path / "b.safetensors", metadata={"other": "2"}), layouts=layouts)
    assert one.layout == two.layout
    assert one.tensors is two.tensors
    assert two.metadata == {"other": "2"}
    cut = write(tmp_path / "c.safetensors", metadata={})
    cut.write_bytes(cut.read_bytes()[:-1])
    with pytest.raises(AdapterFileError, match="1 bytes are missing"):
        read_header(cut, layouts=layouts)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    metadata=st.dictionaries(st.text(max_size=5), st.text(alphabet='"}\\{:, aö\ud800', max_size=12), max_size=3),
    indent=st.sampled_from([None, 0, 1]),
    separators=st.sampled_from([(",", ":"), (", ", ": ")]),
    is_ascii=st.booleans(),
)
def test_metadata_are_what_json_says_however_they_are_written(
    tmp_path_factory, metadata, indent, separators, is_ascii
):
    header = {"__metadata__": metadata, "x": entry()}
    text = json.dumps(header, indent=indent, separators=separators, ensure_ascii=is_ascii)
    path = tmp_path_factory.mktemp("metadata") / "a.safetensors"
    try:
        raw = text.encode()
    except UnicodeEncodeError:  # half a character can only be written with a backslash
        raw = json.dumps(header, indent=indent, separators=separators).encode()
    read = read_header(write_raw(path, raw, bytes(8)))
    assert set(read.tensors) == {"x"}
    expected = {key: text.encode("utf-8", "replace").decode() for key, text in metadata.items()}
    assert read.metadata == json.loads(read.metadata_json, strict=False) == expected or "\ud800" in str(metadata)
    assert list(read.metadata.values()) == list(expected.values())


def test_layouts_are_told_apart_also_when_no_more_are_kept(tmp_path):
    layouts = Layouts()
    layouts.MOST = 1
    tensors = [{f"x{number}": entry()} for number in range(3)]
    paths = [write_raw(tmp_path / f"{number}.safetensors", json.dumps(each).encode(), bytes(8))
             for number, each in enumerate(tensors)]
    first, again = ([read_header(path, layouts=layouts) for path in paths] for _ in range(2))
    assert [set(each.tensors) for each in again] == [{"x0"}, {"x1"}, {"x2"}]
    assert [each.layout for each in first] == [each.layout for each in again]
    assert len({each.layout for each in first}) == 3


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(junk=st.binary(max_size=60), place=st.integers(0, 400))
def test_a_damaged_file_is_read_or_refused_but_nothing_else(tmp_path_factory, junk, place):
    path = write(tmp_path_factory.mktemp("damaged") / "a.safetensors", SMALL, {"k": "v"})
    content = bytearray(path.read_bytes())
    content[place : place + len(junk)] = junk
    path.write_bytes(content)
    with contextlib.suppress(AdapterFileError):
        read_header(path)


@pytest.mark.parametrize("size", [1 << 49, 1 << 62, 1 << 63, (1 << 64) - 1, 10**25, 10**400, 10**4000])
def test_a_tensor_without_values_has_no_shape_that_nothing_can_hold(tmp_path, size):
    header = f'{{"x.alpha":{{"dtype":"F32","shape":[0,{size}],"data_offsets":[0,0],"odd":NaN}}}}'
    with pytest.raises(AdapterFileError, match=r"a\.safetensors"):
        read_header(write_raw(tmp_path / "a.safetensors", header.encode()))
    assert read_header(write_raw(tmp_path / "b.safetensors", header.replace(str(size), "4").encode())).shapes == {
        "x.alpha": (0, 4)
    }


@pytest.mark.parametrize("name", ["\\ud800.alpha", "x" * 5000])
def test_a_name_that_cannot_be_written_or_shown_is_refused(tmp_path, name):
    header = f'{{"{name}":{{"dtype":"F32","shape":[],"data_offsets":[0,4]}}}}'
    with pytest.raises(AdapterFileError, match="is none") as caught:
        read_header(write_raw(tmp_path / "a.safetensors", header.encode(), bytes(4)))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("depth", [300, 900, 990, 1010, 100_000])
@pytest.mark.parametrize("place", ['{"x":%s}', '{"x":1,"__metadata__":{"a":%s}}', '{"__metadata__":{"a":%s}}'])
def test_nothing_is_too_deep_to_be_refused(tmp_path, depth, place):
    path = write_raw(tmp_path / "a.safetensors", (place % ("[" * depth + "]" * depth)).encode())
    with contextlib.suppress(AdapterFileError):
        read_header(path)


def test_an_error_about_a_name_that_is_no_unicode_can_be_written(tmp_path):
    path = write_raw(tmp_path / "caf\udce9.safetensors", b"[]")
    with pytest.raises(AdapterFileError) as caught:
        read_header(path)
    str(caught.value).encode()
