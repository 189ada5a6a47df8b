"""The preview of an adapter: the picture beside the file or the cover in its header, small, as WebP; or a video."""

from __future__ import annotations

import io
import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from lib_lora.browser.pictures import MAX_BYTES, PictureError, opened, plain, upright
from lib_lora.formats.opening import open_file, read_file
from lib_lora.library import Entry
from lib_lora.library.sidecar import VIDEOS

SIDE = 384  # pixels, the longer side
ROUGH = 4 * SIDE  # a larger picture is first thinned out to this, which takes no memory
TYPES = (  # (what stands at the beginning, and where; what it is)
    (b"\x89PNG", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"GIF8", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
    (b"ftyp", 4, "video/mp4"),
    (b"\x1aE\xdf\xa3", 0, "video/webm"),
)


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
        content = read_file(entry.preview, MAX_BYTES) if entry.preview else entry.cover
    except OSError:
        return None
    kind = _type(content or b"")
    return Picture(content, kind) if content and kind.startswith("image/") else None


def video(entry: Entry) -> tuple[Path, str] | None:
    """`(file, media type)` of the video beside the file, if the preview is one."""
    if not entry.has_video or entry.preview is None:
        return None
    try:
        with open_file(entry.preview) as file:
            kind = _type(file.read(16))
    except OSError:
        return None
    return (entry.preview, kind) if kind.startswith("video/") else None


def problem(entry: Entry) -> str | None:
    """A sentence: why the preview beside the file cannot be shown."""
    if entry.preview is None:
        return None
    name = entry.preview.name
    if entry.has_video:
        return None if video(entry) else f"{name} is no video that can be shown"
    try:
        if not stat.S_ISREG(os.stat(entry.preview).st_mode):
            return f"{name} is no file"
        content = read_file(entry.preview, MAX_BYTES)
        if content is None:
            return f"{name} is larger than {MAX_BYTES >> 20} MB and is not shown"
        with opened(content):
            pass
        return None if thumbnail(entry) else f"{name} is not shown: it breaks off, or is damaged"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    except PictureError as error:
        return f"{name} is not shown: {error}"
    except ImportError:
        return None


def _type(content: bytes) -> str:
    return next((kind for start, at, kind in TYPES if content[at : at + len(start)] == start), "")


@lru_cache(maxsize=1000)  # about 15 MB
def _small_file(path: Path, mtime_ns: int) -> Picture | None:
    content = None if path.name.lower().endswith(VIDEOS) else read_file(path, MAX_BYTES)
    return _small(content) if content else None


def _small(content: bytes) -> Picture | None:
    from PIL import Image

    buffer = io.BytesIO()
    try:
        with opened(content) as picture:
            picture.draft("RGB", (SIDE, SIDE))
            times = max(picture.size) // ROUGH
            rough = picture
            if times > 1:
                size = max(picture.width // times, 1), max(picture.height // times, 1)
                rough = picture.resize(size, Image.Resampling.NEAREST)
                rough.info = picture.info
            small = upright(plain(rough))
            small.thumbnail((SIDE, SIDE))
            plain(small).save(buffer, "WEBP", quality=82)
    except PictureError:
        return None
    return Picture(buffer.getvalue(), "image/webp")
