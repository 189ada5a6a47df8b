"""Deltas beside the weights: what layers put out is the same as with merged weights, and the weights stay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lib_lora.grammar.tag import read_prompt
from lib_lora.model.slots import slots_of
from lib_lora.model.targets import index_checkpoint
from lib_lora.session.host import TorchHost
from lib_lora.session.session import Session
from tests.support import NAMES, Folder, ThreeLayers, fingerprint
from tests.support_webui import tiny_sd_model, webui_host

WIDTH = ThreeLayers().block.to_q.in_features
LINEAR, CONVOLUTION, NORM = (f"lora_unet_{name.replace('.', '_')}" for name in (
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "down_blocks.0.resnets.0.conv1",
    "down_blocks.0.attentions.0.transformer_blocks.0.norm1"))
SHAPES = {LINEAR: (WIDTH, WIDTH), CONVOLUTION: (WIDTH, WIDTH, 3, 3)}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / 2


def lora(module: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
    outputs, *inputs = shape
    tail = [1, 1] if len(inputs) == 3 else []
    return {f"{module}.lora_up.weight": random(outputs, 2, *tail), f"{module}.lora_down.weight": random(2, *inputs)}


def loha(module: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
    outputs, inputs = shape[0], random(*shape)[0].numel()
    return {f"{module}.hada_w{n}_{side}": random(*size, seed=n) for n in (1, 2)
            for side, size in (("a", (outputs, 2)), ("b", (2, inputs)))}


def dora(module: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
    return lora(module, shape) | {f"{module}.dora_scale": 1 + random(shape[0], *[1] * (len(shape) - 1)).abs()}


def ia3(module: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
    return {f"{module}.weight": random(shape[0]), f"{module}.on_input": torch.tensor(False)}


def biased(module: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
    return lora(module, shape) | {f"{module}.diff_b": random(shape[0])}


KINDS = {"LoRA": lora, "LoHa": loha, "DoRA": dora, "IA3": ia3, "LoRA with a bias": biased}


class Model:
    """Three layers, a file `a` and a file `b`, and what the layers make of a picture and of words."""

    def __init__(self, folder: Path, *, conv: nn.Module | None = None) -> None:
        torch.manual_seed(1)
        self.layers = ThreeLayers()
        if conv is not None:
            self.layers.block.conv = conv
        self.host = TorchHost(self.find, index_checkpoint)
        self.session = Session(self.host, Folder(folder))

    def find(self) -> dict:
        return {f"model.diffusion_model.{NAMES[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": slot
                for key, slot in slots_of(self.layers).items()}

    def say(self, prompt: str) -> None:
        report = self.session.activate(read_prompt(prompt).tags)
        assert not [each for each in report.sentences() if "only" not in each], report.sentences()

    def outputs(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        words, picture = random(2, 5, WIDTH).to(dtype), random(2, WIDTH, 6, 6).to(dtype)
        block = self.layers.block
        return [block.to_q(words), block.conv(picture), block.norm(words)]

    def hooks(self) -> int:
        return sum(len(module._forward_hooks) for module in self.layers.modules())


def write(folder: Path, kind: str, seed: int = 0) -> None:
    for name in "ab":
        tensors = {key: tensor * (1 + (name == "b") * (tensor.dim() > 1)) for module, shape in SHAPES.items()
                   for key, tensor in KINDS[kind](module, shape).items()}
        save_file(tensors | {f"{NORM}.w_norm": random(WIDTH), f"{NORM}.b_norm": random(WIDTH)},
                  folder / f"{name}.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_bypassed_puts_out_what_is_merged(tmp_path, kind):
    write(tmp_path, kind)
    merged, bypassed = Model(tmp_path), Model(tmp_path)
    bypassed.host.patcher.bypass_all = True
    untouched, plain = fingerprint(bypassed.layers.named_parameters()), bypassed.outputs()
    for prompt in ("<lora:a:0.7>", "<lora:a:0.7><lora:b:-0.4>", "<lora:b:1>"):
        merged.say(prompt)
        bypassed.say(prompt)
        assert fingerprint(bypassed.layers.named_parameters()) == untouched
        for mine, other, before in zip(bypassed.outputs(), merged.outputs(), plain, strict=True):
            assert not torch.allclose(mine, before, atol=1e-3)
            torch.testing.assert_close(mine, other, atol=2e-5, rtol=2e-5)
    bypassed.say("")
    assert bypassed.hooks() == 0
    assert all(torch.equal(mine, before) for mine, before in zip(bypassed.outputs(), plain, strict=True))


def test_a_file_that_is_overwritten_in_place_changes_nothing_until_the_next_tag(tmp_path):
    """Factors in float32, as the layers compute: nothing had to be cast, and yet they are no longer the file's."""
    write(tmp_path, "LoRA")
    model = Model(tmp_path)
    model.host.patcher.bypass_all = True
    model.say("<lora:a:0.7>")
    before = model.outputs()[:2]
    with (tmp_path / "a.safetensors").open("r+b") as file:
        header = 8 + int.from_bytes(file.read(8), "little")
        end = file.seek(0, 2)
        file.seek(header)
        file.write(bytes(end - header))
    assert all(torch.equal(mine, old) for mine, old in zip(model.outputs()[:2], before, strict=True))


