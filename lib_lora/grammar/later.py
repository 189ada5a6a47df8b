"""What tags of other extensions can say and ours cannot yet: called by its name, as it is no slip of the finger.

Block weights and steps are lora-block-weight's, curves and weights of the hires pass are loractl's.
"""

from __future__ import annotations

ALL_BLOCKS = "(block weights) has no effect yet: the adapter acts on all blocks alike"
ALL_STEPS = "has no effect yet: the adapter acts in all steps"
BOTH_PASSES = "has no effect yet: a weight of its own for the hires pass can stand in a tag in the hires prompt"
KEYS = {
    "lbw": ALL_BLOCKS, "lbwe": ALL_BLOCKS,
    "start": ALL_STEPS, "stop": ALL_STEPS, "step": ALL_STEPS,
    "hr": BOTH_PASSES, "hrte": BOTH_PASSES, "hrunet": BOTH_PASSES,
}  # fmt: skip
CURVE = "@~"  # 1@0,0.2@1: weight 1 at the start, 0.2 at the end
FEWEST_BLOCKS = 12


def unsupported(weight: str) -> str | None:
    """What `weight` is, if it is not one number but more than that."""
    if any(sign in weight for sign in CURVE):
        return "a weight that changes over the steps"
    return "block weights" if weight.count(",") >= FEWEST_BLOCKS - 1 else None
