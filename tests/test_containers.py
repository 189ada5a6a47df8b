"""Tensors are made from their places in the file: the same ones that the safetensors library makes."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_lora.adapters.adapter import PIECE, is_finite, read_adapter
from lib_lora.errors import AdapterFileError
from lib_lora.formats import containers
from lib_lora.formats.containers import DTYPES, TensorFile, read_contents
from tests.support_golden import GIVEN, OWN

RAW = {torch.float8_e4m3fn: torch.uint8, torch.float8_e5m2: torch.uint8}


def mixed(seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors of every type, of no and of many dimensions, and empty ones."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for dtype in DTYPES.values():
        for shape in ((), (3,), (2, 1, 5), (0, 4)):
            values = torch.rand(shape, generator=generator) * 4
            found[f"{dtype} {shape}"] = values.to(dtype)
    return found


def test_every_type_and_shape_is_read_as_the_library_reads_it(tmp_path):
    save_file(mixed(), tmp_path / "a.safetensors", metadata={"of": "all kinds"})
    contents = read_contents(tmp_path / "a.safetensors")
    expected = load_file(tmp_path / "a.safetensors")
    assert json.dumps(contents.metadata) == '{"of": "all kinds"}'  # programs write it on
    assert contents.tensors.keys() == expected.keys()
    for key, tensor in expected.items():
        wanted = tensor.half() if tensor.dtype in RAW else tensor
        assert (contents.tensors[key].dtype, contents.tensors[key].shape) == (wanted.dtype, wanted.shape)
        assert torch.equal(contents.tensors[key], wanted)


def test_real_files_are_read_as_the_library_reads_them():
    files = [*OWN.rglob("*.safetensors"), *GIVEN.rglob("*.safetensors")]
    assert len(files) > 10
    for path in files:
        for key, tensor in load_file(path).items():
            wanted = tensor.half() if tensor.dtype in RAW else tensor
            assert torch.equal(read_contents(path).tensors[key], wanted), path


def test_tensors_at_odd_places_are_read(tmp_path):
    """A header of odd length and a tensor of one byte: nothing behind them lies where its type would like it."""
    tensors = {"a": torch.tensor([7], dtype=torch.uint8), "b": torch.tensor([1.5, -2.0])}
    header = {"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
              "b": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]}}  # fmt: skip
    for blanks in range(4):
        text = json.dumps(header).encode() + b" " * blanks
        data = b"".join(tensor.numpy().tobytes() for tensor in tensors.values())
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
        read = read_contents(tmp_path / "a.safetensors").tensors
        assert all(torch.equal(read[key], tensor) for key, tensor in tensors.items())


def test_blocks_hold_every_value_once_in_few_tensors(tmp_path):
    tensors = {f"{dtype}.{n}": torch.full((n + 1,), n + 1.0).to(dtype)
               for dtype in (torch.float32, torch.float16) for n in range(40)}  # fmt: skip
    save_file(tensors, tmp_path / "a.safetensors")
    blocks = read_contents(tmp_path / "a.safetensors").blocks
    assert len(blocks) == 2
    for block, dtype in zip(blocks, (torch.float32, torch.float16), strict=True):
        assert block.dtype == dtype
        assert sorted(block.tolist()) == sorted(n + 1.0 for n in range(40) for _ in range(n + 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_bad_value_among_millions_is_found_and_its_module_named(tmp_path, dtype, value):
    tensors = {f"m{n}.lora_{part}.weight": torch.full(shape, 60000.0).to(dtype)
               for n in range(3) for part, shape in (("up", (PIECE // 2 + 1, 1)), ("down", (1, 8)))}  # fmt: skip
    tensors["m1.lora_up.weight"][-1] = value
    save_file(tensors, tmp_path / "a.safetensors")
    adapter = read_adapter(tmp_path / "a.safetensors")
    assert list(adapter.modules) == ["m0", "m2"]
    assert adapter.refused == ("m1: up holds values that are not finite numbers",)
    assert is_finite(tensors["m0.lora_up.weight"])


def test_a_type_that_torch_does_not_have_is_named(tmp_path):
    header = {"a.lora_up.weight": {"dtype": "F4", "shape": [2, 2], "data_offsets": [0, 2]}}
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0\0")
    with pytest.raises(AdapterFileError, match=r"a\.safetensors: 'a\.lora_up\.weight' .*F4.*save it again as float16"):
        read_adapter(tmp_path / "a.safetensors")


@pytest.mark.parametrize("change", ["cut off", "another header", "gone"])
def test_a_file_that_is_written_to_meanwhile_is_refused_with_a_sentence(tmp_path, monkeypatch, change):
    path = tmp_path / "a.safetensors"
    save_file({"m.lora_up.weight": torch.ones(4, 2), "m.lora_down.weight": torch.ones(2, 4)}, path)
    check = containers.check_header

    def meanwhile(raw):
        content = path.read_bytes()
        path.unlink()
        if change != "gone":
            path.write_bytes(content[:-1] if change == "cut off" else content.replace(b"m.lora_up", b"n.lora_up"))
        return check(raw)

    monkeypatch.setattr(containers, "check_header", meanwhile)
    with pytest.raises(AdapterFileError, match=r"a\.safetensors (was written to|cannot be read)"):
        read_adapter(path)


def test_an_adapter_that_is_written_to_is_not_changed_in_its_file(tmp_path):
    """Whoever writes into a tensor writes into memory."""
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(4)}, path)
    before = path.read_bytes()
    tensor = read_contents(path).tensors["a"]
    tensor.zero_()
    assert np.array_equal(tensor.numpy(), [0, 0, 0, 0])
    del tensor
    assert path.read_bytes() == before


def test_tensors_are_read_one_by_one_and_a_file_that_shrank_is_an_error(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = mixed()
    save_file(tensors, path)
    file = TensorFile(path)
    for name, tensor in tensors.items():
        read = file.read(name)
        assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(read.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)), name
    with open(path, "r+b") as other:
        other.truncate(path.stat().st_size - 1)
    with pytest.raises(AdapterFileError, match=r"a\.safetensors was written to"):
        file.read(next(iter(tensors)))
    file.close()
