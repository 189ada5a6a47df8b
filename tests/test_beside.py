"""What varies and what acts on some rows only: each row of a call is what it would be alone, at each moment."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lib_lora.grammar.who import Row
from tests.support_rows import KINDS, Tiny, Typed, acting, assert_near, leaving_nothing, moment, no_problem


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def tiny(request, tmp_path_factory):
    return Tiny(request.param, tmp_path_factory.mktemp(request.param))


def tag(name: str, weight: float, *, sides: str = "both") -> Typed:
    text = f"<lora:{name}:{weight}{'' if sides == 'both' else f':on={sides}'}>"
    return Typed(text, name, lambda step, steps: weight, None if sides == "both" else (sides,))


def rising(name: str, first: float, last: float) -> Typed:
    """A curve from the first step to the last."""
    text = f"<lora:{name}:{first}@0,{last}@1>"
    return Typed(text, name, lambda step, steps: first + (last - first) * step / (steps - 1))


def windowed(name: str, weight: float, start: float, stop: float) -> Typed:
    text = f"<lora:{name}:{weight}:start={start}:stop={stop}>"

    def value(step: int, steps: int) -> float:
        share = step / (steps - 1)
        return weight if start <= share and (share < stop or stop == 1) else 0.0

    return Typed(text, name, value)


def check(tiny: Tiny, prompts, negative=(), *, steps=4, at=(0, 2, 3), each=1, sides=("cond", "uncond"), seed=0):
    """At some moments, the UNet's output for all rows is that of each row alone; afterwards nothing is left."""
    with leaving_nothing(tiny):
        report = tiny.session.activate(tiny.wanted(prompts, negative))
        assert no_problem(report)
        rows = [Row(image, side) for side in sides for image in range(len(prompts))]
        inputs = tiny.inputs(each * len(rows), seed=seed)
        for step in at:
            tiny.session.advance(moment(step, steps))
            tiny.session.rows(rows, (8, 8))
            together = tiny.call(inputs)
            for number, row in itertools.product(range(each), range(len(rows))):
                place = row * each + number
                alone = tiny.alone(acting(prompts, negative, rows[row]), step, steps, inputs, place)
                assert_near(together[place], alone)


@pytest.mark.parametrize("kind", KINDS)
def test_every_algorithm_for_one_picture_of_two_and_on_one_side(tiny, kind):
    check(tiny, [[tag(kind, 0.7), tag("more", -0.5)], [tag("more", 0.3), tag(kind, 0.4, sides="cond")]], at=(0,))


@pytest.mark.parametrize("kind", KINDS)
def test_every_algorithm_over_time(tiny, kind):
    check(tiny, [[rising(kind, 0.2, 0.9), tag("more", 0.5)]])


def test_four_pictures_each_with_another_adapter(tiny):
    check(tiny, [[tag("lora", 1)], [tag("tucker", 0.8)], [tag("dora", 0.6)], []], at=(0,))


def test_tags_of_the_negative_prompt_act_on_its_side(tiny):
    check(tiny, [[tag("lora", 0.5)]], [[tag("more", 1)]], at=(0,))


@pytest.mark.parametrize("each", [2, 3])
def test_tiles_are_so_many_of_each_row(tiny, each):
    check(tiny, [[tag("lora", 1)], [tag("more", 0.7, sides="uncond")]], at=(0,), each=each)


def test_curves_windows_and_sides_at_once(tiny):
    check(tiny, [[rising("lora", 0, 1), tag("bias", 0.5, sides="cond")],
                 [windowed("more", 1, 0.5, 1), tag("oft", 0.3)]],
          [[], [windowed("loha", 0.8, 0, 0.5)]], steps=5, at=(0, 1, 2, 4))  # fmt: skip


def test_a_term_that_needs_the_weight_sees_what_stands_before_it(tiny):
    """The same in both orders would be an error that nobody sees: they differ."""
    first, second = tag("dora", 0.7), tag("more", 0.9, sides="cond")
    check(tiny, [[first, second]], at=(0,))
    check(tiny, [[second, first]], at=(0,))
    inputs = tiny.inputs(1)
    one, other = (tiny.alone(tags, 0, 4, inputs, 0) for tags in ([first, second], [second, first]))
    assert (one - other).abs().max() > 1e-3 * one.abs().max()


def test_a_row_on_which_nothing_acts_is_the_untouched_model_to_the_bit(tiny):
    inputs = tiny.inputs(2)
    plain = tiny.call(inputs)
    tiny.session.activate(tiny.wanted([[tag("lora", 1, sides="cond")]]))
    tiny.session.rows([Row(0, "uncond"), Row(0, "uncond")])
    assert torch.equal(tiny.call(inputs), plain)
    tiny.session.rows([Row(0, "cond"), Row(0, "uncond")])
    other = tiny.call(inputs)
    assert torch.equal(other[1], plain[1])
    assert not torch.allclose(other[0], plain[0], atol=1e-3)
    tiny.session.clear()
    assert torch.equal(tiny.call(inputs), plain)


numbers = st.floats(-1, 1).map(lambda number: round(number, 2)).filter(bool)
names = st.sampled_from([*KINDS, "more"])
tags = st.one_of(
    st.builds(tag, names, numbers), st.builds(lambda name, weight, side: tag(name, weight, sides=side), names, numbers,
                                              st.sampled_from(["cond", "uncond"])),
    st.builds(rising, names, numbers, numbers),
    st.builds(windowed, names, numbers, st.sampled_from([0, 0.3]), st.sampled_from([0.6, 1])))  # fmt: skip
prompts = st.lists(tags, max_size=3, unique_by=lambda typed: typed.name)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True,
          phases=[Phase.generate])
@given(st.lists(prompts, min_size=1, max_size=4), st.lists(prompts, max_size=2), st.sampled_from([1, 2]),
       st.permutations(["cond", "uncond"]), st.booleans(), st.integers(0, 99))
def test_any_combination(tiny, each_prompt, negative, each, sides, is_skipped, seed):
    at = (0, 2) if len(each_prompt) < 3 else (1,)
    # One file once on a row: what twice adds up to is another test's matter.
    negative = [[typed for typed in tags if typed.name not in {own.name for own in each_prompt[image]}]
                for image, tags in enumerate(negative[: len(each_prompt)])]  # fmt: skip
    check(tiny, each_prompt, negative, at=at, each=each,
          sides=sides[:1] if is_skipped else sides, seed=seed)
