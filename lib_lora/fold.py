"""fold(base, steps, out): one base weight and everything that is added to it, in one pass, rounded once.

Low-rank deltas of all adapters are concatenated along the rank into one matrix product that reads the base and writes
the result. Deltas that depend on the weight (`additive` is False) see what the steps before them left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lib_lora.algorithms.base import write_product
from lib_lora.errors import PatchError, is_out_of_memory
from lib_lora.plan import Step
from lib_lora.targets import Target


def fold(base: Tensor, steps: Sequence[Step], out: Tensor) -> None:
    """Write `base` with `steps` applied into `out`: same shape, dtype and device; other memory, or `base` itself.

    Computed in float32, or in float64 if the weight is; cast once at the end. Raises PatchError if an adapter's
    arithmetic fails.
    """
    is_wide = out.dtype in (torch.float32, torch.float64)
    wide = out if is_wide else torch.empty_like(out, dtype=torch.float32)
    started = wide is base
    for target, run in _runs(steps):
        product = low_rank_product(run, wide)
        if not started and target.is_whole and wide.is_contiguous():
            started = True
            if product is not None:
                write_product(base, *product, wide)
                product = None
            elif len(run) == 1:
                with _blame(run[0]):
                    run[0].meant.write(base, run[0].multiplier, wide)
                continue
            else:
                wide.copy_(base)
        elif not started:
            wide.copy_(base)
            started = True
        view = target.view(wide)
        if product is not None:
            _add_product(product, view)
        for step in run:
            if step.meant.low_rank() is None:
                with _blame(step):
                    step.meant.add_to(view, step.multiplier)
    if not is_wide:
        out.copy_(wide)


def _add_product(product: tuple[Tensor, Tensor], view: Tensor) -> None:
    if view.is_contiguous():
        write_product(view, *product, view)
    else:
        view.add_((product[0] @ product[1]).reshape(view.shape))


@contextlib.contextmanager
def _blame(step: Step) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise  # nobody's fault
        where = f"{step.delta.algorithm} failed on {step.target.key}"
        raise PatchError(f"{step.source}: {where} ({str(error).splitlines()[0]})", step.source) from error


def _runs(steps: Sequence[Step]) -> Iterator[tuple[Target, list[Step]]]:
    """Steps of one target in a row: as many additive ones as possible, or one that is not."""
    by_target: dict[Target, list[list[Step]]] = {}
    for step in steps:
        runs = by_target.setdefault(step.target, [])
        if runs and step.delta.additive and runs[-1][0].delta.additive:
            runs[-1].append(step)
        else:
            runs.append([step])
    return ((target, run) for target, runs in by_target.items() for run in runs)


def low_rank_product(run: Sequence[Step], like: Tensor) -> tuple[Tensor, Tensor] | None:
    """All low-rank deltas of a run as one pair: up (o, sum of ranks), scaled; down (sum of ranks, i*kh*kw).

    In the dtype and on the device of `like`; None if there is none.
    """
    factors = [(*pair, step.multiplier) for step in run if (pair := step.meant.low_rank()) is not None]
    if not factors:
        return None
    ranks = [down.shape[0] for _, down, _, _ in factors]
    ups = like.new_empty((factors[0][0].shape[0], sum(ranks)))
    downs = like.new_empty((sum(ranks), factors[0][1].shape[1]))
    for (up, down, _, _), into_up, into_down in zip(factors, ups.split(ranks, 1), downs.split(ranks), strict=True):
        into_up.copy_(up.to(like.device))  # first moved, then cast: half the bytes on the way
        into_down.copy_(down.to(like.device))
    scales = [scale * multiplier for _, _, scale, multiplier in factors]
    ups.mul_(scales[0] if len(scales) == 1 else _spread(scales, ranks, ups))
    return ups, downs


def _spread(values: Sequence[float], counts: Sequence[int], like: Tensor) -> Tensor:
    """Each of `values` as often as `counts` says."""
    spread = [value for value, count in zip(values, counts, strict=True) for _ in range(count)]
    return torch.tensor(spread, dtype=like.dtype).to(like.device, non_blocking=True)
