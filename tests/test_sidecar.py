"""The user's notes, and what other tools left beside a file."""

from __future__ import annotations

import json
import os
import stat
import threading
from dataclasses import replace

import pytest

from lib_lora.library.helpers import preview, read_helpers
from lib_lora.library.sidecar import Notes, SidecarError, read_notes, save_notes


@pytest.fixture
def adapter(tmp_path):
    return tmp_path / "ink.v2.safetensors"


def put(adapter, ending, value):
    path = adapter.with_name(f"ink.v2{ending}")
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return path


def test_no_file_is_empty_notes(adapter):
    assert read_notes(adapter) == Notes()


def test_notes_are_read_with_the_keys_of_the_webui(adapter):
    put(
        adapter,
        ".json",
        {
            "description": "d",
            "sd version": "SDXL",
            "activation text": "ink, black",
            "preferred weight": 0.8,
            "negative text": "blurry",
            "notes": "n",
            "sha256": "abc",
        },
    )
    notes = read_notes(adapter)
    assert (notes.description, notes.sd_version, notes.activation_text) == ("d", "SDXL", "ink, black")
    assert (notes.preferred_weight, notes.negative_text, notes.notes) == (0.8, "blurry", "n")


def test_unknown_keys_their_order_and_their_types_survive_a_save(adapter):
    before = {"sha256": "abc", "modelId": 7, "notes": "old", "extensions": {"x": [1, None]}, "preferred weight": "0.5"}
    path = put(adapter, ".json", before)
    save_notes(adapter, replace(read_notes(adapter), notes="new"))
    after = json.loads(path.read_text())
    assert after == {**before, "notes": "new"}
    assert list(after) == list(before)


def test_saving_nothing_new_writes_no_new_keys(adapter):
    path = put(adapter, ".json", {"modelId": 7})
    save_notes(adapter, read_notes(adapter))
    assert json.loads(path.read_text()) == {"modelId": 7}


def test_a_first_note_makes_the_file_and_can_be_saved_again(adapter):
    saved = save_notes(adapter, replace(read_notes(adapter), notes="größe", preferred_weight=0.7))
    again = save_notes(adapter, replace(saved, preferred_weight=0.0))
    assert read_notes(adapter) == again
    assert (again.notes, again.preferred_weight) == ("größe", 0.0)
    assert [path.name for path in adapter.parent.iterdir()] == ["ink.v2.json"]


def test_a_note_that_was_changed_meanwhile_is_not_overwritten(adapter):
    path = put(adapter, ".json", {"notes": "old"})
    mine = read_notes(adapter)
    put(adapter, ".json", {"notes": "theirs"})
    with pytest.raises(SidecarError, match=r"ink\.v2\.json was changed"):
        save_notes(adapter, replace(mine, notes="mine"))
    assert json.loads(path.read_text()) == {"notes": "theirs"}


def test_a_note_that_appeared_meanwhile_is_not_overwritten(adapter):
    mine = read_notes(adapter)
    put(adapter, ".json", {})
    with pytest.raises(SidecarError, match="was changed"):
        save_notes(adapter, replace(mine, notes="mine"))


