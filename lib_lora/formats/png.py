"""png_of(): a picture as a PNG, with the text of how it was made where the WebUI puts it and reads it."""

from __future__ import annotations

import io

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lib_lora.formats.text import encodable

TEXT = "parameters"  # what the WebUI calls it


def png_of(image: Image.Image, text: str) -> bytes:
    """The bytes of the file."""
    info, file = PngInfo(), io.BytesIO()
    info.add_text(TEXT, encodable(text))
    image.save(file, "PNG", pnginfo=info)
    return file.getvalue()
