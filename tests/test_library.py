"""The library: what is indexed, and how it is found."""

from __future__ import annotations

import gc
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import unicodedata
from pathlib import Path

import pytest

from lib_lora.errors import NotFoundError
from lib_lora.formats.hashes import NOTHING
from lib_lora.garbage import all_stays
from lib_lora.library import Library
from tests.adapter_files import SMALL, Q, write, write_raw
from tests.support import SHARED


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "Lora"
    path.mkdir()
    return path


def fill(folder, *names, **metadata):
    for name in names:
        write(folder / f"{name}.safetensors", metadata=metadata or None)


def found(library, name):
    return library.find(name).path.relative_to(library.folders[0]).as_posix()


# what is indexed


def test_an_entry_says_what_the_file_is(folder):
    write(
        folder / "styles/ink.v2.safetensors",
        metadata={
            "ss_output_name": "Ink",
            "modelspec.title": "Ink & Wash",
            "modelspec.trigger_phrase": "ink style, wash",
            "ss_steps": "5",
        },
    )
    entry = Library([folder]).find("ink.v2")
    assert (entry.name, entry.stem, entry.alias, entry.title) == ("styles/ink.v2", "ink.v2", "Ink", "Ink & Wash")
    assert (entry.algorithms, entry.rank, entry.modules, entry.components) == (("LoRA",), (4, 4), 1, ("unet",))
    assert (entry.family.id, entry.family.label, entry.broken) == ("sd1", "SD 1.5", None)
    assert (entry.trigger_words, entry.prompt_text) == (("ink style", "wash"), "ink style, wash")
    assert entry.training_facts == (("Steps", "5"),)
    assert (entry.size, entry.mtime_ns) == (entry.path.stat().st_size, entry.path.stat().st_mtime_ns)


def test_the_metadata_come_back_as_the_text_of_the_file(folder):
    metadata = {"ss_output_name": "größe", "ss_tag_frequency": json.dumps({"1_x": {"<script>": 3}})}
    write(folder / "a.safetensors", metadata=metadata)
    library = Library([folder])
    entry = library.find("a")
    assert entry.metadata == metadata == json.loads(entry.metadata_json)
    assert [(each.id, json.loads(text)) for each, text in library.readable_parts([entry])] == [
        (entry.id, {"ss_tag_frequency": {"1_x": {"<script>": 3}}, "ss_output_name": "größe"})
    ]
    assert entry.trained_tags == (("<script>", 3),)


def test_notes_and_other_tools_files_are_part_of_the_entry(folder):
    fill(folder, "ink")
    (folder / "ink.json").write_text(
        json.dumps({"activation text": "my ink", "preferred weight": 0.6, "notes": "mine"})
    )
    (folder / "ink.civitai.info").write_text(
        json.dumps({"baseModel": "SD 1.5", "trainedWords": ["ink"], "description": "<b>d</b>"})
    )
    (folder / "ink.preview.png").write_bytes(b"")
    entry = Library([folder]).find("ink")
    assert (entry.activation_text, entry.prompt_text, entry.preferred_weight) == ("my ink", "my ink", 0.6)
    assert (entry.trigger_words, entry.preview) == (("ink",), folder / "ink.preview.png")
    assert (entry.details.notes, entry.details.description) == ("mine", "d")


def test_the_base_model_that_the_user_chose_is_the_entrys(folder):
    middle = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_"  # whose width tells nothing
    write(folder / "ink.safetensors", {f"{middle}down.weight": (4, 1280), f"{middle}up.weight": (1280, 4)})
    library = Library([folder])
    before = library.find("ink").family
    (folder / "ink.json").write_text('{"sd version": "SD2"}')
    library.refresh()
    assert before.id != "sd2"
    assert (library.find("ink").family.id, library.find("ink").details.sd_version) == ("sd2", "SD2")


