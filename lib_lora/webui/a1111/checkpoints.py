"""The checkpoints that the WebUI has loaded: which there are, and which one draws now."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from modules import call_queue, patches, sd_models
from torch import nn

from lib_lora.describe.families import Family
from lib_lora.webui.a1111.host import WebUIHost, existing_session

Now = TypeVar("Now")
PATCHED = (sd_models, "reload_model_weights")


def loaded_models() -> list[nn.Module]:
    """Every checkpoint that the WebUI keeps in memory."""
    data = sd_models.model_data
    found = {id(model): model for model in (*data.loaded_sd_models, data.sd_model) if model is not None}
    return list(found.values())


def loaded_host() -> WebUIHost | None:
    """Of the checkpoint that is loaded now; loads none."""
    model = sd_models.model_data.sd_model
    session = existing_session(model) if model is not None else None
    return session.host if session is not None else None


def loaded_family() -> Family | None:
    """The family of the checkpoint that is loaded now; loads none."""
    host = loaded_host()
    return host.family if host is not None else None


def loaded_file() -> Path | None:
    """The file of the checkpoint that is loaded now."""
    host = loaded_host()
    return host.place if host is not None else None


def alone() -> AbstractContextManager[Any]:
    """In a `with`: no picture is made, and no checkpoint is loaded for one, meanwhile."""
    return call_queue.queue_lock


def watch_exchange(exchanged: Callable[[nn.Module, Now], None], now: Callable[[], Now]) -> None:
    """Have `exchanged(model, what was made before)` called when another checkpoint has taken the present one's place.

    In the middle of a picture that is the refiner, which carries then what the base model carried.
    """
    original = getattr(*PATCHED)

    def reload_and_follow(*args: Any, **options: Any) -> Any:
        before = sd_models.model_data.sd_model
        info = getattr(before, "sd_checkpoint_info", None)
        pictures = now()
        model = original(*args, **options)
        if model is not None and (model is not before or model.sd_checkpoint_info is not info):
            exchanged(model, pictures)
        return model

    patches.patch(__name__, *PATCHED, reload_and_follow)


def stop_watching() -> None:
    """Undo `watch_exchange`."""
    patches.undo(__name__, *PATCHED)
