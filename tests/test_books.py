"""What a model carries lies with its parts: shared, copied, offloaded, compiled, loaded and tied ones come back too."""

from __future__ import annotations

import contextlib
import copy
import gc
import itertools
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lib_lora.engine import exact, originals
from lib_lora.engine.active import Active
from lib_lora.engine.exact import IS_NEW
from lib_lora.engine.originals import CheckpointFile
from lib_lora.engine.schedule import plan
from lib_lora.errors import PatchError
from lib_lora.grammar.tag import read_prompt
from lib_lora.hosts.diffusers import Attached, DiffusersHost
from lib_lora.model.slots import slots_of
from lib_lora.model.targets import index_checkpoint
from lib_lora.session.session import Session
from lib_lora.session.torch_host import TorchHost
from tests.support import (
    NAMES,
    Folder,
    ThreeLayers,
    fingerprint,
    kohya_shapes,
    three_layer_host,
    tiny_pipe,
    write_lora,
)

ATTENTION = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1."


def bits(*parts: nn.Module) -> dict[str, int]:
    return fingerprint((f"{number}.{name}", tensor) for number, part in enumerate(parts)
                       for name, tensor in part.state_dict().items())  # fmt: skip


def say(session: Session, prompt: str):
    read = read_prompt(prompt)
    return session.activate(read.tags, read.errors)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """`a` and `b` for the three layers, `c` with a bias that they lack, `dora` that needs the base weight."""
    shapes = kohya_shapes(three_layer_host(ThreeLayers()).targets())
    write_lora(tmp_path / "a.safetensors", shapes, seed=1)
    write_lora(tmp_path / "b.safetensors", shapes, seed=2, rank=3)
    name = next(name for name in shapes if "to_q" in name)
    save_file({f"{name}.diff_b": torch.ones(8), f"{name}.diff": torch.ones(8, 8)}, tmp_path / "c.safetensors")
    factors = {f"{name}.lora_up.weight": torch.ones(8, 1), f"{name}.lora_down.weight": torch.ones(1, 8)}
    save_file({**factors, f"{name}.dora_scale": torch.ones(8, 1)}, tmp_path / "dora.safetensors")
    return Folder(tmp_path)


@pytest.fixture
def model() -> ThreeLayers:
    torch.manual_seed(0)
    return ThreeLayers()


# whose model it is


def test_attaching_twice_to_one_pipeline_gives_the_same_pictures_weights(tmp_path):
    pipe = tiny_pipe("sd1", short=True)
    parts = list(vars(pipe).values())
    write_lora(tmp_path / "a.safetensors", kohya_shapes(DiffusersHost(pipe).targets()), seed=1)
    before = bits(*parts)
    first, second = (Attached(pipe, Folder(tmp_path)) for _ in range(2))
    first.activate("<lora:a:1>")
    once = bits(*parts)
    second.activate("<lora:a:1>")
    assert bits(*parts) == once
    second.clear()
    first.clear()
    assert bits(*parts) == before


def test_two_pipelines_that_share_a_text_encoder_do_not_leave_anything_in_it(tmp_path):
    one, other = tiny_pipe("sd1", short=True), tiny_pipe("sd1", seed=1, short=True)
    other.text_encoder = one.text_encoder
    write_lora(tmp_path / "a.safetensors", kohya_shapes(DiffusersHost(one).targets()), seed=1)
    parts = [one.unet, other.unet, one.text_encoder]
    before = bits(*parts)
    first, second = Session(DiffusersHost(one), Folder(tmp_path)), Session(DiffusersHost(other), Folder(tmp_path))
    say(first, "<lora:a:1>")
    say(second, "<lora:a:0.5>")
    first.clear()
    fresh = tiny_pipe("sd1", short=True)
    assert bits(one.unet, one.text_encoder) == bits(fresh.unet, fresh.text_encoder)
    second.clear()
    assert bits(*parts) == before


