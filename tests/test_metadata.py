"""Facts from header metadata."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib_lora.describe.metadata import cover, read_facts, trained_tags, training_facts

PNG = b"\x89PNG\r\n\x1a\n rest of a picture"


def tags(folders, **more):
    return {"ss_tag_frequency": json.dumps(folders), **more}


def test_the_alias_is_the_training_name_else_the_stem():
    assert read_facts({"ss_output_name": "Ink Style"}, "ink_v2").alias == "Ink Style"
    assert read_facts({"ss_output_name": "None"}, "ink_v2").alias == "ink_v2"
    assert read_facts({}, "ink.v2").alias == "ink.v2"


def test_title_author_license_and_prediction_type_are_read():
    facts = read_facts(
        {
            "modelspec.title": "Ink",
            "modelspec.author": "me",
            "modelspec.license": "CC0",
            "modelspec.prediction_type": "v",
        },
        "x",
    )
    assert (facts.title, facts.author, facts.license, facts.prediction_type) == ("Ink", "me", "CC0", "v")
    assert read_facts({"ss_base_model_version": "sd_v2_v"}, "x").prediction_type == "v"


def test_trained_tags_add_up_over_folders_the_most_frequent_first():
    metadata = tags({"10_a": {"cat": 3, " red": 1, "": 2}, "5_b": {"cat": 4, "blue": 2}})
    assert trained_tags(metadata)[:2] == (("cat", 7), ("blue", 2))


@pytest.mark.parametrize(
    ("images", "found"),
    [
        ({"ss_dataset_dirs": json.dumps({"10_a": {"n_repeats": 10, "img_count": 20}})}, ("inkstyle", "1girl")),
        ({"ss_datasets": json.dumps([{"subsets": [{"image_dir": "10_a", "img_count": 20}]}])}, ("inkstyle", "1girl")),
        ({"ss_num_train_images": "200"}, ("inkstyle", "1girl")),
        ({"ss_num_train_images": "20"}, ("inkstyle", "1girl")),
        ({"ss_num_train_images": "999"}, ()),
        ({}, ()),
    ],
)
def test_trigger_words_are_the_tags_that_stand_at_every_picture(images, found):
    assert read_facts(tags({"10_a": {"inkstyle": 20, " 1girl": 20, "hat": 7}}, **images), "x").trigger_words == found


def test_every_folder_has_its_own_trigger_words():
    metadata = tags(
        {"5_anna": {"anna": 6, "smile": 2}, "5_bob": {"bob": 9, "anna": 1}},
        ss_dataset_dirs=json.dumps({"5_anna": {"img_count": 6}, "5_bob": {"img_count": 9}}),
    )
    assert read_facts(metadata, "x").trigger_words == ("anna", "bob")


def test_the_authors_trigger_phrase_comes_first():
    metadata = tags({"a": {"b": 5}}, **{"ss_num_train_images": "5", "modelspec.trigger_phrase": "ink style, black ink"})
    assert read_facts(metadata, "x").trigger_words == ("ink style", "black ink")


def test_training_facts_are_plain_words():
    metadata = {
        "ss_sd_model_name": "v1-5-pruned.safetensors",
        "ss_resolution": "(512, 768)",
        "ss_num_train_images": "200",
        "ss_steps": "1500",
        "ss_epoch": "None",
        "ss_network_dim": "16",
        "ss_network_alpha": "8.0",
        "ss_training_finished_at": "1700000000.5",
    }
    assert training_facts(metadata) == (
        ("Base checkpoint", "v1-5-pruned.safetensors"),
        ("Resolution", "512 x 768"),
        ("Images", "200"),
        ("Steps", "1500"),
        ("Rank", "16, alpha 8.0"),
        ("Date", "2023-11-14"),
    )


@pytest.mark.parametrize("moment", ["nan", "inf", "-1e300", "1e300", "soon"])
def test_a_date_beyond_the_calendar_is_no_date(moment):
    assert training_facts({"ss_training_finished_at": moment}) == ()


def test_a_cover_is_a_picture_or_nothing():
    encoded = base64.b64encode(PNG).decode()
    assert cover({"ssmd_cover_images": json.dumps([encoded])}) == PNG
    assert cover({"modelspec.thumbnail": f"data:image/png;base64,{encoded}"}) == PNG
    assert cover({"ssmd_cover_images": json.dumps([base64.b64encode(b"<script>").decode(), 5, encoded])}) == PNG
    assert cover({"ssmd_cover_images": json.dumps([encoded * 1_000_000])}) is None
    assert cover({"modelspec.thumbnail": "not base64 ä"}) is None
    assert cover({}) is None


NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = [
    "ss_tag_frequency",
    "ss_dataset_dirs",
    "ss_datasets",
    "ssmd_cover_images",
    "modelspec.thumbnail",
    "ss_resolution",
    "ss_num_train_images",
    "ss_training_finished_at",
    "modelspec.trigger_phrase",
    "ss_output_name",
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(KEYS), NONSENSE.map(json.dumps) | st.text(max_size=30)))
def test_nothing_in_the_metadata_raises(metadata):
    facts = read_facts(metadata, "stem")
    trained_tags(metadata), training_facts(metadata), cover(metadata)
    assert facts.alias
    json.dumps([facts.alias, facts.trigger_words]).encode()


def test_deeply_nested_json_is_no_json():
    assert read_facts({"ss_tag_frequency": "[" * 100_000}, "x").trigger_words == ()


def test_brackets_of_trained_tags_are_escaped_once():
    counts = {"asuka (evangelion)": 4, r"rei \(evangelion\)": 4, "smile [x]": 4, "rare (tag)": 1}
    metadata = tags({"4_x": counts}, ss_dataset_dirs=json.dumps({"4_x": {"img_count": 4}}))
    assert read_facts(metadata, "x").trigger_words == (r"asuka \(evangelion\)", r"rei \(evangelion\)", r"smile \[x\]")


@pytest.mark.parametrize(("phrase", "words"), [
    ("asuka (evangelion), plugsuit", (r"asuka \(evangelion\)", "plugsuit")),
    ("asuka_(evangelion)", (r"asuka_\(evangelion\)",)),
    (r"asuka \(evangelion\)", (r"asuka \(evangelion\)",)),
    ("(ink, wash:1.2)", ("(ink", "wash:1.2)")),
    ("((ink drawing))", ("((ink drawing))",)),
    ("<lora:theirs:1>, ink", ("ink",)),
    ("ink <LoRA:theirs:1>", ("ink",)),
    ("<lora:theirs:1>", ()),
])  # fmt: skip
def test_the_authors_phrase_is_for_a_prompt_but_for_tags_and_names_with_brackets(phrase, words):
    assert read_facts({"modelspec.trigger_phrase": phrase}, "x").trigger_words == words
