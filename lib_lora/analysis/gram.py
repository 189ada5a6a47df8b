"""Grams: inner products of adapters at weight 1, layer by layer. Each pair of files is multiplied once.

What several adapters are together at any weights m follows from them without a look at a tensor:

    ||sum of m_i A_i||^2 = m' G m        G[i][j] = <A_i, A_j>
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from lib_lora.adapters.adapter import Adapter
from lib_lora.algorithms.base import Delta
from lib_lora.algorithms.forms import Factors, Form, form_of, inner
from lib_lora.analysis.measure import Base, Progress
from lib_lora.engine.plan import Term
from lib_lora.model.targets import Target, TargetIndex

KEPT = 512  # pairs of files; of SDXL one is some 100 kB


@dataclass(frozen=True)
class Spot:
    """Where a layer is, as far as a tag's weight depends on it."""

    component: str  # "unet", "text_encoder", ...; "" where the model has no such layer
    path: str  # its module in a checkpoint, or as the file spells it


@dataclass(frozen=True)
class Member:
    """A file among others, cut to `dyn` ranks if that is a number."""

    key: Hashable  # another one as soon as the file is another
    read: Callable[[], Adapter] = field(compare=False, repr=False)
    dyn: int | None = None


@dataclass(frozen=True)
class Layers:
    """Of n adapters at weight 1."""

    spots: tuple[Spot, ...] = field(repr=False)
    products: Tensor = field(repr=False)  # (layers, n, n), float64
    untold: tuple[int, ...] = ()  # of each: layers that only a base weight could tell about; they count as zero


@dataclass(frozen=True)
class Pair:
    """Two files, or a file and itself."""

    products: dict[Spot, float] = field(default_factory=dict, repr=False)
    untold: set[str] = field(default_factory=set, repr=False)  # modules of a file, with itself


@dataclass(frozen=True)
class Part:
    """A delta of a file on one parameter."""

    place: Hashable  # the parameter, and its rows
    name: str  # the module in the file
    delta: Delta
    target: Target | None

    def form(self, base: Base | None) -> Form | None:
        """None if it cannot be told."""
        if self.target is None:
            return form_of(self.delta, None)
        piece = self.target.piece
        rows = self.target.shape[0] if piece is None else piece[2]
        if self.delta.misfit((rows, *self.target.shape[1:])) is not None:
            return None
        if piece is not None and self.delta.part(*piece) is None:
            return None  # it mixes rows that this model keeps apart
        meant = Term(self.target, self.delta, 1.0, None, self.name).meant
        return form_of(meant, self.target.shape, base(self.target) if base is not None else None)


class Grams:
    """Of files on one model: `index` is its own or that of a usual one, `base` its weights if they are known."""

    def __init__(self, index: TargetIndex | None, base: Base | None = None) -> None:
        self.index = index
        self._base = base
        self._pairs: OrderedDict[tuple[Member, Member], Pair] = OrderedDict()

    def of(self, members: Sequence[Member], progress: Progress | None = None) -> Layers:
        """Those of `members`; only files that are new among them are read. Raises AdapterFileError."""
        wanted = [(one, other) for one, other in combinations_with_replacement(members, 2)]
        missing = [pair for pair in wanted if self._known(*pair) is None]
        if missing:
            self._pairs.update(self._multiplied(missing, progress))
        found = {(one, other): self._known(one, other) or Pair() for one, other in wanted}
        spots = tuple(dict.fromkeys(spot for one in members for spot in found[one, one].products))
        rows = {spot: row for row, spot in enumerate(spots)}
        products = torch.zeros(len(spots), len(members), len(members), dtype=torch.float64)
        for a, one in enumerate(members):
            for b, other in enumerate(members[a:], a):
                shared = found[one, other].products
                values = torch.tensor(list(shared.values()), dtype=torch.float64)
                at = torch.tensor([rows[spot] for spot in shared], dtype=torch.long)
                products[at, a, b] = products[at, b, a] = values
        self._forget()
        return Layers(spots, products, tuple(len(found[one, one].untold) for one in members))

    def knows(self, member: Member) -> bool:
        """Whether its file was read."""
        return (member, member) in self._pairs

    def _pieces(self, target: Target) -> list[Target]:
        """The modules that a packed parameter consists of: another file may know them one by one."""
        found = self._packed.get(target.key) if target.is_whole and target.piece is None else None
        return found or [target]

    @cached_property
    def _packed(self) -> dict[str, list[Target]]:
        """Of each packed parameter the modules in it, as pieces of the whole."""
        rows: dict[str, dict[tuple[int, int], Target]] = {}
        for targets in self.index.modules.values() if self.index is not None else ():
            for target in targets.values():
                if target.rows is not None:
                    rows.setdefault(target.key, {})[target.rows] = target
        return {key: [replace(each, piece=(*place, max(end for _, end in found))) for place, each in found.items()]
                for key, found in rows.items()}  # fmt: skip

    def _known(self, one: Member, other: Member) -> Pair | None:
        for pair in ((one, other), (other, one)):
            if pair in self._pairs:
                self._pairs.move_to_end(pair)
                return self._pairs[pair]
        return None

    def _forget(self) -> None:
        while len(self._pairs) > KEPT:
            self._pairs.popitem(last=False)

    def _multiplied(
        self, pairs: Sequence[tuple[Member, Member]], progress: Progress | None
    ) -> dict[tuple[Member, Member], Pair]:
        made = {pair: Pair() for pair in pairs}
        members = list(dict.fromkeys(member for pair in pairs for member in pair))
        by_spot: dict[Spot, dict[Member, list[Part]]] = {}
        for member in members:
            for spot, part in self._parts(member):
                by_spot.setdefault(spot, {}).setdefault(member, []).append(part)
        for done, (spot, parts) in enumerate(by_spot.items()):
            forms = {member: self._forms(parts[member], made.get((member, member))) for member in parts}
            for (one, other), pair in made.items():
                if one in forms and other in forms:
                    pair.products[spot] = sum(
                        form.squared_norm() if form is its else inner(form, its)
                        for place, of_place in forms[one].items()
                        for form in of_place for its in forms[other].get(place, ())
                    )  # fmt: skip
            if progress is not None:
                progress(done + 1, len(by_spot))
        return made

    def _forms(self, parts: Sequence[Part], own: Pair | None) -> dict[Hashable, list[Form]]:
        found: dict[Hashable, list[Form]] = {}
        for part in parts:
            form = part.form(self._base)
            if form is not None:
                place = part.place if part.target is not None else (part.place, _extent(form))
                found.setdefault(place, []).append(form)
            elif own is not None:
                own.untold.add(part.name)
        return found

    def _parts(self, member: Member) -> Iterator[tuple[Spot, Part]]:
        for name, deltas in member.read().modules.items():
            choice = self.index.find_each(name) if self.index is not None else ()
            places = choice[0] if choice else ()
            for part, whole in deltas.items():
                delta = whole if member.dyn is None else whole.truncated(member.dyn)
                found = [target for place in places if (target := place.get(part)) is not None]
                targets = [piece for target in found for piece in self._pieces(target)]
                for target in targets:
                    place = (target.new_bias_of or target.key, part, target.rows)
                    yield Spot(target.component, target.path), Part(place, name, delta, target)
                if not targets:
                    yield Spot("", name), Part(part, name, delta, None)


def _extent(form: Form) -> tuple[int, int]:
    """Rows and columns: of a layer that the model does not have nobody knows another shape."""
    if isinstance(form, Factors):
        return form.up.shape[0], form.down.shape[1]
    rows, columns = form.dense().shape
    return rows, columns
