"""What a WebUI does to its models while adapters are active, done to our stand-in for them: no trace stays.

The same happens to a model that never saw an adapter. Afterwards, without tags, both have the same bits; with tags
they are those of a new session on a copy of that other model. In the real WebUI: webui/test_lifecycle.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from lib_lora.adapters.cache import AdapterCache
from lib_lora.engine import hooks as engine_hooks
from lib_lora.engine import merged
from lib_lora.engine.keeping import Keep
from lib_lora.errors import PatchError
from lib_lora.grammar.tag import read_prompt
from lib_lora.webui.a1111.host import release, session_of
from tests.support import Folder, fingerprint, kohya_shapes, twin, write_lora
from tests.support_webui import put, tiny_sd_model, webui_host

CASES = (("sd1", "device"), ("sd1", "checkpoint"))
OTHERS = (("sd1", "cpu"), ("sdxl", "cpu"), ("sdxl", "checkpoint"))
TAGS = "<lora:a:0.7><lora:b:-0.4>"
FP8 = torch.float8_e4m3fn


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], nn.Module]:
    """Models by family, each made once and not to be changed."""
    return functools.cache(lambda family: make(family, tmp_path_factory.mktemp(family)))


def make(family: str, folder: Path) -> nn.Module:
    """A model in half precision as its file has it, with a decoder beside what carries adapters."""
    model = tiny_sd_model(family, short=True)
    put(model, "first_stage_model.decoder.conv_in", nn.Conv2d(4, 4, 3))
    model.half()
    state = {key.replace(".wrapped", ""): tensor.contiguous() for key, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    model.sd_checkpoint_info = SimpleNamespace(filename=str(folder / "model.safetensors"))
    every = kohya_shapes(webui_host(model).targets())
    shapes = {name: shape for place, (name, shape) in enumerate(every.items()) if place % 4 == 0 or "out_proj" in name}
    for seed, name in enumerate("ab"):
        write_lora(folder / f"{name}.safetensors", shapes, seed=seed)
    return model


@functools.cache
def spare_of(made: nn.Module) -> nn.Module:
    """For what a new model would be: it is filled anew each time."""
    return twin(made)


class Life:
    """A model, and beside it one that never saw an adapter."""

    def __init__(self, made: nn.Module, keep: Keep) -> None:
        self.made = made
        self.model, self.pristine = twin(made), twin(made)
        self.folder = Folder(Path(made.sd_checkpoint_info.filename).parent)
        self.keep = keep
        self.cache = AdapterCache()
        self._spare = spare_of(made)

    def say(self, prompt: str, model: nn.Module | None = None) -> list[str]:
        session = session_of(self.model if model is None else model, self.folder, self.cache)
        session.host.patcher.keep = self.keep
        return session.activate(read_prompt(prompt).tags).sentences()

    @contextmanager
    def fresh(self, tags: str) -> Iterator[nn.Module]:
        """The model that never saw an adapter with `tags` in a new session, from memory of its own."""
        for mine, other in zip(self._spare.parameters(), self.pristine.parameters(), strict=True):
            mine.data = other.data.clone()
        assert not self.say(tags, self._spare)
        yield self._spare
        release(self._spare)

    def both(self) -> Iterator[nn.Module]:
        yield self.model
        yield self.pristine

    def is_clean(self) -> bool:
        """Without tags."""
        return not self.say("") and bits(self.model) == bits(self.pristine) and hooks(self.model) == 0

    def is_as_fresh(self) -> bool:
        """With tags."""
        with self.fresh(TAGS) as fresh:
            return not self.say(TAGS) and bits(self.model) == bits(fresh) != bits(self.pristine)


def bits(model: nn.Module) -> dict[str, int]:
    return fingerprint(model.named_parameters())


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.fixture(params=CASES, ids=" ".join)
def life(made: Callable[[str], nn.Module], request: pytest.FixtureRequest) -> Life:
    family, keep = request.param
    return Life(made(family), keep)


def layers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if module._parameters]


def move(model: nn.Module) -> None:
    """To another device and back: new memory in the same parameters."""
    model._apply(torch.clone)


def move_layer_by_layer(model: nn.Module) -> None:
    """As with low VRAM: one layer at a time has its weights elsewhere."""
    for layer in layers(model):
        layer._apply(torch.clone)
        layer._apply(torch.clone)


def cast_layer_by_layer(model: nn.Module) -> None:
    """As on cards without autocast: each layer is cast, called, and cast back."""
    for layer in layers(model):
        layer.float()
        layer.half()


def exchange_parameters(model: nn.Module) -> None:
    """Moves between some devices make new Parameter objects."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        model._apply(torch.clone)
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def to_channels_last(model: nn.Module) -> None:
    model.to(memory_format=torch.channels_last)


