"""Slot: where a parameter of a model lives, whatever its host does to it meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Slot:
    """Where a parameter lives: looked up anew each time, because `.to()` may replace the Parameter object."""

    module: nn.Module
    attribute: str
    finer: str | None = None  # where the host keeps the same weight in a higher precision, if it does

    @property
    def parameter(self) -> Tensor:
        """The parameter as it is now."""
        return getattr(self.module, self.attribute)

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

        False for weights in 8 bits or fewer, for those of a quantising library, and for inference tensors.
        """
        return self.may_be_written and self.parameter.element_size() > 1

    @property
    def may_be_written(self) -> bool:
        """True if the parameter may be written to and holds the numbers themselves, coarse ones perhaps."""
        return is_plain(self.parameter) and not self.parameter.is_inference()


def is_plain(parameter: Tensor) -> bool:
    """True if the tensor holds the weights themselves, as floating-point numbers."""
    return type(parameter) in (Tensor, nn.Parameter) and parameter.is_floating_point()


def slots_of(root: nn.Module, prefix: str = "", *, finer: str | None = None) -> dict[str, Slot]:
    """Every parameter below `root` as `prefix` + its name -> Slot; finer copies are its name with `finer` before it."""
    return {
        f"{prefix}{path}.{name}" if path else f"{prefix}{name}": Slot(module, name, finer and f"{finer}{name}")
        for path, module in root.named_modules()
        for name, parameter in module._parameters.items()
        if parameter is not None
    }
