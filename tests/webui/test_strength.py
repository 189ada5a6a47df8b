"""What a tag says beyond one number, in the real WebUI: over steps, sides, pictures of a batch, passes and places.

Each feature is held to a picture that is made without it: by prompt editing, by separate pictures, or by other weights.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.webui.files import index_of, write_adapter
from tests.webui.instance import difference, png

PROMPT = "a red circle, a cat"
ROUNDING = 1  # of 255
UNET = "<lora:sd1:0:0.9"  # of an adapter for both: its UNet alone


@pytest.fixture(autouse=True)
def first_checkpoint(webui):
    webui.checkpoint("tiny-sd1")
    yield
    webui.checkpoint("tiny-sd1")


def close(one, other, limit=ROUNDING) -> bool:
    return difference(one, other) <= limit


def apart(*pictures) -> bool:
    return all(difference(one, other) > 4 for number, one in enumerate(pictures) for other in pictures[:number])


@pytest.mark.parametrize("tag", ["<lora:sd1:0.6@0>", "<lora:sd1:0.6@0.2,0.6@0.9>", "<lora:sd1:0.6:start=0:stop=1>",
                                 "<lora:sd1:0.6:on=both>", "<lora:sd1:0.6:in=1:mid=1@0,1@1>"])
def test_what_never_changes_is_the_number(webui, tag):
    expected = webui.draw(f"{PROMPT} <lora:sd1:0.6>", steps=4).picture
    assert difference(webui.draw(f"{PROMPT} {tag}", steps=4).picture, expected) == 0


def test_a_window_is_what_prompt_editing_makes_of_the_tag(webui):
    """Step 3 of 6 is at 0.6 of the way, step 2 at 0.4; [x:3] shows x from the step on that is counted as the fourth."""
    late = webui.draw(f"{PROMPT} <lora:sd1:0.9:start=0.5>", steps=6).picture
    edited = webui.draw(f"{PROMPT} [<lora:sd1:0.9>:2]", steps=6).picture
    early = webui.draw(f"{PROMPT} <lora:sd1:0.9:stop=0.5>", steps=6).picture
    assert difference(late, edited) == 0
    assert difference(early, webui.draw(f"{PROMPT} [<lora:sd1:0.9>::2]", steps=6).picture) == 0
    assert difference(late, webui.draw(f"{PROMPT} <lora:sd1:0.9:step=3-6>", steps=6).picture) == 0
    assert apart(late, early, webui.draw(f"{PROMPT} <lora:sd1:0.9>", steps=6).picture, webui.draw(PROMPT, steps=6).picture)