def test_a_changed_note_changes_the_entry_and_a_broken_one_is_told(folder):
    fill(folder, "ink")
    library = Library([folder])
    before = library.find("ink")
    (folder / "ink.json").write_text('{"activation text": "ink"}')
    assert library.refresh().changed == 1
    assert library.find("ink").activation_text == "ink"
    assert library.find("ink").id == before.id
    (folder / "ink.json").write_text("{")
    library.refresh()
    assert library.find("ink").warnings == ("ink.json is not readable JSON: mend it or delete it",)
    assert library.find("ink").broken is None


def test_broken_files_are_entries_with_a_reason_and_hurt_no_others(folder):
    fill(folder, "good")
    write_raw(folder / "cut.safetensors", b"{}", length=10_000)
    write(folder / "model.safetensors", {"model.diffusion_model.out.2.weight": (4,)})
    (folder / "old.pt").write_bytes(b"junk")
    library = Library([folder])
    result = library.refresh()
    assert (result.added, result.broken) == (4, 3)
    reasons = {entry.name: entry.broken for entry in library.entries()}
    assert reasons["good"] is None
    assert "cut.safetensors" in reasons["cut"]
    assert "model.safetensors is a checkpoint" in reasons["model"]
    assert "old.pt" in reasons["old"]
    assert library.find("cut").family.id == "unknown"


def test_a_pickled_adapter_is_listed_like_any_other(folder):
    import torch

    torch.save({name: torch.zeros(shape) for name, shape in SMALL.items()}, folder / "old.pt")
    entry = Library([folder]).find("old")
    assert (entry.broken, entry.algorithms, entry.rank, entry.family.id) == (None, ("LoRA",), (4, 4), "sd1")


def test_odd_characters_in_a_header_reach_the_database_and_back(folder):
    raw = json.dumps(
        {
            "__metadata__": {"ss_output_name": "x\ud800y\x00", "modelspec.trigger_phrase": "\udfff"},
            f"{Q}.diff": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]},
        }
    )
    write_raw(folder / "a.safetensors", raw.encode(), bytes(2))
    assert Library([folder]).find("a").alias == "x?y\x00"


# how it is found


def test_path_stem_alias_extension_and_either_slash_name_a_file(folder):
    write(folder / "styles/ink.safetensors", metadata={"ss_output_name": "Ink Style"})
    library = Library([folder])
    for name in (
        "styles/ink",
        "styles\\ink",
        "./styles/ink",
        "ink",
        "ink.safetensors",
        "styles/ink.safetensors",
        "Ink Style",
        "INK",
        "Styles/Ink",
        "ink style",
        "  ink  ",
    ):
        assert found(library, name) == "styles/ink.safetensors", name


@pytest.mark.parametrize("name", ["v1.5 (final) [x]", "水彩", "ño.2", "a,b;c", "{x}", "100%"])
def test_names_with_dots_spaces_brackets_and_any_letters_are_found(folder, name):
    fill(folder, name)
    assert Library([folder]).find(name).stem == name


def test_composed_and_decomposed_letters_are_the_same_name(folder):
    fill(folder, unicodedata.normalize("NFD", "café"), unicodedata.normalize("NFC", "über"))
    library = Library([folder])
    assert found(library, unicodedata.normalize("NFC", "café")).startswith("cafe")
    assert found(library, unicodedata.normalize("NFD", "Über"))


def test_exact_case_comes_before_any_case(folder):
    fill(folder, "deep/Ink", "ink")
    if len(list(folder.rglob("*.safetensors"))) < 2:
        pytest.skip("a file system without case")
    library = Library([folder])
    assert (found(library, "Ink"), found(library, "ink")) == ("deep/Ink.safetensors", "ink.safetensors")


def test_of_several_files_of_one_name_the_path_picks_and_else_the_one_nearest_to_the_top_wins(folder):
    fill(folder, "b/c/ink", "a/ink", "b/ink")
    library = Library([folder])
    assert found(library, "b/c/ink") == "b/c/ink.safetensors"
    assert found(library, "ink") == "a/ink.safetensors"
    assert [entry.name for entry in library.look_up("ink").others] == ["b/ink", "b/c/ink"]
    assert library.look_up("b/ink").others == ()
    fill(folder, "ink")
    library.refresh()
    assert found(library, "ink") == "ink.safetensors"
    assert library.look_up("ink").others == ()


