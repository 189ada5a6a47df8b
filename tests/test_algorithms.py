"""What each algorithm adds, with numbers that one can do in the head."""

# ruff: noqa: E501  (tables and names that are sentences)

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from lib_lora.algorithms import base as base_of_algorithms
from lib_lora.algorithms.base import Origin, PartsError
from lib_lora.algorithms.read import read_module
from lib_lora.engine.fold import fold
from lib_lora.engine.plan import Term
from lib_lora.model.targets import Target

ONE = tensor([[1.0, 2.0], [3.0, 4.0]])
EYE = torch.eye(2)


def value(parts, weight=ONE, origin=None, part="weight"):
    found, _, _ = read_module(parts, origin)
    assert found[part].misfit(tuple(weight.shape)) is None
    return found[part].value(weight)


def is_close(found, wanted):
    return torch.allclose(found, tensor(wanted), atol=1e-6)


UP, DOWN = tensor([[1.0], [2.0]]), tensor([[3.0, 4.0]])


def test_lora_is_up_times_down_times_alpha_over_rank():
    assert is_close(value({"up": UP, "down": DOWN}), [[3.0, 4.0], [6.0, 8.0]])
    assert is_close(value({"up": UP, "down": DOWN, "alpha": tensor(0.5)}), [[1.5, 2.0], [3.0, 4.0]])
    assert is_close(value({"up": UP, "down": DOWN, "alpha": tensor([2])}), [[6.0, 8.0], [12.0, 16.0]])
    assert is_close(value({"up": UP, "down": DOWN, "scalar": tensor(10.0)}), [[30.0, 40.0], [60.0, 80.0]])


def test_an_alpha_of_zero_means_alpha_is_the_rank_and_is_told():
    found, _, notes = read_module({"up": UP, "down": DOWN, "alpha": tensor(0.0)})
    assert is_close(found["weight"].value(ONE), [[3.0, 4.0], [6.0, 8.0]])
    assert notes == ["alpha is 0; taken as alpha = rank, as the trainers do"]


def test_alpha_of_the_metadata_counts_only_where_none_is_stored():
    up, down = torch.ones(2, 4), torch.ones(4, 2)
    assert is_close(value({"up": up, "down": down}, origin=Origin(alpha=2.0)), [[2.0, 2.0], [2.0, 2.0]])
    assert is_close(
        value({"up": up, "down": down}, origin=Origin(alpha=2.0, alpha_root=True)), [[4.0, 4.0], [4.0, 4.0]]
    )
    stored = {"up": up, "down": down, "alpha": tensor(1.0)}
    assert is_close(value(stored, origin=Origin(alpha=2.0, alpha_root=True)), [[1.0, 1.0], [1.0, 1.0]])
    assert is_close(value(stored, origin=Origin(root=True)), [[2.0, 2.0], [2.0, 2.0]])


def test_the_bias_of_lora_has_its_scale():
    found, left, _ = read_module({"up": UP, "down": DOWN, "alpha": tensor(0.5), "lora_bias": tensor([2.0, 4.0])})
    assert is_close(found["bias"].value(torch.zeros(2)), [1.0, 2.0])
    assert left == []


def test_lora_and_the_difference_of_a_bias_are_independent():
    found, _, _ = read_module({"up": UP, "down": DOWN, "alpha": tensor(0.5), "diff_b": tensor([2.0, 4.0])})
    assert is_close(found["bias"].value(torch.zeros(2)), [2.0, 4.0])
    assert found["weight"].algorithm == "LoRA"


def test_tucker_cores_stand_between_the_factors():
    parts = {"up": UP, "down": DOWN, "mid": torch.full((1, 1, 1, 2), 0.5)}
    assert is_close(value(parts, torch.zeros(2, 2, 1, 2))[:, :, 0, 1], [[1.5, 2.0], [3.0, 4.0]])


