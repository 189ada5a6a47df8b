"""The two routes of the built-in extension, exactly as they were, and the routes of the shared listing."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response

from lib_lora.webui.catalogue import Catalogue
from lib_lora.webui.legacy import readable_metadata

LORAS = "/sdapi/v1/loras"
REFRESH = "/sdapi/v1/refresh-loras"
ROUTES = (LORAS, REFRESH)


def add_routes(app: FastAPI, catalogue: Catalogue) -> None:
    """Both work without `--api`, as the built-in's do."""

    @app.get(LORAS)
    def get_loras() -> Response:
        return Response(json.dumps(list_of_loras(catalogue)), media_type="application/json")

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
