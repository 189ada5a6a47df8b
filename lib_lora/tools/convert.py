"""convert(): the same adapter under other names: kohya's, diffusers' or OneTrainer's. No number changes that need not.

A file of diffusers has no alpha: the scale of each layer goes into its factor `lora_B`. Kinds that only LyCORIS has
keep their parts' names, and cannot be told to diffusers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lib_lora.adapters.adapter import Adapter, read_adapter
from lib_lora.algorithms.lora import Lora
from lib_lora.describe.survey import group
from lib_lora.errors import LoraError
from lib_lora.formats.containers import read_contents
from lib_lora.keys import ModuleName
from lib_lora.model.base_weights import BaseWeights
from lib_lora.model.targets import TargetIndex
from lib_lora.model.usual import usual_index
from lib_lora.tools.adapter_file import WHAT, made, parent_of, write_adapter
from lib_lora.tools.out import check_out
from lib_lora.tools.spell_out import STYLES, Style, To

ALPHA_IN_METADATA = ("lora_adapter_metadata", "format")


@dataclass(frozen=True)
class Converted:
    """What was written."""

    out: Path
    modules: int


def convert(
    path: Path, out: Path, to: To, *, base: BaseWeights | None = None, overwrite: bool = False
) -> Converted:
    """Write `path` in the names of `to`. `base`: its checkpoint, if that is no usual one. Raises LoraError."""
    check_out(out, WHAT, {"the adapter": path}, overwrite=overwrite)
    adapter, contents = read_adapter(path), read_contents(path)
    index = base.index if base is not None else usual_index(adapter.family.id)
    if index is None:
        what = f"{path.name}: its layers are not known ({adapter.family.label})"
        raise LoraError(f"{what}; name its checkpoint with --model")
    keys = group({key: tuple(tensor.shape) for key, tensor in contents.tensors.items()}).keys
    is_xl = index.family.is_xl
    tensors: dict[str, Tensor] = {}
    for name in adapter.modules:
        parts = {part: (key.removeprefix(f"{name}."), contents.tensors[key]) for part, key in keys[name].items()}
        for module, begin, end in _modules(name, index, path.name):
            own = STYLES[to].name(module, is_xl)
            for part, tensor in _spelled(adapter, name, parts, STYLES[to], begin, end, path.name):
                tensors[f"{own}.{part}"] = tensor
    metadata = {key: value for key, value in contents.metadata.items() if key not in ALPHA_IN_METADATA}
    metadata |= made({"converted": path.name, "to": to}, {path.stem: parent_of(path, contents.metadata)})
    write_adapter(out, tensors, metadata, overwrite=overwrite)
    return Converted(out, len(adapter.modules))


def _modules(name: str, index: TargetIndex, file: str) -> Iterator[tuple[ModuleName, int | None, int | None]]:
    """`(module, first row, row after the last)`: several where the file has one for what are several elsewhere."""
    targets = index.find_all(name)
    for place in targets:
        target = place.get("weight") or place["bias"]
        module = index.name_of(target)
        if module is not None:
            begin, end = target.piece[:2] if target.piece is not None else (None, None)
            yield module, begin, end
    if not targets:
        raise LoraError(f"{file}: {name} is no layer of a usual {index.family.label}; name its checkpoint with --model")


def _spelled(
    adapter: Adapter, name: str, parts: dict[str, tuple[str, Tensor]], style: Style, begin: int | None,
    end: int | None, file: str,
) -> Iterator[tuple[str, Tensor]]:  # fmt: skip
    delta = adapter.modules[name].get("weight")
    some = slice(begin, end)
    is_product = isinstance(delta, Lora) and parts.keys() >= {"up", "down"}
    if begin is not None and not is_product:
        kind = delta.algorithm if delta is not None else "a bias"
        raise LoraError(f"{file}: {name} is several layers elsewhere, and {kind} cannot be divided")
    if is_product:
        assert isinstance(delta, Lora)
        yield from _product(delta, parts, style, some)
    elif not style.has_alpha and delta is not None:
        raise LoraError(f"{file}: {name} is {delta.algorithm}, for which diffusers has no names")
    for part, (suffix, tensor) in parts.items():
        if not is_product or part not in ("up", "down", "mid", "alpha", "scale", "scalar"):
            yield suffix, tensor.clone()


def _product(
    delta: Lora, parts: dict[str, tuple[str, Tensor]], style: Style, some: slice
) -> Iterator[tuple[str, Tensor]]:  # fmt: skip
    up, down = parts["up"][1], parts["down"][1]
    if style.has_alpha:
        yield style.up, up[some].clone()
        yield style.down, down.clone()
        if "mid" in parts:
            yield "lora_mid.weight", parts["mid"][1].clone()
        yield "alpha", torch.tensor(delta.scale * down.shape[0], dtype=torch.float32)
        return
    if "mid" in parts:
        kernel = parts["mid"][1].shape[2:]
        down = delta.low_rank().down.reshape(-1, down.shape[1], *kernel).to(down.dtype)
    yield style.up, (up[some].double() * delta.scale).to(up.dtype)
    yield style.down, down.clone()
