"""The one writer of files: whole or not at all, and through no name that can be foreseen."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from lib_lora.formats.opening import open_file, read_file
from lib_lora.formats.write import write_file, writing

posix = pytest.mark.skipif(os.name == "nt", reason="pipes and links of POSIX")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_whole_and_keeps_its_rights(tmp_path):
    target = tmp_path / "notes.json"
    target.write_text("old")
    target.chmod(0o640)
    with writing(target) as file:
        file.write(b"new")
        assert target.read_text() == "old"
        (unfinished,) = set(names(tmp_path)) - {"notes.json"}
        assert re.fullmatch(r"\.notes\.json\.[0-9a-f]{16}\.tmp", unfinished)
    assert (names(tmp_path), target.read_text()) == (["notes.json"], "new")
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, OSError])
def test_whatever_goes_wrong_the_old_file_stays_and_nothing_is_left_over(tmp_path, error):
    (tmp_path / "a").write_text("old")
    def fail() -> None:
        with writing(tmp_path / "a") as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert (names(tmp_path), (tmp_path / "a").read_text()) == (["a"], "old")


def test_without_overwriting_the_first_one_stays(tmp_path):
    def write_meanwhile() -> None:
        with writing(tmp_path / "a", overwrite=False) as file:
            file.write(b"mine")
            (tmp_path / "a").write_text("another program's")

    with pytest.raises(FileExistsError):
        write_meanwhile()
    assert (names(tmp_path), (tmp_path / "a").read_text()) == (["a"], "another program's")
    write_file(tmp_path / "b", b"x", overwrite=False)
    assert names(tmp_path) == ["a", "b"]


@posix
def test_a_drive_without_links_has_its_files_too(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write_file(tmp_path / "a", b"1", overwrite=False)
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "a", b"2", overwrite=False)
    assert (names(tmp_path), (tmp_path / "a").read_bytes()) == (["a"], b"1")


@posix
def test_a_name_that_somebody_else_laid_is_never_written_through(tmp_path, monkeypatch):
    (tmp_path / "victim").write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda _: "0" * 16)  # as if the name had been guessed
    (tmp_path / f".a.{'0' * 16}.tmp").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "a", b"x")
    assert (tmp_path / "victim").read_text() == "precious"
    assert (tmp_path / f".a.{'0' * 16}.tmp").is_symlink()  # it is not ours


@posix
def test_what_is_no_file_is_not_opened_and_no_more_than_agreed_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"12345")
    for name, kind in {"pipe": "a pipe", "endless": "a device", "folder": "a folder"}.items():
        with pytest.raises(OSError, match=kind):
            open_file(tmp_path / name)
    assert (read_file(tmp_path / "file", 5), read_file(tmp_path / "file", 4)) == (b"12345", None)
