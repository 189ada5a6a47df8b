"""The WebUI's model as host, without a WebUI: names, wrappers, several models, weights that are exchanged below it.

What every host must do is asked of it in test_host_contract.py.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from torch import nn

from lib_lora.grammar.tag import read_prompt
from lib_lora.webui.a1111.host import WebUIHost, existing_session, release, session_of
from tests.support import Folder, fingerprint, kohya_shapes, write_lora
from tests.support_webui import put, tiny_sd_model

FAMILIES = ("sd1", "sd2", "sdxl")


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> nn.Module:
    return tiny_sd_model(request.param)


@pytest.fixture
def adapters(model: nn.Module, tmp_path: Path) -> Folder:
    write_lora(tmp_path / "a.safetensors", kohya_shapes(WebUIHost(model).targets()), seed=1)
    return Folder(tmp_path)


def bits(model: nn.Module) -> dict[str, int]:
    return fingerprint(model.named_parameters())


def carry(model: nn.Module, adapters: Folder, prompt: str):
    return session_of(model, adapters).activate(read_prompt(prompt).tags)


def test_parameters_are_named_as_in_a_checkpoint_file(model):
    keys = WebUIHost(model).targets().keys
    assert all(key.startswith(("model.diffusion_model.", "cond_stage_model.", "conditioner.")) for key in keys)
    assert not [key for key in keys if "wrapped" in key]
    assert any("text_model" in key or "resblocks" in key for key in keys)


@contextmanager
def unwrapped(model: nn.Module) -> Iterator[None]:
    """As the WebUI leaves the first text encoder while it loads other weights."""
    is_sdxl = hasattr(model, "conditioner")
    encoders, place = (model.conditioner.embedders, "0") if is_sdxl else (model, "cond_stage_model")
    outer = getattr(encoders, place)
    setattr(encoders, place, outer.wrapped)
    yield
    setattr(encoders, place, outer)


def test_of_sd3_the_transformer_and_both_clip_encoders_are_found():
    """Its encoders stand under `text_encoders`, as in a file; `cond_stage_model` is only a property there."""
    model = SD3()
    index = WebUIHost(model).targets()
    assert index.family.id == "sd3"
    assert index.find("lora_unet_joint_blocks_0_x_block_mlp_fc1") is not None
    for number in (1, 2):
        assert index.find(f"lora_te{number}_text_model_encoder_layers_0_mlp_fc1") is not None


class SD3(nn.Module):
    """A few layers at the places that the WebUI's SD3 model has them."""

    def __init__(self) -> None:
        super().__init__()
        put(self, "model.diffusion_model.joint_blocks.0.x_block.mlp.fc1", nn.Linear(8, 16))
        put(self, "model.diffusion_model.joint_blocks.0.x_block.attn.qkv", nn.Linear(8, 24))
        for encoder in ("clip_g", "clip_l"):
            place = f"text_encoders.{encoder}.transformer.text_model.encoder.layers.0.mlp.fc1"
            put(self, place, nn.Linear(8, 16))

    @property
    def cond_stage_model(self) -> nn.Module:
        return self.text_encoders


def test_wrapping_and_unwrapping_the_text_encoder_is_not_noticed(model, adapters):
    untouched = bits(model)
    carry(model, adapters, "<lora:a:1>")
    keys = existing_session(model).host.targets().keys
    with unwrapped(model):
        assert existing_session(model).host.targets().keys == keys
        carry(model, adapters, "")
    assert bits(model) == untouched


def test_the_model_keeps_its_session_and_takes_it_along_when_it_dies(tmp_path):
    model = tiny_sd_model("sd1")
    session = session_of(model, Folder(tmp_path))
    assert session is session_of(model, Folder(tmp_path)) is existing_session(model)
    session.clear()
    dead, gone = weakref.ref(session), weakref.ref(model)
    del session, model
    assert gone() is None, "something keeps the checkpoint in memory"
    assert dead() is None


def test_two_models_do_not_meet(model, adapters):
    other = tiny_sd_model("sd1", seed=1)
    untouched = bits(other)
    carry(model, adapters, "<lora:a:1>")
    session_of(other, adapters)
    assert bits(other) == untouched
    assert existing_session(other) is not existing_session(model)


def test_other_weights_loaded_into_the_same_modules_are_the_new_base(model, adapters):
    carry(model, adapters, "<lora:a:1>")
    state = {key: value.clone() + 1 for key, value in model.state_dict().items()}
    model.load_state_dict(state)
    fresh = bits(model)
    assert fresh == fingerprint(state.items())
    carry(model, adapters, "<lora:a:1>")
    assert bits(model) != fresh
    carry(model, adapters, "")
    assert bits(model) == fresh


def test_released_the_model_is_as_if_nobody_had_been_there(model, adapters):
    untouched, attributes = bits(model), set(vars(model))
    carry(model, adapters, "<lora:a:1>")
    release(model)
    assert bits(model) == untouched
    assert set(vars(model)) == attributes
    assert not [module for module in model.modules() if module._load_state_dict_pre_hooks]
    release(model)