def test_of_two_windows_that_save_at_once_one_is_told(adapter):
    put(adapter, ".json", {"notes": "old"})
    read, told = read_notes(adapter), []

    def save(text):
        try:
            save_notes(adapter, replace(read, notes=text))
        except SidecarError as error:
            told.append(str(error))

    threads = [threading.Thread(target=save, args=(f"text {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 7


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_a_broken_note_is_an_error_that_names_it_and_stays_as_it_is(adapter, content):
    path = put(adapter, ".json", content)
    with pytest.raises(SidecarError, match=r"ink\.v2\.json"):
        read_notes(adapter)
    assert path.read_bytes() == content


@pytest.mark.parametrize("weight", [True, [1], "soon", "nan", "1e999", None])
def test_a_weight_that_is_no_number_is_none(adapter, weight):
    put(adapter, ".json", {"preferred weight": weight, "notes": 5})
    assert (read_notes(adapter).preferred_weight, read_notes(adapter).notes) == (0.0, "")


def test_a_byte_order_mark_is_no_error(adapter):
    put(adapter, ".json", b'\xef\xbb\xbf{"notes": "n"}')
    assert read_notes(adapter).notes == "n"


@pytest.mark.skipif(os.name == "nt", reason="rights of a Unix file")
def test_the_rights_of_the_file_stay_and_a_link_stays_a_link(adapter, tmp_path):
    real = tmp_path / "elsewhere.json"
    real.write_text("{}")
    real.chmod(0o664)
    adapter.with_name("ink.v2.json").symlink_to(real)
    save_notes(adapter, replace(read_notes(adapter), notes="n"))
    assert adapter.with_name("ink.v2.json").is_symlink()
    assert json.loads(real.read_text()) == {"notes": "n"}
    assert stat.S_IMODE(real.stat().st_mode) == 0o664


def beside(adapter):
    return [path.name for path in adapter.parent.iterdir()]


def test_civitais_answer_is_read(adapter):
    put(
        adapter,
        ".civitai.info",
        {
            "baseModel": "Pony",
            "trainedWords": ["ink style, black,", "", 5, "wash"],
            "description": "<p>Use &lt;1&gt;</p><script>",
            "model": {"name": "Ink", "type": "LORA"},
            "files": [
                {"type": "Training Data", "hashes": {"SHA256": "00" * 32}},
                {
                    "type": "Model",
                    "primary": True,
                    "hashes": {"SHA256": "AB" * 32, "AutoV2": "ABABABABAB", "CRC32": "12"},
                },
            ],
        },
    )
    found = read_helpers(adapter, beside(adapter))
    assert (found.base_model, found.title) == ("Pony", "Ink")
    assert found.trigger_words == ("ink style, black", "wash")
    assert found.description == "Use <1>"
    assert found.hashes == ("ab" * 32, "ababababab")


def test_lora_managers_metadata_are_read(adapter):
    put(
        adapter,
        ".metadata.json",
        {
            "base_model": "SDXL 1.0",
            "model_name": "Ink",
            "tags": ["style"],
            "favorite": True,
            "sha256": "cd" * 32,
            "usage_tips": '{"strength": 0.75}',
            "modelDescription": "text",
            "civitai": {"trainedWords": ["ink"]},
        },
    )
    found = read_helpers(adapter, beside(adapter))
    assert (found.base_model, found.title, found.tags, found.favorite) == ("SDXL 1.0", "Ink", ("style",), True)
    assert (found.preferred_weight, found.trigger_words, found.hashes) == (0.75, ("ink",), ("cd" * 32,))


def test_a_text_beside_the_file_is_its_description(adapter):
    put(adapter, ".civitai.info", {"description": "long"})
    put(adapter, ".txt", "Größe 0.8".encode())
    assert read_helpers(adapter, beside(adapter)).description == "Größe 0.8"


def test_a_broken_helper_is_named_and_the_others_count(adapter):
    put(adapter, ".civitai.info", b"{")
    put(adapter, ".metadata.json", {"model_name": "Ink", "tags": 7, "usage_tips": "{", "civitai": []})
    found = read_helpers(adapter, beside(adapter))
    assert found.title == "Ink"
    assert found.problems == ("ink.v2.civitai.info is not readable JSON: mend it or delete it",)


def test_a_preview_is_found_whatever_its_case(adapter):
    names = ["ink.v2.webp", "INK.V2.Preview.PNG", "ink.png", "ink.v2.json"]
    assert preview(adapter, names) == adapter.with_name("INK.V2.Preview.PNG")
    assert preview(adapter, ["ink.v2.gif"]) == adapter.with_name("ink.v2.gif")
    assert preview(adapter, ["ink.png"]) is None


ANSWER = {  # what SD.Next keeps in `<stem>.json`
    "id": 7,
    "name": "Ink",
    "description": "<p>A style</p>",
    "tags": ["style"],
    "allowNoCredit": True,
    "modelVersions": [
        {"name": "v3", "baseModel": "SDXL 1.0", "trainedWords": ["three"], "files": [{"name": "ink.v3.safetensors"}]},
        {
            "name": "v2", "baseModel": "Pony", "trainedWords": ["<lora:ink_v2:1>, ink style, black", "<lora:x>"],
            "files": [{"name": "Ink.V2.safetensors", "type": "Model", "hashes": {"SHA256": "AB" * 32}}],
            "images": [{"url": "https://x/1.png"}],
        },
    ],
}  # fmt: skip


def test_civitais_answer_in_the_notes_place_is_no_note(adapter):
    path = put(adapter, ".json", ANSWER)
    notes = read_notes(adapter)
    assert (notes.description, notes.activation_text, notes.notes, notes.own) == ("", "", "", {})
    found = read_helpers(adapter, beside(adapter), notes.everything)
    assert (found.base_model, found.title, found.tags, found.description) == ("Pony", "Ink", ("style",), "A style")
    assert (found.trigger_words, found.hashes, found.problems) == (("ink style, black",), ("ab" * 32,), ())
    assert json.loads(path.read_text()) == ANSWER


def test_notes_beside_civitais_answer_leave_every_word_of_it(adapter):
    path = put(adapter, ".json", ANSWER)
    save_notes(adapter, replace(read_notes(adapter), notes="mine", activation_text="ink", preferred_weight=0.7))
    own = {"notes": "mine", "activation text": "ink", "preferred weight": 0.7}
    assert json.loads(path.read_text()) == ANSWER | own
    notes = read_notes(adapter)
    assert (notes.description, notes.notes, notes.preferred_weight, notes.own) == ("", "mine", 0.7, own)
    before = path.read_bytes()
    with pytest.raises(SidecarError, match=r"ink\.v2\.json holds what Civitai says.*write yours into the notes"):
        save_notes(adapter, replace(notes, description="mine"))
    assert path.read_bytes() == before


def test_of_an_answer_whose_versions_have_other_names_only_what_they_agree_on_counts(adapter):
    versions = [{"baseModel": "Pony", "trainedWords": ["ink"]}, {"baseModel": "Pony", "trainedWords": ["wash", "ink"]}]
    found = read_helpers(adapter, (), {"modelVersions": versions})
    assert (found.base_model, found.trigger_words, found.hashes) == ("Pony", ("ink", "wash"), ())
    versions[1]["baseModel"] = "SDXL 1.0"
    assert read_helpers(adapter, (), {"modelVersions": versions}).base_model == ""
    assert read_helpers(adapter, (), {"modelVersions": versions[:1]}).base_model == "Pony"


@pytest.mark.parametrize("versions", [[], [None, 7, []], [{"files": "x"}], [{"files": [None, {"name": 7}]}],
                                      [{"trainedWords": {"a": 1}}, {"baseModel": [1]}]])  # fmt: skip
def test_an_odd_answer_says_nothing_and_breaks_nothing(adapter, versions):
    put(adapter, ".json", {"modelVersions": versions, "description": 7})
    notes = read_notes(adapter)
    assert notes.description == ""
    assert read_helpers(adapter, beside(adapter), notes.everything).trigger_words == ()


def test_tags_inside_an_authors_words_are_left_out(adapter):
    words = ["<lora:on-v3:1>, xxxx", "a, <LoRA:b:1>, c", "(ink:1.2), \\(x\\)", "<lora:only>", "＜lora：墨：１＞ d",
             "<lora:open e"]  # fmt: skip
    put(adapter, ".civitai.info", {"trainedWords": words})
    found = read_helpers(adapter, beside(adapter))
    assert found.trigger_words == ("xxxx", "a, c", "(ink:1.2), \\(x\\)", "d", "e")
