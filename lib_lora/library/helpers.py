"""What other tools left beside an adapter file: Civitai answers, Lora-Manager's metadata, texts, preview pictures.

Read only, never believed. `beside` are the names of the files that lie there, so that looking costs no disk access:

    <stem>.civitai.info       the Civitai version            <stem>.txt  <stem>.description.txt      a description
    <stem>.metadata.json      ComfyUI-Lora-Manager           <stem>.png  <stem>.preview.png ...      a preview
    <stem>.json               the Civitai model, if SD.Next left it there, where the WebUI has the user's notes
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

from lib_lora.formats.text import encodable
from lib_lora.grammar.trigger_words import spoken
from lib_lora.library.sidecar import (
    CIVITAI,
    MANAGER,
    PREVIEWS,
    TEXTS,
    VIDEOS,
    SidecarError,
    is_answer,
    json_object,
    number,
    read_bytes,
)

MAX_TEXT = 20_000  # characters
MAX_WORDS = 100
LICENSE = (("allowNoCredit", "credit the author"), ("allowDerivatives", "no merges"),
           ("allowDifferentLicense", "same licence for merges"))  # fmt: skip
COMMERCIAL = ("Image", "RentCivit", "Rent", "Sell")
READ = (CIVITAI, MANAGER, *TEXTS)
HASH_NAMES = ("SHA256", "AutoV3", "AutoV2", "AutoV1")


@dataclass(frozen=True)
class Helpers:
    """What was found; empty where nothing says it."""

    base_model: str = ""  # Civitai's string, "Pony"
    title: str = ""
    trigger_words: tuple[str, ...] = ()
    description: str = ""
    tags: tuple[str, ...] = ()
    preferred_weight: float | None = None
    hashes: tuple[str, ...] = ()  # lower-case hexadecimal, of any of the kinds
    favorite: bool = False
    license: str = ""  # in words
    problems: tuple[str, ...] = ()  # sentences: files that could not be read


def preview(adapter: Path, beside: Collection[str]) -> Path | None:
    """The preview of `adapter` among the files `beside` it: a picture, else a video."""
    by_lower = {name.lower(): name for name in beside}
    names = (f"{adapter.stem}{ending}".lower() for ending in (*PREVIEWS, *VIDEOS))
    return next((adapter.with_name(by_lower[name]) for name in names if name in by_lower), None)


def read_helpers(adapter: Path, beside: Collection[str], notes: Mapping[str, Any] = MappingProxyType({})) -> Helpers:
    """Read what lies beside `adapter`. Never raises: a file that cannot be read is named in `problems`.

    `notes`: what `<stem>.json` holds; it counts where it is Civitai's answer.
    """
    if not is_answer(notes) and not any(name.lower().endswith(READ) for name in beside):
        return Helpers()
    problems: list[str] = []
    answer = _object(adapter, CIVITAI, beside, problems) or (dict(notes) if is_answer(notes) else {})
    version = _version(answer, adapter)
    manager = _object(adapter, MANAGER, beside, problems)
    inner = _dict(manager.get("civitai"))
    return Helpers(
        base_model=_first(version.get("baseModel"), manager.get("base_model"), inner.get("baseModel")),
        title=_first(_dict(version.get("model")).get("name"), manager.get("model_name")),
        trigger_words=_trained(version.get("trainedWords")) or _trained(inner.get("trainedWords")),
        description=_description(adapter, beside, version, manager, problems),
        tags=_words(manager.get("tags")) or _words(_dict(version.get("model")).get("tags")),
        preferred_weight=_strength(manager.get("usage_tips")),
        hashes=tuple(dict.fromkeys(_hashes(version, manager))),
        favorite=manager.get("favorite") is True,
        license=_license(_dict(version.get("model"))) or _license(_dict(inner.get("model"))),
        problems=tuple(problems),
    )


def _version(answer: dict[str, Any], adapter: Path) -> dict[str, Any]:
    """Of an answer about a whole model the version that the file is; if that is open, what all versions agree on."""
    listed = answer.get("modelVersions")
    if not isinstance(listed, list):
        return answer
    versions = [version for version in map(_dict, listed) if version]
    about = {key: value for key, value in answer.items() if key != "modelVersions"}
    mine = [version for version in versions if adapter.stem.casefold() in _stems(version)] or versions
    if len(mine) == 1:
        return {**mine[0], "model": about}
    bases = {base for version in mine if isinstance(base := version.get("baseModel"), str)}
    words = [word for version in mine if isinstance(found := version.get("trainedWords"), list) for word in found]
    return {"model": about, "baseModel": bases.pop() if len(bases) == 1 else None, "trainedWords": words}


def _stems(version: dict[str, Any]) -> set[str]:
    files = version.get("files")
    names = (_dict(file).get("name") for file in (files if isinstance(files, list) else ()))
    return {PurePath(name).stem.casefold() for name in names if isinstance(name, str)}


def _object(adapter: Path, ending: str, beside: Collection[str], problems: list[str]) -> dict[str, Any]:
    content = _content(adapter, ending, beside, problems)
    if content is None:
        return {}
    try:
        return json_object(content, adapter.with_name(f"{adapter.stem}{ending}"))
    except SidecarError as error:
        problems.append(str(error))
        return {}


def _content(adapter: Path, ending: str, beside: Collection[str], problems: list[str]) -> bytes | None:
    path = adapter.with_name(f"{adapter.stem}{ending}")
    if path.name not in beside:
        return None
    try:
        return read_bytes(path)
    except SidecarError as error:
        problems.append(str(error))
        return None


def _description(
    adapter: Path, beside: Collection[str], version: dict[str, Any], manager: dict[str, Any], problems: list[str]
) -> str:
    for ending in TEXTS:
        content = _content(adapter, ending, beside, problems)
        if content and content.strip():
            return content.decode("utf-8-sig", "replace").strip()[:MAX_TEXT]
    return _first(version.get("description"), _dict(version.get("model")).get("description"),
                  manager.get("modelDescription"), markup=True)  # fmt: skip


def _first(*values: Any, markup: bool = False) -> str:
    """The first text among `values`; with `markup`, Civitai's HTML is turned into plain text."""
    for value in values:
        if isinstance(value, str) and value.strip():
            text = html.unescape(re.sub(r"<[^<>]*>", " ", value[: 5 * MAX_TEXT])) if markup else value
            return encodable(" ".join(text.split()) if markup else text.strip())[:MAX_TEXT]
    return ""


