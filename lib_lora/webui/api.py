"""The two routes of the built-in extension, exactly as they were, those of the shared listing, and the page's own."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import Response

from lib_lora.browser import routes
from lib_lora.browser.answers import JSONResponse
from lib_lora.browser.loaded import LoadedModel
from lib_lora.compare import routes as compared
from lib_lora.compare.jobs import Jobs
from lib_lora.describe.families import Family
from lib_lora.webui import version
from lib_lora.webui.a1111.checkpoints import alone, loaded_file, loaded_host
from lib_lora.webui.cards.state import State
from lib_lora.webui.names import settings
from lib_lora.webui.names.catalogue import Catalogue
from lib_lora.webui.names.presets import known_presets

LORAS = "/sdapi/v1/loras"
REFRESH = "/sdapi/v1/refresh-loras"
CARDS = f"{routes.PREFIX}/cards"  # what the page Lora asks for: javascript/lora_page_cards.js
PAGE = f"{routes.PREFIX}/page"  # what every page asks before its scripts start: javascript/lora_served.js
ROUTES = (LORAS, REFRESH)
NEAR = ("127.0.0.1", "::1")


def add_routes(app: FastAPI, catalogue: Catalogue, checkpoint: Callable[[], Family | None], comparisons: Jobs) -> None:
    """All work without `--api`, as the built-in's do. `checkpoint` tells the loaded model's family."""
    login = [Depends(_login_of(app))] if hasattr(app, "tokens") else []
    model = LoadedModel(loaded_host, loaded_file, alone)
    routes.add_routes(app, catalogue.library, checkpoint=checkpoint, presets=known_presets, model=model,
                      limit=lambda: float(settings.get("lora_together_limit") or 0), dependencies=login)
    compared.add_routes(app, comparisons, dependencies=login)

    @app.get(LORAS)
    def get_loras(request: Request) -> Response:
        return _packed(list_of_loras(catalogue), request)

    state = State()

    @app.get(CARDS, dependencies=login)
    def get_cards() -> Response:
        return JSONResponse(state.answer(checkpoint(), catalogue.library))

    @app.get(PAGE, dependencies=login)
    def get_page() -> dict[str, bool]:
        return {"outdated": version.is_outdated()}

    @app.post(REFRESH)
    def refresh_loras() -> None:
        catalogue.refresh()


def list_of_loras(catalogue: Catalogue) -> bytes:
    """[{"name", "alias", "path", "metadata"}] as JSON; the metadata go out as the index keeps them."""
    names = {entry.id: name for name, entry in catalogue.by_name.items()}
    parts = []
    for entry, metadata in catalogue.library.readable_parts(catalogue.by_name.values()):
        told = json.dumps({"name": names[entry.id], "alias": entry.alias, "path": entry.location})
        parts.append(b'%s, "metadata": %s}' % (told[:-1].encode(), metadata))
    return b"[%s]" % b", ".join(parts)


def _packed(content: bytes, request: Request) -> Response:
    """JSON, packed for those who are far away: the WebUI would pack too well, 10 MB a second."""
    is_near = request.client is not None and request.client.host in NEAR
    if is_near or "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(content, headers={"Content-Encoding": "identity"}, media_type="application/json")
    packed = gzip.compress(content, compresslevel=1)
    headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(packed, headers=headers, media_type="application/json")


def _login_of(app: FastAPI) -> Callable[[Request], None]:
    """Where the page asks for a name and a password, the listing is for those who gave them."""
    page: Any = app  # Gradio's app has `auth` and `tokens`

    def require(request: Request) -> None:
        tokens = [value for name, value in request.cookies.items() if name.startswith("access-token")]
        if page.auth is not None and not any(token in page.tokens for token in tokens):
            raise HTTPException(401, "log in first")

    return require
