"""The axes of the X/Y/Z plot, by the WebUI's own script. What they make of a prompt: tests/test_webui_axes.py."""

from __future__ import annotations

import pytest

from tests.webui.instance import difference

PROMPT = "a red circle, a cat"
TAG = "<lora:sd1:0.8>"
AXES = ("name", "weight", "TE", "UNet", "blocks", "start", "stop", "curve")
NOTHING = [0, "", []]
FOUR = {"steps": 4}


def labels(webui) -> list[str]:
    return [label for label, _ in webui.request("/probe/axes")]


def plot(webui, prompt, *axes, legend=False):
    """The grid and its cells; `axes`: (name, values), x first."""
    lines = labels(webui)
    args = []
    for name, values in axes:
        chosen = values.split(", ") if name == "name" else []
        args += [lines.index(f"[LoRA] {name}"), "" if chosen else values, chosen]
    args += NOTHING * (3 - len(axes))
    grid, *cells = webui.draw(prompt, script_name="x/y/z plot", **FOUR, script_args=[
        *args, legend, True, False, False, False, False, False, 0, False]).pictures  # fmt: skip
    return grid, cells


def test_each_axis_is_there_once_and_labelled(webui):
    for _ in range(2):
        lines = dict(webui.request("/probe/axes"))
        assert [name for name in lines if "LoRA" in name] == [f"[LoRA] {name}" for name in AXES]
        assert len(labels(webui)) == len(lines)
        assert lines["[LoRA] weight"] == "[LoRA] weight: 0.5"
        webui.reload()


@pytest.mark.parametrize(("axis", "values", "tags"), [
    ("weight", "0.3, 0.8", ["<lora:sd1:0.3>", TAG]),
    ("weight", "0-1 (+0.5)", ["<lora:sd1:0>", "<lora:sd1:0.5>", "<lora:sd1:1>"]),
    ("name", "second, sd1", ["<lora:second:0.8>", TAG]),
    ("TE", "0, 0.8", ["<lora:sd1:0:0.8>", TAG]),
    ("UNet", "0, 0.8", ["<lora:sd1:0.8:0>", TAG]),
    ("blocks", "OUTALL, ALL", ["<lora:sd1:0.8:lbw=OUTALL>", "<lora:sd1:0.8:lbw=ALL>"]),
    ("start", "0, 0.6", [TAG, "<lora:sd1:0.8:start=0.6>"]),
    ("stop", "0.4, 1", ["<lora:sd1:0.8:stop=0.4>", TAG]),
    ("curve", "0@0;1@1, 0.8", ["<lora:sd1:0.8:0@0,1@1>", TAG]),
])  # fmt: skip
def test_a_cell_is_the_picture_of_that_tag(webui, axis, values, tags):
    _, cells = plot(webui, f"{PROMPT} {TAG}", (axis, values))
    alone = [webui.draw(f"{PROMPT} {tag}", **FOUR).picture for tag in tags]
    assert [difference(*pair) for pair in zip(cells, alone, strict=True)] == [0] * len(tags)
    assert difference(*alone[:2]) > 0


def test_two_axes_and_a_tag_by_its_name(webui):
    prompt = f"{PROMPT} {TAG} <lora:second:0.5>"
    grid, cells = plot(webui, prompt, ("weight", "0.2, 1"), ("UNet", "second=0, second=1"), legend=True)
    assert grid.shape[1] > 2 * 64
    tags = [f"<lora:sd1:{x}> <lora:second:0.5:{y}>" for y in (0, 1) for x in (0.2, 1)]
    for cell, tag in zip(cells, tags, strict=True):
        assert difference(cell, webui.draw(f"{PROMPT} {tag}", **FOUR).picture) == 0


def test_without_a_tag_nothing_is_drawn_and_the_reason_is_told(webui):
    with pytest.raises(AssertionError, match="500"):
        plot(webui, PROMPT, ("weight", "0.2, 1"))
    assert "the prompt has no <lora:...> tag to change" in webui.log.read_text()