def test_a_model_that_is_exchanged_for_another_gets_its_weights_back(tmp_path):
    pipe, spare = tiny_pipe("sd1", short=True), tiny_pipe("sd1", seed=1, short=True)
    first = pipe.unet
    before = bits(first)
    write_lora(tmp_path / "a.safetensors", kohya_shapes(DiffusersHost(pipe).targets()), seed=1)
    session = Session(DiffusersHost(pipe), Folder(tmp_path))
    say(session, "<lora:a:1>")
    pipe.unet = spare.unet
    say(session, "<lora:a:1>")
    assert bits(first) == before
    session.clear()
    pipe.unet = first
    session.clear()
    assert bits(first) == before


def test_a_model_that_one_pipeline_exchanges_keeps_what_another_has_said_of_it_since(tmp_path):
    one, other, spare = (tiny_pipe("sd1", seed=seed, short=True) for seed in range(3))
    shared = other.unet = one.unet
    before = bits(shared)
    write_lora(tmp_path / "a.safetensors", kohya_shapes(DiffusersHost(one).targets()), seed=1)
    first, second = Session(DiffusersHost(one), Folder(tmp_path)), Session(DiffusersHost(other), Folder(tmp_path))
    say(first, "<lora:a:1>")
    say(second, "<lora:a:0.5>")
    said = bits(shared)
    one.unet = spare.unet
    say(first, "<lora:a:1>")
    assert bits(shared) == said
    second.clear()
    assert bits(shared) == before


def test_a_layer_that_is_exchanged_for_another_gets_its_weight_back(model, folder):
    layer = model.block.to_q
    before = bits(layer)
    session = Session(three_layer_host(model), folder)
    say(session, "<lora:a:1>")
    model.block.to_q = nn.Linear(8, 8, bias=False)
    say(session, "<lora:a:1>")
    assert bits(layer) == before


@pytest.mark.parametrize("prompt", ["<lora:a:1>", "<lora:c:1>"])
@pytest.mark.parametrize("bypass", [False, True], ids=["merged", "beside"])
def test_a_deep_copy_can_be_cleared_like_the_first(model, folder, prompt, bypass):
    before = bits(model)
    session = Session(three_layer_host(model), folder)
    session.host.patcher.bypass_all = bypass
    say(session, prompt)
    other = copy.deepcopy(model)
    Session(three_layer_host(other), folder).clear()
    assert bits(other) == before
    assert not other.block.to_q._forward_hooks
    session.clear()
    assert bits(model) == before


def test_weights_loaded_into_a_deep_copy_stay(model, folder):
    session = Session(three_layer_host(model), folder)
    say(session, "<lora:a:1>")
    other = copy.deepcopy(model)
    other.load_state_dict({key: torch.ones_like(tensor) for key, tensor in other.state_dict().items()})
    loaded = bits(other)
    Session(three_layer_host(other), folder).clear()
    assert bits(other) == loaded


def test_layers_with_one_parameter_get_each_its_own_and_share_it_again(folder, tmp_path):
    model = nn.Module()
    model.to_q, model.to_k = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
    model.to_k.weight = model.to_q.weight
    shared, before = model.to_q.weight, bits(model)
    host = TorchHost(lambda: {ATTENTION + key: slot for key, slot in slots_of(model).items()}, index_checkpoint)
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_{}"
    save_file({f"{name.format('q')}.diff": torch.ones(8, 8), f"{name.format('k')}.diff": 2 * torch.ones(8, 8)},
              tmp_path / "both.safetensors")  # fmt: skip
    save_file({f"{name.format('k')}.diff": torch.ones(8, 8)}, tmp_path / "one.safetensors")
    base = shared.detach().clone()
    session = Session(host, Folder(tmp_path))
    say(session, "<lora:both:1>")
    assert torch.equal(model.to_q.weight, base + 1)
    assert torch.equal(model.to_k.weight, base + 2)
    say(session, "<lora:one:1>")
    assert torch.equal(model.to_q.weight, base)
    assert torch.equal(model.to_k.weight, base + 1)
    session.clear()
    assert model.to_q.weight is model.to_k.weight is shared
    assert bits(model) == before


