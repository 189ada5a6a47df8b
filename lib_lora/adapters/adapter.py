"""Adapter: a file, read, knowing no model: {module spelling: Delta} and what was not understood."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from lib_lora.adapters.config import config_of, read_config
from lib_lora.adapters.origin import Origins, stamps
from lib_lora.algorithms.base import Delta, Origin, PartsError
from lib_lora.algorithms.read import read_module
from lib_lora.algorithms.refused import ACCESSORIES
from lib_lora.describe import families, foreign
from lib_lora.errors import AdapterFileError
from lib_lora.formats.containers import read_contents
from lib_lora.formats.opening import strange
from lib_lora.keys import sort_keys
from lib_lora.keys.zeros import ALL_ZERO, changes_nothing

BUNDLE = "bundle_emb."
EMBEDDINGS = {  # end of the key -> the text encoder that it is for; "text" is a model's only one
    "string_to_param.*": "text", "emb_params": "text", "clip_l": "clip_l", "clip_g": "clip_g",
    "clip_l_out": None, "clip_g_out": None,  # OneTrainer's output embeddings, which no program uses
}  # fmt: skip
PIECE = 1 << 20  # values
ENOUGH = 1 << 30  # bytes of adapters that are kept without being asked for
LIMIT = 1e9  # no adapter has larger values; with them a picture is black
SAMPLE = 64  # values that tell of nearly every tensor that it is not all zeros
WHOLE_NUMBERS = frozenset(
    {"alpha", "scale", "scalar", "on_input", "scaled_oft", "bias_indices", "bias_size", "reshape_weight"}
)


@dataclass(frozen=True, eq=False)
class Adapter:
    """Immutable, and bound to a model only by `plan`: it can be cached and used on several models."""

    path: Path
    family: families.Family
    metadata: Mapping[str, str] = field(repr=False)
    modules: Mapping[str, Mapping[str, Delta]] = field(repr=False)  # spelling -> {"weight": ..., "bias": ...}
    unknown: tuple[str, ...] = ()  # keys that no algorithm understands
    refused: tuple[str, ...] = ()  # sentences: modules that are incomplete, not finite, or of an unsupported algorithm
    notes: tuple[str, ...] = ()  # sentences: decisions that a user should know of
    # Bundled textual-inversion embeddings: the word in the prompt -> {"clip_l", "clip_g" or "text": (vectors, width)}
    embeddings: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict, repr=False)

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms' names, each once."""
        return tuple(sorted({delta.algorithm for deltas in self.modules.values() for delta in deltas.values()}))

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
    keys, unknown = sort_keys(key for key in tensors if not key.startswith(BUNDLE))
    is_model = all(parts.keys() <= ACCESSORIES for parts in keys.values())  # then it is not worth reading
    is_checked = not is_model and all(is_finite(block, LIMIT) for block in contents.blocks)
    try:
        origins = Origins(metadata, read_config(path))
    except ValueError as error:
        raise AdapterFileError(f"{path.name}: {error}; it was not loaded") from error

    modules: dict[str, Mapping[str, Delta]] = {}
    refused: list[str] = []
    notes: list[str] = []
    acts = False
    for name, parts in keys.items():
        try:
            found = {part: tensors[key] for part, key in parts.items()}
            deltas, left_over, said = _read(found, origins.of(name), is_checked)
        except PartsError as error:
            refused.append(f"{name}: {error}")
            continue
        if deltas:
            acts = acts or bool(origins.start) or not changes_nothing(found, is_zero)
            modules[name] = deltas
            notes += [f"{name}: {note}" for note in said]
        unknown += [parts[part] for part in left_over]
    embeddings = _read_embeddings(tensors, unknown, refused)
    if not modules and not embeddings:
        first = next(iter(refused), None), next(iter(unknown), None)
        what = foreign.why_none(shapes, usable=False, refused=first[0], unknown=first[1])
        raise AdapterFileError(f"{path.name} is {what}")
    if modules and not acts and not embeddings:
        notes.insert(0, ALL_ZERO)
    family = families.detect(shapes, metadata)
    return Adapter(path, family, metadata, modules, tuple(unknown), tuple(refused), tuple(notes), embeddings)


