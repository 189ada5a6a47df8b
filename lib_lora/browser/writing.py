"""What the browser may change: the user's notes, marks, and the preview. Adapters come as entries, never as paths."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from lib_lora.browser.listing import editable
from lib_lora.browser.pictures import PictureError, opened, plain, upright
from lib_lora.errors import LoraError
from lib_lora.library import Entry, Library
from lib_lora.library.files import look_again
from lib_lora.library.sidecar import KEYS, PICTURES, PREVIEWS, ConflictError, read_notes, replace_file, save_notes

MAX_TEXT = 200_000  # characters of one field
ENDINGS = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "WEBP": (".webp",), "GIF": (".gif",)}


class RefusedError(LoraError):
    """What was sent cannot be saved; the text says why."""


class ChangedError(RefusedError):
    """The notes are not those that were sent out any more; `current` is what they are now."""

    def __init__(self, text: str, current: dict[str, Any]) -> None:
        super().__init__(text)
        self.current = current


def save_fields(library: Library, entry: Entry, given: Mapping[str, Any]) -> Entry:
    """Save the notes in `given`: {"digest": as sent out, field: value}. Raises LoraError."""
    if not isinstance(given.get("digest"), str):
        raise RefusedError('"digest" is missing: it says which state of the notes was edited')
    fields = {name: _checked(name, given[name]) for name in KEYS if name in given}
    notes = read_notes(entry.path)
    if notes.digest != given["digest"]:
        raise ChangedError(f"the notes on {entry.name} were changed by another window or program", editable(notes))
    try:
        save_notes(entry.path, replace(notes, **fields))
    except ConflictError as error:  # in this very moment
        raise ChangedError(str(error), editable(read_notes(entry.path))) from error
    return library.reread(entry)


def save_preview(library: Library, entry: Entry, content: bytes) -> Entry:
    """Make this picture (PNG, JPEG, WebP or GIF) the preview of `entry`. Raises LoraError."""
    form = _picture_format(content)
    found = look_again(entry.path, entry.folder, entry.name)
    if found is None:
        raise RefusedError(f"{entry.name} is not there any more")
    beside = {name.lower(): name for name, _ in found.beside}
    target = _target(entry.path.stem, form, beside)
    if target is None:  # whatever we write in this format, the present one would be shown
        content, target = _as_png(content), f"{entry.path.stem}{PREVIEWS[0]}"
    replace_file(entry.path.with_name(beside.get(target.lower(), target)), content)
    return library.reread(entry)


def _target(stem: str, form: str, beside: Mapping[str, str]) -> str | None:
    """The file name under which a picture of this format is the one that is shown; None if there is none."""
    shown = next((ending for ending in PREVIEWS if f"{stem}{ending}".lower() in beside), None)
    own = [ending for ending in PREVIEWS if ending.endswith(ENDINGS[form])]
    if shown is None:
        return f"{stem}{ENDINGS[form][0]}"
    if shown in own:
        return f"{stem}{shown}"
    before = [ending for ending in own if PREVIEWS.index(ending) < PREVIEWS.index(shown)]
    plain = [ending for ending in before if ending in PICTURES]
    return f"{stem}{(plain or before)[0]}" if before else None


def texts_of(value: Any, what: str) -> Iterable[str]:
    """A list of texts that came as JSON. Raises RefusedError."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise RefusedError(f'"{what}" must be a list of texts')
    return value


def _checked(name: str, value: Any) -> Any:
    if name == "preferred_weight":
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not abs(value) <= 1000:  # also not a number at all, or endless
            raise RefusedError(f"{name} must be a number such as 0.8 (0: not set)")
        return float(value)
    if not isinstance(value, str):
        raise RefusedError(f"{name} must be a text")
    if len(value) > MAX_TEXT:
        raise RefusedError(f"{name} is longer than {MAX_TEXT} characters")
    return value


def _picture_format(content: bytes) -> str:
    try:
        with opened(content) as picture:
            picture.load()
            return str(picture.format)
    except PictureError as error:
        raise RefusedError(str(error)) from error


def _as_png(content: bytes) -> bytes:
    buffer = io.BytesIO()
    try:
        with opened(content) as picture:
            upright(plain(picture)).save(buffer, "PNG")
    except PictureError as error:
        raise RefusedError(str(error)) from error
    return buffer.getvalue()