def test_threads_that_want_different_adapters_leave_none(model, folder):
    before = bits(model)
    sessions = [Session(three_layer_host(model), folder) for _ in range(2)]
    started = threading.Barrier(4)

    def work(number: int) -> None:
        started.wait()
        for turn in range(25):
            say(sessions[number % 2], ("<lora:a:1>", "<lora:b:0.5>", "", "<lora:a:0.3><lora:b:1>")[(turn + number) % 4])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sessions[0].clear()
    assert bits(model) == before


def test_a_picture_is_made_before_another_thread_changes_the_adapters(tmp_path):
    """The pipeline says which weights it sees at its beginning and at its end."""
    pipe = tiny_pipe("sd1", short=True)
    write_lora(tmp_path / "a.safetensors", kohya_shapes(DiffusersHost(pipe).targets(), limit=1), seed=1)
    unet, seen = pipe.unet, []

    class Pipe(SimpleNamespace):
        def __call__(self, prompt: str) -> None:
            begin = bits(unet)
            threading.Event().wait(0.05)
            seen.append(begin == bits(unet))

    pipe = Pipe(**vars(pipe))
    draws = [Attached(pipe, Folder(tmp_path)) for _ in range(2)]
    threads = [threading.Thread(target=draw, args=(prompt,)) for prompt in ("", "<lora:a:1>", "<lora:a:2>")
               for draw in draws]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 6


# what fails while it is undone


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), RuntimeError("CUDA out of memory")], ids=repr)
@pytest.mark.parametrize("keep", ["device", "cpu"])
def test_what_could_not_be_put_back_is_put_back_by_the_next_try(model, folder, monkeypatch, error, keep):
    before = bits(model)
    session = Session(three_layer_host(model), folder)
    session.host.patcher.keep = keep
    say(session, "<lora:a:1>")
    for kind in (originals.Kept, originals.Copied):
        fail(monkeypatch, kind, error, times=2)  # and once more when it is tried again at once
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            session.clear()
    else:
        session.clear()
        (sentence,) = session.report.sentences()
        assert "1 weights could not be put back" in sentence
    assert len(session.host.patcher.patched) == 1, "the others are put back all the same"
    session.clear()
    assert session.report.sentences() == []
    assert bits(model) == before


def fail(monkeypatch, kind, error, *, times=1) -> None:
    """The first weight that is put back is not, so often."""
    real, failing = kind.put_back, []

    def put_back(self, parameter) -> None:
        if len(failing) < times and (not failing or failing[0] is self):
            failing.append(self)
            raise error
        real(self, parameter)

    monkeypatch.setattr(kind, "put_back", put_back)


def test_what_is_put_back_at_the_second_try_is_no_problem(model, folder, monkeypatch):
    before = bits(model)
    session = Session(three_layer_host(model), folder)
    say(session, "<lora:a:1>")
    fail(monkeypatch, originals.Kept, RuntimeError("a moment without memory"))
    session.clear()
    assert session.report.sentences() == []
    assert bits(model) == before


def test_an_interrupt_while_a_hook_is_taken_away_leaves_it_to_the_next_try(model, folder):
    x = torch.randn(2, 8)
    session = Session(three_layer_host(model), folder)
    session.host.patcher.bypass_all = True
    plain = model.block.to_q(x)
    say(session, "<lora:a:1>")
    (record,) = [record for key, record in session.host.patcher._bypass._hooked.items() if "to_q" in key]
    real, left = record.handle, [KeyboardInterrupt()]

    def remove() -> None:
        if left:
            raise left.pop()
        real.remove()

    record.handle = SimpleNamespace(remove=remove)
    with pytest.raises(KeyboardInterrupt):
        session.clear()
    session.clear()
    assert torch.equal(model.block.to_q(x), plain)


