"""What a file is, told by its first bytes and not by its ending: safetensors, torch's own format, or no model at all.

What is no model gets a sentence that says what it is and what to do: a site's login page, downloaded again, is the same
login page.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from lib_lora.errors import AdapterFileError
from lib_lora.formats.opening import open_file

SAFETENSORS = "safetensors"
TORCH = "torch"  # a zip archive or, from before 2020, a row of pickles
HEAD = 4096  # bytes by which a file is told
MAX_WORDS = 200  # characters of a site's answer that are repeated
OPENING = b"{ \t\r\n"  # what the JSON behind the 8 bytes of a safetensors file begins with
AGAIN = "download it again, or take it out of the folder"
LOG_IN = "log in there (or give the downloader your API key), then download it again"
UNPACK = "unpack it, and put the model that is inside into the folder"
AWAY = "take it out of the folder, or give it the ending that it should have"

STARTS: tuple[tuple[bytes, str, str], ...] = (  # (pattern of the first bytes, what the file is, what to do)
    (rb"\0{64}", "full of zeros: the download was never finished", AGAIN),
    (rb"(?i)\s*<(?:!doctype html|html|head|body|script|!--)", "a web page (to log in, or an error), not a model",
     LOG_IN),
    (rb"\s*<\?xml|\s*<[A-Za-z]+>", "an answer of a website, not a model", LOG_IN),
    (rb"version https://git-lfs", "a git-lfs pointer, a note that stands for the model",
     "run `git lfs pull` in its folder, or download the file itself"),
    (rb"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (rb"\x1f\x8b|\xfd7zXZ\0|BZh\d|\x28\xb5\x2f\xfd", "a compressed file", UNPACK),
    (rb"(?s).{257}ustar", "a tar archive", UNPACK),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|BM....\0\0\0\0|.{4}ftyp(?:avif|heic|mif1)", "a picture", AWAY),
    (rb".{4}ftyp|\x1aE\xdf\xa3|RIFF....AVI", "a video", AWAY),
    (rb"GGUF", "a model in the GGUF format, which is not supported", "look for it as .safetensors"),
    (rb"\x89HDF", "a model of Keras (HDF5), which is not supported", "look for it as .safetensors"),
    (rb"%PDF|\xd0\xcf\x11\xe0", "a document", AWAY),
    (rb"MZ|\x7fELF", "a program", "delete it, and do not start it"),
    (rb"SQLite format 3", "a database", AWAY),
    (rb"d\d+:(?:announce|created|info)", "a torrent, not the model itself", "open it with a torrent program"),
)  # fmt: skip


def kind_of(path: Path) -> str:
    """SAFETENSORS or TORCH. Raises AdapterFileError, which says what the file is instead."""
    try:
        with open_file(path) as file:
            head, size = file.read(HEAD), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise AdapterFileError(
            f"{path.name} cannot be read ({error.strerror or error}): check the file and its rights"
        ) from error
    if is_safetensors(head, size) or (len(head) > 8 and head[8] in OPENING and not _told(head)):
        return SAFETENSORS  # the second: one that is cut off, of which more is said by who reads it
    if is_torch(head):
        return TORCH
    raise AdapterFileError(no_model(path.name, head, size))


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins with `head` is one, as far as 9 bytes can tell."""
    return len(head) > 8 and 2 <= int.from_bytes(head[:8], "little") <= size - 8 and head[8] in OPENING


def is_torch(head: bytes) -> bool:
    """Whether a file that begins so may be one of torch's: a zip archive, or a pickle."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06")) or (head[:1] == b"\x80" and head[1:2] in b"\1\2\3\4\5")


def no_model(name: str, head: bytes, size: int) -> str:
    """The sentence about the file `name`, which is neither."""
    if size == 0:
        return f"{name} is empty, the download did not come through: {AGAIN}"
    if found := _told(head):
        return f"{name} is {found[0]}: {found[1]}"
    if is_torch(head):
        return f"{name} is a file of torch or an archive, not a safetensors file: {AWAY}"
    return f"{name} is not a safetensors file, or the download broke off: {AGAIN}"


def _told(head: bytes) -> tuple[str, str] | None:
    """`(what it is, what to do)` for what is surely something else."""
    for pattern, what, step in STARTS:
        if re.match(pattern, head, re.DOTALL):
            return what, step
    if head.lstrip()[:1] in (b"{", b"["):
        said = _answer(head)
        return f"an answer of a website, not a model{said}", LOG_IN
    text = _text(head)
    if text is None:
        return None
    return f'a text, not a model; it begins with "{text[:60]}"', AGAIN


def _answer(head: bytes) -> str:
    """What a site says in JSON: `; it says "Unauthorized: ..."`."""
    try:
        value: Any = orjson.loads(head)
    except orjson.JSONDecodeError:
        return ""
    fields = value if isinstance(value, Mapping) else {}
    words = [fields[key] for key in ("error", "message", "detail") if isinstance(fields.get(key), str)]
    said = _text(": ".join(words).encode()[:MAX_WORDS])
    return f'; it says "{said}"' if said else ""


def _text(head: bytes) -> str | None:
    """`head` on one line, if it is text that people read."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # else it is cut within a letter
            return None
        text = head[: error.start].decode("utf-8-sig")
    line = " ".join(text.split())
    return line if line and line.isprintable() else None
