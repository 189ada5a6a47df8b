"""Faults of files, disks and neighbours: each hurts nothing but itself, and is told. Real processes, real places."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_lora.errors import AmbiguousNameError, LoraError
from lib_lora.library import Library
from lib_lora.library.rescue import backup_path
from lib_lora.library.sidecar import MAX_SIDECAR
from tests.adapter_files import write, write_raw

ROOT = Path(__file__).parents[1]
posix = pytest.mark.skipif(os.name == "nt", reason="pipes, rights and limits of POSIX")
FAR = 14_000_000_000  # seconds: the year 2413, whose nanoseconds do not fit into 64 bits


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Lora").mkdir()
    return tmp_path / "Lora"


@pytest.fixture
def index(tmp_path):
    return tmp_path / "index.db"


def child(code: str, *arguments: object, **options) -> str:
    """What Python code prints in a process of its own; a hang is a failure."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], capture_output=True,
                          text=True, timeout=60, env=environment, cwd="/", **options)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def marks_of(library: Library) -> dict[str, tuple[bool, tuple[str, ...]]]:
    return {each.name: (each.favorite, each.user_tags) for each in library.entries()
            if each.favorite or each.user_tags}  # fmt: skip


# files


def a_pipe(path):
    os.mkfifo(path)


def a_socket(path):
    path = Path(os.path.relpath(path))  # a socket's name is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def a_device(path):
    path.symlink_to("/dev/zero")


def numbers_of_a_thousand_digits(path):
    write_raw(path, b'{"a.lora_up.weight": {"dtype": "F16", "shape": [%s], "data_offsets": [0, 2]}}' % (b"9" * 5000))


def deep_metadata(path):
    write_raw(path, b'{"__metadata__": ' + b'{"a":' * 3000 + b"1" + b"}" * 3000 + b"}")


def halves_of_characters(path):
    write_raw(path, b'{"__metadata__": {"ss_output_name": "\\ud800", "\\udfff": "x"}}')


FAULTY = {
    a_pipe: "it is a pipe, not a file",
    a_socket: "it is a socket, not a file",
    a_device: "it is a device, not a file",
    numbers_of_a_thousand_digits: "",
    deep_metadata: "",
    halves_of_characters: None,
    lambda path: path.write_bytes(b""): "",
    lambda path: path.write_bytes(os.urandom(5000)): "",
}


@posix
@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
@pytest.mark.parametrize("make", FAULTY, ids=lambda make: make.__name__)
def test_one_faulty_file_is_an_entry_that_names_itself_and_hides_no_other(folder, monkeypatch, make, ending):
    monkeypatch.chdir(folder)
    write(folder / "good.safetensors")
    make(folder / f"bad{ending}")
    told = child(
        "import sys; from lib_lora.library import Library; library = Library([sys.argv[1]]);"
        "print('|'.join(f'{each.name}: {each.broken}' for each in library.entries()))", folder)  # fmt: skip
    bad, good = told.split("|")
    assert (bad.partition(":")[0], good) == ("bad", "good: None")
    if FAULTY[make] is not None:
        assert f"bad{ending}" in bad
        assert FAULTY[make] in bad


@posix
@pytest.mark.parametrize("seconds", [FAR, -FAR, -62_135_596_800, 0])
def test_files_of_any_year_are_listed_and_stay_known(folder, index, seconds):
    write(folder / "good.safetensors")
    os.utime(write(folder / "old.safetensors"), (seconds, seconds))
    library = Library([folder], database=index)
    assert library.refresh().added == 2
    assert library.find("old").broken is None
    assert library.refresh().changed == 0
    library.mark(library.entries(), favorite=True)
    assert len(marks_of(library)) == 2


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from(["", '{"__metadata__": ', '{"__metadata__": {"ss_tag_frequency": ', '{"a.lora_up.weight": ']),
    st.sampled_from([".safetensors", ".pt", ".ckpt"]),
)
def test_no_bytes_at_all_end_a_scan(content, before, ending):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "good.safetensors")
        path = write_raw(folder / f"bad{ending}", before.encode() + content)
        library = Library([folder])
        assert sorted(each.name for each in library.entries()) == ["bad", "good"]
        json.dumps([library.find("bad").metadata_json, library.find("bad").broken])
        path.unlink()