def test_a_checkpoint_that_was_written_to_is_told_and_never_taken_for_the_base_weight(model, folder, tmp_path):
    file = tmp_path / "model.ckpt.safetensors"
    save_file({key: tensor.clone() for key, tensor in model.state_dict().items()}, file)
    places = {f"model.diffusion_model.{NAMES[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": [(file, key)]
              for key in model.state_dict()}  # fmt: skip
    session = Session(three_layer_host(model), folder)
    session.host.patcher.keep = "checkpoint"
    session.host.patcher.find_checkpoint = lambda: CheckpointFile(places)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    say(session, "<lora:a:1>")
    data = file.read_bytes()
    with file.open("r+b") as overwritten:
        overwritten.seek(-64, 2)
        overwritten.write(b"\1" * 64)
    session.clear()
    assert "was changed while adapters were active; load the checkpoint again" in session.report.sentences()[0]
    model.load_state_dict(before)
    assert data != file.read_bytes()
    session.clear()
    assert bits(model) == {f"0.{key}": each for key, each in fingerprint(before.items()).items()}


# others who load, move, compile and offload


def test_a_checkpoint_is_loaded_while_an_adapter_brings_a_bias(model, folder):
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    session = Session(three_layer_host(model), folder)
    say(session, "<lora:c:1>")
    model.load_state_dict(weights)
    assert bits(model) == {f"0.{key}": each for key, each in fingerprint(weights.items()).items()}


def test_offloaded_weights_are_left_alone_and_the_adapter_acts(model, folder):
    """accelerate has them on `meta` and puts others in their place in each call."""
    accelerate = pytest.importorskip("accelerate")
    x = torch.randn(2, 8)
    layer, session = model.block.to_q, Session(three_layer_host(model), folder)
    plain, wanted = layer(x), {}
    for prompt in ("<lora:a:1>", "<lora:dora:1>", "<lora:c:1>"):
        say(session, prompt)
        wanted[prompt] = layer(x)
    session.clear()
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    assert layer.weight.is_meta
    for prompt, expected in wanted.items():
        assert say(session, prompt).sentences() == []
        assert torch.allclose(layer(x), expected, atol=1e-5), prompt
    session.clear()
    assert torch.equal(layer(x), plain)


def test_weights_that_are_offloaded_while_an_adapter_is_active_come_back_too(model, folder):
    accelerate = pytest.importorskip("accelerate")
    x = torch.randn(2, 8)
    layer, session = model.block.to_q, Session(three_layer_host(model), folder)
    plain = layer(x)
    say(session, "<lora:a:1>")
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    session.clear()
    assert torch.equal(layer(x), plain)


def test_where_a_group_is_offloaded_on_a_stream_nothing_is_merged(model, folder):
    """diffusers replaces the weights by its copies in each call, so that what is merged would be lost."""
    offloading = pytest.importorskip("diffusers.hooks.group_offloading")
    hooks = pytest.importorskip("diffusers.hooks.hooks")
    layer = model.block.to_q
    group = SimpleNamespace(cpu_param_dict={layer.weight: layer.weight.detach().clone()})
    hook = offloading.GroupOffloadingHook.__new__(offloading.GroupOffloadingHook)
    hook.group = group
    registry = hooks.HookRegistry(layer)
    registry.hooks["group_offloading"] = hook
    layer._diffusers_hook = registry
    session = Session(three_layer_host(model), folder)
    say(session, "<lora:a:1>")
    patcher = session.host.patcher
    assert {key for key in patcher.bypassed if "to_q" in key} == {f"{ATTENTION}to_q.weight"}
    assert not any("to_q" in key for key in patcher.patched)
    session.clear()


@pytest.mark.parametrize("prompt", ["<lora:a:1>", "<lora:c:1>"])
@pytest.mark.parametrize("bypass", [False, True], ids=["merged", "beside"])
def test_a_compiled_model_sees_adapters_come_change_and_go(model, folder, prompt, bypass):
    class Runner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x):
            return self.inner.block.to_q(x)

    torch._dynamo.reset()
    call, layer, x = torch.compile(Runner(), backend="eager"), model.block.to_q, torch.randn(2, 8)
    session = Session(three_layer_host(model), folder)
    session.host.patcher.bypass_all = bypass
    with torch.no_grad():
        plain = call(x).clone()
        for said in (prompt, prompt.replace(":1>", ":0.3>")):
            say(session, said)
            assert torch.equal(call(x), layer(x))
            assert not torch.equal(call(x), plain)
        session.clear()
        assert torch.equal(call(x), plain)


