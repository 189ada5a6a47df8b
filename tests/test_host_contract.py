"""What every host must do, asked of each: a three-layer model, diffusers SD1 / SD2 / SDXL, and the WebUI's model."""

from __future__ import annotations

import functools
import gc
import shutil
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lib_lora.algorithms.base import Delta
from lib_lora.engine.active import Active
from lib_lora.engine.plan import Plan
from lib_lora.engine.schedule import plan
from lib_lora.errors import PatchError
from lib_lora.grammar.tag import read_prompt
from lib_lora.hosts.diffusers import DiffusersHost
from lib_lora.session.session import Session
from lib_lora.session.torch_host import TorchHost
from tests.support import (
    Folder,
    ThreeLayers,
    bits,
    kohya_shapes,
    three_layer_host,
    tiny_pipe,
    write_lora,
)
from tests.support_webui import tiny_sd_model, webui_host


@dataclass
class Case:
    """A host, the modules whose parameters it patches, and how one more host of this very model is made."""

    host: TorchHost
    roots: list[nn.Module]
    another: Callable[[], TorchHost]

    def bits(self) -> dict[str, int]:
        return bits(self.roots)

    def hooks(self) -> int:
        return sum(len(module._forward_hooks) for root in self.roots for module in root.modules())


def three_layers() -> Case:
    torch.manual_seed(0)
    model = ThreeLayers()
    return Case(three_layer_host(model), [model], lambda: three_layer_host(model))


def diffusers(family: str) -> Callable[[], Case]:
    def make() -> Case:
        pipe = tiny_pipe(family, short=True)
        return Case(DiffusersHost(pipe), list(vars(pipe).values()), lambda: DiffusersHost(pipe))
    return make


def webui(family: str) -> Callable[[], Case]:
    def make() -> Case:
        model = tiny_sd_model(family, short=True)
        return Case(webui_host(model), [model], lambda: webui_host(model))
    return make


HOSTS = {
    "three layers": three_layers,
    **{f"diffusers {family}": diffusers(family) for family in ("sd1", "sd2", "sdxl")},
    **{f"webui {family}": webui(family) for family in ("sd1", "sd2", "sdxl")},
}


@pytest.fixture(params=HOSTS)
def case(request: pytest.FixtureRequest) -> Case:
    return HOSTS[request.param]()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple], Path]:
    """Folders of adapters by the layers they are for, each made once: `a` and `b` fit every layer, `misfit` has one
    layer of a wrong shape, `stranger` fits nothing.
    """

    @functools.cache
    def write(layers: tuple) -> Path:
        folder, shapes = tmp_path_factory.mktemp("adapters"), dict(layers)
        write_lora(folder / "a.safetensors", shapes, seed=1)
        write_lora(folder / "b.safetensors", shapes, seed=2, dtype=torch.float16)
        first, (outputs, *inputs) = layers[0]
        write_lora(folder / "misfit.safetensors", {**shapes, first: (outputs + 1, *inputs)}, seed=3)
        write_lora(folder / "stranger.safetensors", {"lora_unet_double_blocks_0_img_attn_qkv": (24, 8)})
        return folder

    return write


@pytest.fixture
def adapters(case: Case, written: Callable[[tuple], Path], tmp_path: Path) -> Folder:
    """A copy of the adapters for this host, and `bias`, which gives one layer a bias that it lacks."""
    index = case.host.targets()
    shapes = kohya_shapes(index)
    assert shapes
    shutil.copytree(written(tuple(shapes.items())), tmp_path, dirs_exist_ok=True)
    lacks = next(name for name in shapes if "bias" in index.modules[name] and index.modules[name]["bias"].new_bias_of)
    save_file({f"{lacks}.diff_b": torch.ones(shapes[lacks][0]), f"{lacks}.diff": torch.ones(shapes[lacks])},
              tmp_path / "bias.safetensors")  # fmt: skip
    return Folder(tmp_path)