def test_a_file_name_comes_before_another_files_alias(folder):
    fill(folder, "ink")
    write(folder / "other.safetensors", metadata={"ss_output_name": "ink"})
    write(folder / "third.safetensors", metadata={"ss_output_name": "wash"})
    write(folder / "fourth.safetensors", metadata={"ss_output_name": "wash"})
    library = Library([folder])
    assert found(library, "ink") == "ink.safetensors"
    assert [entry.name for entry in library.look_up("wash").others] == ["third"]
    assert found(library, "wash") == "fourth.safetensors"


def test_the_first_folder_wins_and_a_working_file_before_a_broken_one(tmp_path):
    fill(tmp_path / "one", "ink", "sub/wash")
    fill(tmp_path / "two", "ink")
    write_raw(tmp_path / "two" / "wash.safetensors", b"")
    library = Library([tmp_path / "two", tmp_path / "one"])
    assert library.find("ink").folder == tmp_path / "two"
    assert len(library.look_up("ink").others) == 1
    assert library.find("wash").broken  # its exact path
    assert Library([tmp_path / "one", tmp_path / "two"]).find("sub/wash").broken is None


def test_hashes_name_a_file_by_eight_digits_or_more(folder):
    stored = "ab" * 32
    write(folder / "a.safetensors", metadata={"sshs_model_hash": stored}, fill=1)
    write(folder / "b.safetensors", metadata={"sshs_model_hash": "0x" + "cd" * 32}, fill=2)
    library = Library([folder])
    assert found(library, stored[:12]) == found(library, stored[:8].upper()) == "a.safetensors"
    assert found(library, "0x" + "cd" * 5) == "b.safetensors"
    with pytest.raises(NotFoundError):
        library.find(stored[:7])
    hashes = library.find("a").hashes
    assert found(library, hashes.autov2) == found(library, hashes.autov3) == "a.safetensors"


def test_the_short_hash_is_computed_where_the_stored_one_is_wrong_and_is_remembered(folder, tmp_path):
    write(folder / "a.safetensors", metadata={"sshs_model_hash": NOTHING})
    with_database = Library([folder], database=tmp_path / "index.db")
    short = with_database.find("a").shorthash
    assert (len(short), short != NOTHING[:12]) == (12, True)
    with_database.close()
    again = Library([folder], database=tmp_path / "index.db")
    assert again.known_hashes(again.find("a")).tensors.startswith(short)
    assert again.find(short).name == "a"


def test_an_unknown_name_is_an_error_with_the_nearest_names(folder):
    fill(folder, "watercolor", "oil", "styles/ink", "people/ink")
    library = Library([folder])
    with pytest.raises(NotFoundError) as caught:
        library.find("watercolour")
    assert caught.value.nearest[0] == "watercolor"
    with pytest.raises(NotFoundError) as caught:
        library.find("imk")
    assert set(caught.value.nearest) <= {"styles/ink", "people/ink"}
    for name in ("", "/", "../../etc/passwd", "x" * 10_000, "*", "\x00"):
        with pytest.raises(NotFoundError):
            library.find(name)


# staying up to date


def test_making_a_library_reads_nothing_and_the_first_question_does(folder):
    library = Library([folder])
    fill(folder, "a")
    assert [entry.name for entry in library.entries()] == ["a"]


def test_a_file_that_appears_changes_or_vanishes_is_noticed_by_the_next_find(folder):
    library = Library([folder])
    assert library.entries() == []
    fill(folder, "new")
    first = library.find("new")
    fill(folder, "sub/second")
    assert library.find("second").name == "sub/second"
    write(folder / "new.safetensors", {f"{Q}.diff": (320, 768)})
    assert library.find("new").algorithms == ("Full",)
    assert library.find("new").id == first.id
    (folder / "new.safetensors").unlink()
    with pytest.raises(NotFoundError):
        library.find("new")
    assert [entry.name for entry in library.entries()] == ["sub/second"]


