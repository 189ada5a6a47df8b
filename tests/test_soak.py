"""Five hundred random things that happen to a model: after each, its bits are those of a model without that history.

LORA_SOAK=20000 makes it longer, LORA_SEED=7 other things happen.
"""

from __future__ import annotations

import copy
import itertools
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lib_lora.adapters.cache import AdapterCache
from lib_lora.engine import merged
from lib_lora.engine.keeping import Keep
from lib_lora.grammar.tag import read_prompt
from lib_lora.hosts.diffusers import DiffusersHost
from lib_lora.session.session import Session
from lib_lora.session.torch_host import TorchHost
from tests.support import (
    Folder,
    ThreeLayers,
    bits,
    fingerprint,
    kohya_shapes,
    parameters,
    three_layer_host,
    tiny_pipe,
    write_lora,
)  # fmt: skip
from tests.support_webui import tiny_sd_model, webui_host

STEPS, SEED = int(os.environ.get("LORA_SOAK", 500)), int(os.environ.get("LORA_SEED", 1))
TAGS = ("<lora:a:1>", "<lora:a:-0.4>", "<lora:b:0.7>", "<lora:b:0.3:0>", "<lora:c:2>", "<lora:nobody:1>", "<lora:a:x>")
ERRORS = (RuntimeError("CUDA out of memory"), RuntimeError("an accident"), KeyboardInterrupt())


