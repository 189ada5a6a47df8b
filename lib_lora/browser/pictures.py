"""Pictures from the internet, opened: by decoders named here, if their size is plausible, one large one at a time.

A picture of a few kilobytes can unpack to gigabytes. Its size is looked at before anything is unpacked, and several
large ones that a browser asks for at once wait for each other.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lib_lora.errors import LoraError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
MAX_BYTES = 32 * 1024 * 1024
MAX_PIXELS = 50_000_000
LARGE = 5_000_000  # pixels, from which on pictures wait for each other
MAX_SCANS = 200  # of a JPEG; cameras and programs write about ten, and each costs a pass over all pixels
_one_at_a_time = threading.Lock()


class PictureError(LoraError):
    """A picture that is not opened; the text says why."""


@contextlib.contextmanager
def opened(content: bytes) -> Iterator[Image]:
    """The picture in `content`. Raises PictureError, also for whatever goes wrong inside of the block."""
    from PIL import Image as pillow  # both pages have Pillow; the index alone needs none

    try:
        if content.startswith(b"RIFF"):  # its decoder takes memory for all pixels before it tells their number
            check_size(*webp_size(content))
        if content.startswith(b"\xff\xd8") and content.count(b"\xff\xda") > MAX_SCANS:
            raise PictureError(f"the picture is a JPEG of more than {MAX_SCANS} passes")
        with pillow.open(io.BytesIO(content), formats=FORMATS) as picture:
            check_size(*picture.size)
            is_large = picture.width * picture.height > LARGE
            with _one_at_a_time if is_large else contextlib.nullcontext():
                yield picture
    except PictureError:
        raise
    except pillow.DecompressionBombError as error:
        raise PictureError(_too_large()) from error
    except Exception as error:  # decoders raise whatever they like
        raise PictureError("this is no picture that can be read: it must be a PNG, JPEG, WebP or GIF file") from error


def upright(picture: Image) -> Image:
    """`picture` turned as its EXIF data says; as it is where they are damaged."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(picture) or picture
    except MemoryError:
        raise
    except Exception:  # of thousands of fields each can be wrong in its own way, and none matters so much
        return picture


def plain(picture: Image) -> Image:
    """In RGB, or RGBA if anything of it can be seen through."""
    has_alpha = "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info
    wanted = "RGBA" if has_alpha else "RGB"
    return picture if picture.mode == wanted else picture.convert(wanted)


def check_size(width: int, height: int) -> None:
    """Raises PictureError."""
    if width * height > MAX_PIXELS:
        raise PictureError(_too_large())


def webp_size(content: bytes) -> tuple[int, int]:
    """Width and height as the header of a WebP says. Raises PictureError."""
    kind = content[12:16] if content[8:12] == b"WEBP" and len(content) >= 30 else b""
    if kind == b"VP8X":
        return 1 + int.from_bytes(content[24:27], "little"), 1 + int.from_bytes(content[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return tuple(int.from_bytes(content[at : at + 2], "little") & 0x3FFF for at in (26, 28))  # type: ignore[return-value]
    raise PictureError("this is no WebP that can be read")


def _too_large() -> str:
    return f"the picture has more than {MAX_PIXELS // 10**6} million pixels"
