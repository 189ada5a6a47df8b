"""The HTTP routes of the browser, below `/lora/v1`. Adapters go by ids: no path comes in, so none leaves the folders.

    GET  adapters                    ?q= &sort= &reverse=1 &offset= &limit=, and the facets, each as often as needed:
                                     &family= &flavour= &algorithm= &folder= &tag= &state=; ids=1: only ids, all of them
    GET  adapters/{id}               everything; ?metadata=1 adds the header, ?hashes=1 computes hashes (reads the file)
    GET  adapters/{id}/inside        what it changes, block by block; reads the file
    GET  adapters/{id}/thumbnail     small WebP; ?original=1 the file itself, a video too; 204: no picture
    POST adapters/{id}/notes         {"digest", fields of the user's notes}: saves them; 409 if others did
    POST adapters/{id}/preview       the bytes of a picture: saves it as the preview
    POST marks                       {"ids", "favorite", "add_tags", "remove_tags"}
    GET  duplicates                  groups of files with the same content or the same name
    GET  hashing                     {"running", "done", "total"}
    POST hashing                     begins to compute all hashes in the background
    GET  measuring                   {"running", "done", "total"}
    POST measuring                   begins to measure in the background what adapters change
    GET  rescan                      {"running", "done", "total"}
    POST rescan                      looks for new, changed and vanished files; answers when done
    POST prompt   {"prompt": "..."}  dry run: what each tag means, and what is wrong with it
    POST together {"prompt": "..."}  what its adapters do together: who pulls against whom, how far the model is moved
    GET  saving                      {"running", "done", "total", "result", "problem"}
    POST saving                      {"prompt", "name", "rank" or "error", "dtype"}: begins to write one adapter of many
    GET  weights                     {"running", "done", "total", "result", "problem"}
    POST weights                     {"repair": true}: begins to compare the loaded model with its file

Errors are `{"error": sentence}` with status 400, 404, 409 or 413. Examples: `docs/library.md`. For FastAPI from 0.94.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response

from lib_lora.browser.answers import JSONResponse, answered, body, error, json_object, refuse_foreign
from lib_lora.browser.dry_run import MAX_PROMPT, dry_run
from lib_lora.browser.inside import inside, measurer
from lib_lora.browser.jobs import Job, Work
from lib_lora.browser.listing import Checkpoint, Shelf
from lib_lora.browser.loaded import LoadedModel
from lib_lora.browser.pictures import MAX_BYTES
from lib_lora.browser.saving import saving
from lib_lora.browser.search import FACETS, MAX_PAGE, Query, Scene, ids, search
from lib_lora.browser.strength import strength_of
from lib_lora.browser.thumbnail import original, thumbnail, video
from lib_lora.browser.together import LIMIT, Together
from lib_lora.browser.writing import RefusedError, save_fields, save_preview, texts_of
from lib_lora.errors import NotFoundError
from lib_lora.grammar.presets import BUILT_IN, Presets
from lib_lora.library import Entry, Library
from lib_lora.library.duplicates import groups
from lib_lora.library.gently import Gently
from lib_lora.library.hashing import hasher

PREFIX = "/lora/v1"
PICTURE_HEADERS = {"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff"}


def add_routes(
    app: FastAPI,
    library: Library,
    *,
    checkpoint: Checkpoint = lambda: None,
    presets: Callable[[], Presets] = lambda: BUILT_IN,
    model: LoadedModel | None = None,
    limit: Callable[[], float] = lambda: LIMIT,
    dependencies: Sequence[Any] = (),
) -> Shelf:
    """Add the routes to `app`; call it before anything is mounted at `/`.

    checkpoint    tells the family of the loaded model (`host.targets().family`) or its id, for what is compatible
    presets       block weights by name, the user's own among them
    model         the loaded model itself, whose weights are compared with its file and with what adapters do
    limit         a mixture of adapters that does so many times what one does is warned of; 0: none is
    dependencies  FastAPI's, for the login of the page that the routes belong to
    """
    shelf = Shelf(library, checkpoint=checkpoint, presets=presets)
    routes = Routes(shelf, model or LoadedModel(), limit)
    table: tuple[tuple[str, str, Callable[..., Any]], ...] = (
        ("GET", "/adapters", routes.adapters),
        ("GET", "/adapters/{number}", routes.adapter),
        ("GET", "/adapters/{number}/inside", routes.inside),
        ("GET", "/adapters/{number}/thumbnail", routes.picture),
        ("POST", "/adapters/{number}/notes", routes.notes),
        ("POST", "/adapters/{number}/preview", routes.preview),
        ("POST", "/marks", routes.marks),
        ("GET", "/duplicates", routes.duplicates),
        ("GET", "/hashing", routes.hashed),
        ("POST", "/hashing", routes.hash),
        ("GET", "/measuring", routes.measured),
        ("POST", "/measuring", routes.measure),
        ("GET", "/rescan", routes.progress),
        ("POST", "/rescan", routes.rescan),
        ("POST", "/prompt", routes.prompt),
        ("POST", "/together", routes.together),
        ("GET", "/saving", routes.saved),
        ("POST", "/saving", routes.save),
        ("GET", "/weights", routes.checked),
        ("POST", "/weights", routes.check),
        ("GET", "/strength", routes.strength),
    )
    for method, path, endpoint in table:
        asked = [*dependencies] if method == "GET" else [*dependencies, Depends(refuse_foreign)]
        app.add_api_route(PREFIX + path, endpoint, methods=[method], dependencies=asked, response_model=None)
    return shelf


class Routes:
    """The endpoints. Those that are not `async` run in FastAPI's threads: the index may take its time."""

    def __init__(self, shelf: Shelf, model: LoadedModel, limit: Callable[[], float]) -> None:
        self.shelf, self._model = shelf, model
        self._together = Together(shelf, model, limit)
        self._saving, self._checking = Job("saving"), Job("weights")
        self._hasher, self._measurer = hasher(shelf.library), measurer(shelf.library)
        self._scanning = threading.Lock()
        self._progress = (0, 0)

    def adapters(self, request: Request) -> Response:
        given = request.query_params
        try:
            offset, limit = int(given.get("offset", 0)), int(given.get("limit", 100))
        except ValueError:
            return error(400, "offset and limit are whole numbers")
        chosen = {name: given.getlist(name) for name in FACETS}
        query = Query(given.get("q", "")[:1000], given.get("sort", "name"), given.get("reverse", "") in ("1", "true"),
                      chosen, max(offset, 0), max(limit, 0))  # fmt: skip
        stock, scene = self.shelf.stock(), Scene(self.shelf.checkpoint(), self.shelf.duplicates())
        if given.get("ids") == "1":
            return JSONResponse(ids(stock, query, scene))
        return JSONResponse(search(stock, query, self.shelf.judged, scene))

    def adapter(self, number: str, request: Request) -> Response:
        given = request.query_params

        def told() -> dict[str, Any]:
            entry = self._entry(number)
            more: dict[str, Any] = {}
            if given.get("metadata") == "1":
                more["metadata"] = json.loads(entry.metadata_json)
            if given.get("hashes") == "1":
                more |= {"shorthash": entry.shorthash, "sha256": entry.hashes.sha256}
            return self.shelf.detail(entry) | more

        return answered(told)

    def inside(self, number: str) -> Response:
        return answered(lambda: inside(self.shelf.library, self._entry(number), self._model.index()))

    def picture(self, number: str, request: Request) -> Response:
        try:
            entry = self._entry(number)
        except NotFoundError:
            return error(404, "no such adapter; it may have been removed")
        is_original = request.query_params.get("original") == "1"
        if is_original and (moving := video(entry)):
            return FileResponse(moving[0], media_type=moving[1], headers=PICTURE_HEADERS)
        found = original(entry) if is_original else thumbnail(entry)
        if found is None:
            return Response(status_code=204, headers={"Cache-Control": "private, max-age=60"})
        return Response(found.content, media_type=found.type, headers=PICTURE_HEADERS)

    async def notes(self, number: str, request: Request) -> Response:
        given = await json_object(request)
        if given is None:
            return error(400, 'the body must be {"digest": text, and the fields to save}')
        library = self.shelf.library
        return await run_in_threadpool(
            answered, lambda: self.shelf.detail(save_fields(library, self._entry(number), given))
        )

    async def preview(self, number: str, request: Request) -> Response:
        content = await body(request, MAX_BYTES)
        if content is None:
            return error(413, f"the picture is larger than {MAX_BYTES >> 20} MB")
        library = self.shelf.library
        return await run_in_threadpool(
            answered, lambda: self.shelf.card(save_preview(library, self._entry(number), content))
        )

    async def marks(self, request: Request) -> Response:
        given = await json_object(request)
        if given is None:
            return error(400, 'the body must be {"ids": [numbers], and what to change}')
        return await run_in_threadpool(answered, lambda: self._mark(given))

    def duplicates(self) -> Response:
        found = groups(self.shelf.library.entries())
        told = [
            {"kind": group.kind, "reason": group.reason, "items": [self.shelf.card(entry) for entry in group.entries]}
            for group in found
        ]
        return JSONResponse({"groups": told})

    def hashed(self) -> Response:
        return JSONResponse(_progress(self._hasher))

    def hash(self) -> Response:
        self._hasher.start()
        return self.hashed()

    def measured(self) -> Response:
        return JSONResponse(_progress(self._measurer))

    def measure(self) -> Response:
        self._measurer.start()
        return self.measured()

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
        return await self._of_prompt(request, lambda prompt: dry_run(self.shelf, prompt))

    async def together(self, request: Request) -> Response:
        return await self._of_prompt(request, self._together.of)

    async def save(self, request: Request) -> Response:
        given = await json_object(request)
        if given is None:
            return error(400, 'the body must be {"prompt": text, "name": text, and how}')
        return await run_in_threadpool(
            answered, lambda: self._started(self._saving, saving(self.shelf, self._model, given))
        )

    def saved(self) -> Response:
        return JSONResponse(self._saving.told())

    async def check(self, request: Request) -> Response:
        repair = (await json_object(request) or {}).get("repair", False)
        if type(repair) is not bool:
            return error(400, '"repair" must be true or false')
        return answered(lambda: self._started(
            self._checking, lambda progress: self._model.check(repair=repair, progress=progress)))

    def checked(self) -> Response:
        return JSONResponse(self._checking.told())

    def strength(self) -> Response:
        return JSONResponse(strength_of(self.shelf.checkpoint(), self.shelf.presets()))

    async def _of_prompt(self, request: Request, answer: Callable[[str], dict[str, Any]]) -> Response:
        prompt = (await json_object(request) or {}).get("prompt")
        if not isinstance(prompt, str) or len(prompt) > MAX_PROMPT:
            return error(400, f'the body must be {{"prompt": text}}, at most {MAX_PROMPT} characters')
        return await run_in_threadpool(answered, lambda: answer(prompt))

    def _started(self, job: Job, work: Work) -> dict[str, Any]:
        job.start(work)
        return job.told()

    def _scanned(self, done: int, total: int) -> None:
        self._progress = (done, total)

    def _mark(self, given: dict[str, Any]) -> dict[str, Any]:
        numbers, favorite, library = given.get("ids"), given.get("favorite"), self.shelf.library
        if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
            raise RefusedError('"ids" must be a list of numbers')
        if favorite is not None and type(favorite) is not bool:
            raise RefusedError('"favorite" must be true or false')
        add, remove = (texts_of(given.get(name, []), name) for name in ("add_tags", "remove_tags"))
        by_id = self.shelf.stock().by_id
        entries = [by_id[number].entry for number in dict.fromkeys(numbers) if number in by_id]
        changed = library.mark(entries, favorite=favorite, add=add, remove=remove)
        cards = [self.shelf.card(entry) for entry in entries] if len(numbers) <= MAX_PAGE else []
        return {"changed": changed, "items": cards}

    def _entry(self, number: str) -> Entry:
        """Raises NotFoundError, also for what is no number."""
        if not number.isascii() or not number.isdigit() or len(number) > 18:
            raise NotFoundError(number)
        return self.shelf.library.entry(int(number))


def _progress(work: Gently) -> dict[str, Any]:
    running, done, total = work.progress
    return {"running": running, "done": done, "total": total}
