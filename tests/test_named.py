"""A moment by name: what it says where it is, and of what it says nothing."""

from __future__ import annotations

import pytest

from lib_lora.grammar.moment import Moment
from lib_lora.grammar.named import named_moment
from lib_lora.grammar.positions import CurveError


@pytest.mark.parametrize(("text", "steps", "share", "step"), [
    ("0.5", None, 0.5, None), ("1", None, 1.0, None), ("0", None, 0.0, None), ("1/3", None, None, None),
    ("12", None, None, 12), ("5", 11, 0.5, 5), ("0.5", 11, 0.5, 5), ("0.5", 2, 0.0, 0), ("1", 20, 1.0, 19),
    ("0.3", 1, 0.0, 0),
])  # fmt: skip
def test_a_moment_is_where_it_is_named(text, steps, share, step):
    if text == "1/3":
        with pytest.raises(CurveError, match="has the position '1/3'"):
            named_moment(text)
        return
    named = named_moment(text, steps)
    assert ("share" in named.units, "step" in named.units) == (share is not None, step is not None)
    if share is not None:
        assert named.moment.position("share") == pytest.approx(share, abs=1e-6)
    if step is not None:
        assert named.moment.position("step") == step


def test_noise_says_nothing_of_steps():
    named = named_moment("s7.2", 20)
    assert (named.moment, named.units) == (Moment(0, 1, 7.2), {"sigma"})
    named.require({"sigma"})
    with pytest.raises(CurveError, match=r"counts in steps: .*; s7.2 says nothing of it"):
        named.require({"sigma", "step"})


@pytest.mark.parametrize(("text", "steps", "told"), [
    ("2.5", None, "is no step: 2.5 is no whole number"), ("20", 20, "is no step: of 20 the last is 19"),
    ("-1", None, "has the position '-1'"), ("soon", None, "has the position 'soon'"), ("s", None, "has the position"),
])  # fmt: skip
def test_what_is_no_moment_is_refused_by_name(text, steps, told):
    with pytest.raises(CurveError, match=told):
        named_moment(text, steps)
