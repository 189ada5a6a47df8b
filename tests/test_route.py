"""Merged or beside: one ordered list of reasons, and what a schedule does to a model from step to step."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lib_lora.algorithms.dora import Dora
from lib_lora.algorithms.lora import Lora
from lib_lora.engine import hooks, merged, records
from lib_lora.engine.plan import Term
from lib_lora.engine.route import COSTS, REASONS, Case, Circumstances, reason_for, route, seconds_beside, seconds_merged
from lib_lora.errors import PatchError
from lib_lora.grammar.moment import USUAL_STEPS
from lib_lora.grammar.tag import read_prompt
from lib_lora.grammar.who import Area, Row, Who
from lib_lora.model.slots import Slot, slots_of
from lib_lora.model.targets import Target, index_checkpoint
from lib_lora.session.session import Session
from lib_lora.session.torch_host import TorchHost
from lib_lora.session.wanted import Wanted
from tests.support import Folder, ThreeLayers, fingerprint, three_layer_host, write_lora
from tests.support_rows import Maker, Tiny, index_of, moment, no_problem

AROUND = Circumstances(calls=20)
ATTENTION = "down_blocks_0_attentions_0_transformer_blocks_0_attn1"
COND = Who(None, "cond")
OUTER, DEEP = "input_blocks.1.1.transformer_blocks.0.attn1.to_q", "middle_block.1.transformer_blocks.0.attn1.to_q"


def slot(outputs: int = 64, inputs: int = 64, *, dtype: torch.dtype = torch.float32) -> Slot:
    with torch.device("meta"):
        layer = nn.Linear(inputs, outputs)
    return Slot(layer.to_empty(device="cpu").to(dtype), "weight")


def term(*, dora: bool = False, path: str = OUTER, shape=(64, 64), rank: int = 4, **fields) -> Term:
    delta = Lora(torch.ones(shape[0], rank), torch.ones(rank, shape[1]), 1.0)
    fields = {"multiplier": 1.0, "dyn": None, "source": "a", **fields}
    return Term(Target("key", "unet", shape, path=path), Dora(delta, torch.ones(shape[0]), False) if dora else delta,
                **fields)  # fmt: skip


# The list


@pytest.mark.parametrize(("name", "fields", "around", "dtype"), [
    ("restricted", {"who": COND}, {}, torch.float32),
    ("restricted", {"region": Area(0, 0, 1, 0.5)}, {"bypass_all": True}, torch.float8_e4m3fn),
    ("no sum", {}, {}, torch.float8_e4m3fn),
    ("asked for", {}, {"bypass_all": True}, torch.float32),
    ("constant", {}, {}, torch.float32),
    ("window", {"changes": 2}, {}, torch.float32),
    ("compiled", {"changes": 19}, {"is_compiled": True}, torch.float32),
    ("no product", {"changes": 19, "dora": True}, {}, torch.float32),
])  # fmt: skip
def test_the_first_reason_that_holds_counts(name, fields, around, dtype):
    assert reason_for(Case(term(**fields), slot(dtype=dtype), replace(AROUND, **around))).name == name


def test_each_reason_says_why_and_the_last_always_holds():
    assert all(reason.why for reason in REASONS)
    assert len({reason.name for reason in REASONS}) == len(REASONS)
    assert REASONS[-1].holds(Case(term(), slot(), AROUND))


@pytest.mark.parametrize("device", COSTS)
def test_deep_layers_go_beside_and_outer_ones_are_merged_anew(device, monkeypatch):
    """SD1.5 at 512x512, a curve over 20 steps: 4096 tokens of 320 channels, or 64 of 1280."""
    monkeypatch.setitem(COSTS, "cpu", COSTS[device])
    outer = Case(term(changes=19, path=OUTER, shape=(320, 320), rank=32), slot(320, 320), AROUND)
    deep = Case(term(changes=19, path=DEEP, shape=(1280, 1280), rank=32), slot(1280, 1280), AROUND)
    assert seconds_beside(deep) < seconds_merged(deep)
    assert reason_for(deep).name == "cheaper"
    if device == "cpu":
        assert seconds_merged(outer) < seconds_beside(outer)
        assert reason_for(outer).name == "else"
    larger, fewer = replace(AROUND, size=(512, 512), rows=8), replace(AROUND, calls=100)
    assert seconds_beside(replace(deep, around=larger)) > 4 * seconds_beside(deep)
    assert seconds_beside(replace(deep, around=fewer)) == pytest.approx(5 * seconds_beside(deep))


def test_what_is_restricted_goes_beside_alone_while_all_terms_are_sums():
    shared, own = term(), term(who=COND)
    assert route((own, shared), slot(), AROUND).merged == (shared,)
    assert route((own, shared), slot(), AROUND).beside == (own,)


@pytest.mark.parametrize("terms", [
    (term(), term(dora=True, who=COND)), (term(who=COND), term(dora=True)), (term(dora=True, who=COND), term())])
def test_all_terms_go_beside_where_one_would_see_another_weight(terms):
    found = route(terms, slot(), AROUND)
    assert found.beside == terms
    assert found.merged == ()


def test_what_needs_the_weight_is_merged_before_a_restricted_sum():
    first, second = term(dora=True), term(who=COND)
    assert route((first, second), slot(), AROUND).merged == (first,)


def test_what_varies_is_merged_with_what_needs_the_weight_after_it():
    terms = (term(changes=19, path=DEEP, shape=(1280, 1280)), term(dora=True, path=DEEP, shape=(1280, 1280)))
    assert route(terms, slot(1280, 1280), AROUND).merged == terms


# From step to step


@pytest.fixture
def tiny(tmp_path):
    return Tiny("sd1", tmp_path, kinds=("lora", "dora", "loha"))


def activate(tiny: Tiny, prompt: str) -> None:
    assert no_problem(tiny.session.activate(read_prompt(prompt).tags))


def beside_all(monkeypatch):
    monkeypatch.setattr("lib_lora.engine.route.seconds_beside", lambda case: 0.0)


def registered(tiny: Tiny) -> list[object]:
    found = [hook for module in tiny.unet.modules() for hook in module._forward_hooks.values()]
    return [hook.hook if isinstance(hook, hooks.Hidden) else hook for hook in found]  # as soon as anything is compiled


def test_a_curve_tells_the_same_hooks_other_numbers(tiny, monkeypatch):
    beside_all(monkeypatch)
    activate(tiny, "<lora:lora:0.2@0,0@0.5,1@1>")
    first, inputs = registered(tiny), tiny.inputs(1)
    made = [hook._addition for hook in first]
    plain = Tiny("sd1", tiny.folder, kinds=("lora", "dora", "loha")).call(inputs)
    factors = [tuple(map(torch.Tensor.data_ptr, each._made)) for each in made if hasattr(each, "_made")]
    for step, is_plain in ((1, False), (2, True), (3, False), (4, False)):
        tiny.session.advance(moment(step, 5))
        assert [id(hook) for hook in registered(tiny)] == [id(hook) for hook in first]
        assert torch.equal(tiny.call(inputs), plain) == is_plain  # at 0 not a bit of it is another
    assert [hook._addition for hook in first] == made
    assert [tuple(map(torch.Tensor.data_ptr, each._made)) for each in made if hasattr(each, "_made")] == factors
    assert len(factors) > 20
    tiny.session.clear()
    assert not registered(tiny)


def test_the_first_plan_is_routed_as_all_others(tiny, monkeypatch):
    """Before the first step nobody has said how many there are."""
    beside_all(monkeypatch)
    activate(tiny, "<lora:lora:0.2@0,1@1>")
    before = tiny.host.patcher.bypassed
    assert len(before) > 20
    tiny.session.advance(moment(0, USUAL_STEPS))
    assert tiny.host.patcher.bypassed == before


def test_a_window_is_merged_twice_and_hooks_nothing(tiny):
    activate(tiny, "<lora:lora:1:start=0.3:stop=0.7>")
    seen = []
    for step in range(11):
        tiny.session.advance(moment(step, 11))
        seen.append(bool(tiny.host.patcher.patched))
        assert not registered(tiny)
    assert seen == [3 <= step < 7 for step in range(11)]


def test_a_step_touches_only_what_is_another(tiny, monkeypatch):
    folded, sampled = [], []
    fold, sample = merged.fold, records.sample
    activate(tiny, "<lora:more:1><lora:loha:0.2@0,1@1>")
    own = {key for key, terms in tiny.host.patcher.planned().items() if any(term.source == "loha" for term in terms)}
    monkeypatch.setattr(merged, "fold", lambda base, terms, out: (folded.append(terms[0].target.key),
                                                                  fold(base, terms, out)))  # fmt: skip
    monkeypatch.setattr(records, "sample", lambda tensor: (sampled.append(tensor), sample(tensor))[1])
    monkeypatch.setattr(merged, "_tied", lambda *_: pytest.fail("looked for tied weights"))
    tiny.session.advance(moment(1, 20))
    assert set(folded) == own
    assert len(folded) == len(own) < len(tiny.host.patcher.planned())
    assert not sampled
    tiny.session.advance(moment(1, 20))
    assert len(folded) == len(own)


def test_a_change_by_somebody_else_is_noticed_at_the_next_activation(tiny):
    activate(tiny, "<lora:more:1><lora:loha:0.2@0,1@1>")
    tiny.session.advance(moment(1, 20))
    key = next(key for key in tiny.host.patcher.patched if key.endswith("weight"))
    layer = tiny.unet.get_submodule(key.removeprefix("unet.").removesuffix(".weight"))
    layer.weight.data = torch.full_like(layer.weight, 0.5)
    tiny.session.advance(moment(2, 20))
    activate(tiny, "<lora:more:1><lora:loha:0.2@0,1@1>")
    assert not torch.equal(layer.weight, torch.full_like(layer.weight, 0.5))
    tiny.session.clear()
    assert torch.equal(layer.weight, torch.full_like(layer.weight, 0.5))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("CUDA out of memory"), ValueError("no idea")])
@pytest.mark.parametrize("place", ["merged", "beside"])
def test_an_error_in_the_middle_leaves_the_base_weights(tiny, monkeypatch, error, place):
    before = fingerprint(tiny.unet.named_parameters())
    prompt = "<lora:more:1><lora:lora:0.2@0,1@1><lora:dora:0.5:on=cond><lora:loha:1:start=0.4>"
    if place == "beside":
        beside_all(monkeypatch)
    activate(tiny, prompt)
    tiny.session.advance(moment(1, 5))
    count = []

    def fail(*args):
        count.append(args)
        if len(count) == 5:
            raise error
        return real(*args)

    where, name = (merged, "fold") if place == "merged" else (hooks.Adding, "tell")
    real = getattr(where, name)
    with monkeypatch.context() as context:
        context.setattr(where, name, fail)
        with pytest.raises((PatchError, KeyboardInterrupt, ValueError)):
            _go_on(tiny)
    assert len(count) >= 5
    assert fingerprint(tiny.unet.named_parameters()) == before
    assert not registered(tiny)
    activate(tiny, prompt)
    tiny.session.clear()
    assert fingerprint(tiny.unet.named_parameters()) == before


def _go_on(tiny: Tiny) -> None:
    for step in (2, 3, 4):
        tiny.session.advance(moment(step, 5))


def test_two_hosts_of_one_model_hear_the_same_rows_and_follow_each_other(tiny):
    other = Session(TorchHost(lambda: slots_of(tiny.unet, "unet."), index_of), Folder(tiny.folder))
    inputs, results = tiny.inputs(2), []
    wanted = Wanted((read_prompt("<lora:lora:1:on=cond><lora:more:0@0,1@1>").tags,))
    for session in (tiny.session, other, tiny.session):
        session.activate(wanted)
        session.advance(moment(2, 5))
        session.rows([Row(0, "cond"), Row(0, "uncond")])
        results.append(tiny.call(inputs))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    tiny.session.clear()
    other.clear()
    assert not registered(tiny)


def test_a_deep_copy_keeps_what_it_adds_whatever_the_first_does(tiny, monkeypatch):
    beside_all(monkeypatch)
    inputs = tiny.inputs(2)
    activate(tiny, "<lora:lora:0.2@0,1@1><lora:more:0.5:on=cond>")
    tiny.session.rows([Row(0, "cond"), Row(0, "uncond")])
    before, copied = tiny.call(inputs), copy.deepcopy(tiny.unet)
    tiny.session.advance(moment(3, 5))
    tiny.session.rows([Row(0, "uncond"), Row(0, "cond")])
    first, tiny.unet = tiny.unet, copied
    assert torch.equal(tiny.call(inputs), before)
    tiny.unet = first
    assert not torch.allclose(tiny.call(inputs), before, atol=1e-3)


def test_a_compiled_model_hears_of_rows_and_moments(tmp_path, monkeypatch):
    beside_all(monkeypatch)
    model, x = ThreeLayers().requires_grad_(False), torch.randn(2, 3, 8)
    for seed, name in enumerate("ab"):
        write_lora(tmp_path / f"{name}.safetensors", {f"lora_unet_{ATTENTION}_to_q": (8, 8)}, seed=seed)
    session, layer = Session(three_layer_host(model), Folder(tmp_path)), model.block.to_q
    torch._dynamo.reset()
    compiled = torch.compile(Outer(model), backend="eager")
    wanted = Wanted((read_prompt("<lora:a:0.2@0,1@1:force=1><lora:b:0.5:on=cond:force=1>").tags,))
    plain, results = compiled(x).clone(), []
    assert no_problem(session.activate(wanted))
    for step, sides in ((0, "cu"), (3, "cu"), (3, "uc"), (4, "uc")):
        session.advance(moment(step, 5))
        session.rows([Row(0, "cond" if side == "c" else "uncond") for side in sides])
        results.append(compiled(x).clone())
        assert torch.equal(results[-1], layer(x))
        assert not any(torch.allclose(results[-1], earlier, atol=1e-3) for earlier in (plain, *results[:-1]))
    session.clear()
    assert torch.equal(compiled(x), plain)


class Outer(nn.Module):
    """What is compiled: it calls the layer, as a UNet does."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner.block.to_q(x)