@posix
def test_a_file_that_could_not_be_read_is_tried_again(folder):
    write(folder / "secret.safetensors")
    with tempfile.TemporaryDirectory() as open_to_all:
        os.chmod(open_to_all, 0o755)
        shutil.copytree(folder, Path(open_to_all, "Lora"))
        file = Path(open_to_all, "Lora", "secret.safetensors")
        os.chmod(Path(open_to_all, "Lora"), 0o755)
        file.chmod(0)
        told = child(
            """
            import os, sys
            from lib_lora.library import Library
            if os.getuid() == 0:
                os.setegid(65534), os.seteuid(65534)
            library = Library([sys.argv[1]])
            before = library.find("secret").broken
            if os.geteuid() == 65534:
                os.seteuid(0)
            os.chmod(sys.argv[2], 0o644)
            library.refresh()
            print(before, "|", library.find("secret").broken)
            """, file.parent, file)  # fmt: skip
    assert "secret.safetensors cannot be read (Permission denied)" in told
    assert told.endswith("| None")


def invalid(path):
    path.write_text("{")


def large(path):
    with open(path, "wb") as file:
        file.truncate(MAX_SIDECAR + 1)


def a_folder(path):
    path.mkdir()


def leads_nowhere(path):
    path.symlink_to("nowhere")


@posix
@pytest.mark.parametrize("name", ["ink.json", "ink.civitai.info", "ink.metadata.json", "ink.txt", "ink.preview.png"])
@pytest.mark.parametrize("make", [a_pipe, a_socket, a_device, a_folder, leads_nowhere, large, invalid],
                         ids=lambda make: make.__name__)  # fmt: skip
def test_what_lies_beside_an_adapter_never_blocks_and_is_told_on_it(folder, monkeypatch, make, name):
    monkeypatch.chdir(folder)
    write(folder / "ink.safetensors")
    write(folder / "other.safetensors")
    make(folder / name)
    told = json.loads(child(
        """
        import json, sys
        from lib_lora.browser.listing import Shelf
        from lib_lora.library import Library
        shelf = Shelf(Library([sys.argv[1]]))
        print(json.dumps({each.name: shelf.detail(each) for each in shelf.library.entries()}))
        """, folder))  # fmt: skip
    assert (told["ink"]["broken"], told["other"]["warnings"]) == (None, [])
    is_text = make in (large, invalid) and name.endswith(".txt") and make is invalid
    assert is_text or any(name in warning for warning in told["ink"]["warnings"])


@posix
def test_folders_without_rights_and_links_to_nothing_are_told_and_the_rest_is_listed(folder):
    write(folder / "a.safetensors")
    (folder / "gone.safetensors").symlink_to("nowhere")
    (folder / "itself.safetensors").symlink_to("itself.safetensors")
    library = Library([folder])
    assert [each.name for each in library.entries()] == ["a"]
    problems = "\n".join(library.refresh().problems)
    assert "gone.safetensors" in problems
    assert "itself.safetensors" in problems


# names


@pytest.fixture
def tells_case(folder):
    (folder / "a").mkdir()
    if (folder / "A").exists():
        pytest.skip("this file system does not tell upper from lower case")
    (folder / "a").rmdir()
    return folder


def test_names_that_differ_only_in_case_are_all_there_and_a_third_spelling_names_them(tells_case):
    for name in ("Ink", "ink", "SDXL/castle", "SDXL/forest", "sdxl/river", "Sdxl/castle"):
        write(tells_case / f"{name}.safetensors")
    library = Library([tells_case])
    assert sorted(each.name for each in library.entries()) == sorted(
        ["Ink", "ink", "SDXL/castle", "SDXL/forest", "sdxl/river", "Sdxl/castle"])  # fmt: skip
    assert [library.find(name).name for name in ("Ink", "ink", "RIVER", "sdxl/FOREST")] == [
        "Ink", "ink", "sdxl/river", "SDXL/forest"]  # fmt: skip
    with pytest.raises(AmbiguousNameError, match="Ink and ink differ only in case") as error:
        library.find("INK")
    assert error.value.nearest == ("Ink", "ink")


