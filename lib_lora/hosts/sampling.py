"""Sampling: tells a session where a diffusers pipeline is, before each call of its UNet.

Which step of how many, with how much noise, which rows it has and how large its latent is; and hands the UNet the texts
that are due then. One hook on the UNet does it, there for one call of the pipeline and only if something needs it. Each
ControlNet, which is called before it, has another one that hands it the same texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice, repeat
from typing import Any

from torch import Tensor, nn

from lib_lora.errors import PatchError
from lib_lora.grammar.moment import Moment
from lib_lora.grammar.who import Row, Side
from lib_lora.session.session import Session

MIDPOINTS = ("sigmas_interpol", "mid_point_sigma")  # schedulers that have one call every second `sigmas` tells nothing
CALL = ("sample", "timestep", "encoder_hidden_states")  # of a UNet: what may stand without its name
NEAR = 1e-3  # timesteps: 1000 is the beginning

Encoded = tuple[Tensor, Tensor | None]
Hook = Callable[[nn.Module, Sequence[Any], Mapping[str, Any]], tuple[Any, Any]]
Texts = Callable[[Sequence[Row], Moment], Encoded | None]
"""(rows, moment) -> what they are told: the states (rows, tokens, width), and pooled ones (rows, width).

None: what the pipeline has handed over.
"""


class Sampling:
    """One call of a pipeline that makes `images` pictures."""

    def __init__(self, pipe: Any, session: Session, images: int, texts: Texts | None = None) -> None:
        self.pipe, self.session, self.images, self.texts = pipe, session, images, texts
        self.progress = Progress(pipe)

    @property
    def is_needed(self) -> bool:
        """True if something has to be told."""
        return self.session.varies or self.session.restricts or self.texts is not None

    @contextmanager
    def told(self) -> Iterator[None]:
        """Meanwhile the session knows where the pipeline is. An error in between ends in the untouched model."""
        if not self.is_needed:
            yield
            return
        hooks = [(self.pipe.unet, self._before), *((net, self._before_net()) for net in self._nets())]
        try:
            try:
                for module, hook in hooks:
                    module.register_forward_pre_hook(hook, with_kwargs=True)
                yield
            finally:
                for module, hook in hooks:
                    _remove(module, hook)
        except BaseException:
            self.session.abandon()
            raise
        self.session.rows(())

    def _nets(self) -> list[nn.Module]:
        """The ControlNets, where the texts change. They carry no adapters."""
        net = getattr(self.pipe, "controlnet", None) if self.texts is not None else None
        return list(getattr(net, "nets", None) or ([net] if isinstance(net, nn.Module) else []))

    def _before_net(self) -> Hook:
        progress = Progress(self.pipe)  # it is called as often as the UNet

        def before(_net: nn.Module, args: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, Any]:
            call = dict(zip(CALL, args, strict=False)) | dict(named)
            moment, count = progress.at(call["timestep"]), len(call["encoder_hidden_states"])
            rows = self._rows(count) or [Row(image) for image in range(self.images)]  # "guess mode": one side alone
            return _with_texts(call, args, self.texts(rows, moment) if self.texts and len(rows) == count else None)

        return before

    def _before(self, _unet: nn.Module, args: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, Any]:
        call = dict(zip(CALL, args, strict=False)) | dict(named)
        sample = call["sample"]
        moment = self.progress.at(call["timestep"])
        rows = self._rows(len(sample))
        if not rows and (self.session.restricts or self.texts is not None):
            raise PatchError(f"a batch of {len(sample)} cannot be told apart into {self.images} pictures")
        self.session.advance(moment)
        self.session.rows(rows, (sample.shape[-2], sample.shape[-1]))
        return _with_texts(call, args, self.texts(rows, moment) if self.texts is not None else None)

    def _rows(self, count: int) -> list[Row]:
        """Of a call with so many; none if nobody knows."""
        is_guided = getattr(self.pipe, "do_classifier_free_guidance", None)
        guided, alone = _sides(self.pipe)
        for sides, may_be in ((alone, not is_guided), (guided, is_guided is not False)):
            if may_be and count == len(sides) * self.images:
                return [Row(image, side) for side in sides for image in range(self.images)]
        return []


def _sides(pipe: Any) -> tuple[Sequence[Side], Sequence[Side]]:
    """What the rows of each picture are, in the pipeline's order: `(with guidance, without)`."""
    if "InstructPix2Pix" in type(pipe).__name__:
        return ("cond", "uncond", "uncond"), ("cond",)  # of the last two, one sees the picture that is changed
    if getattr(pipe, "do_perturbed_attention_guidance", False):
        return ("uncond", "cond", "cond"), ("cond", "cond")  # the last is the prompt's once more, perturbed
    return ("uncond", "cond"), ("cond",)


