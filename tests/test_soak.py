"""Hundreds of random things that happen to a model: after each, its bits are those of a model without that history."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from lib_lora.algorithms import Delta
from lib_lora.errors import PatchError
from lib_lora.plan import Plan
from lib_lora.session import Session
from lib_lora.tag import read_prompt
from tests.support import Folder, ThreeLayers, fingerprint, kohya_shapes, three_layer_host, write_lora
from tests.support_webui import tiny_sd_model, webui_host

TAGS = ("<lora:a:1>", "<lora:a:-0.4>", "<lora:b:0.7>", "<lora:b:0.3:0>", "<lora:c:2>", "<lora:nobody:1>", "<lora:a:x>")


class Failing(Delta):
    """Raises in the middle of the arithmetic: out of memory, or the user's Ctrl-C."""

    algorithm = "failing"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def misfit(self, shape):
        return None

    def value(self, weight):
        raise self.error


class Life:
    """A model with adapters, and beside it one that never saw any but otherwise had the same done to it."""

    def __init__(self, make: Callable[[], nn.Module], host_of: Callable, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        torch.manual_seed(seed)
        self.model = make()
        self.pristine = copy.deepcopy(self.model)
        self.host_of = host_of
        self.session = Session(host_of(self.model), Folder(folder))
        self.prompt = ""

    def activate(self) -> None:
        """Any number of tags, good and bad ones."""
        self.prompt = " ".join(self.random.choices(TAGS, k=self.random.randrange(4)))
        read = read_prompt(self.prompt)
        self.session.activate(read.tags, read.errors)

    def clear(self) -> None:
        """No tags."""
        self.prompt = ""
        self.session.clear()

    def load(self) -> None:
        """Other weights into the same model: the host activates again afterwards."""
        weights = {key: torch.randn_like(value) if value.is_floating_point() else value
                   for key, value in self.pristine.state_dict().items()}
        for model in (self.model, self.pristine):
            model.load_state_dict(weights)
        self.clear()

    def fail(self) -> None:
        """An error half-way through patching."""
        error = self.random.choice([RuntimeError("CUDA out of memory"), KeyboardInterrupt()])
        steps = dict(self.session.host.patcher.planned())
        if not steps:
            return
        key = self.random.choice(list(steps))
        steps[key] = tuple(replace(step, delta=Failing(error)) for step in steps[key])
        with pytest.raises((PatchError, KeyboardInterrupt)):
            self.session.host.apply(Plan(steps))
        self.prompt = ""

    def cast(self) -> None:
        """To half precision, while patched or not; the host activates again afterwards."""
        for model in (self.model, self.pristine):
            model.half()
        self.activate()

    def expected(self) -> nn.Module:
        """The pristine model with the tags of now, from scratch."""
        fresh = copy.deepcopy(self.pristine)
        read = read_prompt(self.prompt)
        Session(self.host_of(fresh), self.session.finder).activate(read.tags, read.errors)
        return fresh


MODELS = {
    "three layers": (ThreeLayers, three_layer_host, 400),
    "webui sd1": (lambda: tiny_sd_model("sd1"), webui_host, 50),
    "webui sdxl": (lambda: tiny_sd_model("sdxl"), webui_host, 50),
}


@pytest.mark.parametrize("name", MODELS)
def test_no_history_leaves_a_trace(name, tmp_path):
    make, host_of, steps = MODELS[name]
    model = make()
    shapes = kohya_shapes(host_of(model).targets(), limit=40)
    for seed, adapter in enumerate("abc"):
        write_lora(tmp_path / f"{adapter}.safetensors", shapes, seed=seed, rank=2 + seed)
    life = Life(make, host_of, tmp_path, seed=len(name))
    done = []
    for number in range(steps):
        happening = life.random.choices([life.activate, life.clear, life.load, life.fail], weights=[6, 2, 1, 2])[0]
        if number == steps // 2:
            happening = life.cast
        happening()
        done.append(f"{happening.__name__} {life.prompt}")
        bits = fingerprint(life.model.named_parameters())
        assert bits == fingerprint(life.expected().named_parameters()), done[-5:]
        if not life.prompt:
            assert bits == fingerprint(life.pristine.named_parameters()), done[-5:]
