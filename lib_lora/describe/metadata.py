"""Header metadata -> plain facts: what the adapter is called, what it was trained on, and which words wake it.

The keys are those of kohya's scripts (`ss_*`), additional-networks (`ssmd_*`), ModelSpec (`modelspec.*`) and OneTrainer
(`ot_config`). Values are strings; only those that start with `{` or `[` are read as JSON, and none of it is believed.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from operator import itemgetter
from typing import Any

import orjson

from lib_lora.formats.json_text import read_json
from lib_lora.formats.text import encodable
from lib_lora.grammar.trigger_words import escaped, stated

MAX_COVER = 8 * 1024 * 1024  # bytes of one embedded picture
MAX_TAGS = 2000  # most frequent trained tags that are kept
MAX_TRIGGERS = 12
MAX_TEXT = 20_000  # characters of a description
MAX_NAME = 300  # characters of what stands on one line
MAX_PHRASE = 4000  # characters of all trigger words
MAX_COUNT = 10**9  # pictures; more is a lie, and too many digits for those who read it
IMAGE_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF")
MAX_DEPTH = 100  # of JSON inside a string
NOTHING = ("", "None", "none", "null")


@dataclass(frozen=True)
class Facts:
    """What the header tells people at a glance. Empty where it tells nothing."""

    alias: str  # the name given in training, else the file's stem
    title: str = ""
    author: str = ""
    description: str = ""
    license: str = ""
    prediction_type: str = ""  # "epsilon", "v"
    trigger_words: tuple[str, ...] = ()


def read_facts(metadata: Mapping[str, str], stem: str) -> Facts:
    """The facts in the metadata of the file `<stem>.safetensors`. Never raises."""
    return Facts(
        alias=_first(metadata, "ss_output_name")[:MAX_NAME] or stem,
        title=_first(metadata, "modelspec.title", "ssmd_display_name")[:MAX_NAME],
        author=_first(metadata, "modelspec.author", "ssmd_author")[:MAX_NAME],
        description=_first(metadata, "modelspec.description", "ssmd_description"),
        license=_first(metadata, "modelspec.license")[:MAX_NAME],
        prediction_type=_prediction_type(metadata),
        trigger_words=_trigger_words(metadata),
    )


def trained_tags(metadata: Mapping[str, str], *, limit: int = MAX_TAGS) -> tuple[tuple[str, int], ...]:
    """(trained tag, number of pictures), most frequent first."""
    folders = list(tag_counts(metadata).values())
    stated = folders[0] if len(folders) == 1 else _total(folders)
    ranked = sorted(stated.items(), key=itemgetter(1), reverse=True)[:limit]
    tags = list(map(itemgetter(0), ranked))
    if list(map(str.strip, tags)) != tags or "" in tags:  # seldom
        stated = _total([{tag.strip(): count} for tag, count in stated.items()])
        stated.pop("", None)
        ranked = sorted(stated.items(), key=itemgetter(1), reverse=True)[:limit]
    if (ranked and ranked[0][1] > MAX_COUNT) or not "".join(map(itemgetter(0), ranked)).isascii():
        return tuple((encodable(tag), min(count, MAX_COUNT)) for tag, count in ranked)
    return tuple(ranked)


def _total(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return total


def training_facts(metadata: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """("Steps", "2000"), ("Date", "2024-05-31"): what is known of the training, in the order in which to show it."""
    return tuple((label, text) for label, read in TRAINING if (text := read(metadata)))


def cover(metadata: Mapping[str, str]) -> bytes | None:
    """The picture inside the header (PNG, JPEG, WebP or GIF bytes), or None."""
    candidates = [metadata.get("modelspec.thumbnail", "")]
    covers = parsed(metadata, "ssmd_cover_images")
    candidates += covers[:8] if isinstance(covers, list) else []
    return next((picture for item in candidates if isinstance(item, str) and (picture := _picture(item))), None)


def parsed(metadata: Mapping[str, str], key: str) -> Any:
    """The value of `key` as JSON if it looks like an object or a list and is one, else None."""
    return parsed_text(metadata.get(key, ""))


def parsed_text(text: str) -> Any:
    """The same of a text."""
    text = text.lstrip()
    return _loaded(text)[0] if text.startswith(("{", "[")) else None


def is_strict(text: str) -> bool:
    """Whether everybody can read this JSON: no NaN, no infinite number, no half of a character, and not too deep."""
    return _loaded(text.lstrip())[1]


@lru_cache(maxsize=4)  # a scan asks for the same few again and again while it looks at one file
def _loaded(text: str) -> tuple[Any, bool]:
    """`(value, is_strict)`"""
    try:
        value, strict = orjson.loads(text), True
    except orjson.JSONDecodeError:
        try:
            value, strict = read_json(text), False
        except (ValueError, RecursionError):
            return None, False
    return (None, False) if text.count("{") + text.count("[") > MAX_DEPTH and _is_deep(value) else (value, strict)


def _is_deep(value: Any) -> bool:
    """Deeper than MAX_DEPTH: whoever writes it as text again stumbles."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for each in level for item in (each.values() if isinstance(each, dict) else each)
                 if isinstance(item, (dict, list))]  # fmt: skip
        if not level:
            return False
    return True


def _first(metadata: Mapping[str, str], *keys: str) -> str:
    values = (metadata.get(key, "").strip() for key in keys)
    return next((value[:MAX_TEXT] for value in values if value not in NOTHING), "")


def _picture(text: str) -> bytes | None:
    text = text.partition(",")[2] if text.startswith("data:") else text
    if not text or len(text) > MAX_COVER * 4 // 3 + 4:
        return None
    try:
        picture = base64.b64decode(text)
    except (binascii.Error, ValueError):
        return None
    return picture if picture.startswith(IMAGE_STARTS) else None


