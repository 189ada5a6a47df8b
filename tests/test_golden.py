"""Adapter files with the weights that the libraries which trained them compute: through the plan, and through a Session.

tests/golden/ was written by `python -m tests.make_golden`; where the golden folder lies beside the repository, all of it is
tried too.
"""

# ruff: noqa: E501  (tables and names that are sentences)

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lib_lora.adapters.adapter import read_adapter
from lib_lora.engine.active import Active
from lib_lora.engine.schedule import plan
from lib_lora.grammar.tag import LoraTag
from tests.support_golden import (
    GIVEN,
    OWN,
    Carrier,
    base_key,
    by_plan,
    checkpoint_session,
    diffusers_names,
    diffusers_session,
    folded,
    given_base,
    given_cases,
    in_diffusers_layout,
    index_of,
    own_file,
    tag_of,
)

OWN_CASES = sorted(path.name.removesuffix(".expected.safetensors") for path in OWN.glob("*.expected.safetensors"))


def test_there_are_golden_files_of_every_algorithm():
    algorithms = {name for case in OWN_CASES for name in read_adapter(own_file(case)).algorithms}
    assert algorithms >= {
        "LoCon",
        "LoRA",
        "LoHa",
        "LoKr",
        "Full",
        "IA3",
        "GLoRA",
        "diag-OFT",
        "BOFT",
        "OFTv2",
        "T-LoRA",
        "Norm",
        "DoRA",
    }


@pytest.mark.parametrize("name", OWN_CASES)
def test_a_merged_file_gives_the_weights_with_which_its_own_library_computes(name):
    base = load_file(OWN / "base.safetensors")
    expected = load_file(OWN / f"{name}.expected.safetensors")
    after = by_plan(base, own_file(name), LoraTag("x"))
    for key, tensor in expected.items():
        assert torch.allclose(after[key], tensor, rtol=1e-5, atol=2e-6), key
    changed = {key for key in base if not torch.equal(base[key], after[key])}
    assert changed
    assert changed <= expected.keys()


@pytest.mark.parametrize("name", OWN_CASES)
def test_half_the_multiplier_is_half_the_way(name):
    base = load_file(OWN / "base.safetensors")
    whole, half, back = (by_plan(base, own_file(name), LoraTag("x", m, m)) for m in (1.0, 0.5, -1.0))
    for key, tensor in base.items():
        assert torch.allclose(half[key] - tensor, (whole[key] - tensor) / 2, atol=2e-6), key
        assert torch.allclose(back[key] - tensor, tensor - whole[key], atol=2e-6), key


@pytest.mark.parametrize("name", OWN_CASES)
def test_a_session_gives_the_same_and_takes_it_back_exactly(name):
    base = load_file(OWN / "base.safetensors")
    expected = load_file(OWN / f"{name}.expected.safetensors")
    model = Carrier(base)
    session = checkpoint_session(model, own_file(name))
    before = model.tensors()
    session.activate([LoraTag("x")])
    for key, tensor in expected.items():
        assert torch.allclose(model.tensors()[key], tensor, rtol=1e-5, atol=2e-6), key
    session.clear()
    assert model.tensors().keys() == before.keys()
    assert all(torch.equal(model.tensors()[key], tensor) for key, tensor in before.items())


def expectation(case, expected):
    return expected[case["expected"]].double() * case["expected_scale"]


def assert_close(found, case, expected):
    wanted = expectation(case, expected)
    difference = (found - wanted).abs()
    assert bool((difference <= case["atol"] + case["rtol"] * wanted.abs() + 2e-6).all()), case["expected"]


@pytest.mark.parametrize("file", sorted(given_cases()))
def test_merging_gives_the_given_numbers(file):
    cases = given_cases()[file]
    base = given_base(cases[0]["family"])
    expected = load_file(GIVEN / "expected" / f"{Path(file).stem}.safetensors")
    adapter = read_adapter(GIVEN.parent / file)
    for multiplier in {case["multiplier"] for case in cases}:
        after = folded(base, plan([Active(tag_of(cases[0], multiplier), adapter)], index_of(base)))
        for case in (case for case in cases if case["multiplier"] == multiplier):
            found = after[base_key(case)].double() - base[base_key(case)].double()
            if "slice" in case:
                found = found.narrow(case["slice"]["dim"], case["slice"]["start"], case["slice"]["length"])
            assert_close(found, case, expected)


@pytest.mark.parametrize("layout", ["checkpoint", "diffusers"])
@pytest.mark.parametrize("file", sorted(given_cases()))
def test_a_session_gives_the_given_numbers_in_both_layouts(file, layout):
    cases = given_cases()[file]
    base = given_base(cases[0]["family"])
    expected = load_file(GIVEN / "expected" / f"{Path(file).stem}.safetensors")
    own = base if layout == "checkpoint" else in_diffusers_layout(base)
    model = Carrier(own)
    before = model.tensors()
    session = (checkpoint_session if layout == "checkpoint" else diffusers_session)(model, GIVEN.parent / file)
    names = {(target.key, target.rows): (name, target) for name, target in diffusers_names(base)}
    for multiplier in sorted({case["multiplier"] for case in cases}):
        session.activate([tag_of(cases[0], multiplier)])
        after = model.tensors()
        for case in (case for case in cases if case["multiplier"] == multiplier):
            key = base_key(case)
            cut = case.get("slice")
            if layout == "checkpoint":
                found = after[key].double() - before[key].double()
                if cut:
                    found = found.narrow(cut["dim"], cut["start"], cut["length"])
            else:
                name, target = names[key, (cut["start"], cut["start"] + cut["length"]) if cut else None]
                found = after[name].double() - before[name].double()
                if target.transposed:
                    found = found.T
            assert_close(found, case, expected)
    session.clear()
    assert all(torch.equal(model.tensors()[key], tensor) for key, tensor in before.items())