def to_full_precision(model: nn.Module) -> None:
    model.float()


def other_weights(model: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {key: (value + 0.1 * torch.randn(value.shape, generator=generator)).to(value.dtype)
            if value.is_floating_point() else value for key, value in sorted(stored(model).items())}


def stored(model: nn.Module) -> dict[str, Tensor]:
    """What the file of the model has, as the WebUI names it once encoders are wrapped."""
    names = {key.replace(".wrapped", ""): key for key in model.state_dict()}
    return {names[key]: tensor for key, tensor in load_file(model.sd_checkpoint_info.filename).items()}


def load_the_same(model: nn.Module) -> None:
    model.load_state_dict(stored(model))


def load_others(model: nn.Module) -> None:
    model.load_state_dict(other_weights(model))


def assign_others(model: nn.Module) -> None:
    """The tensors that are loaded become the parameters, as where a model starts without memory."""
    model.load_state_dict(other_weights(model), assign=True)


def load_half_of_them(model: nn.Module) -> None:
    others = other_weights(model)
    model.load_state_dict(dict(list(others.items())[::2]), strict=False)


def die_and_be_filled_again(model: nn.Module) -> None:
    """Sent to `meta`, where no weight has a value, then given memory and weights."""
    model.to(device="meta")
    model.to_empty(device="cpu")
    model.load_state_dict(other_weights(model))


EVENTS: list[Callable[[nn.Module], None]] = [
    move, move_layer_by_layer, cast_layer_by_layer, exchange_parameters, to_channels_last, to_full_precision,
    load_the_same, load_others, assign_others, load_half_of_them, die_and_be_filled_again]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_what_happens_to_the_model_leaves_no_trace(life, event):
    for is_good in (life.is_as_fresh, life.is_clean):
        assert not life.say(TAGS)
        for model in life.both():
            event(model)
        assert is_good(), is_good.__name__


@pytest.mark.parametrize("life", [*CASES, *OTHERS], indirect=True, ids=" ".join)
def test_every_event_after_the_other_leaves_no_trace(life):
    for event in EVENTS:
        assert not life.say(TAGS)
        for model in life.both():
            event(model)
    assert life.is_as_fresh()
    assert life.is_clean()


def test_what_is_done_to_the_decoder_is_not_our_business(life):
    assert not life.say(TAGS)
    patched = bits(life.model)
    for model in life.both():
        decoder = model.first_stage_model
        decoder.load_state_dict({key: value + 1 for key, value in decoder.state_dict().items()})
        decoder.float()
    changed = {name for name, each in bits(life.model).items() if each != patched[name]}
    assert changed == {name for name, _ in life.model.named_parameters() if name.startswith("first_stage_model")}
    assert life.is_as_fresh()
    assert life.is_clean()


def test_a_model_sent_away_to_die_needs_nothing_any_more(life):
    assert not life.say(TAGS)
    life.model.to(device="meta")
    release(life.model)
    assert all(parameter.is_meta for parameter in life.model.parameters())


def test_weights_that_a_cache_of_checkpoints_shares_are_never_written_to(life):
    cache = other_weights(life.pristine)
    untouched = fingerprint(cache.items())
    for model in life.both():
        model.load_state_dict(cache, assign=True)
    for prompt in (TAGS, "<lora:b:1>", "", TAGS):
        life.say(prompt)
        assert fingerprint(cache.items()) == untouched
    for model in life.both():
        model.load_state_dict(cache, assign=True)
    assert life.is_as_fresh()
    assert life.is_clean()
    assert fingerprint(cache.items()) == untouched


def test_two_checkpoints_that_take_turns_do_not_meet(life):
    """As with several checkpoints loaded; the one that rests may be sent away."""
    other = Life(life.made, life.keep)
    for model in other.both():
        load_others(model)
    for is_good in (Life.is_as_fresh, Life.is_clean, Life.is_clean, Life.is_as_fresh):
        for each in (life, other):
            assert is_good(each)
            for model in each.both():
                move(model)


class Accident(Exception):
    """Of a kind that nobody expects."""


ERRORS = {
    "out of memory on a GPU": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "out of memory": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
    "of a mistake": Accident("a mistake"),
    "interrupted": KeyboardInterrupt(),
}


@contextmanager
def failing(number: int, error: BaseException) -> Iterator[list[None]]:
    """The weight of this number is half written when it fails."""
    original, calls = merged.fold, []

    def fold(base, terms, out) -> None:
        calls.append(None)
        original(base, terms, out)
        if len(calls) == number:
            out[: out.shape[0] // 2 + 1] = 9
            raise error

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(merged, "fold", fold)
        yield calls


@pytest.mark.parametrize("name", ERRORS)
def test_a_failure_in_the_middle_leaves_the_untouched_model(life, name):
    error = ERRORS[name]
    for number, before in ((1, ""), (2, "<lora:a:1>"), (10, "<lora:b:1>"), (20, TAGS)):
        life.say(before)
        with failing(number, error) as calls:
            if isinstance(error, RuntimeError):
                told = life.say("<lora:a:0.1><lora:b:0.2>")
                assert "memory" in told[0]
            else:
                with pytest.raises(type(error)):
                    life.say("<lora:a:0.1><lora:b:0.2>")
        assert len(calls) == number
        assert bits(life.model) == bits(life.pristine)
        assert life.is_as_fresh()
    assert life.is_clean()


# Weights in eight bits.


def to_fp8(model: nn.Module, *, finer: bool) -> None:
    """As the WebUI stores layers in fp8: finer copies of what is now there, if wanted."""
    for layer in convertible(model).values():
        for kind in ("fp16_weight", "fp16_bias"):
            if hasattr(layer, kind):
                delattr(layer, kind)
        if finer:
            layer.fp16_weight = layer.weight.data.clone().half()
        layer.to(FP8)


def convertible(model: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d) and "first_stage" not in name and "out_proj" not in name}


def put_out(model: nn.Module, dtype: torch.dtype) -> list[Tensor]:
    """What each layer makes of noise, computed in `dtype` as the WebUI does: cast the layer, call it, cast it back."""
    results = []
    generator = torch.Generator().manual_seed(3)
    for layer in convertible(model).values():
        size = (2, layer.in_features) if isinstance(layer, nn.Linear) else (2, layer.in_channels, 4, 4)
        x = torch.randn(size, generator=generator).to(dtype)
        original = type(layer).forward

        def cast(x: Tensor, layer=layer, original=original) -> Tensor:
            before = layer.weight.dtype
            layer.to(dtype)
            result = original(layer, x)
            layer.to(before)
            return result

        layer.forward = cast
        results.append(layer(x).float())
        del layer.forward
    return results


def expected(life: Life, prompt: str) -> list[Tensor]:
    """The adapters merged in float32 into the numbers that are left of the weights."""
    exact = twin(life.pristine)
    for layer in convertible(exact).values():
        layer.float()
        layer.__dict__.pop("fp16_weight", None)
    life.say(prompt, exact)
    return put_out(exact, torch.float32)


def agree(ours: list[Tensor], exact: list[Tensor], tolerance: float) -> None:
    assert len(ours) == len(exact)
    for one, other in zip(ours, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.detach().abs().max()))


