"""What goes out of the routes and comes into them, whatever a file is called and whichever page asks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import HTTPException, Request, responses

from lib_lora.browser.writing import ChangedError
from lib_lora.errors import LoraError, NotFoundError

MAX_JSON = 4 * 1024 * 1024  # bytes of a body


class JSONResponse(responses.JSONResponse):
    """FastAPI's, also for names that are no Unicode: a file system may have such, and one of them hides no other."""

    def render(self, content: Any) -> bytes:
        """The signs that cannot be sent become question marks, numbers that JSON does not have become null."""
        try:
            text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except ValueError:
            text = json.dumps(_finite(content), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value.bit_length() <= 1024 else None  # longer than any reader's numbers
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def refuse_foreign(request: Request) -> None:
    """A dependency of the routes that change something: another page in the user's browser must not call them.

    What kind of body was sent says nothing: when a browser asks whether another page may send JSON, Gradio answers for
    our routes below it, and lets in more than it should. Programs that are no browser send neither header.
    """
    sites, origins = (request.headers.getlist(name) for name in ("sec-fetch-site", "origin"))
    if sites in (["same-origin"], ["none"]) or not (sites or origins):
        return
    if not sites and len(origins) == 1 and origins[0].lower() in _own_origins(request):
        return  # an address without https has no such header
    raise HTTPException(403, "this came from another page, or through a proxy that does not pass the Host header on")


def _own_origins(request: Request) -> tuple[str, ...]:
    """What the browser says of a page that it has from us. Compared as they stand: what is odd is not ours."""
    host = request.headers.get("host", "").lower()
    return tuple(f"{scheme}://{host}" for scheme in ("http", "https")) if host else ()


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