def test_a_name_that_is_not_there_does_not_scan_again_and_again(folder):
    fill(folder, "a")
    library = Library([folder], patience=1000)
    library.refresh()
    scanned = library._scanner.started
    for _ in range(3):
        with pytest.raises(NotFoundError):
            library.find("nothing like it")
    assert library._scanner.started == scanned


def test_a_second_scan_counts_what_is_new_changed_and_gone(folder):
    fill(folder, "a", "b", "c")
    library = Library([folder])
    assert (lambda r: (r.added, r.changed, r.removed, r.broken))(library.refresh()) == (3, 0, 0, 0)
    (folder / "a.safetensors").unlink()
    write_raw(folder / "b.safetensors", b"")
    fill(folder, "d")
    assert (lambda r: (r.added, r.changed, r.removed, r.broken))(library.refresh()) == (1, 1, 1, 1)
    assert (lambda r: (r.added, r.changed, r.removed, r.broken))(library.refresh()) == (0, 0, 0, 1)


def test_progress_counts_up_to_the_number_of_files(folder):
    fill(folder, *"abc")
    told = []
    Library([folder]).refresh(lambda done, total: told.append((done, total)))
    assert told[-1] == (3, 3)


def test_a_missing_folder_is_told_and_noticed_when_it_comes(tmp_path):
    library = Library([tmp_path / "later"])
    assert "later" in library.refresh().problems[0]
    fill(tmp_path / "later", "a")
    assert library.find("a").name == "a"


def test_an_unchanged_file_keeps_its_very_entry(folder):
    fill(folder, "a")
    library = Library([folder])
    before = library.find("a")
    library.refresh()
    assert library.find("a") is before
    assert library.entry(before.id) is before
    with pytest.raises(NotFoundError):
        library.entry(-1)


def test_who_asked_is_told_when_the_entries_are_other_ones(folder):
    fill(folder, "a")
    library, told = Library([folder]), []
    library.on_change.append(lambda: told.append([entry.name for entry in library.entries()]))
    assert library.entries()
    version = library.version
    library.refresh()
    assert (told, library.version) == ([["a"]], version)
    fill(folder, "b")
    library.refresh()
    assert (told[1:], library.version != version) == ([["a", "b"]], True)


def test_one_file_can_be_read_again_without_a_scan(folder):
    fill(folder, "a", "b")
    library, told = Library([folder]), []
    before, other = library.find("a"), library.find("b")
    library.on_change.append(lambda: told.append(1))
    (folder / "a.json").write_text('{"activation text": "ink", "preferred weight": 0.5}')
    (folder / "b.json").write_text('{"activation text": "not looked at"}')
    after = library.reread(before)
    assert (after.id, after.activation_text, after.preferred_weight) == (before.id, "ink", 0.5)
    assert library.find("a") is library.entry(after.id) is library.entries()[0] is after
    assert library.find("b") is other
    assert told == [1]
    assert library.refresh().changed == 1  # b
    (folder / "a.safetensors").unlink()
    library.refresh()
    with pytest.raises(NotFoundError):
        library.reread(after)


# the user's marks


def marked(library):
    return {entry.name: (entry.favorite, entry.user_tags) for entry in library.entries()
            if entry.favorite or entry.user_tags}  # fmt: skip


@pytest.fixture
def index(tmp_path):
    return tmp_path / "index.db"


def test_marks_outlive_a_restart_and_another_version_of_the_index(folder, index):
    fill(folder, "a", "b")
    library = Library([folder], database=index)
    assert library.mark([library.find("a")], favorite=True, add=[" line   art ", "b", "B", "", "x" * 500]) == 1
    assert library.mark([library.find("a")], favorite=True) == 0
    library.close()
    with sqlite3.connect(index) as db:
        db.execute("PRAGMA user_version = 999")
    db.close()
    again = Library([folder], database=index)
    assert again.refresh().added == 2
    assert marked(again) == {"a": (True, ("line art", "b", "x" * 100))}