def test_sidecars_belong_to_the_adapter_of_their_very_name(tells_case):
    for name in ("Ink.safetensors", "ink.safetensors"):
        write(tells_case / name)
    (tells_case / "ink.json").write_text('{"activation text": "small"}')
    (tells_case / "ink.png").write_bytes(b"")
    by_name = {each.name: each for each in Library([tells_case]).entries()}
    assert (by_name["ink"].activation_text, by_name["ink"].preview_name) == ("small", "ink.png")
    assert (by_name["Ink"].activation_text, by_name["Ink"].preview_name) == ("", None)


def test_of_different_files_of_one_name_is_said_which_was_taken_and_how_to_name_each(folder, tmp_path):
    write(folder / "a/ink.safetensors")
    write(folder / "b/ink.safetensors", fill=1)
    write(folder / "a/copy.safetensors")
    shutil.copy2(folder / "a/copy.safetensors", folder / "b/copy.safetensors")
    write(folder / "top.safetensors")
    write(folder / "a/top.safetensors", fill=2)
    write(tmp_path / "LyCORIS/a/ink.safetensors", fill=3)
    library = Library([folder, tmp_path / "LyCORIS"])
    told = library.look_up("ink").ambiguity
    assert "3 different files" in told
    for name in ("Lora/a/ink", "b/ink", "LyCORIS/a/ink"):
        assert f"<lora:{name}:1>" in told
        assert library.find(name).location == str({"b/ink": folder / "b/ink.safetensors"}.get(
            name, tmp_path / f"{name}.safetensors"))  # fmt: skip
        assert library.look_up(name).ambiguity is None
    assert library.look_up("copy").ambiguity is None  # it does not matter which
    assert "<lora:top.safetensors:1> or <lora:a/top:1>" in library.look_up("top").ambiguity
    assert library.look_up("top.safetensors").ambiguity is None


# the index


def marked(folder: Path, index: Path, count: int = 60) -> None:
    for number in range(count):
        write(folder / f"{number}.safetensors", metadata={"modelspec.description": "x" * 3000})
    library = Library([folder], database=index)
    library.mark(library.entries(), favorite=True)
    library.mark([library.find("1")], add=["mine"])
    library.close()
    with sqlite3.connect(index) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def header(raw, _):
    raw[:16] = bytes(16)


def first_page(raw, rng):
    raw[:4096] = rng.randbytes(4096)


def middle(raw, rng):
    raw[8192 : 8192 + 65536] = rng.randbytes(65536)


