"""The loaded weights beside their file: damage is found wherever it is, and what is mere rounding is none."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lib_lora.engine.check import check
from lib_lora.grammar.tag import read_prompt
from lib_lora.library import Library
from lib_lora.session.session import Session
from tests.support import kohya_shapes, write_lora
from tests.support_webui import tiny_sd_model, webui_host

TAGS = "<lora:a:0.8><lora:b:-0.3>"
FP8 = [torch.float8_e4m3fn, torch.float8_e5m2]


class Loaded:
    """A tiny SD1 whose file has float32, loaded as `dtype`, and a session on it."""

    def __init__(self, folder, dtype=torch.float32) -> None:
        self.model = tiny_sd_model("sd1", short=True)
        state = {key.replace(".wrapped", ""): tensor.contiguous() for key, tensor in self.model.state_dict().items()}
        file = folder / "model.safetensors"
        save_file(state, file)
        self.model.to(dtype)
        self.model.sd_checkpoint_info = type("Info", (), {"filename": str(file)})()
        self.host = webui_host(self.model)
        shapes = kohya_shapes(self.host.targets())
        for seed, name in enumerate("ab"):
            write_lora(folder / f"{name}.safetensors", shapes, seed=seed)
        name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"  # which has no bias of its own
        tensors = load_file(folder / "a.safetensors")
        save_file({**tensors, f"{name}.diff_b": torch.ones(shapes[name][0])}, folder / "biased.safetensors")
        self.session = Session(self.host, Library([folder]))

    def say(self, prompt) -> None:
        report = self.session.activate(read_prompt(prompt).tags)
        assert not report.problems
        assert len(report.applied) == len(report.adapters)

    def check(self, *, repair=False):
        self.host.targets()
        return check(self.host.patcher, self.host.bound.slots, self.host.patcher.find_checkpoint(), repair=repair)

    def is_whole(self) -> bool:
        found = self.check()
        return found.same == found.total == len(self.host.bound.slots) and not found.unknown


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=str)
def loaded(tmp_path_factory, request):
    return Loaded(tmp_path_factory.mktemp("loaded"), request.param)


@pytest.mark.parametrize("prompt", [TAGS, "<lora:biased:1>", ""])
def test_weights_that_carry_adapters_are_right_whatever_torch_computes_with(loaded, prompt):
    loaded.say(prompt)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found = loaded.check()
            assert found.same == found.total == len(loaded.host.bound.slots)
            assert found.carrying == len(loaded.host.patcher.patched)
    finally:
        torch.set_num_threads(before)
    assert bool(prompt) == bool(loaded.host.patcher.patched)


def test_damage_in_a_weight_that_carries_adapters_is_found_and_put_right(loaded):
    loaded.say(TAGS)
    key = sorted(loaded.host.patcher.patched)[-1]
    parameter = loaded.host.bound.slots[key].parameter
    flat = parameter.data.view(-1)
    with torch.no_grad():
        flat[-1] += max(float(parameter.abs().max()), 1.0) / 64
    found = loaded.check()
    assert (found.differing, found.same, found.carrying) == (
        (key,), found.total - 1, len(loaded.host.patcher.patched))
    mended = loaded.check(repair=True)
    assert (mended.same, mended.repaired) == (mended.total, 1)
    assert not loaded.host.patcher.patched
    loaded.say(TAGS)
    assert loaded.is_whole()


def test_damage_in_a_bias_that_was_made_for_an_adapter_is_found(loaded):
    loaded.say("<lora:biased:1>")
    (key,) = loaded.host.patcher.patched - loaded.host.bound.slots.keys()
    weight = loaded.host.bound.slots[key.replace("bias", "weight")]
    weight.module.bias.data[0] += 1
    assert loaded.check().differing == (key,)
    mended = loaded.check(repair=True)
    assert (mended.same, mended.repaired) == (mended.total, 1)
    assert weight.module.bias is None
    loaded.say("")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_weights_that_were_moved_or_cast_with_their_adapters_are_right_and_damage_is_still_found(tmp_path, dtype):
    loaded = Loaded(tmp_path)
    loaded.say(TAGS)
    for parameter in loaded.model.parameters():
        parameter.data = parameter.data.to(dtype, copy=True)
    found = loaded.check()
    assert found.same == found.total == len(loaded.host.bound.slots)
    assert found.carrying == len(loaded.host.patcher.patched) > 90
    key = sorted(loaded.host.patcher.patched)[0]
    flat = loaded.host.bound.slots[key].parameter.data.view(-1)
    flat[1] += flat.abs().max() / 16
    assert loaded.check().differing == (key,)


def small(model: nn.Module, dtype: torch.dtype, *, finer: bool) -> None:
    """As the WebUI stores layers in 8 bits: from half precision, with copies of that if wanted."""
    model.half()
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            if finer:
                layer.fp16_weight = layer.weight.data.clone()
            layer.to(dtype)


@pytest.mark.parametrize("finer", [False, True])
@pytest.mark.parametrize("dtype", FP8, ids=str)
def test_rounding_on_the_way_to_eight_bits_is_no_damage(tmp_path, dtype, finer):
    loaded = Loaded(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    twice = sum(int((value.half().to(dtype).float() != value.to(dtype).float()).sum()) for value in weights.values())
    assert twice  # some numbers of the file are other ones if they are rounded once only
    small(loaded.model, dtype, finer=finer)
    loaded.say(TAGS)
    assert loaded.is_whole()
    key, slot = next((key, slot) for key, slot in loaded.host.bound.slots.items()
                     if slot.parameter.dtype == dtype and slot.parameter.dim() > 1)  # fmt: skip
    before = slot.parameter.data.clone()
    slot.parameter.data.view(torch.uint8).view(-1)[0] ^= 0x40
    assert loaded.check().differing == (key,)
    assert loaded.check(repair=True).repaired == 1
    assert torch.equal(slot.parameter.data.view(torch.uint8), before.view(torch.uint8))
    if finer:
        slot.module.fp16_weight[0] += 1
        assert loaded.check().differing == (key,)
        assert loaded.check(repair=True).repaired == 1
        assert torch.equal(slot.module.fp16_weight, weights[key].half())
