"""The preview picture of an adapter: the file beside it or the cover in its header, small, as WebP.

A picture from the internet is opened only by decoders named here, and only if its size is plausible.
"""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from lib_lora.library import Entry

SIDE = 384  # pixels, the longer side
MAX_PIXELS = 64_000_000
MAX_BYTES = 32 * 1024 * 1024
TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}


class Picture(NamedTuple):
    """Bytes that a browser can show."""

    content: bytes
    type: str


def thumbnail(entry: Entry) -> Picture | None:
    """A small picture, or None if there is none that can be read."""
    if entry.preview is None:
        cover = entry.cover
        return _small(cover) if cover else None
    try:
        return _small_file(entry.preview, entry.preview.stat().st_mtime_ns)
    except OSError:
        return None


def original(entry: Entry) -> Picture | None:
    """The picture as it is."""
    try:
        content = _bytes(entry.preview) if entry.preview else entry.cover
    except OSError:
        return None
    found = next((kind for start, kind in TYPES.items() if content and content.startswith(start)), None)
    return Picture(content, found) if content and found else None


@lru_cache(maxsize=1000)  # about 15 MB
def _small_file(path: Path, mtime_ns: int) -> Picture | None:
    content = _bytes(path)
    return _small(content) if content else None


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.stat().st_size <= MAX_BYTES else None


def _small(content: bytes) -> Picture | None:
    from PIL import Image, ImageOps  # both pages have Pillow; the index alone needs none

    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "GIF", "WEBP")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                return None
            picture.draft("RGB", (SIDE, SIDE))
            small = ImageOps.exif_transpose(picture.convert("RGBA" if "A" in picture.getbands() else "RGB"))
            small.thumbnail((SIDE, SIDE))
            buffer = io.BytesIO()
            small.save(buffer, "WEBP", quality=82)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return Picture(buffer.getvalue(), "image/webp")
