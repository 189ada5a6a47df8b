"""How exact: against the float64 result, whatever the ranks, shapes, numbers of adapters and multipliers.

fp16 and bf16 weights: 99.9% of the entries within one unit in the last place; fp32: within 1e-6 of max(|W|, |delta|).
"""

# ruff: noqa: E501  (tables and names that are sentences)

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lib_lora.algorithms import base as base_of_algorithms
from lib_lora.algorithms.read import read_module
from lib_lora.engine.fold import fold
from lib_lora.engine.plan import Step
from lib_lora.model.targets import Target

SIZES = st.integers(1, 6).map(lambda n: 4 * n)
RANKS = st.integers(1, 12)
KERNELS = st.sampled_from([(), (1, 1), (3, 3)])
MULTIPLIERS = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0]), st.floats(-3, 3))
INTEGERS = {torch.float16: torch.int16, torch.bfloat16: torch.int16}
TARGET = "w"


def lora(o, i, kernel, r):
    return {"up": torch.randn(o, r), "down": torch.randn(r, i, *kernel)}


def tucker(o, i, kernel, r):
    kernel = kernel or (1, 1)
    return {"up": torch.randn(o, r, 1, 1), "down": torch.randn(r, i, 1, 1), "mid": torch.randn(r, r, *kernel)}


def loha(o, i, kernel, r):
    size = i * torch.Size(kernel).numel()
    return {
        f"hada_w{n}_{side}": torch.randn(o, r) if side == "a" else torch.randn(r, size) for n in "12" for side in "ab"
    }


