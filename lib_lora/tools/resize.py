"""resize(): the same adapter in fewer ranks: a rank, a share of the energy, or an error that is not exceeded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from lib_lora.adapters.adapter import Adapter, read_adapter
from lib_lora.algorithms.base import Delta
from lib_lora.algorithms.forms import Form, form_of
from lib_lora.describe.survey import group
from lib_lora.errors import LoraError
from lib_lora.formats.containers import Contents, read_contents
from lib_lora.model.base_weights import BaseWeights
from lib_lora.model.targets import TargetIndex
from lib_lora.model.usual import usual_index
from lib_lora.tools.adapter_file import WHAT, made, parent_of, write_adapter
from lib_lora.tools.factors import Limit
from lib_lora.tools.layers import Built, Layer, Progress, build
from lib_lora.tools.out import check_out
from lib_lora.tools.spell_out import STYLES

KEPT = ("diff_b", "lora_bias")  # parts of a module that stand beside its product
PEFT_PART = "lora_A.weight"  # at the end of a key: the scale of such a file is in its factors


@dataclass(frozen=True)
class Resized:
    """What was written."""

    out: Path
    built: Built
    kept: tuple[str, ...]  # modules that are as they were: vectors, and what depends on the base weights


def resize(
    path: Path, out: Path, limit: Limit, *, base: BaseWeights | None = None, overwrite: bool = False,
    progress: Progress | None = None,
) -> Resized:  # fmt: skip
    """Write `path` cut to `limit` to `out`, in the names and the precision of `path`. Raises LoraError.

    `base`: its checkpoint, for kinds whose factors do not tell the shape of a layer, if that is no usual one.
    """
    check_out(out, WHAT, {"the adapter": path}, overwrite=overwrite)
    adapter, contents = read_adapter(path), read_contents(path)
    keys = group({key: tuple(tensor.shape) for key, tensor in contents.tensors.items()}).keys
    index = base.index if base is not None else usual_index(adapter.family.id)
    layers = list(_layers(adapter, contents, keys, index))
    if not layers:
        raise LoraError(f"{path.name} has no layer that could be cut: {', '.join(adapter.algorithms)}")
    cut = {layer.module for layer in layers}
    style = STYLES["diffusers" if any(key.endswith(PEFT_PART) for key in contents.tensors) else "kohya"]
    built = build(layers, limit, style, is_xl=False, dtype=_dtype(contents), progress=progress)
    changed = {key for module in cut for part, key in keys[str(module)].items() if part not in KEPT}
    others = {key: tensor for key, tensor in contents.tensors.items() if key not in changed}
    recipe = {"resized": path.name, "limit": {name: value for name, value in vars(limit).items() if value is not None},
              "error": built.error}  # fmt: skip
    metadata = {key: value for key, value in contents.metadata.items() if key != "lora_adapter_metadata"}
    metadata |= made(recipe, {path.stem: parent_of(path, contents.metadata)})
    if built.ranks and "ss_network_dim" in metadata:
        metadata["ss_network_dim"] = metadata["ss_network_alpha"] = str(max(built.ranks))
    write_adapter(out, {**others, **built.tensors}, metadata, overwrite=overwrite)
    return Resized(out, built, tuple(name for name in adapter.modules if name not in cut))


def _layers(
    adapter: Adapter, contents: Contents, keys: Mapping[str, Mapping[str, str]], index: TargetIndex | None
) -> Iterator[Layer]:
    for name, deltas in adapter.modules.items():
        delta = deltas.get("weight")
        if delta is None or not delta.additive:
            continue
        shape = _own_shape(delta, contents, keys.get(name, {}))
        if shape is None and index is not None:
            found = index.find(name)
            target = found.get("weight") if found else None
            shape = target.shape if target is not None and delta.misfit(target.shape) is None else None
        if shape is not None and len(shape) > 1 and form_of(delta, shape) is not None:
            yield Layer(name, shape, partial(_form, delta, shape))


def _form(delta: Delta, shape: tuple[int, ...]) -> Form:
    form = form_of(delta, shape)
    assert form is not None  # `_layers` asked
    return form


def _own_shape(delta: Delta, contents: Contents, keys: Mapping[str, str]) -> tuple[int, ...] | None:
    """Of the layer, where the file's own factors tell it."""
    product = delta.low_rank()
    if product is None or "down" not in keys:
        return None
    down = contents.tensors[keys["down"]].shape
    kernel = contents.tensors[keys["mid"]].shape[2:] if "mid" in keys else down[2:]
    return product.up.shape[0], down[1], *kernel


def _dtype(contents: Contents) -> torch.dtype:
    """The finest that the file has."""
    kinds = {tensor.dtype for tensor in contents.tensors.values() if tensor.is_floating_point() and tensor.dim() > 1}
    found = torch.float16 if kinds == {torch.float16} else torch.bfloat16 if kinds == {torch.bfloat16} else None
    return found or (torch.float64 if torch.float64 in kinds else torch.float32)