class Blocks(nn.Module):
    """Two transformer blocks of one kind, of which a UNet has many."""

    LAYERS = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "ff.net.2")

    def __init__(self) -> None:
        from diffusers.models.attention import BasicTransformerBlock

        super().__init__()
        self.blocks = nn.ModuleList([BasicTransformerBlock(8, 2, 4) for _ in range(2)])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x

    def slots(self) -> dict[str, Slot]:
        """By the names of a checkpoint."""
        return {f"model.diffusion_model.input_blocks.{number}.1.transformer_blocks.0.{path}.{part}": slot
                for number, block in enumerate(self.blocks, 1) for path in self.LAYERS
                for part, slot in slots_of(block.get_submodule(path)).items()}  # fmt: skip


def test_a_compiled_model_with_layers_of_one_kind_tells_them_apart(tmp_path):
    """It falls into pieces at what changes, and a piece that was made for one layer is not taken for another."""
    model, x, maker = Blocks().eval().requires_grad_(False), torch.randn(2, 3, 8), Maker(1)
    tensors = {}
    for number, path, kind in ((0, "attn1.to_q", "lora"), (1, "attn1.to_v", "dora"), (1, "ff.net.2", "lora")):
        shape = model.blocks[number].get_submodule(path).weight.shape
        name = f"lora_unet_down_blocks_0_attentions_{number}_transformer_blocks_0_{path.replace('.', '_')}"
        tensors |= {f"{name}.{part}": tensor for part, tensor in getattr(maker, kind)(shape).items()}
    save_file(tensors, tmp_path / "a.safetensors")
    session = Session(TorchHost(model.slots, index_checkpoint), Folder(tmp_path))
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    plain = compiled(x).clone()
    assert no_problem(session.activate(Wanted((read_prompt("<lora:a:0:0.8:force=1:on=cond>").tags,))))
    for sides in (("cond", "uncond"), ("uncond", "cond")):
        session.rows([Row(0, side) for side in sides])
        made = compiled(x).clone()
        assert torch.equal(made, model(x))
        assert not torch.allclose(made, plain, atol=1e-3)
    session.clear()
    assert torch.equal(compiled(x), plain)