def test_a_sparse_residual_is_some_entries_more():
    parts = {"up": UP, "down": DOWN, "alpha": tensor(0.5), "bias_indices": tensor([[0], [1]], dtype=torch.int16),
             "bias_values": tensor([10.0]), "bias_size": tensor([2, 2])}  # fmt: skip
    assert is_close(value(parts), [[1.5, 7.0], [3.0, 4.0]])
    with pytest.raises(PartsError, match="outside of the weight"):
        read_module({**parts, "bias_indices": tensor([[0], [2]], dtype=torch.int16)})


def test_loha_multiplies_two_products_entry_by_entry():
    parts = {"hada_w1_a": UP, "hada_w1_b": DOWN, "hada_w2_a": UP, "hada_w2_b": DOWN, "alpha": tensor(2.0)}
    assert is_close(value(parts), [[18.0, 32.0], [72.0, 128.0]])


def test_lokr_repeats_the_second_factor_times_each_entry_of_the_first():
    parts = {"lokr_w1": tensor([[1.0, 10.0]]), "lokr_w2": tensor([[1.0, 2.0]]), "alpha": tensor(7.0)}
    assert is_close(value(parts, torch.zeros(1, 4)), [[1.0, 2.0, 10.0, 20.0]])  # both whole: alpha does not count
    parts = {
        "lokr_w1": tensor([[1.0, 10.0]]),
        "lokr_w2_a": tensor([[1.0]]),
        "lokr_w2_b": tensor([[1.0, 2.0]]),
        "alpha": tensor(2.0),
    }
    assert is_close(value(parts, torch.zeros(1, 4)), [[2.0, 4.0, 20.0, 40.0]])


def test_full_and_norm_are_the_difference_itself():
    found, left, _ = read_module({"diff": EYE, "diff_b": tensor([1.0, 2.0])})
    assert is_close(found["weight"].value(ONE), [[1.0, 0.0], [0.0, 1.0]])
    assert is_close(found["bias"].value(torch.zeros(2)), [1.0, 2.0])
    found, left, _ = read_module({"w_norm": tensor([1.0, 2.0]), "b_norm": tensor([3.0, 4.0])})
    assert is_close(found["weight"].value(torch.zeros(2)), [1.0, 2.0])
    assert is_close(found["bias"].value(torch.zeros(2)), [3.0, 4.0])
    assert left == []


def test_ia3_scales_inputs_or_outputs():
    factors = tensor([1.0, 10.0])
    assert is_close(value({"weight": factors, "on_input": tensor(1)}), [[1.0, 20.0], [3.0, 40.0]])
    assert is_close(value({"weight": factors, "on_input": tensor(False)}), [[1.0, 2.0], [30.0, 40.0]])
    assert is_close(value({"weight": factors.reshape(1, 2, 1, 1), "on_input": tensor(0)}), [[1.0, 2.0], [30.0, 40.0]])


def test_glora_adds_some_of_the_weight_in_both_generations():
    new = {"a1": tensor([[1.0], [0.0]]), "a2": tensor([[0.0, 1.0]]), "b1": UP, "b2": DOWN, "alpha": tensor(1.0)}
    wanted = [[3.0, 5.0], [6.0, 11.0]]  # the first column of W in the second, plus up @ down
    assert is_close(value(new), wanted)
    old = {"a1": new["a2"], "a2": new["a1"], "b1": DOWN, "b2": UP, "alpha": tensor(1.0)}
    assert is_close(value(old), wanted)


def test_oft_turns_the_outputs():
    half = math.tan(math.pi / 8) / 2  # Cayley of this is a quarter of a half turn: 45 degrees
    parts = {"oft_blocks": tensor([[[0.0, half], [-half, 0.0]]])}
    root = math.sqrt(0.5)
    assert is_close(value(parts, EYE) + EYE, [[root, -root], [root, root]])
    parts["rescale"] = tensor([[2.0], [1.0]])
    assert is_close(value(parts, EYE) + EYE, [[2 * root, -2 * root], [root, root]])