def cut(raw, _):
    del raw[len(raw) // 2 :]


def all_zero(raw, _):
    raw[:] = bytes(len(raw))


def every_second_page(raw, rng):
    for place in range(4096, len(raw), 8192):
        raw[place : place + 4096] = rng.randbytes(4096)


def some_bytes(raw, rng):
    for _ in range(2000):
        raw[rng.randrange(100, len(raw))] = rng.randrange(256)


@pytest.mark.parametrize("damage", [header, first_page, middle, cut, all_zero, every_second_page, some_bytes],
                         ids=lambda damage: damage.__name__)  # fmt: skip
@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_index_is_made_anew_with_all_marks_and_that_is_said(folder, index, damage, seed):
    marked(folder, index)
    raw = bytearray(index.read_bytes())
    damage(raw, random.Random(seed))
    index.write_bytes(raw)
    library = Library([folder], database=index)
    assert len(library.entries()) == 60
    told = library.refresh().problems
    marks = marks_of(library)
    assert (len(marks), marks["1"]) == (60, (True, ("mine",)))
    assert damage is some_bytes or (len(told) == 1 and "was damaged and was made anew: 60 favourites" in told[0])
    assert all(each.details.description == "x" * 3000 for each in library.entries())
    library.mark([library.find("8")], add=["later"])
    library.close()
    again = Library([folder], database=index)
    assert (again.refresh().added, again.problems) == (0, ())
    assert marks_of(again)["8"] == (True, ("later",))


@pytest.mark.parametrize("damage", [header, middle], ids=lambda damage: damage.__name__)
def test_marks_are_read_from_the_damaged_index_itself_where_nothing_else_has_them(folder, index, damage):
    marked(folder, index, 20)
    with sqlite3.connect(index) as db:
        db.execute("VACUUM")
    db.close()
    backup_path(index).unlink()
    raw = bytearray(index.read_bytes())
    if damage is middle:
        place = raw.index(b"x" * 3000) // 4096 * 4096  # a page with texts of adapters, none with marks
        raw[place : place + 4096] = os.urandom(4096)
    else:
        damage(raw, None)
    index.write_bytes(raw)
    library = Library([folder], database=index)
    library.entries()
    assert [each.details.description for each in library.entries()] == ["x" * 3000] * 20
    assert len(marks_of(library)) == 20


def test_marks_outlive_an_index_that_was_deleted(folder, index):
    marked(folder, index, 3)
    for path in index.parent.glob("index.db*"):
        if path != backup_path(index):
            path.unlink()
    assert len(marks_of(Library([folder], database=index))) == 3


@pytest.mark.parametrize("place", ["a file/index.db", "/proc/none/index.db", "a folder"])
def test_where_no_index_can_be_kept_adapters_are_found_and_marking_is_refused_with_the_reason(folder, tmp_path, place):
    (tmp_path / "a file").write_text("")
    (tmp_path / "a folder").mkdir()
    write(folder / "ink.safetensors")
    library = Library([folder], database=tmp_path / place)
    assert library.find("ink").broken is None
    assert "cannot be used" in library.refresh().problems[0]
    with pytest.raises(LoraError, match="favourites and tags cannot be saved"):
        library.mark(library.entries(), favorite=True)
    assert marks_of(library) == {}


@posix
def test_an_index_that_may_only_be_read_is_used_as_it_is(folder):
    write(folder / "ink.safetensors")
    with tempfile.TemporaryDirectory() as open_to_all:
        os.chmod(open_to_all, 0o755)
        shutil.copytree(folder, Path(open_to_all, "Lora"))
        os.chmod(Path(open_to_all, "Lora"), 0o755)
        place = Path(open_to_all, "cache")
        library = Library([Path(open_to_all, "Lora")], database=place / "index.db")
        library.mark(library.entries(), add=["mine"])
        library.close()
        for path in place.iterdir():
            path.chmod(0o444)
        place.chmod(0o555)
        told = child(
            """
            import os, sys
            from pathlib import Path
            from lib_lora.errors import LoraError
            from lib_lora.library import Library
            if os.getuid() == 0:  # whom rights do not bind
                os.setegid(65534), os.seteuid(65534)
            library = Library([sys.argv[1]], database=Path(sys.argv[2]))
            print(library.refresh().added, library.find("ink").user_tags)
            try: library.mark(library.entries(), favorite=True)
            except LoraError as error: print("refused")
            """, Path(open_to_all, "Lora"), place / "index.db")  # fmt: skip
        place.chmod(0o755)
    assert told.splitlines() == ["0 ('mine',)", "refused"]


@posix
def test_on_a_full_disk_adapters_are_found(folder, index):
    for number in range(100):
        write(folder / f"{number}.safetensors", metadata={"modelspec.description": "x" * 3000})
    told = child(
        """
        import resource, signal, sys
        from pathlib import Path
        from lib_lora.errors import LoraError
        from lib_lora.library import Library
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        library = Library([sys.argv[1]], database=Path(sys.argv[2]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        print(library.find("3").details.description == "x" * 3000, len(library.entries()), len(library.problems))
        try: print(library.mark(library.entries(), favorite=True))
        except LoraError: print(0)
        """, folder, index)  # fmt: skip
    found, saved = told.splitlines()
    assert found == "True 100 1"
    assert len(marks_of(Library([folder], database=index))) == int(saved)


def test_while_another_program_has_the_index_locked_adapters_are_found_and_later_marked(folder, index, monkeypatch):
    monkeypatch.setattr("lib_lora.library.tables.TIMEOUT", 0.2)
    write(folder / "ink.safetensors")
    library = Library([folder], database=index)
    library.mark(library.entries(), add=["mine"])
    other = sqlite3.connect(index)
    other.execute("BEGIN EXCLUSIVE")
    write(folder / "new.safetensors")
    assert library.find("new").broken is None
    assert library.find("ink").user_tags == ("mine",)
    with pytest.raises(LoraError, match="locked"):
        library.mark(library.entries(), favorite=True)
    other.rollback()
    other.close()
    assert library.mark(library.entries(), favorite=True) == 2
    library.close()
    assert marks_of(Library([folder], database=index)) == {"ink": (True, ("mine",)), "new": (True, ())}


MARKER = """
    import sys
    from pathlib import Path
    from lib_lora.library import Library
    library = Library([sys.argv[1]], database=Path(sys.argv[2]))
    entry = library.find("ink")
    for number in range(20):
        library.mark([entry], add=[f"{sys.argv[3]}{number}"])
"""


def test_programs_that_mark_one_adapter_at_once_lose_no_mark(folder, index):
    write(folder / "ink.safetensors")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    programs = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(MARKER), folder, index, name], env=environment)
        for name in "abc"
    ]
    assert [program.wait(timeout=60) for program in programs] == [0, 0, 0]
    expected = {f"{name}{number}" for name in "abc" for number in range(20)}
    assert set(Library([folder], database=index).find("ink").user_tags) == expected