def lokr(o, i, kernel, r):
    return {
        "lokr_w1": torch.randn(2, 2),
        "lokr_w2_a": torch.randn(o // 2, r),
        "lokr_w2_b": torch.randn(r, i // 2 * torch.Size(kernel).numel()),
    }


def full(o, i, kernel, r):
    return {"diff": torch.randn(o, i, *kernel)}


def ia3(o, i, kernel, r):
    return {"weight": torch.randn(o if r % 2 else i), "on_input": torch.tensor(r % 2 == 0)}


def glora(o, i, kernel, r):
    r = min(r, i)  # as trainers have it: else the two generations cannot be told apart
    return {
        "a1": torch.randn(i, r) / 4,
        "a2": torch.randn(r, i),
        "b1": torch.randn(o, r),
        "b2": torch.randn(r, i, *kernel),
    }


def oft(o, i, kernel, r):
    return {"oft_blocks": torch.randn(o // 4, 4, 4), "rescale": torch.rand(o, 1) + 0.5}


def boft(o, i, kernel, r):
    return {"oft_blocks": torch.randn(2, o // 4, 4, 4)} if o % 8 == 0 else {"oft_blocks": torch.randn(1, o // 4, 4, 4)}


def oft2(o, i, kernel, r):
    return {"oft_r": torch.randn(i * torch.Size(kernel).numel() // 4, 6) / 8}


def dora(o, i, kernel, r):
    return {**lora(o, i, kernel, r), "dora_scale": torch.rand(o, 1) + 0.1}


def dora_of_inputs(o, i, kernel, r):
    return {**loha(o, i, kernel, r), "dora_scale": torch.rand(1, i) + 0.1}


ADDITIVE = (lora, tucker, loha, lokr, full)
ALL = (*ADDITIVE, ia3, glora, oft, boft, oft2, dora, dora_of_inputs)


def compare(makers, seed, o, i, kernel, rank, multipliers, dtype, file_dtype, scale):
    """(result in `dtype`, the float64 result, the base, the sum of what was added)."""
    torch.manual_seed(seed)
    kernel = kernel or ((1, 1) if tucker in makers else ())
    base = (torch.randn(o, i, *kernel) * scale).to(dtype)
    target = Target(TARGET, "unet", tuple(base.shape))
    steps = []
    for maker, multiplier in zip(makers, multipliers, strict=True):
        parts = {name: (tensor * (0.3 if tensor.dim() > 1 else 1)).to(file_dtype) if tensor.is_floating_point() else tensor
                 for name, tensor in maker(o, i, kernel, rank).items()}  # fmt: skip
        delta = read_module(parts)[0]["weight"]
        assert delta.misfit(target.shape) is None
        steps.append(Step(target, delta, multiplier, None, maker.__name__))
    out = torch.empty_like(base)
    fold(base, steps, out)
    exact = torch.empty(base.shape, dtype=torch.float64)
    fold(base.double(), steps, exact)
    return out, exact, base.double(), exact - base.double()


def ulps(found: Tensor, exact: Tensor) -> Tensor:
    """Representable numbers between each result and the rounded exact one."""

    def ladder(tensor: Tensor) -> Tensor:
        bits = tensor.view(INTEGERS[tensor.dtype]).int()
        return torch.where(bits < 0, -(bits & 0x7FFF), bits)

    return (ladder(found) - ladder(exact.to(found.dtype))).abs()


CASES = dict(seed=st.integers(0, 2**31), o=SIZES, i=SIZES, kernel=KERNELS, rank=RANKS, data=st.data(),
             file_dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]), scale=st.sampled_from([0.02, 1.0]))  # fmt: skip


def drawn(data, makers):
    chosen = data.draw(st.lists(st.sampled_from(makers), min_size=1, max_size=4))
    return chosen, [data.draw(MULTIPLIERS) for _ in chosen]


@settings(max_examples=120, deadline=None)
@given(**CASES)
def test_fp32_weights_are_within_a_millionth(seed, o, i, kernel, rank, data, file_dtype, scale):
    makers, multipliers = drawn(data, ADDITIVE)
    out, exact, base, delta = compare(makers, seed, o, i, kernel, rank, multipliers, torch.float32, file_dtype, scale)
    # of several adapters that cancel, the largest
    largest = max(compare([maker], seed, o, i, kernel, rank, [m], torch.float32, file_dtype, scale)[3].abs().max()
                  for maker, m in zip(makers, multipliers, strict=True))  # fmt: skip
    assert (out.double() - exact).abs().max() <= 1e-6 * max(base.abs().max(), delta.abs().max(), largest)


@settings(max_examples=120, deadline=None)
@given(**CASES, dtype=st.sampled_from([torch.float16, torch.bfloat16]))
def test_fp16_and_bf16_weights_are_within_one_unit_in_the_last_place(
    seed, o, i, kernel, rank, data, file_dtype, scale, dtype
):
    makers, multipliers = drawn(data, ADDITIVE)
    out, exact, _, _ = compare(makers, seed, o, i, kernel, rank, multipliers, dtype, file_dtype, scale)
    far = (ulps(out, exact) > 1) & ((out.double() - exact).abs() > 1e-7)  # where terms cancel, a unit is nothing
    assert far.sum() <= max(0.001 * far.numel(), 0)


@settings(max_examples=120, deadline=None)
@given(**CASES, dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
def test_what_depends_on_the_weight_is_as_exact(seed, o, i, kernel, rank, data, file_dtype, scale, dtype):
    maker = data.draw(st.sampled_from(ALL))
    multiplier = data.draw(MULTIPLIERS)
    out, exact, base, delta = compare([maker], seed, o, i, kernel, rank, [multiplier], dtype, file_dtype, scale)
    if dtype == torch.float32:
        assert (out.double() - exact).abs().max() <= 1e-6 * max(base.abs().max(), delta.abs().max())
    else:
        far = (ulps(out, exact) > 1) & ((out.double() - exact).abs() > 1e-6 * base.abs().max())
        assert not far.any()


@settings(max_examples=60, deadline=None)
@given(**CASES)
def test_the_multiplier_zero_leaves_every_bit(seed, o, i, kernel, rank, data, file_dtype, scale):
    maker = data.draw(st.sampled_from(ALL))
    out, _, base, _ = compare([maker], seed, o, i, kernel, rank, [0.0], torch.float16, file_dtype, scale)
    assert torch.equal(out.double(), base)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_of_a_real_layer_999_of_1000_entries_are_within_one_unit(dtype):
    """Eight adapters of rank 64 on a 640x640 layer: the strict form, no entry excused."""
    for maker in (lora, loha, lokr):
        out, exact, _, _ = compare(
            [maker] * 8, 1, 640, 640, (), 64, [1, -1, 0.7, 2, -0.3, 1.5, 1, 0.1], dtype, torch.float16, 1.0
        )
        assert (ulps(out, exact) <= 1).float().mean() >= 0.999


def test_of_a_real_layer_fp32_is_within_a_millionth_of_each_entry_almost_everywhere():
    out, exact, base, delta = compare([lora] * 3, 1, 640, 640, (), 64, [1, -1, 0.7], torch.float32, torch.float16, 1.0)
    error = (out.double() - exact).abs()
    assert error.max() <= 1e-6 * max(base.abs().max(), delta.abs().max())
    assert (error <= 1e-6 * torch.maximum(base.abs(), delta.abs())).float().mean() >= 0.98


@pytest.mark.parametrize("entries", [1, 40, 1000])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("onto", ["other memory", "the base weight"])
@pytest.mark.parametrize("given", [torch.float16, torch.float32])
def test_half_precision_is_written_in_slices_of_any_size(monkeypatch, entries, dtype, onto, given):
    """Rows of 18 entries, two adapters; also from a base weight that is stored as something else."""
    monkeypatch.setitem(base_of_algorithms.SLICE, True, entries)
    torch.manual_seed(0)
    base = torch.randn(7, 2, 3, 3).to(dtype)
    parts = [lora(7, 2, (3, 3), rank) for rank in (1, 4)]
    target = Target(TARGET, "unet", tuple(base.shape))
    steps = [Step(target, read_module({name: tensor.to(given) for name, tensor in each.items()})[0]["weight"], 0.7, None, "a")
             for each in parts]  # fmt: skip
    exact = torch.empty(base.shape, dtype=torch.float64)
    fold(base.double(), steps, exact)
    start = base.clone()
    out = start if onto == "the base weight" else torch.empty_like(base)
    fold(start, steps, out)
    assert ulps(out, exact).max() <= 1
    if onto == "other memory":
        fold(base.float(), steps, out)
        assert ulps(out, exact).max() <= 1
