"""What the text encoders carry, compared: by this the WebUI finds encoded prompts again. No WebUI is needed."""

from __future__ import annotations

import gc
import os
import shutil
import weakref
from pathlib import Path

import pytest
from torch import nn

from lib_lora.grammar.tag import read_prompt
from lib_lora.webui.a1111.carried import carried_by_encoders
from lib_lora.webui.a1111.host import WebUIHost, existing_session, session_of
from tests.support import Folder, kohya_shapes, write_lora
from tests.support_webui import tiny_sd_model


@pytest.fixture(params=("sd1", "sdxl"))
def model(request: pytest.FixtureRequest) -> nn.Module:
    return tiny_sd_model(request.param, short=True)


@pytest.fixture
def folder(model: nn.Module, tmp_path: Path) -> Path:
    shapes = kohya_shapes(WebUIHost(model).targets())
    unet = {name: shape for name, shape in shapes.items() if name.startswith("lora_unet")}
    for seed, name in enumerate("ab"):
        write_lora(tmp_path / f"{name}.safetensors", shapes, seed=seed)
    write_lora(tmp_path / "unet.safetensors", unet, seed=2)
    return tmp_path


def carried(model: nn.Module, folder: Path, prompt: str):
    session_of(model, Folder(folder)).activate(read_prompt(prompt).tags)
    return carried_by_encoders(model)


def test_a_model_that_has_never_seen_an_adapter_carries_nothing(model):
    assert carried_by_encoders(model) == carried_by_encoders(None) == {}


def test_what_is_for_the_unet_alone_is_nothing(model, folder):
    for prompt in ("<lora:unet:1>", "<lora:a:0:1>", "<lora:nobody:1>"):
        assert carried(model, folder, prompt) == {}


def test_only_the_weight_for_the_text_encoder_counts(model, folder):
    one = carried(model, folder, "<lora:a:0.5:1>")
    assert one
    assert all("diffusion_model" not in key for key in one)
    assert carried(model, folder, "<lora:a:0.5:0.2><lora:unet:1>") == one
    assert carried(model, folder, "<lora:a:0.6:1>") != one
    assert carried(model, folder, "<lora:b:0.5:1>") != one
    assert carried(model, folder, "<lora:a:0.5:1:dyn=1>") != one
    assert carried(model, folder, "<lora:a:0.5><lora:b:0.5>") != one
    assert carried(model, folder, "<lora:a:0.5:0.7>") == one


def test_beside_the_weights_it_is_not_the_same_as_in_them(model, folder):
    merged = carried(model, folder, "<lora:a:1>")
    existing_session(model).host.patcher.bypass_all = True
    bypassed = carried(model, folder, "<lora:a:1>")
    assert bypassed.keys() == merged.keys()
    assert bypassed != merged


def test_a_file_written_again_is_another_adapter(model, folder):
    before = carried(model, folder, "<lora:a:1>")
    shutil.copy(folder / "b.safetensors", folder / "a.safetensors")
    os.utime(folder / "a.safetensors", (1, 1))
    assert carried(model, folder, "<lora:a:1>") != before


def test_no_adapter_is_kept_in_memory_by_it(model, folder):
    before = carried(model, folder, "<lora:a:1>")
    session = existing_session(model)
    adapter = weakref.ref(session.cache.read(folder / "a.safetensors"))
    session.clear()
    session.cache.clear()
    gc.collect()
    assert adapter() is None
    assert carried(model, folder, "<lora:a:1>") != before, "read again, so that nobody knows whether it is the same"
