"""What goes out of the routes and comes into them, whatever a file is called and whichever page asks."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException, Request, responses

SIMPLE = {"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"}


class JSONResponse(responses.JSONResponse):
    """FastAPI's, also for names that are no Unicode: a file system may have such, and one of them hides no other."""

    def render(self, content: Any) -> bytes:
        """The signs that cannot be sent become question marks."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def refuse_foreign(request: Request) -> None:
    """A dependency of the routes that change something: another page in the user's browser must not call them.

    Such a page may send, without the browser asking us first, a body of one of the SIMPLE types. Programs that are no
    browser send neither of the two headers, and pages that the WebUI's `--cors-allow-origins` names can send JSON.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site in ("same-origin", "none") or (site is None and origin is None):
        return
    if origin and urlsplit(origin).netloc == request.headers.get("host"):
        return
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() in SIMPLE:
        raise HTTPException(403, "this came from another page; open the listing itself")