@pytest.mark.parametrize("conv", [
    nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1), nn.Conv2d(WIDTH, WIDTH, 3, padding=2, dilation=2),
    nn.Conv2d(WIDTH, WIDTH, 3, padding=1, padding_mode="circular", bias=False)], ids=["stride", "dilation", "tiling"])
def test_convolutions_of_every_kind(tmp_path, conv):
    write(tmp_path, "LoRA")
    merged, bypassed = Model(tmp_path, conv=conv), Model(tmp_path, conv=conv)
    bypassed.host.patcher.bypass_all = True
    merged.say("<lora:a:0.7>")
    expected = merged.outputs()[1]
    merged.say("")
    bypassed.say("<lora:a:0.7>")
    torch.testing.assert_close(bypassed.outputs()[1], expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_in_eight_bits_stay_and_the_small_delta_counts(tmp_path, dtype):
    """A delta of 0.01 beside weights of 1 would be lost in fp8, whose next number is 1.125."""
    save_file({f"{LINEAR}.lora_up.weight": torch.full((WIDTH, 1), 0.01),
               f"{LINEAR}.lora_down.weight": torch.ones(1, WIDTH)}, tmp_path / "a.safetensors")
    model = Model(tmp_path)
    layer = model.layers.block.to_q
    layer.weight.data = torch.ones(WIDTH, WIDTH).to(dtype)
    model.say("<lora:a:1:force=1>")
    assert layer.weight.dtype == dtype
    assert layer.weight.float().unique().tolist() == [1.0]
    assert model.host.patcher.bypassed
    assert not model.host.patcher.patched
    layer.weight.data = layer.weight.data.float()  # the host casts while it draws
    torch.testing.assert_close(layer(torch.ones(1, WIDTH)), torch.full((1, WIDTH), 1.01 * WIDTH))


def test_a_finer_copy_of_an_eight_bit_weight_is_what_adapters_start_from(tmp_path):
    """DoRA scales the weight that it sees: 1.06 as the host keeps it, and not the 1.0 that is left of it in fp8."""
    model = tiny_sd_model("sd1")
    layer, module = model.get_submodule("model.diffusion_model.time_embed.0"), "lora_unet_time_embedding_linear_1"
    outputs, inputs = layer.weight.shape
    save_file({f"{module}.lora_up.weight": torch.zeros(outputs, 1),
               f"{module}.lora_down.weight": torch.zeros(1, inputs),
               f"{module}.dora_scale": torch.full((outputs, 1), 2 * 1.06 * inputs**0.5)}, tmp_path / "a.safetensors")
    layer.weight.data = torch.full_like(layer.weight, 1.06)
    layer.fp16_weight = layer.weight.data.half()
    layer.to(torch.float8_e4m3fn)
    session = Session(webui_host(model), Folder(tmp_path))
    assert not session.activate(read_prompt("<lora:a:1:force=1>").tags).sentences()
    layer.weight.data = layer.weight.data.float()
    layer.bias.data = torch.zeros(outputs)
    doubled = layer(torch.ones(1, inputs))
    torch.testing.assert_close(doubled, torch.full((1, outputs), (1.0 + 1.06) * inputs), rtol=1e-3, atol=1e-3)


def test_inference_tensors_are_bypassed(tmp_path):
    write(tmp_path, "LoRA")
    merged = Model(tmp_path)
    with torch.inference_mode():
        model = Model(tmp_path)
    assert model.layers.block.to_q.weight.is_inference()
    merged.say("<lora:a:0.7>")
    model.say("<lora:a:0.7>")
    with torch.inference_mode():
        for mine, other in zip(model.outputs(), merged.outputs(), strict=True):
            torch.testing.assert_close(mine, other, atol=2e-5, rtol=2e-5)


class Packed(nn.Parameter):
    """Weights as quantising libraries keep them: another shape and type, and a way back to numbers."""

    def __new__(cls, numbers: Tensor, readable: bool) -> Packed:
        packed = super().__new__(cls, (numbers * 16).round().to(torch.int8).reshape(-1, 1), requires_grad=False)
        packed.shaped, packed.readable = numbers.shape, readable
        return packed

    def dequantize(self) -> Tensor:
        if not self.readable:
            raise NotImplementedError("this kernel gives no numbers")
        return torch.Tensor(self.data.float() / 16).reshape(self.shaped)


class PackedLinear(nn.Linear):
    """As bitsandbytes' and torchao's: the weight is no matrix of numbers."""

    def pack(self, readable: bool = True) -> PackedLinear:
        self.weight = Packed(self.weight.data, readable)
        return self

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, torch.Tensor(self.weight.data.float() / 16).reshape(self.weight.shaped))


