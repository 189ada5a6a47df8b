"""The HTTP routes of the browser, below `/lora/v1`. Adapters go by ids: no path comes in, so none leaves the folders.

    GET  adapters                    ?q= &sort= &reverse=1 &offset= &limit=, and the facets, each as often as needed:
                                     &family= &flavour= &algorithm= &folder= &state=favorite|words|broken
    GET  adapters/{id}               everything; ?metadata=1 adds the header, ?hashes=1 computes hashes (reads the file)
    GET  adapters/{id}/thumbnail     small WebP; ?original=1 the file itself; 204 if there is no picture
    GET  rescan                      {"running", "done", "total"}
    POST rescan                      looks for new, changed and vanished files; answers when done
    POST prompt   {"prompt": "..."}  dry run: what each tag means, and what is wrong with it

Errors are `{"error": sentence}` with status 400 or 404. Works with every FastAPI from 0.94 on.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from lib_lora.browser.dry_run import MAX_PROMPT, dry_run
from lib_lora.browser.listing import Checkpoint, Shelf, detail
from lib_lora.browser.search import FACETS, Query, search
from lib_lora.browser.thumbnail import original, thumbnail
from lib_lora.errors import LoraError, NotFoundError
from lib_lora.library import Entry, Library

PREFIX = "/lora/v1"
PICTURE_HEADERS = {"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff"}


def add_routes(
    app: FastAPI,
    library: Library,
    *,
    checkpoint: Checkpoint = lambda: None,
    dependencies: Sequence[Any] = (),
) -> Shelf:
    """Add the routes to `app`; call it before anything is mounted at `/`.

    checkpoint    tells the family of the loaded model (`host.targets().family`) or its id, for what is compatible
    dependencies  FastAPI's, for the login of the page that the routes belong to
    """
    shelf = Shelf(library, checkpoint=checkpoint)
    routes = Routes(shelf)
    table: tuple[tuple[str, str, Callable[..., Any]], ...] = (
        ("GET", "/adapters", routes.adapters),
        ("GET", "/adapters/{number}", routes.adapter),
        ("GET", "/adapters/{number}/thumbnail", routes.picture),
        ("GET", "/rescan", routes.progress),
        ("POST", "/rescan", routes.rescan),
        ("POST", "/prompt", routes.prompt),
    )
    for method, path, endpoint in table:
        app.add_api_route(
            PREFIX + path, endpoint, methods=[method], dependencies=list(dependencies), response_model=None
        )
    return shelf


class Routes:
    """The endpoints. Those that are not `async` run in FastAPI's threads: the index may take its time."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self._scanning = threading.Lock()
        self._progress = (0, 0)

    def adapters(self, request: Request) -> Response:
        given = request.query_params
        try:
            offset, limit = int(given.get("offset", 0)), int(given.get("limit", 100))
        except ValueError:
            return _error(400, "offset and limit are whole numbers")
        chosen = {name: given.getlist(name) for name in FACETS}
        query = Query(given.get("q", "")[:1000], given.get("sort", "name"), given.get("reverse", "") in ("1", "true"),
                      chosen, max(offset, 0), max(limit, 0))  # fmt: skip
        return JSONResponse(search(self.shelf.all(), query, self.shelf.judged))

    def adapter(self, number: str, request: Request) -> Response:
        given = request.query_params
        try:
            entry = self._entry(number)
            told = self.shelf.card(entry) | detail(entry)
            if given.get("metadata") == "1":
                told["metadata"] = json.loads(entry.metadata_json)
            if given.get("hashes") == "1":
                told |= {"shorthash": entry.shorthash, "sha256": entry.hashes.sha256}
        except NotFoundError:
            return _error(404, "no such adapter; it may have been removed")
        except LoraError as error:
            return _error(400, str(error))
        return JSONResponse(told)

    def picture(self, number: str, request: Request) -> Response:
        try:
            entry = self._entry(number)
        except NotFoundError:
            return _error(404, "no such adapter; it may have been removed")
        found = original(entry) if request.query_params.get("original") == "1" else thumbnail(entry)
        if found is None:
            return Response(status_code=204, headers={"Cache-Control": "private, max-age=60"})
        return Response(found.content, media_type=found.type, headers=PICTURE_HEADERS)

    def progress(self) -> Response:
        done, total = self._progress
        return JSONResponse({"running": self._scanning.locked(), "done": done, "total": total})

    def rescan(self) -> Response:
        with self._scanning:
            self._progress = (0, 0)
            found = self.shelf.library.refresh(self._scanned)
        told = {"added": found.added, "changed": found.changed, "removed": found.removed, "broken": found.broken}
        return JSONResponse(told | {"problems": list(found.problems)})

    async def prompt(self, request: Request) -> Response:
        try:
            body = json.loads(await request.body())
            prompt = body["prompt"]
        except (ValueError, KeyError, TypeError, RecursionError):
            prompt = None
        if not isinstance(prompt, str) or len(prompt) > MAX_PROMPT:
            return _error(400, f'the body must be {{"prompt": text}}, at most {MAX_PROMPT} characters')
        return JSONResponse(await run_in_threadpool(dry_run, self.shelf, prompt))

    def _scanned(self, done: int, total: int) -> None:
        self._progress = (done, total)

    def _entry(self, number: str) -> Entry:
        """Raises NotFoundError, also for what is no number."""
        if not number.isascii() or not number.isdigit() or len(number) > 18:
            raise NotFoundError(number)
        return self.shelf.library.entry(int(number))


def _error(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status_code=status)
