"""A header's metadata as people and the WebUI read it: the important things first, JSON inside strings read.

The index keeps this text alone. It is put together from the strings of the header as they stand there, so that the
answer with the headers of all adapters is made without decoding any, and the strings can be had back: `original`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]
from json.encoder import encode_basestring_ascii as quoted  # json.dumps of a string

from lib_lora.describe.metadata import is_strict, parsed
from lib_lora.formats.text import encodable

FIRST = ("ss_sd_model_name", "ss_resolution", "ss_clip_skip", "ss_num_train_images", "ss_tag_frequency")


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
    if not text.startswith("{") or parsed(metadata, key) is None:
        return quoted(text), True
    if not is_strict(text):
        return _plain(text), False
    return text, text.endswith("}")


def _plain(text: str) -> str:
    """JSON that everybody reads: numbers that are none are words, and half characters question marks."""
    value = json.loads(text, parse_constant=str, parse_float=_float)
    return encodable(json.dumps(value, ensure_ascii=False))


def _float(digits: str) -> float | str:
    value = float(digits)
    return value if math.isfinite(value) else digits