def _words(value: Any) -> tuple[str, ...]:
    texts = [item.strip().strip(",") for item in value if isinstance(item, str)] if isinstance(value, list) else []
    return tuple(dict.fromkeys(encodable(text[:1000]) for text in texts if text))[:MAX_WORDS]


def _trained(value: Any) -> tuple[str, ...]:
    """The author's words and phrases, which are for a prompt; tags in them name the author's file and are left out."""
    return tuple(dict.fromkeys(word for text in _words(value) if (word := spoken(text).strip(" ,"))))


def _strength(tips: Any) -> float | None:
    """Lora-Manager keeps its usage tips as JSON text inside JSON."""
    try:
        value = json.loads(tips) if isinstance(tips, str) else tips
    except (ValueError, RecursionError):
        return None
    return number(_dict(value).get("strength"))


def _hashes(version: dict[str, Any], manager: dict[str, Any]) -> Iterable[str]:
    files = version.get("files")
    models = [file for file in files if _dict(file).get("type") == "Model"] if isinstance(files, list) else []
    primary = [file for file in models if file.get("primary")] or models[:1]
    stated = [_dict(file.get("hashes")).get(name) for file in primary for name in HASH_NAMES]
    for value in (*stated, manager.get("sha256"), manager.get("autov3")):
        if isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{8,64}", value):
            yield value.lower()


def _license(model: dict[str, Any]) -> str:
    """Civitai's permissions in words; empty where it states none."""
    words = [word for key, word in LICENSE if model.get(key) is False]
    selling = model.get("allowCommercialUse")
    if selling is not None:
        kinds = selling if isinstance(selling, list) else [selling]
        texts = [str(kind) for kind in kinds if kind in COMMERCIAL]
        words += [f"commercial use: {', '.join(texts)}" if texts else "no commercial use"]
    elif not words and not any(key in model for key, _ in LICENSE):
        return ""
    return f"Civitai: {'; '.join(words) or 'no restrictions stated'}"


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
