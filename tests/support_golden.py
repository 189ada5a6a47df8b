"""Golden files, the models they are for, and two ways to get from one to the other: the plan's fold, and a Session."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lib_lora.adapters.adapter import read_adapter
from lib_lora.engine.active import Active
from lib_lora.engine.fold import fold
from lib_lora.engine.plan import Plan
from lib_lora.engine.schedule import plan
from lib_lora.grammar.tag import LoraTag
from lib_lora.keys import layout
from lib_lora.model.slots import slots_of
from lib_lora.model.targets import UNET_ROOT, TargetIndex, _checkpoint_targets, index_checkpoint, index_diffusers
from lib_lora.session.session import Session
from lib_lora.session.torch_host import TorchHost
from tests.support import SHARED

OWN = Path(__file__).parent / "golden"
GIVEN = SHARED / "golden" / "dev"


@cache
def given_cases() -> dict[str, list[dict[str, Any]]]:
    """The cases beside the repository by adapter file, or none where the folder is not there."""
    by_file: dict[str, list[dict[str, Any]]] = defaultdict(list)
    if GIVEN.is_dir():
        for case in json.loads((GIVEN / "index.json").read_text())["sets"]["dev"]["cases"]:
            by_file[case["file"]].append(case)
    return dict(by_file)


@cache
def given_base(family: str) -> dict[str, Tensor]:
    return load_file(GIVEN / "base" / f"{family}.safetensors")


def own_file(name: str) -> Path:
    """A golden adapter of our own; PEFT's lie in folders of their own, beside their configuration."""
    return OWN / name / "adapter_model.safetensors" if (OWN / name).is_dir() else OWN / f"{name}.safetensors"


def base_key(case: Mapping[str, Any]) -> str:
    """The parameter of the checkpoint that the case is about."""
    key = case["base_weight"]
    if case["quantity"] == "delta_bias":
        key = key.replace("in_proj_weight", "in_proj_bias")
        key = f"{key.removesuffix('weight')}bias" if key.endswith(".weight") else key
    return key


def tag_of(case: Mapping[str, Any], multiplier: float) -> LoraTag:
    return LoraTag("x", multiplier, multiplier, dyn=4 if "truncated to rank 4" in case["variant"] else None)


def folded(base: Mapping[str, Tensor], made: Plan, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Every parameter as the plan says."""
    result = {}
    for key, tensor in base.items():
        tensor = tensor.to(dtype)
        result[key] = tensor
        if key in made.terms:
            result[key] = torch.empty_like(tensor)
            fold(tensor, made.terms[key], result[key])
    return result


def index_of(base: Mapping[str, Tensor]) -> TargetIndex:
    return index_checkpoint({key: tuple(tensor.shape) for key, tensor in base.items()})


def by_plan(base: Mapping[str, Tensor], path: Path, tag: LoraTag) -> dict[str, Tensor]:
    return folded(base, plan([Active(tag, read_adapter(path))], index_of(base)))


class Carrier(nn.Module):
    """A model that has parameters of the given names and shapes, and a place for a bias where there is none."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for key, tensor in tensors.items():
            module: nn.Module = self
            *path, name = key.split(".")
            for step in path:
                if step not in module._modules:
                    module.add_module(step, nn.Module())
                module = module._modules[step]
            module.register_parameter(name, nn.Parameter(tensor.float().clone(), requires_grad=False))
        for module in self.modules():
            if "weight" in module._parameters and module.weight.dim() > 1 and "bias" not in module._parameters:
                module.register_parameter("bias", None)

    def tensors(self) -> dict[str, Tensor]:
        return {key: parameter.detach().clone() for key, parameter in self.named_parameters()}


def checkpoint_session(model: Carrier, path: Path) -> Session:
    return Session(TorchHost(lambda: slots_of(model), index_checkpoint), finder(path))


def diffusers_session(model: Carrier, path: Path) -> Session:
    def index(shapes: Mapping[str, tuple[int, ...]]) -> TargetIndex:
        components: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
        for key, shape in shapes.items():
            component, _, name = key.partition(".")
            components[component][name] = shape
        return index_diffusers(components)

    return Session(TorchHost(lambda: slots_of(model), index), finder(path))


def finder(path: Path) -> Any:
    return SimpleNamespace(find=lambda name: SimpleNamespace(path=path))


def in_diffusers_layout(base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's parameters as the components of a pipeline have them.

    The golden checkpoints have few of their layers: where an upsampler comes after an attention, one is added.
    """
    found = {name: target.view(base[target.key]).contiguous() for name, target in diffusers_names(base)}
    for key in base:
        if match := re.search(r"output_blocks\.(\d+)\.2\.conv\.weight$", key):
            found.setdefault(f"unet.up_blocks.{int(match[1]) // 3}.attentions.0.norm.weight", torch.ones(4))
    return found


def diffusers_names(base: Mapping[str, Tensor]) -> Iterator[tuple[str, Any]]:
    """(name in a pipeline, target in the checkpoint)."""
    layers = layout.resnets_per_block([key.removeprefix(f"{UNET_ROOT}.") for key in base if key.startswith(UNET_ROOT)])
    for key, tensor in base.items():
        for module, part, target in _checkpoint_targets(key, tuple(tensor.shape), layers):
            if not module.diffusers.startswith("transformer.resblocks"):
                yield f"{module.component}.{module.diffusers}.{part}", target
