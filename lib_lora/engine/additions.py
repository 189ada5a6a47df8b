"""What one layer adds to its output: the terms of one of its parameters, each form as cheap as its algorithm allows.

    Factored   all low-rank terms, concatenated once: y += up @ (S * (down @ x)). S has a number for each rank, and all
               that may change while a picture is made (weights, sides, pictures, places) is in it
    Formed     a term whose algorithm has a form on activations (LoKr)
    Whole      any others: the difference that they make to the weight, built for each set of weights
    Vector     the same of a bias

A term that depends on the weight (DoRA, OFT, ...) makes all of its parameter Whole, folded in prompt order.
"""

from __future__ import annotations

from collections.abc import Sequence

from lib_lora.algorithms.base import Product
from lib_lora.engine.activations import Factored, Formed, has_form
from lib_lora.engine.differences import Room, Vector, Whole
from lib_lora.engine.layers import multiplies_channels
from lib_lora.engine.parts import Addition, Sum
from lib_lora.engine.plan import Term
from lib_lora.model.slots import Slot


def addition(slot: Slot, terms: Sequence[Term], room: Room) -> Addition:
    """What adds any of `terms`, which are all of one parameter. Raises PatchError if the numbers are missing for it."""
    numbered = dict(enumerate(terms))
    if slot.attribute == "bias" or terms[0].target.new_bias_of is not None:
        return Vector(slot, numbered)
    if not all(term.delta.additive for term in terms):
        return Whole(slot, numbered, room)
    products: dict[int, Product] = {}
    formed: dict[int, Term] = {}
    whole: dict[int, Term] = {}
    is_simple = multiplies_channels(slot.module)
    for number, term in numbered.items():
        product = term.meant.low_rank() if is_simple and term.target.is_whole else None
        if product is not None:
            products[number] = product
        elif is_simple and term.target.is_whole and has_form(term, slot):
            formed[number] = term
        else:
            whole[number] = term
    additions = [
        (frozenset(some), make())
        for some, make in (
            (products, lambda: Factored(slot, products)),
            (formed, lambda: Formed(slot, formed)),
            (whole, lambda: Whole(slot, whole, room)),
        )
        if some
    ]
    return additions[0][1] if len(additions) == 1 else Sum(additions)