def test_the_constraint_of_oft_limits_the_generator_and_at_zero_only_kohya_obeys():
    blocks = {"oft_blocks": tensor([[[0.0, 5.0], [-5.0, 0.0]]]), "alpha": tensor(0.0)}
    assert value(blocks, EYE).abs().max() > 0.5
    assert value(blocks, EYE, Origin(kohya_oft=True)).abs().max() < 1e-6
    tight = {
        **blocks,
        "alpha": tensor(math.sqrt(2) * math.tan(math.pi / 8) / 2),
    }  # times 2 outputs: the norm of 45 degrees
    root = math.sqrt(0.5)
    assert is_close(value(tight, EYE) + EYE, [[root, -root], [root, root]])


def test_oft_diag_is_the_rotation_itself_and_of_its_first_days_without_the_identity():
    turn = tensor([[[0.0, 1.0], [-1.0, 0.0]]]) * 0.1 + torch.eye(2) * 0.99
    assert is_close(value({"oft_diag": turn}, EYE) + EYE, [[0.99, -0.1], [0.1, 0.99]])
    assert is_close(value({"oft_diag": turn - torch.eye(2)}, EYE) + EYE, [[0.99, -0.1], [0.1, 0.99]])


def test_boft_of_one_stage_turns_neighbours_and_of_two_what_is_further_apart():
    half = math.tan(math.pi / 4) / 2  # 90 degrees
    quarter = tensor([[0.0, half], [-half, 0.0]])
    still = torch.zeros(2, 2)
    weight = tensor([[1.0], [2.0], [3.0], [4.0]])
    first = {"oft_blocks": torch.stack([quarter, still])[None]}
    assert is_close(value(first, weight) + weight, [[2.0], [-1.0], [3.0], [4.0]])
    second = {"oft_blocks": torch.stack([torch.stack([still, still]), torch.stack([quarter, still])])}
    assert is_close(value(second, weight) + weight, [[3.0], [2.0], [-1.0], [4.0]])


def test_oft2_turns_the_inputs_and_one_block_may_be_for_all():
    parts = {"oft_r": tensor([[0.1]])}
    turn = tensor([[1 - 2 * 0.01 + 0.0001, 2 * 0.1 - 2 * 0.001], [-0.2 + 0.002, 1 - 0.02 + 0.0001]])
    assert torch.allclose(value(parts, EYE) + EYE, turn.T, atol=1e-6)
    assert torch.allclose(value(parts, torch.eye(4)) + torch.eye(4), torch.block_diag(turn, turn).T, atol=1e-6)
    conv = EYE.reshape(2, 2, 1, 1)
    back = value(parts, conv, Origin(onetrainer=True)) + conv
    assert torch.allclose(back[:, :, 0, 0], turn, atol=1e-6)


def test_tlora_adds_nothing_if_nothing_was_learnt():
    weight = torch.diag(tensor([3.0, 2.0, 1.0]))
    parts = {
        "p_layer": tensor([[1.0], [0.0], [0.0]]),
        "q_layer": tensor([[1.0, 0.0, 0.0]]),
        "lambda_layer": tensor([[3.0]]),
    }
    assert is_close(value(parts, weight), torch.zeros(3, 3).tolist())
    found, _, notes = read_module({**parts, "lambda_layer": tensor([[3.5]]), "alpha": tensor(2.0)})
    assert is_close(found["weight"].value(weight), torch.diag(tensor([1.0, 0.0, 0.0])).tolist())
    assert "only on the checkpoint" in notes[0]
    last = {
        "p_layer": tensor([[0.0], [0.0], [1.0]]),
        "q_layer": tensor([[0.0, 0.0, 1.0]]),
        "lambda_layer": tensor([[1.0]]),
    }
    assert is_close(value(last, weight, Origin(singular="last")), torch.zeros(3, 3).tolist())
    with pytest.raises(PartsError, match="random"):
        read_module(parts, Origin(singular="random"))


