"""fold(base, terms, out): one base weight and everything that is added to it, in one pass, rounded once.

Low-rank deltas of all adapters are concatenated along the rank into one matrix product that reads the base and writes
the result. Deltas that depend on the weight (`additive` is False) see what the terms before them left. The same delta
several times is one with the sum of the weights, at the place of the first: whoever tells the terms apart, by rows or
by places, has no part in what they are together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lib_lora.algorithms.base import Product, like, write_product
from lib_lora.engine.plan import Term
from lib_lora.errors import PatchError, first_line, is_out_of_memory
from lib_lora.model.targets import Target


def fold(base: Tensor, terms: Sequence[Term], out: Tensor) -> None:
    """Write `base` with `terms` applied into `out`: same shape, dtype and device; other memory, or `base` itself.

    Computed in float32, or in float64 if the weight is; cast once at the end. Raises PatchError if an adapter's
    arithmetic fails.
    """
    terms = _summed(terms)
    if not terms:
        if out is not base:
            out.copy_(base)
        return
    is_wide = out.dtype in (torch.float32, torch.float64)
    runs = list(_runs(terms))
    if not is_wide and (product := _only_product(runs, out)) is not None:
        write_product(base, product, out)
        return
    wide = out if is_wide else torch.empty_like(out, dtype=torch.float32)
    started = wide is base
    for target, run in runs:
        product = low_rank_product(run, wide)
        if not started and target.is_whole and wide.is_contiguous():
            started = True
            if product is not None:
                write_product(base, product, wide)
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
        for term in run:
            if term.meant.low_rank() is None:
                with _blame(term):
                    term.meant.add_to(view, term.multiplier)
    if not is_wide:
        out.copy_(wide)


def _summed(terms: Sequence[Term]) -> Sequence[Term]:
    """Each delta once; those that weigh nothing together are none."""
    if len(terms) == 1:
        return terms
    found: dict[object, Term] = {}
    for term in terms:
        key = term.target, term.delta, term.dyn
        earlier = found.get(key)
        found[key] = term if earlier is None else earlier.weighing(earlier.multiplier + term.multiplier)
    return [term for term in found.values() if term.multiplier]


def _only_product(runs: Sequence[tuple[Target, list[Term]]], out: Tensor) -> Product | None:
    """All that is to be added to `out`, in float32, if that is one product for the whole of it."""
    (target, run), *others = runs
    is_one = not others and target.is_whole and all(term.meant.low_rank() is not None for term in run)
    return low_rank_product(run, out.new_empty(0, dtype=torch.float32)) if is_one and out.is_contiguous() else None


def _add_product(product: Product, view: Tensor) -> None:
    if view.is_contiguous():
        write_product(view, product, view)
    else:
        view.add_((product.up @ product.down).reshape(view.shape), alpha=product.scale)


@contextlib.contextmanager
def _blame(term: Term) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise  # nobody's fault
        where = f"{term.delta.algorithm} failed on {term.target.key}"
        raise PatchError(f"{term.source}: {where} ({first_line(error)})", term.source) from error


def _runs(terms: Sequence[Term]) -> Iterator[tuple[Target, list[Term]]]:
    """Terms of one target in a row: as many additive ones as possible, or one that is not."""
    by_target: dict[Target, list[list[Term]]] = {}
    for term in terms:
        runs = by_target.setdefault(term.target, [])
        if runs and term.delta.additive and runs[-1][0].delta.additive:
            runs[-1].append(term)
        else:
            runs.append([term])
    return ((target, run) for target, runs in by_target.items() for run in runs)


def low_rank_product(run: Sequence[Term], weight: Tensor) -> Product | None:
    """All low-rank deltas of a run as one product, whose rank is the sum of theirs; None if there is none.

    In the dtype and on the device of `weight`. Its factors may be the adapter's own tensors: they are not written to.
    """
    scaled = [(product, term.multiplier) for term in run if (product := term.meant.low_rank()) is not None]
    if not scaled:
        return None
    products = [product for product, _ in scaled]
    scales = [product.scale * multiplier for product, multiplier in scaled]
    if len(products) == 1:
        return Product(like(products[0].up, weight), like(products[0].down, weight), scales[0])
    # Joined as they are stored, which takes fewer calls.
    up = like(torch.cat([product.up for product in products], 1), weight)
    down = like(torch.cat([product.down for product in products]), weight)
    up.mul_(_spread(scales, [product.down.shape[0] for product in products], up))
    return Product(up, down, 1.0)


def _spread(values: Sequence[float], counts: Sequence[int], weight: Tensor) -> Tensor:
    """Each of `values` as often as `counts` says."""
    spread = [value for value, count in zip(values, counts, strict=True) for _ in range(count)]
    return torch.tensor(spread, dtype=weight.dtype, device="cpu").to(weight.device, non_blocking=True)