def _prediction_type(metadata: Mapping[str, str]) -> str:
    stated = _first(metadata, "modelspec.prediction_type").lower()
    if stated:
        return "v" if stated.startswith("v") else stated
    return "v" if _first(metadata, "ss_base_model_version").endswith("_v") else ""


def _trigger_words(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The author's own, else the tags that stand at every picture of a folder; as they go into a prompt."""
    own = stated(_first(metadata, "modelspec.trigger_phrase", "ssmd_keywords")[:MAX_PHRASE])
    if own:
        return tuple(dict.fromkeys(own))
    images, folders = _images_by_folder(metadata), tag_counts(metadata)
    everywhere: list[str] = []
    for folder, counts in folders.items():
        wanted = {images[folder]} if folder in images else _images_if_alone(metadata, folder, len(folders))
        everywhere += _with_count(counts, wanted - {0, 1})
    tags = (escaped(encodable(tag.strip())) for tag in everywhere)
    return tuple(dict.fromkeys(tag for tag in tags if tag))[:MAX_TRIGGERS]


def _with_count(counts: Mapping[str, int], wanted: set[int]) -> list[str]:
    """The tags that have one of these counts, in order."""
    values = list(counts.values())
    places = []
    for count in wanted:
        place = -1
        for _ in range(values.count(count)):
            place = values.index(count, place + 1)
            places.append(place)
    tags = list(counts)
    return [tags[place] for place in sorted(places)]


def tag_counts(metadata: Mapping[str, str]) -> Mapping[str, Mapping[str, int]]:
    """{folder: {trained tag: number of pictures}}, as far as they are numbers."""
    text = metadata.get("ss_tag_frequency")
    return _counts(text) if text else {}


@lru_cache(maxsize=1)  # a scan does this for thousands of tags of each file, and asks three times
def _counts(text: str) -> Mapping[str, Mapping[str, int]]:
    folders = parsed_text(text)
    found = folders.items() if isinstance(folders, dict) else ()
    return {folder: _numbers(counts) for folder, counts in found if isinstance(counts, dict)}


def _numbers(counts: dict[str, Any]) -> dict[str, int]:
    if set(map(type, counts.values())) == {int}:
        return counts
    return {tag: count for tag, count in counts.items() if type(count) is int}


def _images_by_folder(metadata: Mapping[str, str]) -> dict[str, int]:
    """{folder: number of pictures}, as far as the file says it."""
    folders = parsed(metadata, "ss_dataset_dirs")
    stated = list(folders.items()) if isinstance(folders, dict) else []
    datasets = parsed(metadata, "ss_datasets")
    for dataset in datasets if isinstance(datasets, list) else ():
        subsets = dataset.get("subsets") if isinstance(dataset, dict) else None
        stated += [
            (subset["image_dir"], subset)
            for subset in (subsets if isinstance(subsets, list) else ())
            if isinstance(subset, dict) and isinstance(subset.get("image_dir"), str)
        ]
    return {
        folder: entry["img_count"]
        for folder, entry in stated
        if isinstance(entry, dict) and type(entry.get("img_count")) is int and 0 <= entry["img_count"] <= MAX_COUNT
    }


def _images_if_alone(metadata: Mapping[str, str], folder: str, folders: int) -> set[int]:
    """The number of pictures of the only folder, from the total; kohya's total counts repeats ("10_name")."""
    total = _first(metadata, "ss_num_train_images")
    if folders != 1 or not re.fullmatch(r"[0-9]{1,9}", total):
        return set()
    repeats = re.match(r"([1-9][0-9]{0,5})_", folder)
    return {int(total), int(total) // int(repeats[1])} if repeats else {int(total)}


def _plain(*keys: str) -> Callable[[Mapping[str, str]], str]:
    return lambda metadata: _first(metadata, *keys)[:200]


def _resolution(metadata: Mapping[str, str]) -> str:
    numbers = re.findall(r"\d+", _first(metadata, "modelspec.resolution", "ss_resolution")[:100])
    return " x ".join(numbers[:2] if len(numbers) > 1 else numbers * 2)


def _images(metadata: Mapping[str, str]) -> str:
    return str(sum(_images_by_folder(metadata).values()) or _first(metadata, "ss_num_train_images")[:20])


def _rank(metadata: Mapping[str, str]) -> str:
    dim, alpha = _first(metadata, "ss_network_dim")[:20], _first(metadata, "ss_network_alpha")[:20]
    return f"{dim}, alpha {alpha}" if dim and alpha else dim


def _date(metadata: Mapping[str, str]) -> str:
    """The day, "2024-05-31"."""
    stated = re.match(r"\d{4}-\d\d-\d\d", _first(metadata, "modelspec.date"))
    if stated:
        return stated[0]
    try:
        seconds = float(_first(metadata, "ss_training_finished_at", "ss_training_started_at"))
        return datetime.fromtimestamp(seconds, timezone.utc).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return ""


TRAINING: tuple[tuple[str, Callable[[Mapping[str, str]], str]], ...] = (
    ("Base checkpoint", _plain("ss_sd_model_name")),
    ("Resolution", _resolution),
    ("Images", _images),
    ("Steps", _plain("ss_steps", "ss_max_train_steps")),
    ("Epochs", _plain("ss_epoch", "ss_num_epochs")),
    ("Rank", _rank),
    ("Learning rate", _plain("ss_unet_lr", "ss_learning_rate")),
    ("Optimizer", _plain("ss_optimizer")),
    ("Clip skip", _plain("ss_clip_skip")),
    ("Date", _date),
    ("Trainer's comment", _plain("ss_training_comment")),
)