@contextmanager
def failing(number: int, error: BaseException) -> Iterator[None]:
    """The weight of this number is half written when it fails."""
    original, calls = merged.fold, itertools.count(1)

    def fold(base, terms, out) -> None:
        original(base, terms, out)
        if next(calls) == number:
            out[: out.shape[0] // 2 + 1] = 9
            raise error

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(merged, "fold", fold)
        yield


class Life:
    """A model with adapters, and beside it one that never saw any but otherwise had the same done to it."""

    def __init__(self, made: Any, host_of: Callable[[Any], TorchHost], folder: Path) -> None:
        self.random = random.Random(SEED)
        self.noise = torch.Generator().manual_seed(SEED)
        self.made, self.pristine, self.spare = (copy.deepcopy(made) for _ in range(3))
        self.first = [{key: tensor.clone() for key, tensor in root.state_dict().items()} for root in roots(made)]
        self.host_of, self.finder, self.cache = host_of, Folder(folder), AdapterCache()
        self.prompt, self.keep, self.bypass = "", "device", False
        self.epoch = 0  # one more each time that the bits of the pristine model change
        self._untouched = self.epoch, bits(roots(made))
        self._expected: dict[tuple[int, str, bool], dict[str, int]] = {}
        self.session = self.new_session(self.made)

    def new_session(self, model: Any) -> Session:
        return Session(self.host_of(model), self.finder, cache=self.cache)

    def activate(self) -> None:
        """Any number of tags, good and bad ones."""
        self.prompt = " ".join(self.random.choices(TAGS, k=self.random.randrange(4)))
        self.again()

    def again(self) -> None:
        """The next picture with the same prompt."""
        self.say(self.session, self.prompt)

    def say(self, session: Session, prompt: str) -> None:
        read = read_prompt(prompt)
        session.host.patcher.keep, session.host.patcher.bypass_all = self.keep, self.bypass
        session.activate(read.tags, read.errors)

    def clear(self) -> None:
        """No tags."""
        self.prompt = ""
        self.session.clear()

    def choose(self) -> None:
        """Another policy; seldom, everything is bypassed that can be."""
        self.keep = self.random.choice(get_args(Keep))
        self.bypass = self.random.random() < 0.2
        self.again()

    def load(self) -> None:
        """The weights of a file, or others, into the same model, copied or taken over. The host activates again."""
        is_first, assign = self.random.random() < 0.5, self.random.random() < 0.3
        for number, root in enumerate(roots(self.pristine)):
            weights = {key: tensor if is_first else self._other(tensor) for key, tensor in self.first[number].items()}
            now = root.state_dict()
            shared = {key: tensor.to(now[key].dtype) for key, tensor in weights.items()}
            before = fingerprint(shared.items())
            for each in (root, roots(self.made)[number]):
                each.load_state_dict(shared, assign=assign)
            assert fingerprint(shared.items()) == before
        self.epoch += 1
        self.again()

    def _other(self, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        return (tensor + 0.1 * torch.randn(tensor.shape, generator=self.noise)).half()

    def fail(self) -> None:
        """An error or the user half-way through patching; the next picture has no tags."""
        planned, failed = len(self.session.host.patcher.planned()), False
        with failing(self.random.randint(1, max(planned, 10)), self.random.choice(ERRORS)):
            try:
                self.activate()
            except KeyboardInterrupt:
                failed = True
        if failed or any("could not" in each or "memory" in each for each in self.session.report.sentences()):
            self.prompt = ""

    def interrupt(self) -> None:
        """Nothing is told, and other tags come."""
        self.fail()
        self.activate()

    def move(self) -> None:
        """To another device and back; some make new Parameter objects."""
        torch.__future__.set_overwrite_module_params_on_conversion(self.random.random() < 0.3)
        for root in (*roots(self.made), *roots(self.pristine)):
            root._apply(torch.clone)
        torch.__future__.set_overwrite_module_params_on_conversion(False)

    def cast(self) -> None:
        """To full precision or to half; while patched, too. The host activates again."""
        name = self.random.choice(["half", "float"])
        for root in (*roots(self.made), *roots(self.pristine)):
            getattr(root, name)()
        self.epoch += 1
        self.again()

    def leave(self) -> None:
        """The user interface is loaded anew: everything is taken out, and a new session begins."""
        self.session.host.detach()
        assert self.bits() == self.untouched()
        self.session = self.new_session(self.made)
        self.again()

    def bits(self) -> dict[str, int]:
        return bits(roots(self.made))

    def untouched(self) -> dict[str, int]:
        """The bits of the pristine model."""
        if self._untouched[0] != self.epoch:
            self._untouched = self.epoch, bits(roots(self.pristine))
        return self._untouched[1]

    def expected(self, prompt: str) -> dict[str, int]:
        """The bits of the pristine model with these tags, from scratch."""
        key = (self.epoch, prompt, self.bypass)
        if key not in self._expected:
            pairs = zip(parameters(roots(self.spare)), parameters(roots(self.pristine)), strict=True)
            for (_, mine), (_, other) in pairs:
                mine.data = other.data.clone()
            session = self.new_session(self.spare)
            self.say(session, prompt)
            self._expected[key] = bits(roots(self.spare))
            session.host.detach()
        return self._expected[key]


def roots(model: Any) -> list[nn.Module]:
    return [model] if isinstance(model, nn.Module) else list(vars(model).values())


def webui_model(folder: Path) -> nn.Module:
    model = tiny_sd_model("sd1", short=True).half()
    state = {key.replace(".wrapped", ""): tensor.contiguous() for key, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    model.sd_checkpoint_info = SimpleNamespace(filename=str(folder / "model.safetensors"))
    return model


def pipeline(folder: Path) -> SimpleNamespace:
    pipe = tiny_pipe("sd1", short=True)
    for name, part in vars(pipe).items():
        part.half().save_pretrained(folder / name)
        setattr(pipe, name, type(part).from_pretrained(folder / name).half())
    return pipe


MODELS: dict[str, tuple[Callable[[Path], Any], Callable[[Any], TorchHost]]] = {
    "three layers": (lambda folder: ThreeLayers().half(), three_layer_host),
    "webui": (webui_model, webui_host),
    "diffusers": (pipeline, DiffusersHost),
}
WEIGHTS = {"activate": 8, "again": 2, "clear": 2, "choose": 2, "load": 2, "fail": 3, "interrupt": 1, "move": 2,
           "cast": 1, "leave": 1}


@pytest.mark.parametrize("name", MODELS)
def test_no_history_leaves_a_trace(name, tmp_path):
    make, host_of = MODELS[name]
    torch.manual_seed(SEED)
    made = make(tmp_path)
    shapes = kohya_shapes(host_of(made).targets(), limit=40)
    for seed, adapter in enumerate("abc"):
        write_lora(tmp_path / f"{adapter}.safetensors", shapes, seed=seed, rank=2 + seed)
    life = Life(made, host_of, tmp_path)
    done: list[str] = []
    for _ in range(STEPS):
        (happening,) = life.random.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))
        getattr(life, happening)()
        done.append(f"{happening} {life.keep} {'bypass ' * life.bypass}{life.prompt}")
        now = life.bits()
        assert now == life.expected(life.prompt), done[-6:]
        if not life.prompt:
            assert now == life.untouched(), done[-6:]
    life.session.host.detach()
    assert life.bits() == bits(roots(life.pristine))
    for module in (module for root in roots(life.made) for module in root.modules()):
        assert not module._forward_hooks
        assert not module._load_state_dict_pre_hooks