def test_marks_follow_a_file_that_was_moved_or_renamed(folder, index):
    for number, name in enumerate(("a", "b", "c")):
        write(folder / f"{name}.safetensors", fill=number)
        os.utime(folder / f"{name}.safetensors", (1000 + number, 1000 + number))
    library = Library([folder], database=index)
    library.mark(library.entries(), add=["kept"])
    library.close()
    (folder / "deep").mkdir()
    (folder / "a.safetensors").rename(folder / "deep" / "a.safetensors")
    (folder / "b.safetensors").rename(folder / "better name.safetensors")
    again = Library([folder], database=index)
    assert set(marked(again)) == {"deep/a", "better name", "c"}
    again.close()
    assert set(marked(Library([folder], database=index))) == {"deep/a", "better name", "c"}


def test_who_wants_to_know_is_told_once_when_a_hash_becomes_known(folder):
    write(folder / "a.safetensors", fill=1)
    library = Library([folder])
    learnt = []
    library.on_hash.append(lambda entry: learnt.append((entry.name, library.known_hashes(entry))))
    first = library.find("a").hashes
    assert library.find("a").hashes == first
    assert learnt == [("a", first)]


def test_marks_follow_a_file_by_its_hash(folder, index):
    write(folder / "a.safetensors", fill=1)
    library = Library([folder], database=index)
    library.mark([library.find("a")], favorite=True)
    assert library.find("a").hashes
    (folder / "a.safetensors").unlink()
    write(folder / "z.safetensors", fill=1)
    os.utime(folder / "z.safetensors", (1, 1))
    library.refresh()
    assert marked(library) == {}  # its hash is not known yet
    assert library.find("z").hashes
    library.follow_marks()
    assert marked(library) == {"z": (True, ())}


def test_marks_do_not_go_to_a_copy_nor_away_with_an_unplugged_drive(folder, index, tmp_path):
    fill(folder, "a")
    library = Library([folder, tmp_path / "two"], database=index)
    library.mark(library.entries(), favorite=True)
    shutil.copytree(folder, tmp_path / "two", copy_function=shutil.copy2)
    library.refresh()
    assert [entry.favorite for entry in library.entries()] == [True, False]
    folder.rename(tmp_path / "unplugged")
    library.refresh()
    assert [entry.favorite for entry in library.entries()] == [False]
    (tmp_path / "unplugged").rename(folder)
    library.refresh()
    assert [(entry.folder, entry.favorite) for entry in library.entries()] == [
        (folder, True),
        (tmp_path / "two", False),
    ]


# the index on disk


def test_a_second_start_reads_no_file_again_and_ids_stay(folder, tmp_path):
    fill(folder, "a", "b")
    first = Library([folder], database=tmp_path / "deep/index.db")
    ids = {entry.name: entry.id for entry in first.entries()}
    first.close()
    second = Library([folder], database=tmp_path / "deep/index.db")
    result = second.refresh()
    assert (result.added, result.changed) == (0, 0)
    assert {entry.name: entry.id for entry in second.entries()} == ids
    assert second.find("a").metadata_json == "{}"


def test_a_drive_that_is_not_plugged_in_is_not_forgotten(folder, tmp_path):
    fill(folder, "a")
    library = Library([folder], database=tmp_path / "index.db")
    number = library.find("a").id
    folder.rename(tmp_path / "unplugged")
    library.refresh()
    assert library.entries() == []
    (tmp_path / "unplugged").rename(folder)
    assert library.refresh().added == 0
    assert library.find("a").id == number


def test_two_libraries_share_one_index(tmp_path):
    fill(tmp_path / "one", "a")
    fill(tmp_path / "two", "b")
    one = Library([tmp_path / "one"], database=tmp_path / "index.db")
    two = Library([tmp_path / "two"], database=tmp_path / "index.db")
    assert [entry.name for entry in one.entries()] == ["a"]
    assert [entry.name for entry in two.entries()] == ["b"]
    one.refresh()
    two.close()
    again = Library([tmp_path / "two"], database=tmp_path / "index.db")
    assert again.refresh().added == 0


