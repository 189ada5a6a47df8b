"""The user's notes beside the file, `<stem>.json`: read, and saved so that nothing is lost.

Unknown keys survive a save, the file appears whole or not at all, and a note that somebody else changed meanwhile is
not overwritten. Files of other tools are only read: `library/helpers.py`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lib_lora.errors import LoraError
from lib_lora.formats.opening import read_file
from lib_lora.formats.text import encodable
from lib_lora.formats.write import write_file

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
PREVIEWS = (*(f".preview{ending}" for ending in PICTURES), *PICTURES)  # `<stem>` and one of these, the best first
VIDEOS = tuple(f"{kind}{ending}" for kind in (".preview", "") for ending in (".mp4", ".webm"))  # after the pictures
TEXTS = (".description.txt", ".txt")
CIVITAI = ".civitai.info"  # a Civitai version, left by several tools
MANAGER = ".metadata.json"  # ComfyUI-Lora-Manager
SIDECARS = (".json", CIVITAI, MANAGER, *TEXTS)  # those whose content the index keeps
MAX_SIDECAR = 8 * 1024 * 1024  # bytes
KEYS = {  # field of Notes -> key in the file
    "description": "description",
    "sd_version": "sd version",
    "activation_text": "activation text",
    "preferred_weight": "preferred weight",
    "negative_text": "negative text",
    "notes": "notes",
}
OWN = frozenset(KEYS.values()) - {"description"}  # keys that Civitai's answers do not have
ANSWERS = (("modelVersions",), ("files", "trainedWords"))  # lists that such an answer has
_saving = threading.Lock()  # comparing and replacing is one step, for two windows of one program


class SidecarError(LoraError):
    """A note that cannot be read or saved; the text names the file and what to do."""


class ConflictError(SidecarError):
    """Somebody else changed the note since it was read."""


@dataclass(frozen=True)
class Notes:
    """What stands in `<stem>.json`. Civitai's answer about a model may stand there too, left by SD.Next: it stays."""

    description: str = ""
    sd_version: str = ""  # "SD1", "SD2", "SDXL", "Unknown": the user's own choice
    activation_text: str = ""
    preferred_weight: float = 0.0  # 0: not set
    negative_text: str = ""
    notes: str = ""
    everything: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)  # as read
    digest: str = ""  # of the file's bytes when it was read; empty: there was no file

    @property
    def own(self) -> dict[str, Any]:
        """What the file holds besides an answer of Civitai's."""
        if not is_answer(self.everything):
            return dict(self.everything)
        return {key: self.everything[key] for key in OWN if key in self.everything}


def notes_path(adapter: Path) -> Path:
    """`ink.v2.json` for `ink.v2.safetensors`."""
    return adapter.with_name(f"{adapter.stem}.json")


def read_notes(adapter: Path) -> Notes:
    """The notes beside the file `adapter`; empty ones if there are none. Raises SidecarError."""
    path = notes_path(adapter)
    content = _bytes(path)
    if content is None:
        return Notes()
    value = json_object(content, path)
    texts = {name: _text(value.get(key)) for name, key in KEYS.items() if name != "preferred_weight"}
    if is_answer(value):
        texts["description"] = ""
    weight = number(value.get(KEYS["preferred_weight"])) or 0.0
    return Notes(**texts, preferred_weight=weight, everything=MappingProxyType(value), digest=_digest(content))


def save_notes(adapter: Path, notes: Notes) -> Notes:
    """Save `notes`, which were read before and changed with `dataclasses.replace`; returns them as they now stand.

    Raises ConflictError if it was changed since it was read, SidecarError if the file cannot be written.
    """
    path = notes_path(adapter)
    if notes.description and is_answer(notes.everything):
        raise SidecarError(f"{path.name} holds what Civitai says about the model, and its description stays as it is: "
                           "write yours into the notes")
    value = _merged(notes)
    content = json.dumps(value, indent=4, ensure_ascii=False).encode("utf-8", "replace")
    if len(content) > MAX_SIDECAR:  # it could never be read again
        limit = f"{MAX_SIDECAR >> 20} MB"
        raise SidecarError(f"{path.name} would be larger than {limit}: nothing was saved; shorten a field")
    with _saving:
        now = _bytes(path)
        if ("" if now is None else _digest(now)) != notes.digest:
            raise ConflictError(f"{path.name} was changed by another program or window: reload it, then save again")
        replace_file(Path(os.path.realpath(path)), content)  # a linked note stays a link
    return replace(notes, everything=MappingProxyType(value), digest=_digest(content))


def is_answer(value: Mapping[str, Any]) -> bool:
    """Whether it is what Civitai says about a model, or a version of it; SD.Next keeps that in `<stem>.json`."""
    return any(all(isinstance(value.get(key), list) for key in keys) for keys in ANSWERS)


def json_object(content: bytes, path: Path) -> dict[str, Any]:
    """The JSON object in a sidecar. Raises SidecarError."""
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise SidecarError(f"{path.name} is not readable JSON: mend it or delete it") from error
    if not isinstance(value, dict):
        raise SidecarError(f"{path.name} is not a JSON object: mend it or delete it")
    return value


def read_bytes(path: Path) -> bytes:
    """A small file, whole. Raises SidecarError."""
    content = _bytes(path)
    if content is None:
        raise SidecarError(f"{path.name} is not there any more")
    return content


def number(value: Any) -> float | None:
    """A finite number, also one written as text."""
    try:
        found = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _bytes(path: Path) -> bytes | None:
    try:
        content = read_file(path, MAX_SIDECAR)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # ValueError: a name that no system takes
        reason = getattr(error, "strerror", None) or error
        raise SidecarError(f"{path.name} cannot be read ({reason}): check it and its rights") from error
    if content is None:
        raise SidecarError(f"{path.name} is larger than {MAX_SIDECAR >> 20} MB and was not read")
    return content


def _merged(notes: Notes) -> dict[str, Any]:
    """Keys as read, with the changed fields written over them; a field that was never set adds no key."""
    value = dict(notes.everything)
    for name, key in KEYS.items():
        if key not in OWN and is_answer(value):
            continue
        new = getattr(notes, name)
        old = value.get(key)
        same = number(old) == new if name == "preferred_weight" else _text(old) == new
        if (key in value and not same) or (key not in value and new):
            value[key] = new
    return value


def replace_file(target: Path, content: bytes) -> None:
    """Write a small file so that it appears whole or not at all, with the rights it had. Raises SidecarError."""
    try:
        write_file(target, content)
    except OSError as error:
        raise SidecarError(f"{target.name} cannot be saved ({error.strerror}): check the folder's rights") from error


def _text(value: Any) -> str:
    return encodable(value) if isinstance(value, str) else ""


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
