"""While a picture is sampled, its model is told the moment of each call of the UNet, and whose rows the call has.

The WebUI calls back before each call; who drops or splits rows does it after that. So the rows of all parts are laid
out in the callback, in the WebUI's order, and each part takes as many of them as it has.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from modules import shared
from modules.sd_samplers_timesteps import CFGDenoiserTimesteps
from torch import nn

from lib_lora.errors import PatchError
from lib_lora.grammar.moment import Moment
from lib_lora.grammar.who import Row
from lib_lora.webui.a1111.host import WebUISession, existing_session
from lib_lora.webui.a1111.passes import really_made
from lib_lora.webui.names.protocols import Call, Processing, SdModel

OVERRUN = ("another extension calls the UNet for more rows than the prompts of this batch make, and nobody knows which "
           "adapters are for which")  # fmt: skip


class Sampling:
    """`failed` is told of what ends the adapters' work on a picture, in a sentence; the picture goes on without."""

    def __init__(self, failed: Callable[[Processing | None, str], None]) -> None:
        self._failed = failed
        self._rows: list[Row] = []  # that no call has taken yet
        self._p: Processing | None = None
        self._unet: nn.Module | None = None  # that has the hook
        self._hook: Any = None

    def before_call(self, call: Call) -> None:
        """The WebUI's callback. Nothing is done where nothing varies and every row has the same."""
        session = existing_session(shared.sd_model)
        if session is None or not (session.varies or session.restricts):
            return
        try:
            session.advance(moment_of(call))
            if session.restricts:
                self._p, self._rows = call.denoiser.p, rows_of(call)
                self._watch(shared.sd_model)
        except Exception as error:  # the rim: the WebUI prints it and draws on with whatever the weights are
            self._give_up(session, getattr(call.denoiser, "p", None), error)

    def rest(self) -> None:
        """No hook is left. Called before each picture, and after it."""
        if self._hook is not None:
            self._hook.remove()
        self._rows, self._p, self._unet, self._hook = [], None, None, None

    def _watch(self, model: SdModel) -> None:
        unet = model.model.diffusion_model
        if unet is not self._unet:
            rows, p = self._rows, self._p
            self.rest()
            self._rows, self._p, self._unet = rows, p, unet
            self._hook = unet.register_forward_pre_hook(self._before_unet, with_kwargs=True)

    def _before_unet(self, _unet: nn.Module, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        session = existing_session(shared.sd_model)
        if session is None or not session.restricts:
            return
        x = args[0] if args else named["x"]
        rows, self._rows = self._rows[: len(x)], self._rows[len(x) :]
        try:
            if len(rows) < len(x):
                raise PatchError(OVERRUN)
            session.rows(rows, tuple(x.shape[-2:]))
        except Exception as error:
            self._give_up(session, self._p, error)

    def _give_up(self, session: WebUISession, p: Processing | None, error: Exception) -> None:
        if not isinstance(error, PatchError):
            traceback.print_exc()
        session.host.patcher.restore()
        session.abandon()
        told = str(error) if isinstance(error, PatchError) else f"{type(error).__name__}: {error}"
        self._failed(p, f"the adapters could not be followed to the end of this picture: {told}")


def moment_of(call: Call) -> Moment:
    """When the call is. Samplers that make more steps than they have told stay in the last one."""
    denoiser = call.denoiser
    steps = max(denoiser.steps or 1, 1)
    calls = max((denoiser.total_steps or steps) // steps, 1)
    config = denoiser.sampler.config
    steps = really_made(config and config.name, steps, is_img2img=denoiser.init_latent is not None)
    step, part = divmod(denoiser.step, calls)
    return Moment(min(step, steps - 1), steps, _sigma(call), part / calls)


def _sigma(call: Call) -> float:
    if not isinstance(call.denoiser, CFGDenoiserTimesteps):
        return float(call.sigma[0])
    share = float(shared.sd_model.alphas_cumprod[int(call.sigma[0])])  # of the picture; the rest is noise
    return math.sqrt((1 - share) / share)


def rows_of(call: Call) -> list[Row]:
    """Of everything that is asked of the UNet now: parts of prompts joined by AND are rows of one picture."""
    prompts = call.denoiser.sampler.sampler_extra_args["cond"].batch
    rows = [Row(image) for image, parts in enumerate(prompts) for _ in parts]
    uncond = [Row(image, "uncond") for image in range(len(prompts))]
    return rows + uncond * (2 if len(call.x) == len(rows) + 2 * len(uncond) else 1)  # twice: InstructPix2Pix


def is_refiner(p: Processing | None, model: nn.Module) -> bool:
    """True if this model goes on with what another began."""
    info = getattr(p, "refiner_checkpoint_info", None)
    return info is not None and info.filename == cast(SdModel, model).sd_checkpoint_info.filename
