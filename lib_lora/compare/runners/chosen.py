"""choose(): the runners that somebody asks for, in the words of the command line."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from pathlib import Path

from lib_lora.compare.runner import Runner
from lib_lora.compare.runners.processes import Loading, start
from lib_lora.drawing.demo_files import ADAPTERS, model_at
from lib_lora.errors import RunnerError
from lib_lora.garbage import all_stays
from lib_lora.library import Library
from lib_lora.library.place import default_index


def choose(
    engine: str, library: Library, *, model: Path | None = None, tokenizer: Path | None = None,
    addresses: Sequence[str] = (), count: int | None = None,
) -> list[Runner]:  # fmt: skip
    """`engine`: local, ray or webui. Raises RunnerError for what does not go together, CheckpointError."""
    loading = Loading(_absolute(model), tuple(map(str, library.folders)), _absolute(tokenizer), _index(library))
    if engine == "local":
        return _local(loading, library, addresses, count)
    if engine == "webui":
        return _webuis(None if model is None else str(model), addresses)
    if engine == "ray":
        return _actors(loading, addresses, count)
    raise RunnerError(f"{engine}: no such engine")


def _local(loading: Loading, library: Library, addresses: Sequence[str], count: int | None) -> list[Runner]:
    if addresses:
        raise RunnerError("--worker is for --engine webui and ray; on this machine it is --workers N")
    if count is not None and count > 1:
        return list(start(loading, count))
    model_at(loading.model)
    with all_stays():
        from lib_lora.compare.local import Local
        from lib_lora.drawing.pipelines import load_pipeline
        from lib_lora.hosts.diffusers import Attached

    gc.collect()  # the pipeline of another checkpoint goes before this one comes
    return [Local(Attached(load_pipeline(loading.model, tokenizer=loading.tokenizer), library))]


def _webuis(model: str | None, addresses: Sequence[str]) -> list[Runner]:
    if not addresses:
        raise RunnerError("which WebUI shall draw? --worker http://127.0.0.1:7860, several for several machines")
    from lib_lora.compare.runners.webui import WebUI

    return [WebUI(address, model) for address in dict.fromkeys(addresses)]


def _actors(loading: Loading, addresses: Sequence[str], count: int | None) -> list[Runner]:
    if len(addresses) > 1:
        raise RunnerError("one cluster of Ray draws at a time; --worker names its head")
    try:
        from lib_lora.compare.runners import cluster
    except ModuleNotFoundError as error:
        raise RunnerError("Ray is not installed: pip install 'lib-lora[ray]'") from error
    return list(cluster.start(loading, addresses[0] if addresses else None, count))


def _index(library: Library) -> str | None:
    place = default_index()
    return None if place is None or list(library.folders) == [ADAPTERS] else str(place)


def _absolute(path: Path | None) -> str | None:
    return None if path is None else os.path.abspath(path.expanduser())