@dataclass(frozen=True)
class Cached:
    """An adapter that was read before."""

    adapter: Adapter
    stamp: object  # of the file and of what stands beside it
    size: int  # bytes in memory


class AdapterCache:
    """The adapters read last, keyed by path, modification time and size: a changed file is read again.

    They are in memory, so that their files may be replaced, cut off or deleted while they are in use.

    limit   that many are kept, as long as they are no more than ENOUGH
    budget  bytes of memory in which more are kept: a change back to one of them reads no file

    What somebody uses is found here however many others were read since. Safe to use from several threads.
    """

    def __init__(self, limit: int = 8, *, budget: int = 0) -> None:
        self.limit = limit
        self.budget = budget
        self._read: OrderedDict[Path, Cached] = OrderedDict()
        self._used: WeakValueDictionary[tuple[Path, object], Adapter] = WeakValueDictionary()
        self._lock = threading.RLock()

    def read(self, path: Path) -> Adapter:
        """The adapter at `path`. Raises AdapterFileError."""
        with self._lock:
            try:
                stamp = stamps((path, config_of(path)))
                status = path.stat()
            except OSError as error:
                self._read.pop(path, None)
                raise AdapterFileError(
                    f"{path.name}: cannot be opened ({error.strerror}); is it still at {path}?"
                ) from error
            if kind := strange(status.st_mode):  # it would never end, or never begin
                raise AdapterFileError(f"{path.name} cannot be read: it is {kind}, not a file")
            known = self._read.get(path)
            if known is None or known.stamp != stamp:
                adapter = self._used.get((path, stamp)) or read_adapter(path)
                self._used[path, stamp] = adapter
                known = self._read[path] = Cached(adapter, stamp, status.st_size)
            self._read.move_to_end(path)
            self._shrink()
            return known.adapter

    def _shrink(self) -> None:
        """Drop those not used for longest: all but `limit`, as far as they do not fit into the budget."""
        held = sum(cached.size for cached in self._read.values())
        while len(self._read) > 1 and held > self.budget and (len(self._read) > self.limit or held > ENOUGH):
            _, dropped = self._read.popitem(last=False)
            held -= dropped.size

    def clear(self) -> None:
        """Forget every file."""
        self._read.clear()


def _read(
    parts: dict[str, Tensor], origin: Origin, is_checked: bool
) -> tuple[dict[str, Delta], list[str], list[str]]:
    """`read_module`, with every value looked at unless that `is_checked`. Raises PartsError."""
    if parts.keys() <= ACCESSORIES:
        return {}, sorted(parts), []
    for part, tensor in parts.items():
        if not tensor.is_floating_point() and (part not in WHOLE_NUMBERS or tensor.is_complex()):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise PartsError(f"{part} holds {kind} numbers: quantised adapters are not supported")
        if not is_checked and not is_finite(tensor):
            raise PartsError(f"{part} holds values that are not finite numbers")
        if not is_checked and not is_finite(tensor, LIMIT):
            raise PartsError(f"{part} holds values above {LIMIT:.0e}, which would only make black pictures")
    return read_module(parts, origin)


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


def _read_embeddings(
    tensors: Mapping[str, Tensor], unknown: list[str], refused: list[str]
) -> dict[str, dict[str, Tensor]]:
    """The bundled embeddings by name; a name may have dots and spaces in it, so that its end is what is looked for."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if not key.startswith(BUNDLE):
            continue
        rest = key.removeprefix(BUNDLE)
        end = next((end for end in EMBEDDINGS if rest.endswith(f".{end}")), None)
        if end is None:
            unknown.append(key)
            continue
        encoder, name = EMBEDDINGS[end], rest.removesuffix(f".{end}")
        if encoder is None or not name:
            continue
        if tensor.dim() not in (1, 2) or tensor.numel() == 0 or not tensor.is_floating_point() or not is_finite(tensor):
            refused.append(f"the embedding {name}: {end} is no list of vectors of finite numbers")
            continue
        found.setdefault(name, {})[encoder] = tensor if tensor.dim() == 2 else tensor[None]
    return found
