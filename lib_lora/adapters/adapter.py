"""Adapter: a file, read, knowing no model: {module spelling: Delta} and what was not understood."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lib_lora.adapters.config import read_config
from lib_lora.adapters.origin import Origins
from lib_lora.algorithms import table
from lib_lora.algorithms.base import Delta, PartsError
from lib_lora.algorithms.read import read_understood
from lib_lora.describe import families, foreign
from lib_lora.describe.survey import group, survey
from lib_lora.errors import AdapterFileError
from lib_lora.formats.containers import read_contents
from lib_lora.keys.bundled import ENDS, is_bundled, split_bundled
from lib_lora.keys.zeros import ALL_ZERO, changes_nothing

PIECE = 1 << 20  # values
LIMIT = 1e9  # no adapter has larger values; with them a picture is black
SAMPLE = 64  # values that tell of nearly every tensor that it is not all zeros


@dataclass(frozen=True, eq=False)
class Adapter:
    """Immutable, and bound to a model only by `plan`: it can be cached and used on several models."""

    path: Path
    narrowed: families.Narrowed  # what its tensors say about its base model
    metadata: Mapping[str, str] = field(repr=False)
    modules: Mapping[str, Mapping[str, Delta]] = field(repr=False)  # spelling -> {"weight": ..., "bias": ...}
    unknown: tuple[str, ...] = ()  # keys that no algorithm understands
    refused: tuple[str, ...] = ()  # sentences: modules that are incomplete, not finite, or of an unsupported algorithm
    notes: tuple[str, ...] = ()  # sentences: decisions that a user should know of
    # Bundled textual-inversion embeddings: the word in the prompt -> {"clip_l", "clip_g" or "text": (vectors, width)}
    embeddings: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict, repr=False)

    @property
    def family(self) -> families.Family:
        """By tensors and header alone; what stands beside the file may make it surer (`Entry.family`)."""
        return families.conclude(self.narrowed, self.metadata)

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms' names as the list of files has them: the most frequent first."""
        return table.TABLE.summary((found.get("weight") or found["bias"]).labels for found in self.modules.values())

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that occur, ascending."""
        ranks = {delta.rank for deltas in self.modules.values() for delta in deltas.values()}
        return tuple(sorted(rank for rank in ranks if rank is not None))


def read_adapter(path: Path) -> Adapter:
    """Read an adapter file into memory of its own; a pickle in it cannot execute code.

    Raises AdapterFileError if the file is missing, broken, or holds no module of a known algorithm.
    """
    contents = read_contents(path)
    tensors, metadata = contents.tensors, contents.metadata
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    if what := foreign.why_none(shapes, usable=True):
        raise AdapterFileError(f"{path.name} is {what}")
    grouped = group(shapes)
    understood = {name: table.TABLE.understand(name, parts) for name, parts in grouped.modules.items()}
    is_adapter = any(each.algorithm for each in understood.values())  # else its values are not worth a look
    is_checked = is_adapter and all(is_finite(block, LIMIT) for block in contents.blocks)
    try:
        origins = Origins(metadata, read_config(path))
    except ValueError as error:
        raise AdapterFileError(f"{path.name}: {error}; it was not loaded") from error

    modules: dict[str, Mapping[str, Delta]] = {}
    unknown = list(grouped.unknown)
    refused: list[str] = []
    notes: list[str] = []
    acts = False
    for name, parts in grouped.keys.items():
        found = {part: tensors[key] for part, key in parts.items()}
        try:
            if understood[name].algorithm is not None:
                _require_numbers(found, is_checked)
            deltas, left_over, said = read_understood(understood[name], found, origins.of(name))
        except PartsError as error:
            refused.append(f"{name}: {error}")
            continue
        if deltas:
            acts = acts or bool(origins.start) or not changes_nothing(found, is_zero)
            modules[name] = deltas
            notes += [f"{name}: {note}" for note in said]
        unknown += [parts[part] for part in left_over]
    embeddings = _read_embeddings(tensors, refused)
    if not modules and not embeddings:
        what = survey(shapes, grouped=grouped).refused  # as the list says it; else it was refused for its values
        what = what or foreign.why_none(shapes, usable=False, refused=next(iter(refused), None))
        raise AdapterFileError(f"{path.name} is {what}")
    if modules and not acts and not embeddings:
        notes.insert(0, ALL_ZERO)
    narrowed = families.narrow(shapes, grouped=grouped)
    return Adapter(path, narrowed, metadata, modules, tuple(unknown), tuple(refused), tuple(notes), embeddings)


def _require_numbers(parts: Mapping[str, Tensor], is_checked: bool) -> None:
    """Raises PartsError for a module of a kind of numbers that is none of an adapter, or of odd values.

    Every value is looked at unless that `is_checked`.
    """
    for part, tensor in parts.items():
        if not tensor.is_floating_point() and (part not in table.TABLE.whole or tensor.is_complex()):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise PartsError(f"{part} holds {kind} numbers: quantised adapters are not supported")
        if not is_checked and not is_finite(tensor):
            raise PartsError(f"{part} holds values that are not finite numbers")
        if not is_checked and not is_finite(tensor, LIMIT):
            raise PartsError(f"{part} holds values above {LIMIT:.0e}, which would only make black pictures")


def is_zero(tensor: Tensor) -> bool:
    """True if all values are zero."""
    flat = tensor.reshape(-1)
    return not bool(flat[:SAMPLE].any()) and not bool(flat.any())


def is_finite(tensor: Tensor, limit: float = math.inf) -> bool:
    """True if all values are numbers, none above `limit`; with no more than PIECE of them in memory of its own.

    Numbers of 16 bits with 10 of them behind the point are small enough for any limit here.
    """
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    if tensor.dtype == torch.float16:  # of which torch 2.1 cannot tell the extremes, and no sum overflows float32
        return all(bool(piece.float().sum().isfinite()) for piece in tensor.reshape(-1).split(PIECE))
    largest = float(torch.stack(tensor.aminmax()).abs().max())  # of what is no number, no number
    return math.isfinite(largest) and largest <= limit


def _read_embeddings(tensors: Mapping[str, Tensor], refused: list[str]) -> dict[str, dict[str, Tensor]]:
    """The bundled embeddings by name."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if not is_bundled(key):
            continue
        name, end = split_bundled(key) or ("", "")
        encoder = ENDS.get(end)
        if encoder is None or not name:
            continue
        if tensor.dim() not in (1, 2) or tensor.numel() == 0 or not tensor.is_floating_point() or not is_finite(tensor):
            refused.append(f"the embedding {name}: {end} is no list of vectors of finite numbers")
            continue
        found.setdefault(name, {})[encoder] = tensor if tensor.dim() == 2 else tensor[None]
    return found
