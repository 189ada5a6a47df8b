"""A header's metadata as people and the WebUI read it: the important things first, JSON inside strings read.

The index keeps this text alone. It is put together from the strings of the header as they stand there, so that the
answer with the headers of all adapters is made without decoding any, and the strings can be had back: `original`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]
from json.encoder import encode_basestring_ascii as quoted  # json.dumps of a string
from typing import Any

from lib_lora.metadata import parsed

FIRST = ("ss_sd_model_name", "ss_resolution", "ss_clip_skip", "ss_num_train_images", "ss_tag_frequency")
MAX_DEPTH = 100  # of JSON inside a string; deeper texts stay strings, or readers of the answer would stumble
NO_JSON = ("NaN", "Infinity")  # Python writes and reads them, nobody else does


def readable(metadata: Mapping[str, str]) -> tuple[str, bool]:
    """`(JSON text, whether "original" gives the very same metadata back)`"""
    keys = [key for key in FIRST if key in metadata]
    keys += [key for key in metadata if key not in FIRST]
    values = {key: _value(metadata, key) for key in keys}
    text = ",".join(f"{quoted(key)}:{value}" for key, (value, _) in values.items())
    return f"{{{text}}}", all(is_same for _, is_same in values.values())


def original(text: str) -> dict[str, str]:
    """The strings of the header, from what `readable` made of them."""
    found, place, decoder = {}, 1, json.JSONDecoder()
    while text[place] != "}":
        key, place = scanstring(text, place + (text[place] == ",") + 1)
        start = place + 1
        if text[start] == '"':
            found[key], place = scanstring(text, start + 1)
        else:
            _, place = decoder.raw_decode(text, start)
            found[key] = text[start:place]
    return found


def _value(metadata: Mapping[str, str], key: str) -> tuple[str, bool]:
    text = metadata[key]
    if not text.startswith("{") or (value := parsed(metadata, key)) is None or _is_deep(text, value):
        return quoted(text), True
    if any(word in text for word in NO_JSON):
        return json.dumps(json.loads(text, parse_constant=str)), False
    return text, text.endswith("}")


def _is_deep(text: str, value: Any) -> bool:
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for each in level for item in (each.values() if isinstance(each, dict) else each)
                 if isinstance(item, (dict, list))]  # fmt: skip
        if not level:
            return False
    return True
