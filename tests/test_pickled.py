"""Pickled files: listed without torch, and nothing in them runs."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import pytest

from lib_lora.errors import AdapterFileError
from lib_lora.library.pickled import read_shapes


def archive(path, content, name="archive/data.pkl"):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, content)
    return path


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("wrapped", [False, True])
def test_names_and_shapes_are_those_that_torch_saved(tmp_path, wrapped):
    import torch

    tensors = {"x.lora_down.weight": torch.zeros(4, 8), "x.alpha": torch.tensor(1.0), "epoch": 3}
    tensors["p"] = torch.nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
    torch.save({"state_dict": tensors} if wrapped else tensors, tmp_path / "a.pt")
    assert read_shapes(tmp_path / "a.pt") == {"x.lora_down.weight": (4, 8), "x.alpha": (), "p": (2,)}


def test_a_program_in_the_file_does_not_run(tmp_path):
    path = archive(tmp_path / "a.pt", pickle.dumps({"x": Evil(tmp_path / "made")}))
    with pytest.raises(AdapterFileError, match=r"a\.pt: not a plain file of tensors"):
        read_shapes(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        pickle.dumps([1, 2]),
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.",  # writes an attribute on a stand-in
        b"\x80\x02cbuiltins\neval\n.",
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x02" + b"(" * 10_000 + b".",
        b"\x80\x02h\x05.",
    ],
)
def test_damaged_pickles_are_errors_that_name_the_file(tmp_path, content):
    with pytest.raises(AdapterFileError, match=r"a\.pt"):
        read_shapes(archive(tmp_path / "a.pt", content))


def test_what_is_no_archive_or_a_torch_program_is_refused(tmp_path):
    (tmp_path / "old.pt").write_bytes(pickle.dumps({}))
    with pytest.raises(AdapterFileError, match="save it again as"):
        read_shapes(tmp_path / "old.pt")
    archive(tmp_path / "script.pt", b"", "archive/constants.pkl")
    with pytest.raises(AdapterFileError, match="a program"):
        read_shapes(tmp_path / "script.pt")


def test_a_listing_that_unpacks_to_too_much_is_not_unpacked(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as file,
        file.open("a/data.pkl", "w") as member,
    ):
        for _ in range(51):
            member.write(bytes(1 << 20))
    with pytest.raises(AdapterFileError, match="larger than 50 MB"):
        read_shapes(tmp_path / "bomb.pt")


def test_every_cut_of_a_good_file_is_read_or_refused(tmp_path):
    import torch

    buffer = io.BytesIO()
    torch.save({"x": torch.zeros(2)}, buffer)
    path = tmp_path / "a.pt"
    for end in range(0, len(buffer.getvalue()), 37):
        path.write_bytes(buffer.getvalue()[:end])
        with pytest.raises(AdapterFileError):
            read_shapes(path)