def test_dora_gives_rows_or_columns_a_length():
    nothing = {"up": torch.zeros(2, 1), "down": torch.zeros(1, 2)}
    weight = tensor([[3.0, 4.0], [6.0, 8.0]])
    rows = {**nothing, "dora_scale": tensor([[10.0], [5.0]])}
    assert is_close(value(rows, weight) + weight, [[6.0, 8.0], [3.0, 4.0]])
    columns = {**nothing, "dora_scale": tensor([[math.sqrt(45), 2 * math.sqrt(80)]])}
    assert is_close(value(columns, weight) + weight, [[3.0, 8.0], [6.0, 16.0]])
    peft = {**nothing, "magnitude": tensor([10.0, 5.0]).reshape(1, 2, 1, 1)}  # of a convolution: outputs all the same
    assert is_close(value(peft, weight) + weight, [[6.0, 8.0], [3.0, 4.0]])


@pytest.mark.parametrize("inner", [
    {"up": torch.zeros(2, 1), "down": torch.zeros(1, 2)},
    {name: torch.zeros(2, 2) for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")},
    {"lokr_w1": torch.zeros(1, 1), "lokr_w2": torch.zeros(2, 2)},
    {"diff": torch.zeros(2, 2)},
])  # fmt: skip
def test_dora_goes_around_anything(inner):
    found, left, _ = read_module({**inner, "dora_scale": tensor([[math.sqrt(5)], [10.0]])})
    assert is_close(found["weight"].value(ONE) + ONE, [[1.0, 2.0], [6.0, 8.0]])
    assert found["weight"].algorithm.startswith("DoRA")
    assert left == []


def test_dora_with_a_length_of_zero_is_left_as_it_is():
    found = value(
        {"up": torch.zeros(2, 1), "down": torch.zeros(1, 2), "dora_scale": tensor([[1.0], [1.0]])}, torch.zeros(2, 2)
    )
    assert is_close(found, [[0.0, 0.0], [0.0, 0.0]])


def test_dyn_uses_the_first_ranks_and_keeps_the_scale():
    parts = {
        "up": tensor([[1.0, 100.0], [2.0, 100.0]]),
        "down": tensor([[3.0, 4.0], [100.0, 100.0]]),
        "alpha": tensor(1.0),
    }
    found, _, _ = read_module(parts)
    assert is_close(found["weight"].truncated(1).value(ONE), [[1.5, 2.0], [3.0, 4.0]])
    assert is_close(found["weight"].truncated(9).value(ONE), value(parts).tolist())


@pytest.mark.parametrize("entries", [1, 8, 36, 1000])
@pytest.mark.parametrize("shape", [(5, 4), (5, 2, 3, 3)])
def test_loha_is_the_same_in_slices_of_any_size(monkeypatch, entries, shape):
    """Also into a weight that is not contiguous, and onto the base weight itself."""
    monkeypatch.setitem(base_of_algorithms.SLICE, True, entries)
    inputs = torch.Size(shape[1:]).numel()
    factors = {"hada_w1_a": (5, 2), "hada_w1_b": (2, inputs), "hada_w2_a": (5, 2), "hada_w2_b": (2, inputs)}
    parts = {name: torch.randn(size) for name, size in factors.items()} | {"alpha": tensor(1.0)}
    delta, base = read_module(parts)[0]["weight"], torch.randn(shape)
    left, right = (parts[f"hada_w{n}_a"] @ parts[f"hada_w{n}_b"] for n in (1, 2))
    expected = base + 0.7 * 0.5 * (left * right).reshape(shape)
    out = torch.empty(shape)
    delta.write(base, 0.7, out)
    assert torch.allclose(out, expected, atol=1e-6)
    onto = base.transpose(0, 1).contiguous().transpose(0, 1)
    delta.add_to(onto, 0.7)
    assert not onto.is_contiguous()
    assert torch.allclose(onto, expected, atol=1e-6)


# the rows of a delta, for models that keep apart what the file has as one

ROWS = {
    "LoRA": {"up": torch.randn(6, 2), "down": torch.randn(2, 4)},
    "LoHa": {"hada_w1_a": torch.randn(6, 2), "hada_w1_b": torch.randn(2, 4), "hada_w2_a": torch.randn(6, 2), "hada_w2_b": torch.randn(2, 4)},
    "LoKr": {"lokr_w1": torch.randn(2, 2), "lokr_w2": torch.randn(3, 2)},
    "Full": {"diff": torch.randn(6, 4)},
    "IA3": {"weight": torch.randn(6), "on_input": tensor(0)},
    "IA3 of inputs": {"weight": torch.randn(4), "on_input": tensor(1)},
    "GLoRA": {"a1": torch.randn(4, 2), "a2": torch.randn(2, 4), "b1": torch.randn(6, 2), "b2": torch.randn(2, 4)},
    "OFT v2": {"oft_r": torch.randn(2, 1)},
    "DoRA": {"up": torch.randn(6, 2), "down": torch.randn(2, 4), "dora_scale": torch.rand(6, 1)},
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_part_of_a_delta_is_the_delta_of_a_part(name):
    weight = torch.randn(6, 4)
    delta = read_module(ROWS[name])[0]["weight"]
    part = delta.part(2, 5, 6)
    assert torch.allclose(part.value(weight[2:5]), delta.value(weight)[2:5], atol=1e-5)


@pytest.mark.parametrize("parts", [
    {"up": torch.zeros(6, 1), "down": torch.zeros(1, 4), "dora_scale": torch.ones(1, 4)},
    {"oft_blocks": torch.zeros(2, 3, 3)},
    {"oft_blocks": torch.zeros(1, 3, 2, 2)},
])  # fmt: skip
def test_what_mixes_rows_has_no_parts(parts):
    assert read_module(parts)[0]["weight"].part(2, 5, 6) is None


# modules that cannot be used

BAD = [
    ({"up": UP}, "incomplete: up alone is not enough"),
    ({"up": UP, "down": torch.zeros(3, 2)}, "ranks 1 and 3"),
    ({"up": tensor(1.0), "down": DOWN}, "up has the shape scalar"),
    ({"up": UP, "down": torch.zeros(0, 2)}, "down has the shape 0x2"),
    ({"up": UP, "down": DOWN, "mid": torch.zeros(2, 1, 3, 3)}, "core has ranks 2x1"),
    ({"up": UP, "down": DOWN, "alpha": torch.zeros(0)}, "alpha is empty"),
    ({"up": torch.zeros(1, 5000), "down": torch.zeros(5000, 1), "mid": torch.zeros(1).expand(5000, 5000, 1, 1)}, "more than any trainer"),
    ({"hada_w1_a": UP, "hada_w1_b": DOWN, "hada_w2_a": UP}, "incomplete"),
    ({"hada_w1_a": UP, "hada_w1_b": DOWN, "hada_w2_a": UP, "hada_w2_b": torch.zeros(2, 2)}, "different shapes"),
    ({"hada_w1_a": UP, "hada_w1_b": DOWN, "hada_w2_a": UP, "hada_w2_b": DOWN, "hada_t1": torch.zeros(1)}, "cores is missing"),
    ({"lokr_w1": UP}, "incomplete"),
    ({"a1": UP, "a2": UP, "b1": UP, "b2": UP}, "do not fit each other"),
    ({"oft_blocks": torch.zeros(1, 2, 3)}, "1x2x3"),
    ({"oft_blocks": torch.zeros(9, 1, 2, 2)}, "too many"),
    ({"oft_r": torch.zeros(2, 2)}, "no triangle"),
    ({"diff": tensor(1.0)}, "single number"),
    ({"up": UP, "down": DOWN, "dora_scale": tensor([[-1.0], [-2.0]])}, "LyCORIS 2.2.0"),
    ({"lora_bias": UP}, "incomplete"),
    ({"set_weight": ONE}, "replaces the weight"),
    ({"up": UP, "down": DOWN, "reshape_weight": tensor([2, 2])}, "another shape"),
    ({"up": UP, "down": DOWN, "lora_E": UP}, "AdaLoRA"),
    ({"vera_lambda_b": UP}, "VeRA"),
    ({"hra_u": UP}, "HRA"),
    ({"miss_block": UP}, "MiSS"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "reason"), BAD)
def test_a_module_that_cannot_be_used_says_why(parts, reason):
    with pytest.raises(PartsError, match=reason):
        read_module(parts)


MISFITS = [
    ({"up": UP, "down": DOWN}, (2, 3), "made for 2x2, the model has 2x3"),
    ({"up": UP, "down": DOWN}, (4,), "made for"),
    ({"up": UP, "down": DOWN, "mid": torch.zeros(1, 1, 3, 3)}, (2, 2, 1, 1), "made for 2x2x3x3, the model has 2x2x1x1"),
    ({"lokr_w1": torch.zeros(1, 6), "lokr_w2": torch.zeros(2, 6)}, (2, 4, 3, 3), "made for 2x36"),
    ({"weight": torch.zeros(3), "on_input": tensor(1)}, (2, 2), "made for 3 inputs, the model has 2"),
    ({"weight": torch.zeros(3), "on_input": tensor(1)}, (2,), "the model has none"),
    ({"oft_blocks": torch.zeros(2, 2, 2)}, (2, 2), "made for 4 outputs"),
    ({"oft_blocks": torch.zeros(1, 2, 2), "rescale": torch.zeros(3)}, (2, 2), "3 factors for 2 outputs"),
    ({"oft_r": torch.zeros(3, 1)}, (2, 2), "made for 6 inputs"),
    ({"w_norm": torch.zeros(3)}, (2,), "made for 3, the model has 2"),
    ({"up": UP, "down": DOWN, "dora_scale": torch.ones(3, 1)}, (2, 2), "3 magnitudes"),
    ({"p_layer": UP, "q_layer": DOWN, "lambda_layer": tensor([1.0])}, (2, 2, 3, 3), "made for 2x2"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "shape", "reason"), MISFITS)
def test_a_misfit_says_what_was_expected(parts, shape, reason):
    assert reason in read_module(parts)[0]["weight"].misfit(shape)


def test_weights_that_depend_on_the_weight_see_what_the_adapters_before_left():
    target = Target("w", "unet", (2, 2))
    scale = read_module({"weight": torch.ones(2), "on_input": tensor(0)})[0]["weight"]  # doubles
    add = read_module({"diff": torch.ones(2, 2)})[0]["weight"]
    out = torch.empty(2, 2)
    fold(ONE, [Term(target, add, 1.0, None, "a"), Term(target, scale, 1.0, None, "b")], out)
    assert is_close(out, [[4.0, 6.0], [8.0, 10.0]])
    fold(ONE, [Term(target, scale, 1.0, None, "b"), Term(target, add, 1.0, None, "a")], out)
    assert is_close(out, [[3.0, 5.0], [7.0, 9.0]])


def test_one_adapter_several_times_is_one_with_the_sum_of_its_weights():
    """Whoever tells the times apart: two pictures of a batch, or a picture and one of its sides."""
    target = Target("w", "unet", (2, 2))
    scale = read_module({"weight": torch.ones(2), "on_input": tensor(0)})[0]["weight"]  # doubles
    add = read_module({"diff": torch.ones(2, 2)})[0]["weight"]
    twice = [Term(target, scale, 0.25, None, "a"), Term(target, add, 1.0, None, "b"), Term(target, scale, 0.25, None, "a")]
    out = torch.empty(2, 2)
    fold(ONE, twice, out)
    assert is_close(out, [[2.5, 4.0], [5.5, 7.0]])  # half as much again, and then one more
    fold(ONE, [term.weighing(weight) for term, weight in zip(twice, (0.0, 1.0, 0.5), strict=True)], out)
    assert is_close(out, [[2.5, 4.0], [5.5, 7.0]])  # the first keeps its place
    for nothing in ([twice[0], twice[2].weighing(-0.25)], []):
        fold(ONE, nothing, out)
        assert torch.equal(out, ONE)
