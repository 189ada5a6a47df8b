"""Slot: where a parameter of a model lives, whatever its host does to it meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

WRAPPED = ("_orig_mod", "base_layer")  # what torch.compile and PEFT call a module that they wrap
ROOT_WRAPPERS = ("_orig_mod", "module")  # ... and torch's parallel wrappers, around a whole model


@dataclass(frozen=True)
class Slot:
    """Where a parameter lives: looked up anew each time, because `.to()` may replace the Parameter object."""

    module: nn.Module
    attribute: str
    finer: str | None = None  # where the host keeps the same weight in a higher precision, if it does
    root: nn.Module | None = field(default=None, compare=False, repr=False)  # the part of a model that it belongs to
    copy: Tensor | None = field(default=None, compare=False, repr=False)  # whose data take its place in each call

    @property
    def root_module(self) -> nn.Module:
        """The UNet or text encoder that it belongs to; a module that stands alone is its own."""
        return self.module if self.root is None else self.root

    @property
    def parameter(self) -> Tensor:
        """The parameter as it is now."""
        return getattr(self.module, self.attribute)

    @property
    def device(self) -> torch.device:
        """Where the parameter is, or main memory if its host has it elsewhere and nothing in its place."""
        device = self.parameter.device
        return torch.device("cpu") if device.type == "meta" else device

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight as adapters know it; a quantised one may be stored in another."""
        layer, parameter = self.module, self.parameter
        if is_plain(parameter) or self.attribute != "weight":
            return tuple(parameter.shape)
        if isinstance(layer, nn.Linear):
            return layer.out_features, layer.in_features
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            return layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size
        return tuple(parameter.shape)

    def base(self, original: Tensor) -> Tensor:
        """What adapters are added to: the finer copy of `original` if there is one, else itself."""
        finer = getattr(self.module, self.finer, None) if self.finer else None
        return original if finer is None or finer.shape != original.shape else finer.to(original.device)

    @property
    def lacks_bias(self) -> bool:
        """True for the weight of a module that could have a bias and has none."""
        return self.attribute == "weight" and self.module._parameters.get("bias", self.module) is None

    @property
    def can_hold_sums(self) -> bool:
        """True if the parameter may be written to and holds numbers fine enough for a sum.

        False for weights in 8 bits or fewer, for those of a quantising library, for inference tensors, and where what
        is written would not be what the layer computes with (`is_away`).
        """
        return self.may_be_written and self.parameter.element_size() > 1

    @property
    def may_be_written(self) -> bool:
        """True if the parameter may be written to and holds the numbers themselves, coarse ones perhaps."""
        parameter = self.parameter
        return is_plain(parameter) and not parameter.is_inference() and not self.is_away

    @property
    def is_away(self) -> bool:
        """True if the layer computes with another copy of the weight, which somebody puts in its place in each call.

        So with accelerate's sequential offloading (the parameter is on `meta` meanwhile) and with diffusers' group
        offloading on a stream of its own.
        """
        return self.parameter.is_meta or self.copy is not None

    @property
    def elsewhere(self) -> Tensor | None:
        """That other copy; None if there is none or nobody can tell."""
        hook = getattr(self.module, "_hf_hook", None)
        for each in getattr(hook, "hooks", (hook,)):  # several in a row, or one
            stored = getattr(each, "weights_map", None)
            if self.parameter.is_meta and stored is not None and self.attribute in stored:
                return stored[self.attribute]
        return self.copy


def is_plain(parameter: Tensor) -> bool:
    """True if the tensor holds the weights themselves, as floating-point numbers."""
    return type(parameter) in (Tensor, nn.Parameter) and parameter.is_floating_point()


def slots_of(root: nn.Module, prefix: str = "", *, finer: str | None = None) -> dict[str, Slot]:
    """Every parameter below `root` as `prefix` + its name -> Slot; finer copies are its name with `finer` before it.

    Names are those of the model itself where all of it, or some layers, are compiled or wrapped.
    """
    root = unwrapped(root)
    modules = _named_modules(root)
    copies = _group_copies(modules.values())
    return {
        f"{prefix}{path}.{name}" if path else f"{prefix}{name}": Slot(
            module, name, finer and f"{finer}{name}", root, copies.get(id(parameter)) if copies else None
        )
        for path, module in modules.items()
        for name, parameter in module._parameters.items()
        if parameter is not None
    }


def unwrapped(root: nn.Module) -> nn.Module:
    """The model inside of what torch.compile or a parallel wrapper made of it."""
    for name in ROOT_WRAPPERS:
        inner = root._modules.get(name)
        if inner is not None and len(root._modules) == 1 and not root._parameters:
            return unwrapped(inner)
    return root


def _named_modules(root: nn.Module) -> dict[str, nn.Module]:
    """Every module once, in the order of `named_modules`, which hands each name up through all levels of the model."""
    found: dict[str, nn.Module] = {}
    seen: set[nn.Module] = set()

    def walk(path: str, module: nn.Module) -> None:
        seen.add(module)
        found[path] = module
        before = f"{path}." if path else ""
        for name, below in module._modules.items():
            if below is not None and below not in seen:
                walk(path if name in WRAPPED else before + name, below)

    walk("", root)
    return found


def _group_copies(modules: Iterable[nn.Module]) -> dict[int, Tensor]:
    """{id of a parameter: the copy of it that diffusers' group offloading puts in its place in each call}."""
    found: dict[int, Tensor] = {}
    for module in modules:
        registry: Any = module.__dict__.get("_diffusers_hook")
        if registry is not None:
            hook = registry.hooks.get("group_offloading")
            copies = getattr(getattr(hook, "group", None), "cpu_param_dict", {})
            found.update((id(parameter), copy) for parameter, copy in copies.items())
    return found
