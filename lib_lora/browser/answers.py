"""What goes out of the routes and comes into them, whatever a file is called and whichever page asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException, Request, responses

from lib_lora.browser.writing import ChangedError
from lib_lora.errors import LoraError, NotFoundError

MAX_JSON = 4 * 1024 * 1024  # bytes of a body


class JSONResponse(responses.JSONResponse):
    """FastAPI's, also for names that are no Unicode: a file system may have such, and one of them hides no other."""

    def render(self, content: Any) -> bytes:
        """The signs that cannot be sent become question marks."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def refuse_foreign(request: Request) -> None:
    """A dependency of the routes that change something: another page in the user's browser must not call them.

    What kind of body was sent says nothing: when a browser asks whether another page may send JSON, Gradio answers for
    our routes below it, and lets in more than it should. Programs that are no browser send neither header.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site in ("same-origin", "none") or (site is None and origin is None):
        return
    if site is None and origin and urlsplit(origin).netloc == request.headers.get("host"):
        return  # an address without https has no such header
    raise HTTPException(403, "this came from another page, or through a proxy that does not pass the Host header on")


def answered(answer: Callable[[], dict[str, Any]]) -> JSONResponse:
    """What `answer` returns, or its error as a sentence."""
    try:
        return JSONResponse(answer())
    except NotFoundError:
        return error(404, "no such adapter; it may have been removed")
    except ChangedError as problem:
        return JSONResponse({"error": str(problem), "current": problem.current}, status_code=409)
    except LoraError as problem:
        return error(400, str(problem))


async def body(request: Request, most: int) -> bytes | None:
    """The body, or None if it is larger than `most` bytes; no more than that is ever held."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            return None
        parts.append(part)
    return b"".join(parts)


async def json_object(request: Request) -> dict[str, Any] | None:
    """The body as JSON, or None if it is no object."""
    try:
        value = json.loads(await body(request, MAX_JSON) or b"")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def error(status: int, sentence: str) -> JSONResponse:
    """{"error": sentence}"""
    return JSONResponse({"error": sentence}, status_code=status)
