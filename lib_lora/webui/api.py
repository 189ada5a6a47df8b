"""The two routes of the built-in extension, exactly as they were, those of the shared listing, and the page's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import Response

from lib_lora.browser import routes
from lib_lora.families import Family
from lib_lora.webui.cards import State
from lib_lora.webui.catalogue import Catalogue
from lib_lora.webui.legacy import readable_metadata

LORAS = "/sdapi/v1/loras"
REFRESH = "/sdapi/v1/refresh-loras"
CARDS = f"{routes.PREFIX}/cards"  # what the page Lora asks for: javascript/lora_cards.js
ROUTES = (LORAS, REFRESH)


def add_routes(app: FastAPI, catalogue: Catalogue, checkpoint: Callable[[], Family | None]) -> None:
    """All work without `--api`, as the built-in's do. `checkpoint` tells the loaded model's family."""
    login = [Depends(_login_of(app))] if hasattr(app, "tokens") else []
    routes.add_routes(app, catalogue.library, checkpoint=checkpoint, dependencies=login)

    @app.get(LORAS)
    def get_loras() -> Response:
        return Response(json.dumps(list_of_loras(catalogue)), media_type="application/json")

    state = State()

    @app.get(CARDS, dependencies=login)
    def get_cards() -> dict[str, Any]:
        return state.told(checkpoint(), catalogue.library)

    @app.post(REFRESH)
    def refresh_loras() -> None:
        catalogue.refresh()


def list_of_loras(catalogue: Catalogue) -> list[dict[str, Any]]:
    """[{"name", "alias", "path", "metadata"}]"""
    metadata = catalogue.library.all_metadata_json()
    return [
        {"name": name, "alias": entry.alias, "path": str(entry.path),
         "metadata": readable_metadata(metadata.get(entry.id) or "{}")}
        for name, entry in catalogue.by_name.items()
    ]  # fmt: skip


def _login_of(app: Any) -> Callable[[Request], None]:
    """Where the page asks for a name and a password, the listing is for those who gave them."""

    def require(request: Request) -> None:
        tokens = [value for name, value in request.cookies.items() if name.startswith("access-token")]
        if app.auth is not None and not any(token in app.tokens for token in tokens):
            raise HTTPException(401, "log in first")

    return require
