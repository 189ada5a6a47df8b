"""An error at lines and at operations of the engine all over: nothing stays wrong (all: tests/long/faults.py)."""

from __future__ import annotations

import logging

import pytest

from tests.long.faults import ERRORS, WAYS, count, run, stages

# Every such place, with each of the errors in turn: a prime number meets other lines in each story.
SOME = {"line": 53, "operation": 3}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return stages(tmp_path_factory.mktemp("adapters"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "name", ["kept on the device", "kept on the cpu", "kept on the checkpoint", "beside the weights", "a batch",
             "over time", "tied"]
)  # fmt: skip
def test_an_error_anywhere_leaves_no_trace(told, name, way, caplog):
    caplog.set_level(logging.CRITICAL)
    places = count(told[name], way)
    assert places > 20
    wrong = {place: found for place in range(1, places + 1, SOME[way])
             if (found := run(told[name], way, {place}, ERRORS[place % len(ERRORS)]))}  # fmt: skip
    assert not wrong


def test_an_error_while_words_come_and_go_leaves_no_trace(told, caplog):
    caplog.set_level(logging.CRITICAL)
    stage = told["words"]
    places = count(stage, "line")
    wrong = {place: found for place in range(1, places + 1, places // 12)
             if (found := run(stage, "line", {place}, ERRORS[place % len(ERRORS)]))}  # fmt: skip
    assert not wrong