@pytest.mark.parametrize("kind", KINDS)
def test_quantised_weights_are_bypassed(tmp_path, kind):
    write(tmp_path, kind)
    model, plain = Model(tmp_path), Model(tmp_path)
    layer = PackedLinear(WIDTH, WIDTH, bias=False).pack()
    model.layers.block.to_q = layer
    plain.layers.block.to_q.weight.data = layer.weight.dequantize()
    for prompt in ("<lora:a:0.7>", "<lora:a:-1><lora:b:0.5>", ""):
        model.say(prompt)
        plain.say(prompt)
        torch.testing.assert_close(model.outputs()[0], plain.outputs()[0], atol=5e-5, rtol=5e-5)


def test_an_adapter_that_needs_numbers_that_nobody_has_is_left_out_alone(tmp_path):
    write(tmp_path, "DoRA")
    save_file({key: tensor for module, shape in SHAPES.items() for key, tensor in lora(module, shape).items()},
              tmp_path / "plain.safetensors")
    model = Model(tmp_path)
    model.layers.block.to_q = PackedLinear(WIDTH, WIDTH, bias=False).pack(readable=False)
    before = model.outputs()[0]
    report = model.session.activate(read_prompt("<lora:plain:1><lora:a:1>").tags)
    told = "a: needs the numbers of the base weights, and those are quantised (Packed)"
    assert [each.name for each in report.applied] == ["plain"]
    assert report.sentences()[0].startswith(told)
    assert not torch.allclose(model.outputs()[0], before)


def test_it_follows_the_input_from_one_precision_to_another(tmp_path):
    write(tmp_path, "LoRA")
    model = Model(tmp_path)
    model.host.patcher.bypass_all = True
    model.say("<lora:a:0.7>")
    exact = model.outputs()
    model.layers.to(torch.bfloat16)
    model.outputs(torch.bfloat16)
    model.layers.to(torch.float32)
    again = model.outputs()
    model.say("<lora:a:0.7>")
    torch.testing.assert_close(again[0], exact[0], atol=0.05, rtol=0.05)
    assert all(torch.equal(*pair) for pair in zip(model.outputs(), again, strict=True))


def test_from_bypassed_to_merged_and_back_nothing_is_applied_twice(tmp_path):
    write(tmp_path, "DoRA")
    model = Model(tmp_path)
    results = []
    for forced in (False, True, False, True):
        model.host.patcher.bypass_all = forced
        model.say("<lora:a:0.7>")
        results.append(model.outputs())
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-5)
    model.host.detach()
    assert model.hooks() == 0


def test_only_touched_layers_get_a_hook(tmp_path):
    save_file(lora(LINEAR, SHAPES[LINEAR]), tmp_path / "a.safetensors")
    model = Model(tmp_path)
    model.host.patcher.bypass_all = True
    model.say("<lora:a:1:force=1>")
    assert model.hooks() == 1
    assert len(model.layers.block.to_q._forward_hooks) == 1
    model.say("<lora:a:0:force=1>")
    assert model.hooks() == 0


def test_an_attention_module_that_never_calls_its_projection_is_merged(tmp_path):
    """OpenCLIP's attention takes the weight of `out_proj` and does the rest itself."""
    model = tiny_sd_model("sd2")
    shapes = webui_host(model).targets()
    name = "lora_te_text_model_encoder_layers_0_self_attn_out_proj"
    target = shapes.find(name)["weight"]
    save_file(lora(name, target.shape), tmp_path / "a.safetensors")
    host = webui_host(model)
    host.patcher.bypass_all = True
    Session(host, Folder(tmp_path)).activate(read_prompt("<lora:a:1:force=1>").tags)
    assert host.patcher.patched == {target.key}
    assert not host.patcher.bypassed