def test_an_index_that_is_no_database_is_put_aside(folder, tmp_path):
    fill(folder, "a")
    (tmp_path / "index.db").write_bytes(b"this is not SQLite at all" * 100)
    assert Library([folder], database=tmp_path / "index.db").find("a").name == "a"
    assert (tmp_path / "index.db.broken").exists()


def test_an_index_of_another_version_is_read_anew(folder, tmp_path):
    fill(folder, "a")
    first = Library([folder], database=tmp_path / "index.db")
    first.refresh()
    first.close()
    with sqlite3.connect(tmp_path / "index.db") as db:
        db.execute("PRAGMA user_version = 999")
    db.close()
    assert Library([folder], database=tmp_path / "index.db").refresh().added == 1


def test_many_threads_may_ask_while_the_folder_changes(folder):
    fill(folder, *(f"a{number}" for number in range(20)))
    library, wrong = Library([folder]), []

    def ask(number):
        try:
            for turn in range(10):
                assert library.find(f"a{(number + turn) % 20}").metadata == {}
                if number == 0:
                    fill(folder, f"new{turn}")
                    assert library.find(f"new{turn}")
        except Exception as error:  # a thread's error would be lost
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(library.entries()) == 30


@pytest.mark.skipif(os.name == "nt", reason="names that are not Unicode")
def test_a_file_name_that_is_not_unicode_is_indexed_too(folder, tmp_path):
    name = os.fsdecode(b"caf\xe9")
    fill(folder, name)
    for _ in range(2):
        library = Library([folder], database=tmp_path / "index.db")
        assert [entry.stem for entry in library.entries()] == [name]
        assert library.find(name).shorthash
        library.close()


def test_a_relative_folder_is_as_good_as_a_whole_path(folder, monkeypatch):
    fill(folder, "a")
    monkeypatch.chdir(folder.parent)
    library = Library(["Lora"])
    assert library.find("a").path == folder / "a.safetensors"
    (folder / "a.safetensors").unlink()
    assert library.refresh().removed == 1


# cost


def test_a_thousand_files_are_scanned_in_seconds_and_found_again_at_once(folder, tmp_path):
    first = write(
        folder / "0.safetensors",
        metadata={"ss_tag_frequency": json.dumps({"1_a": {f"tag {n}": n for n in range(800)}})},
    )
    for number in range(1, 1000):
        shutil.copy(first, folder / f"{number}.safetensors")
    started = time.process_time()
    library = Library([folder], database=tmp_path / "index.db")
    assert library.refresh().added == 1000
    scanned = time.process_time() - started
    library.close()
    started = time.process_time()
    assert len(Library([folder], database=tmp_path / "index.db").entries()) == 1000
    assert (scanned < 4, time.process_time() - started < 1) == (True, True)  # seconds of CPU; about 0.5 and 0.05


def test_the_library_needs_neither_torch_nor_numpy():
    code = (
        "import sys; from lib_lora.library import Library; assert Library([sys.argv[1]]).entries(); "
        "print([name for name in ('torch', 'numpy', 'safetensors') if name in sys.modules])"
    )
    golden = Path(__file__).with_name("golden")
    done = subprocess.run(
        [sys.executable, "-c", code, str(golden)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.skipif(not SHARED.exists(), reason="needs the golden data")
def test_no_golden_adapter_is_broken():
    entries = Library([SHARED / "golden/dev/adapters"]).entries()
    assert len(entries) == 71
    assert [entry.name for entry in entries if entry.broken] == []


def test_what_all_stays_is_not_looked_through_for_garbage_and_later_things_are_as_before():
    def broken_off():
        with all_stays():
            with all_stays():
                assert not gc.isenabled()
            assert not gc.isenabled()
            raise ZeroDivisionError

    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        broken_off()
    assert gc.isenabled()
