"""Where base weights are while adapters are active: every policy puts every bit back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lib_lora.engine import keeping, merged
from lib_lora.engine.keeping import Keep
from lib_lora.engine.originals import is_shared, same_bits
from lib_lora.grammar.tag import read_prompt
from lib_lora.hosts.diffusers import DiffusersHost
from lib_lora.session.session import Session
from tests.support import Folder, fingerprint, kohya_shapes, tiny_pipe, write_lora
from tests.support_webui import tiny_sd_model, webui_host

PROMPTS = ("<lora:a:0.7>", "<lora:a:-0.2><lora:b:1>", "<lora:b:1>", "")


@pytest.fixture
def model() -> nn.Module:
    return tiny_sd_model("sd1", short=True).half()


@pytest.fixture
def checkpoint(model, tmp_path) -> Path:
    """The file of `model`, named as the WebUI tells it."""
    path = tmp_path / "model.safetensors"
    state = {key.replace(".wrapped", ""): tensor.contiguous() for key, tensor in model.state_dict().items()}
    save_file(state, path)
    model.sd_checkpoint_info = SimpleNamespace(filename=str(path))
    return path


@pytest.fixture
def folder(model, tmp_path) -> Folder:
    shapes = kohya_shapes(webui_host(model).targets())
    for seed, name in enumerate("ab"):
        write_lora(tmp_path / f"{name}.safetensors", shapes, seed=seed)
    return Folder(tmp_path)


def session(model: nn.Module, folder: Folder, keep: Keep) -> Session:
    host = webui_host(model)
    host.patcher.keep = keep
    return Session(host, folder)


def say(session: Session, prompt: str) -> None:
    assert not session.activate(read_prompt(prompt).tags).sentences()


def bits(model: nn.Module) -> dict[str, int]:
    return fingerprint(model.named_parameters())


def addresses(model: nn.Module) -> dict[str, int]:
    return {name: parameter.data_ptr() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("keep", ["device", "cpu", "checkpoint"])
def test_every_policy_gives_the_same_weights_and_the_same_way_back(model, checkpoint, folder, keep):
    other = tiny_sd_model("sd1", short=True).half()
    others = session(other, folder, "device")
    mine = session(model, folder, keep)
    for prompt in PROMPTS:
        say(mine, prompt)
        say(others, prompt)
        assert bits(model) == bits(other)


def test_originals_in_the_file_take_no_memory(model, checkpoint, folder):
    before, untouched = addresses(model), bits(model)
    mine = session(model, folder, "checkpoint")
    for prompt in PROMPTS:
        say(mine, prompt)
        assert addresses(model) == before, "a weight was given new memory"
        assert (bits(model) == untouched) == (prompt == "")


def test_the_file_may_be_finer_than_the_model(model, checkpoint, folder):
    """A float32 file of a model that the WebUI made half precision: the host's own cast counts."""
    state = {key: tensor.float() for key, tensor in load_file(checkpoint).items()}
    save_file(state, checkpoint.with_name("fine.safetensors"))
    model.sd_checkpoint_info.filename = str(checkpoint.with_name("fine.safetensors"))
    before, untouched = addresses(model), bits(model)
    mine = session(model, folder, "checkpoint")
    say(mine, "<lora:a:1>")
    assert addresses(model) == before
    say(mine, "")
    assert bits(model) == untouched


def test_a_weight_that_differs_in_one_bit_from_the_file_is_kept_in_memory(model, checkpoint, folder, caplog):
    layer = model.get_submodule("model.diffusion_model.time_embed.0")
    layer.weight.data.view(torch.int16)[0, 0] ^= 1
    before, untouched = addresses(model), bits(model)
    mine = session(model, folder, "checkpoint")
    say(mine, "<lora:a:1>")
    changed = {name for name, address in addresses(model).items() if address != before[name]}
    assert changed == {"model.diffusion_model.time_embed.0.weight"}
    say(mine, "")
    assert bits(model) == untouched
    say(mine, "<lora:a:1>")
    assert [record.message for record in caplog.records] == [
        "Lora: model.safetensors has other weights: untouched weights are kept in memory "
        "(model.diffusion_model.time_embed.0.weight first)"]


@pytest.mark.parametrize("file", ["gone.safetensors", "old.ckpt"])
def test_without_a_file_that_can_be_read_originals_are_kept_in_memory(model, folder, tmp_path, file, caplog):
    model.sd_checkpoint_info = SimpleNamespace(filename=str(tmp_path / file))
    untouched = bits(model)
    mine = session(model, folder, "checkpoint")
    say(mine, "<lora:a:1>")
    say(mine, "")
    assert bits(model) == untouched
    assert len(caplog.records) == 1