@pytest.fixture(params=[False, True], ids=["", "finer copies"])
def small(made: Callable[[str], nn.Module], request: pytest.FixtureRequest) -> Life:
    life = Life(made("sd1"), "device")
    for model in life.both():
        to_fp8(model, finer=request.param)
    return life


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 3e-2)], ids=str)
def test_in_fp8_the_weights_stay_and_the_layers_put_out_the_sum(small, dtype, tolerance):
    for prompt in (TAGS, "<lora:b:1>", "", TAGS):
        assert not small.say(prompt)
        weights = bits(small.model)
        assert all(weights[f"{name}.weight"] == same for name, same in fp8_bits(small.pristine).items())
        agree(put_out(small.model, dtype), expected(small, prompt), tolerance)
    assert small.is_clean()


def fp8_bits(model: nn.Module) -> dict[str, str]:
    return {name: fingerprint([("", layer.weight)])[""] for name, layer in convertible(model).items()}


def test_in_fp8_what_happens_to_the_model_leaves_no_trace(small):
    for event in (move, move_layer_by_layer, exchange_parameters):
        assert not small.say(TAGS)
        for model in small.both():
            event(model)
        agree(put_out(small.model, torch.float32), expected(small, TAGS), 1e-4)
        assert not small.say(TAGS)
        agree(put_out(small.model, torch.float32), expected(small, TAGS), 1e-4)
        assert small.is_clean()