def test_a_mark_of_another_program_is_seen_after_the_next_scan(folder, index):
    write(folder / "ink.safetensors")
    one, two = Library([folder], database=index), Library([folder], database=index)
    one.entries(), two.entries()
    version = two.version
    one.mark(one.entries(), favorite=True)
    two.refresh()
    assert (marks_of(two), two.version != version) == ({"ink": (True, ())}, True)


def test_what_is_marked_while_another_program_makes_the_index_anew_is_not_lost(folder, index):
    marked(folder, index, 3)
    one = Library([folder], database=index)
    one.entries()
    index.rename(index.with_name("elsewhere"))  # as another program does that finds no database in it
    for ending in ("-wal", "-shm"):
        index.with_name(f"index.db{ending}").unlink(missing_ok=True)
    Library([folder], database=index).close()
    one.mark([one.find("1")], add=["now"])
    one.close()
    assert marks_of(Library([folder], database=index))["1"] == (True, ("mine", "now"))


def test_a_file_that_is_away_for_a_moment_keeps_its_marks_though_a_copy_is_there(folder, index, tmp_path):
    write(folder / "nas/ink.safetensors")
    library = Library([folder], database=index)
    library.mark(library.entries(), add=["mine"])
    (folder / "nas").rename(tmp_path / "unmounted")
    shutil.copytree(tmp_path / "unmounted", folder / "copy", copy_function=shutil.copy2)
    library.refresh()
    assert marks_of(library) == {"copy/ink": (False, ("mine",))}
    (tmp_path / "unmounted").rename(folder / "nas")
    library.refresh()
    assert marks_of(library) == {"copy/ink": (False, ("mine",)), "nas/ink": (False, ("mine",))}


def test_marks_follow_a_file_that_is_renamed_again_and_again(folder, index):
    write(folder / "0.safetensors")
    library = Library([folder], database=index)
    library.mark(library.entries(), add=["mine"])
    for number in range(4):
        (folder / f"{number}.safetensors").rename(folder / f"{number + 1}.safetensors")
        library.refresh()
        assert marks_of(library) == {f"{number + 1}": (False, ("mine",))}
