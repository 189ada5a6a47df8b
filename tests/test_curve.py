"""Curves, windows and what they make of a weight over time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_lora.grammar.curve import ALWAYS, Curve, Product, Strength, Window, simple
from lib_lora.grammar.moment import START, Moment
from lib_lora.grammar.positions import read_curve, read_window

INF = math.inf


def over(weight, steps):
    """The weight in every step, to 4 digits."""
    return [round(Curve(((0, weight),)).at(START) if isinstance(weight, float) else weight.at(Moment(step, steps)), 4)
            for step in range(steps)]  # fmt: skip


@pytest.mark.parametrize(("text", "steps", "weights"), [
    ("0@0,1@1", 5, [0, 0.25, 0.5, 0.75, 1]),  # the last value is reached in the last step
    ("0@0,1@0.5,0@1", 5, [0, 0.5, 1, 0.5, 0]),
    ("0@1,1@0.5,0@0", 5, [0, 0.5, 1, 0.5, 0]),  # in any order
    ("0.25@0.5,1@1", 5, [0.25, 0.25, 0.25, 0.625, 1]),  # flat before
    ("1@0,0@0.5", 5, [1, 0.5, 0, 0, 0]),  # flat after
    ("0@5,1@6", 8, [0, 0, 0, 0, 0, 0, 1, 1]),  # step numbers
    ("0@0,1@4", 6, [0, 0.25, 0.5, 0.75, 1, 1]),
    ("0@0,0@2,1@2,1@4", 5, [0, 0, 1, 1, 1]),  # of two at one place the later counts from there on
    ("1@0,0@0.5,0.5", 5, [1, 0.5, 0, 0.25, 0.5]),  # a later one without a position stands at 1
    ("0~0;1~1", 3, [0, 0.5, 1]),
    ("-1@0,1@1", 3, [-1, 0, 1]),
    ("0@0,1@1,", 2, [0, 1]),
    ("0@0,1@1", 1, [0]),  # the only step is the first
    ("０＠０，１＠１", 3, [0, 0.5, 1]),
])  # fmt: skip
def test_a_curve_is_linear_between_its_points(text, steps, weights):
    weight, notes = read_curve(text)
    assert over(weight, steps) == weights
    assert notes == ()


@pytest.mark.parametrize(("text", "by_sigma"), [
    ("0@s10,1@s2", {20: 0, 10: 0, 6: 0.5, 2: 1, 0.1: 1}),
    ("1@s2,0@s10", {20: 0, 10: 0, 6: 0.5, 2: 1, 0.1: 1}),
    ("0@s10,1@s10,1@s2", {20: 0, 10: 1, 9: 1, 1: 1}),
    ("1@s4,0", {8: 1, 4: 1, 3: 0.75, 1: 0.25}),  # one without a position stands at the end
])  # fmt: skip
def test_a_curve_by_sigma_goes_from_much_noise_to_little(text, by_sigma):
    weight, _ = read_curve(text)
    assert {sigma: weight.at(Moment(3, 9, sigma)) for sigma in by_sigma} == pytest.approx(by_sigma)
    assert weight.first == weight.at(Moment(0, 9, 1000)) == weight.at(Moment(0, 9))  # nobody knows sigma: the beginning


def test_what_a_curve_begins_with():
    assert read_curve("0.3@0.5,1@1")[0].first == 0.3
    assert read_curve("0.2@s1,0.9@s14")[0].first == 0.9


def test_a_curve_that_never_changes_is_a_number():
    assert read_curve("0.5@0,0.5@1")[0] == 0.5
    assert read_curve("0.5@3")[0] == 0.5
    assert simple(Curve(((0, 1), (1, 0)))) == Curve(((1, 0), (0, 1)))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-2, 2)), min_size=1, max_size=8), st.integers(1, 40))
def test_a_curve_never_leaves_the_range_of_its_weights(points, steps):
    curve = Curve(tuple(points))
    weights = [weight for _, weight in points]
    assert all(min(weights) - 1e-9 <= curve.at(Moment(step, steps)) <= max(weights) + 1e-9 for step in range(steps))


def acting(window, steps):
    return [step for step in range(steps) if window.holds(Moment(step, steps))]


@pytest.mark.parametrize(("start", "stop", "steps", "expected"), [
    (None, None, 3, [0, 1, 2]),
    ("0.5", None, 5, [2, 3, 4]),
    (None, "0.5", 5, [0, 1]),
    ("0.25", "0.75", 5, [1, 2]),
    ("0", "1", 5, [0, 1, 2, 3, 4]),  # a stop of 1 includes the last step
    ("0.5", "1", 5, [2, 3, 4]),
    ("1", None, 5, [4]),
    ("0.001", None, 5, [1, 2, 3, 4]),
    (None, "0.001", 5, [0]),
    ("2", "4", 6, [2, 3]),
    ("2", None, 4, [2, 3]),
    (None, "10", 4, [0, 1, 2, 3]),
    ("0", "0.5", 1, [0]),
    ("0.5", "1", 1, []),
    ("0.5", "0.5", 5, []),
])  # fmt: skip
def test_a_window_holds_from_its_start_until_its_stop(start, stop, steps, expected):
    window, _ = read_window(start, stop)
    assert acting(window, steps) == expected


@pytest.mark.parametrize(("start", "stop", "expected"), [
    ("s8", "s2", [8, 4]), ("s8", None, [8, 4, 2, 0.1]), (None, "s2", [16, 8, 4]),
])  # fmt: skip
def test_a_window_by_sigma_goes_from_much_noise_to_little(start, stop, expected):
    window, _ = read_window(start, stop)
    assert [sigma for sigma in (16, 8, 4, 2, 0.1) if window.holds(Moment(0, 9, sigma))] == expected


@pytest.mark.parametrize(("window", "always", "never"), [
    (ALWAYS, True, False), (Window(((0, 0.5),)), False, False), (Window(((0.5, 0.5),)), False, True),
    (Window(((1, 1),)), False, False), (Window(((0, INF),), "step"), True, False), (Window((), "step"), False, True),
    (Window(((5, 2),), "step"), False, True), (Window(((INF, 0),), "sigma"), True, False),
    (Window(((2, 5),), "sigma"), False, True), (Window(((0, 2), (4, 6)), "step"), False, False),
])  # fmt: skip
def test_a_window_knows_if_it_always_or_never_holds(window, always, never):
    assert (window.is_always, window.is_never) == (always, never)
    moments = [Moment(step, 9, sigma) for step, sigma in enumerate((99, 9, 8, 7, 6, 5, 4, 3, 0.1))]
    assert not always or all(map(window.holds, moments))
    assert not never or not any(map(window.holds, moments))


UP = Curve(((0, 0), (1, 1)))


def test_curves_multiply_and_count_while_all_windows_hold():
    product = Product((UP, Curve(((0, 2),))), (Window(((0.25, 1),)), Window(((0, 3),), "step")), 0.5)
    assert [product.at(Moment(step, 5)) for step in range(5)] == [0, 0.25, 0.5, 0, 0]
    assert product.constant is None
    assert product.beginning.at(Moment(2, 5)) == 0  # what the first curve begins with


def test_what_never_acts_is_0_all_the_time_and_what_never_changes_is_a_number():
    assert Product((UP,), (Window((), "step"),)).constant == 0
    assert Product((UP, Curve(((0, 0),)))).constant == 0
    assert Product((Curve(((0, 0.5),)),), (ALWAYS,), 0.5).constant == 0.25
    assert Strength((Product((UP,), factor=0), Product(factor=2))).constant == 2


def test_one_file_named_twice_adds_up_each_with_its_own_window():
    strength = Strength((Product((UP,)),)) + Strength((Product(windows=(Window(((0.5, 1),)),)),))
    assert [strength.at(Moment(step, 5)) for step in range(5)] == [0, 0.25, 1.5, 1.75, 2]
    assert strength.changes(5) == 4
    assert Strength((Product(windows=(Window(((0.25, 0.75),)),)),)).changes(9) == 2