def test_a_compiled_unet_is_looked_through(tmp_path):
    pipe = tiny_pipe("sd1", short=True)
    shapes = kohya_shapes(DiffusersHost(pipe).targets(), limit=20)
    write_lora(tmp_path / "a.safetensors", shapes, seed=1)
    before = bits(pipe.unet)
    inner, pipe.unet = pipe.unet, torch.compile(pipe.unet, backend="eager")
    session = Session(DiffusersHost(pipe), Folder(tmp_path))
    assert [each.matched for each in say(session, "<lora:a:1>").applied] == [20]
    session.clear()
    assert bits(inner) == before


# torch's settings


@pytest.mark.skipif(not IS_NEW, reason="torch before 2.9 has no such setting")
@pytest.mark.parametrize("where", ["all", "products on a GPU", "products on a CPU"])
def test_a_coarser_arithmetic_that_somebody_set_is_neither_used_nor_lost(model, folder, where):
    places = {"all": torch.backends, "products on a GPU": torch.backends.cuda.matmul,
              "products on a CPU": torch.backends.mkldnn.matmul}  # fmt: skip
    session = Session(three_layer_host(model), folder)
    say(session, "<lora:a:1>")
    exact = bits(model)
    session.clear()
    before = places[where].fp32_precision
    try:
        places[where].fp32_precision = "tf32"
        seen = [each.fp32_precision for each in places.values()]
        assert say(session, "<lora:a:1>").sentences() == []
        assert bits(model) == exact
        assert [each.fp32_precision for each in places.values()] == seen
    finally:
        places[where].fp32_precision = before


def test_the_older_setting_is_neither_used_nor_lost(model, folder):
    session = Session(three_layer_host(model), folder)
    say(session, "<lora:a:1>")
    exact = bits(model)
    session.clear()
    torch.set_float32_matmul_precision("medium")
    try:
        say(session, "<lora:a:1>")
        assert bits(model) == exact
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.skipif(not IS_NEW, reason="torch before 2.9 has no such setting")
def test_an_interrupt_on_the_way_out_does_not_keep_the_setting(monkeypatch):
    alone, times, products = exact._alone, itertools.count(1), torch.backends.mkldnn.matmul

    @contextlib.contextmanager
    def interrupted():
        if next(times) == 2:
            raise KeyboardInterrupt
        with alone():
            yield

    before = products.fp32_precision
    products.fp32_precision = "tf32"
    try:
        with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
            patched.setattr(exact, "_alone", interrupted)
            with exact.exact_arithmetic():
                pass
        assert products.fp32_precision == "ieee"
        gc.collect()
        with exact.exact_arithmetic():
            assert products.fp32_precision == "ieee"
        assert products.fp32_precision == "tf32"
    finally:
        products.fp32_precision = before


def test_adapters_that_come_in_inference_mode_are_weights_like_others(model, folder):
    before = bits(model)
    session = Session(three_layer_host(model), folder)
    with torch.inference_mode():
        say(session, "<lora:a:1>")
    say(session, "<lora:a:0.5><lora:b:1>")
    assert not model.block.to_q.weight.is_inference()
    session.clear()
    assert bits(model) == before