def test_memory_that_a_cached_state_dict_shares_is_never_written_to(model, checkpoint, folder):
    cached = {name: parameter.detach() for name, parameter in model.named_parameters()}
    untouched = fingerprint(cached.items())
    mine = session(model, folder, "checkpoint")
    say(mine, "<lora:a:1>")
    assert bits(model) != untouched
    assert fingerprint(cached.items()) == untouched
    say(mine, "")
    assert bits(model) == untouched


@pytest.mark.parametrize("keep", ["device", "cpu", "checkpoint"])
@pytest.mark.parametrize("number", [1, 7])
def test_an_error_in_the_middle_puts_every_bit_back(model, checkpoint, folder, keep, number, monkeypatch):
    """The failing layer is written to in part before it fails."""
    untouched = bits(model)
    mine = session(model, folder, keep)
    calls = []

    def fails(base, terms, out):
        calls.append(terms)
        if len(calls) == number:
            out.fill_(9.0)
            raise RuntimeError("an accident")
        return original_fold(base, terms, out)

    original_fold = merged.fold
    with monkeypatch.context() as patched:
        patched.setattr(merged, "fold", fails)
        report = mine.activate(read_prompt("<lora:a:1>").tags)
    assert "an accident" in report.sentences()[0]
    assert bits(model) == untouched
    say(mine, "<lora:a:1>")
    carried = bits(model)
    calls.clear()
    with monkeypatch.context() as patched:
        patched.setattr(merged, "fold", fails)
        mine.activate(read_prompt("<lora:a:0.3>").tags)
    assert bits(model) == untouched
    say(mine, "<lora:a:1>")
    assert bits(model) == carried


def test_a_model_that_is_cast_and_cast_back_has_the_weights_that_the_cast_leaves(checkpoint, folder, model):
    plain = tiny_sd_model("sd1", short=True).half()
    mine = session(model, folder, "checkpoint")
    say(mine, "<lora:a:1>")
    for each in (model, plain):
        each.to(torch.bfloat16)
    say(mine, "")
    assert bits(model) == bits(plain)


def test_where_memory_is_short_the_file_is_taken_and_that_is_said_once(model, checkpoint, folder, monkeypatch, caplog):
    monkeypatch.setattr(keeping, "free_memory", lambda device: 1 << 30)
    before = addresses(model)
    mine = session(model, folder, "auto")
    for prompt in ("<lora:a:1>", "", "<lora:a:1>"):
        say(mine, prompt)
    assert addresses(model) == before
    assert [record.message for record in caplog.records] == [
        "Lora: little memory is left on cpu (1.0 GB): the untouched weights are read again from model.safetensors"]


def test_where_there_is_room_the_originals_stay_where_they_are(model, checkpoint, folder, monkeypatch, caplog):
    monkeypatch.setattr(keeping, "free_memory", lambda device: 1 << 40)
    before = addresses(model)
    mine = session(model, folder, "auto")
    say(mine, "<lora:a:1>")
    assert addresses(model) != before
    say(mine, "")
    assert addresses(model) == before
    assert not caplog.records


def test_a_pipeline_knows_the_folders_that_it_was_loaded_from(tmp_path):
    from diffusers import UNet2DConditionModel

    saved = tiny_pipe("sd1", short=True)
    saved.unet.save_pretrained(tmp_path / "unet")
    saved.text_encoder.save_pretrained(tmp_path / "text_encoder")
    pipe = SimpleNamespace(
        unet=UNet2DConditionModel.from_pretrained(tmp_path / "unet"),
        text_encoder=type(saved.text_encoder).from_pretrained(tmp_path / "text_encoder"))
    host = DiffusersHost(pipe, keep="checkpoint")
    write_lora(tmp_path / "a.safetensors", kohya_shapes(host.targets()))
    untouched = [fingerprint(part.named_parameters()) for part in vars(pipe).values()]
    before = [addresses(part) for part in vars(pipe).values()]
    mine = Session(host, Folder(tmp_path))
    say(mine, "<lora:a:1>")
    assert [addresses(part) for part in vars(pipe).values()] == before
    assert [fingerprint(part.named_parameters()) for part in vars(pipe).values()] != untouched
    say(mine, "")
    assert [fingerprint(part.named_parameters()) for part in vars(pipe).values()] == untouched


def test_bits_are_compared_and_not_numbers():
    zero = torch.zeros(3, 5)
    assert same_bits(zero, zero.clone())
    assert not same_bits(zero, -zero)
    nan = torch.full((4,), float("nan"), dtype=torch.float16)
    assert same_bits(nan, nan.clone())
    odd = torch.arange(7, dtype=torch.float16)
    assert same_bits(odd[1:6], odd[1:6].clone())
    assert not same_bits(odd[1:6], odd[2:7])


def test_shared_memory_is_noticed():
    parameter = nn.Parameter(torch.zeros(3), requires_grad=False)
    data = parameter.data
    assert not is_shared(parameter)
    cached = {"weight": parameter.detach()}
    assert is_shared(parameter)
    del cached, data
