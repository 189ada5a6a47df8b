"""The HTTP routes of comparisons, below `/lora/v1`. Adapters and comparisons go by ids: no path comes in.

    GET  comparisons                     what suits the model, the checkpoints to choose from, and the last comparison
    POST comparisons/plan                {"adapters": [ids], "weights", "prompts", "seeds", ...}: how much it would
                                         be, or {"refused": sentence}
    POST comparisons                     the same: begins to draw, or goes on; 409 while another one is drawn
    GET  comparisons/{id}                its state; ?since=n leaves out the first n cells
    POST comparisons/{id}/cancel
    GET  comparisons/{id}/cells/{n}      small WebP; ?original=1 the PNG, whose text draws it again
    GET  comparisons/{id}/report, sheet  the files, once it has ended

Besides the lists the body may have "negative", "steps", "size" ([width, height]) and "checkpoints".
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response
from PIL import Image

from lib_lora.browser.answers import JSONResponse, error, json_object, refuse_foreign
from lib_lora.browser.routes import PREFIX
from lib_lora.compare.job import REPORT, SHEET
from lib_lora.compare.jobs import BusyError, Jobs
from lib_lora.errors import LoraError, NotFoundError

PLACE = f"{PREFIX}/comparisons"
BODY = 'the body must be {"adapters": [ids], "weights": [texts], "prompts": [texts], "seeds": [numbers]}'
SIDE = 320  # pixels of a small picture
KEPT = {"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff"}  # its address has its digest
FRESH = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
Answer = Callable[[list[int], Mapping[str, Any]], dict[str, Any]]
NOT_THERE = "no such comparison; its folder may have been removed"


def add_routes(app: FastAPI, jobs: Jobs, *, dependencies: Sequence[Any] = ()) -> None:
    """Add the routes to `app`; call it before anything is mounted at `/`."""
    routes = Routes(jobs)
    table: tuple[tuple[str, str, Callable[..., Any]], ...] = (
        ("GET", "", routes.overview),
        ("POST", "", routes.start),
        ("POST", "/plan", routes.plan),
        ("GET", "/{number}", routes.state),
        ("POST", "/{number}/cancel", routes.cancel),
        ("GET", "/{number}/cells/{cell}", routes.cell),
        ("GET", "/{number}/report", routes.report),
        ("GET", "/{number}/sheet", routes.sheet),
    )
    for method, path, endpoint in table:
        asked = [*dependencies] if method == "GET" else [*dependencies, Depends(refuse_foreign)]
        app.add_api_route(PLACE + path, endpoint, methods=[method], dependencies=asked, response_model=None)


class Routes:
    """The endpoints."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs

    def overview(self) -> Response:
        host = self.jobs.host
        last = self.jobs.last
        return JSONResponse({
            "usual": asdict(host.usual()), "checkpoints": list(host.checkpoints()), "together": host.together,
            "last": None if last is None else last.id,
        })  # fmt: skip

    async def start(self, request: Request) -> Response:
        return await self._asked(request, lambda ids, given: self.jobs.start(ids, given).told())

    async def plan(self, request: Request) -> Response:
        def told(ids: list[int], given: Mapping[str, Any]) -> dict[str, Any]:
            try:
                return self.jobs.plan(ids, given)
            except NotFoundError:
                raise
            except LoraError as problem:  # asked while somebody writes: half a number is no fault
                return {"refused": str(problem)}

        return await self._asked(request, told)

    def state(self, number: str, request: Request) -> Response:
        since = request.query_params.get("since", "0")
        if not since.isascii() or not since.isdigit() or len(since) > 9:
            return error(400, "since is a whole number")
        return _of(lambda: JSONResponse(self.jobs.find(number).told(int(since))))

    def cancel(self, number: str) -> Response:
        def stop() -> Response:
            job = self.jobs.find(number)
            job.cancel()
            return JSONResponse(job.told(len(job.grid.cells)))

        return _of(stop)

    def cell(self, number: str, cell: str, request: Request) -> Response:
        def picture() -> Response:
            job = self.jobs.find(number)
            result = job.result(int(cell)) if cell.isascii() and cell.isdigit() and len(cell) < 9 else None
            if result is None or result.file is None:
                return error(404, "there is no such picture")
            path = job.folder / result.file
            if request.query_params.get("original") == "1":
                return FileResponse(path, media_type="image/png", headers=KEPT)
            return Response(small(path.read_bytes()), media_type="image/webp", headers=KEPT)

        return _of(picture)

    def report(self, number: str) -> Response:
        return self._file(number, REPORT, "text/html")

    def sheet(self, number: str) -> Response:
        return self._file(number, SHEET, "image/png")

    def _file(self, number: str, name: str, kind: str) -> Response:
        def file() -> Response:
            job = self.jobs.find(number)
            if not job.has(name):
                return error(404, "it is written when the comparison has ended")
            return FileResponse(job.folder / name, media_type=kind, headers=FRESH)

        return _of(file)

    async def _asked(self, request: Request, answer: Answer) -> Response:
        given = await json_object(request)
        ids = None if given is None else given.get("adapters")
        if given is None or not isinstance(ids, list) or not all(type(each) is int for each in ids):
            return error(400, BODY)

        def told() -> Response:
            try:
                return JSONResponse(answer(ids, given))
            except BusyError as problem:
                return error(409, str(problem))
            except NotFoundError:
                return error(404, "no such adapter; it may have been removed")
            except LoraError as problem:
                return error(400, str(problem))

        return await run_in_threadpool(told)


def small(png: bytes) -> bytes:
    """The picture as a WebP of few bytes."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        picture = image.convert("RGB")
        picture.thumbnail((SIDE, SIDE))
        picture.save(file, "WEBP", quality=88)
    return file.getvalue()


def _of(answer: Callable[[], Response]) -> Response:
    try:
        return answer()
    except NotFoundError:
        return error(404, NOT_THERE)
    except LoraError as problem:
        return error(400, str(problem))
    except OSError:
        return error(404, "there is no such picture")
