"""edit(): what a file says of itself - title, trigger words, cover, licence - without a byte of its tensors changed."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from lib_lora.errors import AdapterFileError, LoraError
from lib_lora.formats.header import read_header, write_header
from lib_lora.formats.opening import open_file
from lib_lora.formats.write import writing

FIELDS = {  # what can be said -> its key in the header
    "title": "modelspec.title",
    "author": "modelspec.author",
    "description": "modelspec.description",
    "license": "modelspec.license",
    "trigger_words": "modelspec.trigger_phrase",
}
COVER = "modelspec.thumbnail"
KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp"}  # by its first bytes
LARGEST_COVER = 2 << 20  # bytes
BLOCK = 1 << 22


def edit(path: Path, changes: Mapping[str, str | None]) -> None:
    """Set metadata by key; None takes one away. Raises LoraError; the file is what it was, or what it shall be."""
    header = read_header(path)
    metadata = {**header.metadata, **{key: value for key, value in changes.items() if value is not None}}
    metadata = {key: value for key, value in metadata.items() if changes.get(key, "") is not None}
    try:
        with open_file(path, buffering=-1) as source, writing(path) as target:
            target.write(write_header(header.tensors, metadata))
            source.seek(header.data_start)
            while block := source.read(BLOCK):
                target.write(block)
    except OSError as error:
        raise LoraError(f"{path.name}: {error.strerror or error}") from error


def cover(picture: Path) -> str:
    """A picture as it stands in a header. Raises AdapterFileError."""
    try:
        content = picture.read_bytes()
    except OSError as error:
        raise AdapterFileError(f"{picture}: {error.strerror or error}") from error
    kind = next((kind for start, kind in KINDS.items() if content.startswith(start)), None)
    if kind is None or len(content) > LARGEST_COVER:
        raise AdapterFileError(f"{picture.name}: a cover is a PNG, JPEG or WebP of at most {LARGEST_COVER >> 20} MB")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