@pytest.mark.parametrize("finer", [False, True])
def test_in_fp8_attention_that_never_calls_its_projection_is_merged_and_rounded_once(made, finer):
    """The WebUI makes OpenCLIP's output projections small, too; the other layers carry the adapters as ever."""
    life = Life(made("sdxl"), "device")
    layers = {name: module for name, module in life.model.named_modules()
              if isinstance(module, nn.Linear | nn.Conv2d) and "first_stage" not in name}
    bases = {name: layer.weight.data.clone() for name, layer in layers.items() if name.endswith("out_proj")
             and isinstance(layer, NonDynamicallyQuantizableLinear)}
    assert bases
    for model in life.both():
        for name, layer in model.named_modules():
            if name in layers:
                if finer:
                    layer.fp16_weight = layer.weight.data.clone()
                layer.to(FP8)
    assert not life.say(TAGS)
    assert hooks(life.model) > 20
    with life.fresh("") as exact:
        for name, base in bases.items():
            exact.get_submodule(name).weight.data = (base if finer else base.to(FP8)).float()
        life.say(TAGS, exact)
        for name in bases:
            merged = exact.get_submodule(name).weight
            assert torch.equal(life.model.get_submodule(name).weight.float(), merged.to(FP8).float())
            assert not torch.equal(merged.to(FP8).float(), life.pristine.get_submodule(name).weight.float())
    assert life.is_clean()


@pytest.mark.parametrize("finer", [False, True])
def test_other_weights_are_loaded_the_way_that_the_webui_does_it_with_fp8(small, finer):
    """To half precision, loaded, and to fp8 again; or no more to fp8."""
    for stays in (True, False, True):
        assert not small.say(TAGS)
        for model in small.both():
            model.half()
            load_others(model)
            if stays:
                to_fp8(model, finer=finer)
            else:
                for layer in convertible(model).values():
                    layer.__dict__.pop("fp16_weight", None)
        assert not small.say(TAGS)
        assert (hooks(small.model) > 0) == stays
        agree(put_out(small.model, torch.float32), expected(small, TAGS), 1e-4 if stays else 2e-3)
        assert small.is_clean()


def test_weights_made_small_under_our_hands_are_not_taken_for_new_ones(made):
    """Nobody loads anything: what is in the layers is the sum, cast to fp8, and the base weight is cast like it."""
    life = Life(made("sd1"), "device")
    assert not life.say(TAGS)
    for model in life.both():
        to_fp8(model, finer=False)
    assert life.is_clean()
    assert not life.say(TAGS)
    agree(put_out(life.model, torch.float32), expected(life, TAGS), 1e-4)


def test_a_failure_in_the_middle_of_bypassing_leaves_the_untouched_model(small, monkeypatch):
    original, calls = engine_hooks.addition, []

    def product(*args):
        calls.append(None)
        if len(calls) == 20:
            raise RuntimeError("CUDA out of memory")
        return original(*args)

    for before in ("", "<lora:b:1>"):
        small.say(before)
        with monkeypatch.context() as patched:
            patched.setattr(engine_hooks, "addition", product)
            calls.clear()
            assert "memory" in small.say(TAGS)[0]
        assert len(calls) == 20
        assert hooks(small.model) == 0
        assert bits(small.model) == bits(small.pristine)
        assert not small.say(TAGS)
        agree(put_out(small.model, torch.float32), expected(small, TAGS), 1e-4)


def test_inference_tensors_are_bypassed_and_come_back_as_they_were(made):
    """Torch forbids to write to them."""
    life = Life(made("sd1"), "device")
    with torch.inference_mode():
        for model in life.both():
            model.float()
    assert all(parameter.is_inference() for parameter in life.model.parameters())
    untouched = bits(life.model)
    assert not life.say(TAGS)
    assert hooks(life.model) > 0
    assert bits(life.model) == untouched
    with torch.inference_mode():
        agree(put_out(life.model, torch.float32), expected(life, TAGS), 1e-4)
    assert life.is_clean()


def test_an_error_of_one_adapter_is_told_as_its_own(life, monkeypatch):
    """A session of ours, whose host says what is wrong, keeps the others."""
    def fails(base, terms, out):
        if any(term.source == "b" for term in terms):
            raise PatchError("b: its numbers are no numbers", "b")
        original(base, terms, out)

    original = merged.fold
    monkeypatch.setattr(merged, "fold", fails)
    assert life.say(TAGS) == ["b: its numbers are no numbers"]
    monkeypatch.undo()
    with life.fresh("<lora:a:0.7>") as fresh:
        assert bits(life.model) == bits(fresh)
