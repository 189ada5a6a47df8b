"""A checkpoint that the WebUI has loaded, as host. It lives with its model, because the WebUI keeps several loaded.

The WebUI wraps text encoders (`.wrapped`) and unwraps them before it loads other weights; without those steps the
parameters are named as in a checkpoint file. Beside weights in fp8 it keeps `fp16_weight` if the user wants so.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from torch import nn

from lib_lora.adapters.cache import AdapterCache
from lib_lora.describe.families import Family
from lib_lora.engine.originals import CheckpointFile
from lib_lora.model.slots import Slot, slots_of
from lib_lora.model.targets import index_checkpoint
from lib_lora.session.finder import Finder
from lib_lora.session.session import Session
from lib_lora.session.torch_host import TorchHost
from lib_lora.webui.names.protocols import SdModel

ATTRIBUTE = "lib_lora_session"  # of the model
WRAPPER = "wrapped"
FINER = "fp16_"
# SD3 has the first; SDXL the second and third, where the third is a part of the second; SD1 and SD2 the third.
ENCODERS = ("text_encoders", "conditioner", "cond_stage_model")


class WebUIHost(TorchHost):
    """The UNet and the text encoders of an `sd_model`. It does not keep the model alive."""

    def __init__(self, sd_model: nn.Module) -> None:
        self._model = weakref.ref(sd_model)
        super().__init__(self._find, index_checkpoint, self._find_checkpoint)

    @property
    def family(self) -> Family:
        """Of the model as it was last looked at: cheap, for those who ask often."""
        return self.bound.index.family

    @property
    def place(self) -> Path | None:
        """The file of its checkpoint."""
        name = getattr(getattr(self._model(), "sd_checkpoint_info", None), "filename", "")
        return Path(name) if name else None

    def _find(self) -> Mapping[str, Slot]:
        model = cast(SdModel, self._model())
        slots = slots_of(model.model.diffusion_model, "model.diffusion_model.", finer=FINER)
        root = next((name for name in ENCODERS if isinstance(getattr(model, name, None), nn.Module)), None)
        if root is not None:
            encoders = slots_of(getattr(model, root), f"{root}.", finer=FINER)
            slots.update((_unwrapped(key), slot) for key, slot in encoders.items())
        return slots

    def _find_checkpoint(self) -> CheckpointFile | None:
        path = self.place
        if path is None or path.suffix.lower() != ".safetensors":
            return None
        # Old SD1 files lack one level of names, which the WebUI puts in.
        older = {key: key.replace(".transformer.text_model.", ".transformer.") for key in self._find()}
        return CheckpointFile({key: [(path, key), (path, name)] for key, name in older.items()})


class WebUISession(Session):
    """The session of a checkpoint."""

    host: WebUIHost


def session_of(sd_model: nn.Module, finder: Finder, cache: AdapterCache | None = None) -> WebUISession:
    """The session of this model, made at the first call."""
    session = existing_session(sd_model)
    if session is None:
        host = WebUIHost(sd_model)
        session = WebUISession(host, finder, cache=cache)
        setattr(sd_model, ATTRIBUTE, session)
    return session


def existing_session(sd_model: nn.Module) -> WebUISession | None:
    """The session of this model if it has one."""
    return getattr(sd_model, ATTRIBUTE, None)


def release(sd_model: nn.Module) -> None:
    """The model as if it had never had a session."""
    session = existing_session(sd_model)
    if session is not None:
        session.host.detach()
        delattr(sd_model, ATTRIBUTE)


def _unwrapped(key: str) -> str:
    return ".".join(step for step in key.split(".") if step != WRAPPER)