class Progress:
    """Finds out what moment it is from the timestep of a call."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self._timesteps: Tensor | None = None  # the scheduler's, by which `_times` are
        self._times: list[float] = []
        self._begin = 0  # the first of them that this pass has: image to image leaves some out
        self._place: int | None = None  # of the last call among `_times`

    def at(self, timestep: Tensor | float) -> Moment:
        """The moment of this call, the next of the pass. Raises PatchError if the scheduler has no such timestep."""
        scheduler = self.pipe.scheduler
        if scheduler.timesteps is not self._timesteps:
            self._timesteps, self._place = scheduler.timesteps, None
            self._times = [float(time) for time in scheduler.timesteps]
        time = float(timestep.flatten()[0]) if isinstance(timestep, Tensor) else float(timestep)
        place = self._place = self._find(time)
        call, calls = place - self._begin, self._calls()
        steps = list(islice(_steps(scheduler), max(calls, call + 1)))
        return Moment(steps[call], steps[-1] + 1, _sigma(scheduler, place, time, call))

    def _find(self, time: float) -> int:
        places = [place for place, each in enumerate(self._times) if abs(each - time) < NEAR]
        if not places:
            raise PatchError("the sampler calls the model at a time that its scheduler does not name, so that nothing "
                             "can follow its steps")  # fmt: skip
        later = [place for place in places if self._place is not None and place > self._place]
        if later:
            return later[0]
        if self._place not in places:  # the first call of a pass
            self._begin = next((begin for begin in self._begins() if begin in places), places[0])
            return self._begin
        assert self._place is not None
        return self._place  # once more in the same step

    def _begins(self) -> list[Any]:
        """Where the pass may begin, by those who should know."""
        return [getattr(self.pipe.scheduler, "begin_index", None), len(self._times) - (self._told_calls() or 0)]

    def _told_calls(self) -> int | None:
        number = getattr(self.pipe, "num_timesteps", None)
        return number if isinstance(number, int) else None

    def _calls(self) -> int:
        rest = len(self._times) - self._begin
        return min(self._told_calls() or rest, rest)


def _steps(scheduler: Any) -> Iterator[int]:
    """The step of each call of a pass, without end."""
    prk = getattr(scheduler, "prk_timesteps", None)  # PNDM begins with Runge-Kutta, or makes its first step twice
    first = [] if prk is None else [4, 4, 4] if len(prk) else [2]
    lengths = chain(first, repeat(scheduler.order))
    return (step for step, calls in enumerate(lengths) for _ in range(calls))


def _sigma(scheduler: Any, place: int, time: float, call: int) -> float:
    """How much noise there is at a call."""
    sigmas = getattr(scheduler, "sigmas", None)
    is_between = call % 2 == 1 and any(hasattr(scheduler, name) for name in MIDPOINTS)
    if sigmas is not None and place < len(sigmas) and not is_between:
        return float(sigmas[place])
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if alphas is None:
        return math.nan
    low = max(min(int(time), len(alphas) - 1), 0)
    high = min(low + 1, len(alphas) - 1)
    share = time - low if high > low else 0.0
    return _noise(alphas[low]) ** (1 - share) * _noise(alphas[high]) ** share


def _noise(alpha: Any) -> float:
    return math.sqrt((1 - float(alpha)) / float(alpha)) if float(alpha) > 0 else math.inf


def _with_texts(call: dict[str, Any], args: Sequence[Any], texts: Encoded | None) -> tuple[tuple[Any, ...], Any]:
    """What a hook returns: the call as it came, or with these texts in the place of its own."""
    if texts is not None:
        call = call | _exchanged(call, *texts)
    there = CALL[: len(args)]  # without their names
    return (*(call.pop(name) for name in there), *args[len(CALL) :]), call


def _exchanged(call: Mapping[str, Any], states: Tensor, pooled: Tensor | None) -> dict[str, Any]:
    """The arguments of the UNet that tell it of the texts, with others in their place."""
    changed: dict[str, Any] = {"encoder_hidden_states": states.to(call["encoder_hidden_states"])}
    added = call.get("added_cond_kwargs")
    if pooled is not None and added is not None and "text_embeds" in added:
        changed["added_cond_kwargs"] = {**added, "text_embeds": pooled.to(added["text_embeds"])}
    return changed


def _remove(module: nn.Module, hook: Callable[..., Any]) -> None:
    for number in [number for number, known in module._forward_pre_hooks.items() if known == hook]:
        del module._forward_pre_hooks[number]
        module._forward_pre_hooks_with_kwargs.pop(number, None)