@pytest.mark.parametrize("bypass", [False, True], ids=["merged", "beside"])
def test_what_torch_takes_where_nothing_is_said_does_not_matter(model, folder, bypass):
    """A default device and a default dtype of somebody's: neither holds our numbers."""
    session, x = Session(three_layer_host(model), folder), torch.randn(2, 8)
    session.host.patcher.bypass_all = bypass
    say(session, "<lora:a:1><lora:b:1>")
    expected = model.block.to_q(x)
    session.clear()
    fresh = Session(three_layer_host(model), folder)
    fresh.host.patcher.bypass_all = bypass
    torch.set_default_dtype(torch.float16)
    try:
        with torch.device("meta"):
            assert say(fresh, "<lora:a:1><lora:b:1>").sentences() == []
        assert torch.equal(model.block.to_q(x), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_checkpoint_whose_file_cannot_be_opened_is_kept_in_memory(model, folder, caplog):
    def find_checkpoint():
        raise OSError("the network drive is gone")

    before = bits(model)
    session = Session(three_layer_host(model), folder)
    session.host.patcher.keep, session.host.patcher.find_checkpoint = "checkpoint", find_checkpoint
    assert say(session, "<lora:a:1>").sentences() == []
    assert "the network drive is gone" in caplog.text
    session.clear()
    assert bits(model) == before


@pytest.mark.parametrize("bypass", [False, True], ids=["merged", "beside"])
def test_a_model_can_be_stored_while_adapters_are_active(model, folder, tmp_path, bypass):
    session = Session(three_layer_host(model), folder)
    session.host.patcher.bypass_all = bypass
    say(session, "<lora:a:1>")
    torch.save(model, tmp_path / "model.pt")
    stored = torch.load(tmp_path / "model.pt", weights_only=False)
    assert bits(stored) == bits(model)
    Session(three_layer_host(stored), folder).clear()
    assert bits(stored) == bits(model)


def test_a_bias_that_somebody_else_gives_a_layer_stays(model, folder):
    session = Session(three_layer_host(model), folder)
    say(session, "<lora:c:1>")
    own = model.block.to_q.bias = nn.Parameter(torch.full((8,), 5.0))
    session.clear()
    assert model.block.to_q.bias is own


# one adapter's fault


def test_an_error_that_nobody_has_thought_of_switches_off_one_adapter_only(model, folder, monkeypatch):
    session = Session(three_layer_host(model), folder)
    say(session, "<lora:a:1>")
    alone = bits(model)
    real = session.cache.read

    def read(path: Path):
        if path.stem == "b":
            raise OverflowError("a number too large")
        return real(path)

    monkeypatch.setattr(session.cache, "read", read)
    report = say(session, "<lora:b:1><lora:a:1>")
    assert bits(model) == alone
    assert report.sentences() == ["b: cannot be used (OverflowError: a number too large); the others are"]


def test_more_adapters_than_the_cache_keeps_are_read_once_while_they_are_active(model, folder, monkeypatch):
    shapes = kohya_shapes(three_layer_host(model).targets())
    for number in range(12):
        write_lora(folder.path / f"n{number}.safetensors", shapes, seed=number)
    prompt = "".join(f"<lora:n{number}:0.1>" for number in range(12))
    session = Session(three_layer_host(model), folder)
    say(session, prompt)
    patched = bits(model)
    monkeypatch.setattr("lib_lora.adapters.cache.read_adapter", lambda *_: pytest.fail("read again"))
    monkeypatch.setattr("lib_lora.engine.merged.fold", lambda *_: pytest.fail("folded again"))
    say(session, prompt)
    assert bits(model) == patched


def test_layers_that_the_model_lacks_are_told_with_one_of_them(model, folder):
    shapes = kohya_shapes(three_layer_host(model).targets())
    write_lora(folder.path / "partly.safetensors", {**shapes, "lora_unet_misspelt": (8, 8)})
    (sentence,) = say(Session(three_layer_host(model), folder), "<lora:partly:1>").sentences()
    assert sentence == ("partly: 1 of 3 layers are not in this model and were left out (such as 'lora_unet_misspelt')")


def test_a_patch_error_names_what_else_went_wrong(model, folder, monkeypatch):
    session = Session(three_layer_host(model), folder)
    say(session, "<lora:a:1>")
    out_of_memory = RuntimeError("CUDA out of memory")
    monkeypatch.setattr("lib_lora.engine.merged.fold", lambda *_: (_ for _ in ()).throw(out_of_memory))
    fail(monkeypatch, originals.Kept, RuntimeError("again"))
    with pytest.raises(PatchError, match=r"not enough memory.*1 weights could not be put back"):
        session.host.apply(plan([Active(read_prompt("<lora:b:1>").tags[0], session.cache.read(folder.find("b").path))],
                                session.host.targets()))  # fmt: skip
    session.clear()
    assert not session.host.patcher.patched