def activate(session: Session, prompt: str):
    read = read_prompt(prompt)
    return session.activate(read.tags, read.errors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_no_tags_put_every_bit_back(case, adapters, dtype):
    for root in case.roots:
        root.to(dtype)
    untouched = case.bits()
    session = Session(case.host, adapters)
    report = activate(session, "<lora:a:0.7> <lora:b:-1.3>")
    assert [adapter.matched for adapter in report.applied] == [len(kohya_shapes(case.host.targets()))] * 2
    assert case.bits() != untouched
    session.clear()
    assert case.bits() == untouched
    assert {parameter.dtype for root in case.roots for parameter in root.parameters()} == {dtype}


def test_originals_kept_in_main_memory_come_back_bit_for_bit(case, adapters):
    untouched = case.bits()
    case.host.patcher.keep = "cpu"
    session = Session(case.host, adapters)
    activate(session, "<lora:a:0.7>")
    with_originals_elsewhere = case.bits()
    activate(session, "<lora:b:-1.3>")
    activate(session, "<lora:a:0.7>")
    assert case.bits() == with_originals_elsewhere
    session.clear()
    assert case.bits() == untouched
    case.host.patcher.keep = "device"
    activate(session, "<lora:a:0.7>")
    assert case.bits() == with_originals_elsewhere


def test_applying_twice_is_applying_once(case, adapters):
    session = Session(case.host, adapters)
    activate(session, "<lora:a:0.7><lora:b:0.2>")
    once = case.bits()
    activate(session, "<lora:a:0.7><lora:b:0.2>")
    assert case.bits() == once


def test_a_change_of_weight_starts_from_the_base_weight(case, adapters):
    session = Session(case.host, adapters)
    activate(session, "<lora:a:0.7>")
    direct = case.bits()
    for prompt in ("<lora:a:1><lora:b:3>", "<lora:b:-2>", "", "<lora:a:2>", "<lora:a:0.7>"):
        activate(session, prompt)
    assert case.bits() == direct


def test_a_bias_that_a_layer_lacks_comes_changes_and_goes(case, adapters):
    before = case.bits()
    session = Session(case.host, adapters)
    activate(session, "<lora:bias:0.5>")
    direct = case.bits()
    assert len(direct) == len(before) + 1
    for prompt in ("<lora:bias:1>", "<lora:bias:1><lora:a:1>", "<lora:bias:0.5>"):
        assert activate(session, prompt).sentences() == []
    assert case.bits() == direct
    session.clear()
    assert case.bits() == before


def test_weight_zero_is_the_untouched_model(case, adapters):
    untouched = case.bits()
    report = activate(Session(case.host, adapters), "<lora:a:0><lora:b:0:0>")
    assert case.bits() == untouched
    assert len(report.applied) == 2


def test_the_text_encoder_and_the_unet_have_their_own_weights(case, adapters):
    untouched = case.bits()
    session = Session(case.host, adapters)
    activate(session, "<lora:a:0:1>")
    changed = {key for key, bits in case.bits().items() if bits != untouched[key]}
    activate(session, "<lora:a:1:0>")
    also = {key for key, bits in case.bits().items() if bits != untouched[key]}
    assert changed
    assert not changed & also


def test_the_same_tag_twice_adds_up(case, adapters):
    session = Session(case.host, adapters)
    activate(session, "<lora:a:1>")
    once = case.bits()
    activate(session, "<lora:a:0.25> <lora:a:0.75>")
    assert case.bits() == once


def test_a_layer_of_wrong_shape_is_reported_and_left_alone(case, adapters):
    session = Session(case.host, adapters)
    report = activate(session, "<lora:misfit:1:1:force=1>")
    (adapter,) = report.adapters
    assert len(adapter.misfits) == 1
    assert adapter.matched == adapter.total - 1
    assert any("do not fit" in sentence or "match" in sentence for sentence in report.sentences())


def test_an_adapter_for_another_model_changes_nothing_and_says_so(case, adapters):
    untouched = case.bits()
    report = activate(Session(case.host, adapters), "<lora:stranger:1>")
    assert case.bits() == untouched
    assert "0 of 1 layers match" in report.sentences()[0]


def test_one_bad_tag_does_not_take_the_others_with_it(case, adapters):
    session = Session(case.host, adapters)
    activate(session, "<lora:a:0.5>")
    alone = case.bits()
    report = activate(session, "<lora:nobody:1> <lora:stranger:1> <lora:a:0.5> <lora:b:much>")
    assert case.bits() == alone
    assert [adapter.applied for adapter in report.adapters] == [False, False, True]
    assert "'much' is not a weight" in report.sentences()[0]


def test_an_error_in_the_middle_leaves_the_base_weights(case, adapters):
    untouched = case.bits()
    session = Session(case.host, adapters)
    activate(session, "<lora:a:1>")
    terms = _plan_of(session, "<lora:b:1>")
    in_the_middle = list(terms)[len(terms) // 2]
    terms[in_the_middle] = tuple(replace(term, delta=Exploding()) for term in terms[in_the_middle])
    with pytest.raises(PatchError):
        case.host.apply(Plan(terms))
    assert case.bits() == untouched
    activate(session, "<lora:a:1>")
    assert case.bits() != untouched


def test_an_adapter_whose_arithmetic_fails_is_left_out_and_the_others_work(case, adapters, monkeypatch):
    session = Session(case.host, adapters)
    activate(session, "<lora:a:0.5>")
    alone = case.bits()
    bad = session.cache.read(adapters.find("b").path)
    monkeypatch.setattr(Exploding, "reason", "the matrix is singular")
    modules = {name: dict.fromkeys(deltas, Exploding()) for name, deltas in bad.modules.items()}
    session.cache = Instead(session.cache, adapters.find("b").path, replace(bad, modules=modules))
    report = activate(session, "<lora:b:1> <lora:a:0.5>")
    assert case.bits() == alone
    assert [adapter.applied for adapter in report.adapters] == [False, True]
    assert "b: exploding failed on" in report.sentences()[0]


class Instead:
    """A cache that gives another adapter for one path."""

    def __init__(self, cache, path, adapter) -> None:
        self.cache, self.path, self.adapter = cache, path, adapter

    def read(self, path):
        return self.adapter if path == self.path else self.cache.read(path)


class Exploding(Delta):
    """A delta whose arithmetic fails, as on a full GPU."""

    algorithm = "exploding"
    reason = "CUDA out of memory"

    def misfit(self, shape):
        return None

    def value(self, weight):
        raise RuntimeError(self.reason)


def _plan_of(session: Session, prompt: str) -> dict:
    active = [Active(tag, session.cache.read(session.finder.find(tag.name).path)) for tag in read_prompt(prompt).tags]
    return dict(plan(active, session.host.targets()).terms)


def test_a_changed_file_is_read_again(case, adapters):
    session = Session(case.host, adapters)
    activate(session, "<lora:a:1>")
    before = case.bits()
    write_lora(adapters.path / "a.safetensors", kohya_shapes(case.host.targets()), seed=77, rank=3)
    activate(session, "<lora:a:1>")
    assert case.bits() != before


def test_two_sessions_on_two_models_do_not_meet(request, tmp_path):
    for make in HOSTS.values():
        first, second = make(), make()
        folder = tmp_path / str(id(first))
        folder.mkdir()
        write_lora(folder / "a.safetensors", kohya_shapes(first.host.targets()))
        untouched = second.bits()
        one, two = Session(first.host, Folder(folder)), Session(second.host, Folder(folder))
        activate(one, "<lora:a:1>")
        assert second.bits() == untouched
        activate(two, "<lora:a:1>")
        one.clear()
        assert first.bits() == untouched != second.bits()


def test_weights_loaded_meanwhile_are_the_new_base_weights(case, adapters):
    session = Session(case.host, adapters)
    activate(session, "<lora:a:1>")
    for root in case.roots:
        root.load_state_dict(_shifted(root))
    fresh = case.bits()
    session.clear()
    assert case.bits() == fresh
    activate(session, "<lora:a:1>")
    session.clear()
    assert case.bits() == fresh


def _shifted(root: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() + 1 if value.is_floating_point() else value for key, value in root.state_dict().items()}


def test_weights_cast_to_half_and_back_while_patched_are_not_taken_for_new_ones(case, adapters):
    before = case.bits()
    session = Session(case.host, adapters)
    activate(session, "<lora:a:1>")
    patched = {key: bits for key, bits in case.bits().items() if bits != before[key]}
    for root in case.roots:
        root.half().float()
    activate(session, "<lora:a:1>")
    again = case.bits()
    assert {key: again[key] for key in patched} == patched
    session.clear()
    after = case.bits()
    assert {key: after[key] for key in patched} == {key: before[key] for key in patched}


# whose model it is


def test_two_hosts_on_one_model_carry_what_was_said_last(case, adapters):
    """Also where they are set differently: no setting of one stands in the way of the other."""
    before = case.bits()
    first = Session(case.host, adapters)
    activate(first, "<lora:a:1>")
    only_a = case.bits()
    for settings in ({}, {"keep": "cpu"}, {"bypass_all": True}):
        second = Session(case.another(), adapters, cache=first.cache)
        for name, value in settings.items():
            setattr(second.host.patcher, name, value)
        activate(second, "<lora:b:1><lora:bias:1>")
        assert case.bits() != only_a, settings
        assert first.host.patcher.planned() == second.host.patcher.planned()
        activate(first, "<lora:a:1>")
        assert case.bits() == only_a, settings
        assert not case.hooks()
    activate(second, "<lora:a:0.5>")
    assert case.hooks()
    first.clear()
    assert case.bits() == before
    assert not case.hooks()
    assert not second.host.patcher.planned()
    second.clear()
    assert case.bits() == before


def test_a_host_that_is_dropped_while_adapters_are_active_leaves_them_to_the_next(case, adapters):
    before = case.bits()
    session, case.host = Session(case.host, adapters), None
    cache = session.cache
    activate(session, "<lora:a:0.3>")
    direct = case.bits()
    for prompt, expected in (("<lora:a:0.3>", direct), ("", before)):
        activate(session, "<lora:b:1><lora:bias:1>")
        assert case.bits() not in (before, direct)
        gone = weakref.ref(session.host)
        del session
        gc.collect()
        assert gone() is None
        session = Session(case.another(), adapters, cache=cache)
        activate(session, prompt)
        assert case.bits() == expected


def test_attaching_twice_is_attaching_once(case, adapters, monkeypatch):
    """The second finds in place what the first has put in, and either takes it out."""
    before = case.bits()
    first = Session(case.host, adapters)
    second = Session(case.another(), adapters, cache=first.cache)
    activate(first, "<lora:a:1><lora:bias:0.5>")
    once = case.bits()
    monkeypatch.setattr("lib_lora.engine.merged.fold", lambda *_: pytest.fail("folded again"))
    assert activate(second, "<lora:a:1><lora:bias:0.5>").sentences() == []
    assert case.bits() == once
    second.clear()
    assert case.bits() == before
    first.clear()
    assert case.bits() == before
    first.host.detach()
    second.host.detach()
    assert not case.hooks()


def test_a_plan_for_a_model_that_was_exchanged_meanwhile_goes_into_no_other(case, adapters):
    before = case.bits()
    session = Session(case.host, adapters)
    activate(session, "<lora:a:1>")
    late = plan([Active(read_prompt("<lora:b:1>").tags[0], session.cache.read(adapters.find("b").path))],
                case.another().targets())  # fmt: skip
    with pytest.raises(PatchError, match="the model was exchanged"):
        case.host.apply(late)
    assert case.bits() == before


def test_a_released_host_leaves_no_hook(case, adapters):
    activate(Session(case.host, adapters), "<lora:a:1>")
    case.host.patcher.release()
    modules = [module for root in case.roots for module in root.modules()]
    assert not any(module._load_state_dict_pre_hooks or module._forward_hooks for module in modules)


# moved and cast


def test_a_model_moved_and_cast_while_patched_comes_back_as_if_never_patched(case, adapters, request):
    session = Session(case.host, adapters)
    activate(session, "<lora:a:1>")
    for root in case.roots:
        root.half()
    session.clear()
    halved = case.bits()
    fresh = HOSTS[request.node.callspec.params["case"]]()
    for root in fresh.roots:
        root.half()
    assert halved == fresh.bits()
