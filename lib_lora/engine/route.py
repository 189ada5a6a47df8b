"""Route: which terms of a parameter are merged into its weight, and which are added beside it. Reasons in order.

Merging costs a pass over the weight whenever a multiplier changes, and nothing per call. Beside the weight it costs two
small products over all tokens in every call, and nothing to change. What varies from step to step goes where that is
less: large weights with few tokens (the middle of a UNet, keys and values of words) beside, small ones with many tokens
are merged anew in each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lib_lora.engine.call import Size
from lib_lora.engine.layers import can_bypass, multiplies_channels
from lib_lora.engine.plan import Term
from lib_lora.keys.places import about, level_of
from lib_lora.model.slots import Slot

Way = Literal["merged", "beside"]
FEW = 2  # changes in a pass: a window's
USUAL_ROWS = 2  # a picture with and without its prompt
USUAL_SIZE: Mapping[int, Size] = {3: (128, 128), 4: (64, 64)}  # by the levels of the UNet: SDXL's, SD1's
WORDS = 77  # tokens of a prompt


@dataclass(frozen=True)
class Costs:
    """What a device does in a second, and what it costs to tell it. Measured with `benchmarks.schedule --constants`."""

    operations: float  # of a product with a thin matrix
    bytes: float  # read or written
    change: float  # seconds to merge a layer anew, besides
    hook: float  # seconds to call one, besides


COSTS: Mapping[str, Costs] = {  # by type of device; others as the CPU. That of GPUs is estimated, not measured
    "cpu": Costs(operations=9e10, bytes=1.8e10, change=2.5e-4, hook=2e-5),
    "cuda": Costs(operations=2e13, bytes=1e12, change=2e-4, hook=6e-5),
}


@dataclass(frozen=True)
class Circumstances:
    """What all parameters of a model have in common while a plan is applied."""

    calls: int = 20  # of the UNet in this pass
    rows: int = USUAL_ROWS  # of a call
    size: Size | None = None  # of the latent; None: the usual one
    levels: int = 4  # of the UNet
    bypass_all: bool = False
    is_compiled: bool = False


@dataclass(frozen=True)
class Case:
    """One term on one parameter: what a reason looks at."""

    term: Term
    slot: Slot
    around: Circumstances

    @property
    def is_product(self) -> bool:
        """True for a term that two small layers in a row can be."""
        return (multiplies_channels(self.slot.module) and self.term.target.is_whole and self.term.delta.additive
                and self.term.meant.low_rank() is not None)  # fmt: skip


@dataclass(frozen=True)
class Reason:
    """One line of the list. The first that holds for a term says where it goes."""

    name: str
    way: Way
    holds: Callable[[Case], bool]
    why: str


REASONS: Sequence[Reason] = (
    Reason("restricted", "beside", lambda case: case.term.is_restricted,
           "no weight can hold what acts on some rows of a call only, or on a part of the picture"),
    Reason("never called", "merged", lambda case: not can_bypass(case.slot) and case.slot.may_be_written,
           "its attention takes the weight without calling the layer: merged, even if that rounds it"),
    Reason("no sum", "beside", lambda case: not case.slot.can_hold_sums,
           "8 bits, quantised, offloaded: a sum would be rounded away, or never be seen"),
    Reason("asked for", "beside", lambda case: case.around.bypass_all,
           "a setting says so (`lora_functional` in the WebUI)"),
    Reason("constant", "merged", lambda case: case.term.changes == 0,
           "one pass over the weight, and free from then on"),
    Reason("window", "merged", lambda case: case.term.changes <= FEW,
           "it comes and goes: two passes over the weight are less than something in each call"),
    Reason("compiled", "merged", lambda case: case.around.is_compiled,
           "what changes from call to call would break a compiled model into pieces at this layer"),
    Reason("no product", "merged", lambda case: not case.is_product,
           "beside it the whole difference would be built anew at each change as well"),
    Reason("cheaper", "beside", lambda case: seconds_beside(case) < seconds_merged(case),
           "by this device's costs: the weight is large and the layer sees few tokens"),
    Reason("else", "merged", lambda case: True,
           "by this device's costs: the weight is small and the layer sees many tokens"),
)  # fmt: skip


@dataclass(frozen=True)
class Route:
    """The terms of one parameter, each in prompt order."""

    merged: tuple[Term, ...] = ()
    beside: tuple[Term, ...] = ()


def route(terms: tuple[Term, ...], slot: Slot, around: Circumstances) -> Route:
    """Where the terms of one parameter go; `slot` is its own, or that of the weight if it is a bias to be made.

    What is merged comes first, whatever the prompt's order. That is the same unless a term that depends on the weight
    would see another one: then all go one way.
    """
    ways = [reason_for(Case(term, slot, around)).way for term in terms]
    if "beside" not in ways:
        return Route(merged=terms)
    if "merged" not in ways:
        return Route(beside=terms)
    if _is_one_sum_after_another(terms, ways):
        return Route(tuple(term for term, way in zip(terms, ways, strict=True) if way == "merged"),
                     tuple(term for term, way in zip(terms, ways, strict=True) if way == "beside"))  # fmt: skip
    must = any(term.is_restricted for term in terms)  # else it was cheaper only
    return Route(beside=terms) if must else Route(merged=terms)


def reason_for(case: Case) -> Reason:
    """The first that holds."""
    return next(reason for reason in REASONS if reason.holds(case))


def _is_one_sum_after_another(terms: Sequence[Term], ways: Sequence[Way]) -> bool:
    is_beside = False
    for term, way in zip(terms, ways, strict=True):
        is_beside = is_beside or way == "beside"
        if is_beside and not term.delta.additive:
            return False
    return True


def seconds_merged(case: Case) -> float:
    """In a whole pass, if the weight is computed anew at each change of this term."""
    costs, (outputs, inputs) = _costs(case), _matrix(case)
    size = case.slot.parameter.element_size()
    operations, moved = 2 * outputs * inputs * _rank(case), 3 * outputs * inputs * size
    return case.term.changes * (costs.change + operations / costs.operations + moved / costs.bytes)


def seconds_beside(case: Case) -> float:
    """In a whole pass, if its product is added to what the layer puts out."""
    costs, (outputs, inputs) = _costs(case), _matrix(case)
    count = tokens(case)
    size = case.slot.parameter.element_size()
    operations = 2 * count * _rank(case) * (inputs + outputs)
    moved = count * (_channels(case) + 2 * _rank(case) + 2 * outputs) * size
    return case.around.calls * (costs.hook + operations / costs.operations + moved / costs.bytes)


def tokens(case: Case) -> int:
    """How many the layer sees in one call: places of all its rows, at its level of the UNet."""
    path, around = case.term.target.path, case.around
    kind = about(path)
    if kind != "places":
        return around.rows * (WORDS if kind == "words" else 1)
    height, width = around.size or USUAL_SIZE.get(around.levels, USUAL_SIZE[4])
    smaller = 2 ** level_of(path, around.levels)
    return around.rows * math.ceil(height / smaller) * math.ceil(width / smaller)


def _costs(case: Case) -> Costs:
    return COSTS.get(case.slot.device.type, COSTS["cpu"])


def _matrix(case: Case) -> tuple[int, int]:
    outputs, *inputs = case.term.target.shape
    return outputs, math.prod(inputs)


def _channels(case: Case) -> int:
    return case.term.target.shape[1]


def _rank(case: Case) -> int:
    return case.term.delta.rank or 1
