"""Adapters as the libraries that train them make them, and the weights that those libraries then compute with.

`LYCORIS` and `PEFT` are tables; `reference(name)` builds one case. The numbers are what the wrapped layer does to its input,
not what the library's own merging says (LyCORIS' has its scale twice for LoHa and LoKr).
"""

# ruff: noqa: E501  (tables and names that are sentences)

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

UNET = "model.diffusion_model."
PATHS = {  # module -> (its path in a checkpoint, in diffusers)
    "linear": (
        "input_blocks.1.1.transformer_blocks.0.attn1.to_q",
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    ),
    "wide": (
        "input_blocks.1.1.transformer_blocks.0.ff.net.2",
        "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2",
    ),
    "conv": ("input_blocks.1.0.in_layers.2", "down_blocks.0.resnets.0.conv1"),
    "small": ("input_blocks.1.0.skip_connection", "down_blocks.0.resnets.0.conv_shortcut"),
    "norm": ("input_blocks.1.1.transformer_blocks.0.norm1", "down_blocks.0.attentions.0.transformer_blocks.0.norm1"),
}
LYCORIS: dict[str, tuple[str, dict[str, Any], str]] = {  # case -> (module class, options, layers)
    "lora": ("locon.LoConModule", dict(lora_dim=4, alpha=2), "linear wide conv small"),
    "lora rs": ("locon.LoConModule", dict(lora_dim=4, alpha=2, rs_lora=True), "linear conv"),
    "locon tucker": ("locon.LoConModule", dict(lora_dim=3, alpha=1, use_tucker=True), "conv"),
    "lora scalar": ("locon.LoConModule", dict(lora_dim=4, alpha=2, use_scalar=True), "linear"),
    "loha": ("loha.LohaModule", dict(lora_dim=3, alpha=1), "linear wide conv small"),
    "loha tucker": ("loha.LohaModule", dict(lora_dim=3, alpha=1, use_tucker=True), "conv"),
    "lokr": ("lokr.LokrModule", dict(lora_dim=2, alpha=1, factor=2), "linear wide conv small"),
    "lokr full": ("lokr.LokrModule", dict(lora_dim=10**5, alpha=1, factor=4), "linear conv"),
    "lokr both": ("lokr.LokrModule", dict(lora_dim=1, alpha=2, decompose_both=True, factor=4), "linear wide"),
    "lokr tucker": ("lokr.LokrModule", dict(lora_dim=2, alpha=1, factor=2, use_tucker=True), "conv"),
    "full": ("full.FullModule", {}, "linear wide conv"),
    "ia3 input": ("ia3.IA3Module", dict(train_on_input=True), "linear wide conv small"),
    "ia3 output": ("ia3.IA3Module", dict(train_on_input=False), "linear wide conv small"),
    "glora": ("glora.GLoRAModule", dict(lora_dim=3, alpha=2), "linear wide conv small"),
    "glora rs": ("glora.GLoRAModule", dict(lora_dim=3, alpha=2, rs_lora=True), "linear wide"),
    "oft": ("diag_oft.DiagOFTModule", dict(lora_dim=4, alpha=0), "linear wide conv small"),
    "oft constraint": ("diag_oft.DiagOFTModule", dict(lora_dim=4, constraint=0.01), "linear conv"),
    "oft rescale": ("diag_oft.DiagOFTModule", dict(lora_dim=4, alpha=0, rescaled=True), "linear conv"),
    "boft": ("boft.ButterflyOFTModule", dict(lora_dim=2, alpha=0), "linear wide conv"),
    "boft rescale": ("boft.ButterflyOFTModule", dict(lora_dim=2, alpha=0, rescaled=True), "linear conv"),
    "dora output": ("locon.LoConModule", dict(lora_dim=4, alpha=2, weight_decompose=True, wd_on_out=True), "linear wide conv small"),
    "dora input": ("locon.LoConModule", dict(lora_dim=4, alpha=2, weight_decompose=True, wd_on_out=False), "linear wide conv small"),
    "dora loha": ("loha.LohaModule", dict(lora_dim=3, alpha=1, weight_decompose=True, wd_on_out=True), "linear conv"),
    "dora lokr": ("lokr.LokrModule", dict(lora_dim=2, alpha=1, factor=2, weight_decompose=True, wd_on_out=False), "wide conv"),
    "tlora": ("tlora.TLoraModule", dict(lora_dim=3, alpha=2), "linear wide small"),
    "norm": ("norms.NormModule", {}, "norm"),
}  # fmt: skip
PEFT: dict[str, tuple[str, dict[str, Any], str]] = {  # case -> (config class, options, layers)
    "peft lora": ("LoraConfig", dict(r=4, lora_alpha=4), "linear wide conv"),
    "peft alpha": ("LoraConfig", dict(r=4, lora_alpha=6), "linear wide conv"),
    "peft rslora": ("LoraConfig", dict(r=4, lora_alpha=6, use_rslora=True), "linear conv"),
    "peft patterns": ("LoraConfig", dict(r=4, lora_alpha=6, rank_pattern={"wide": 2}, alpha_pattern={"wide": 5}), "linear wide conv"),
    "peft dora": ("LoraConfig", dict(r=4, lora_alpha=4, use_dora=True), "linear wide conv"),
    "peft bias": ("LoraConfig", dict(r=4, lora_alpha=2, lora_bias=True), "wide conv"),
    "peft loha": ("LoHaConfig", dict(r=3, alpha=2), "linear wide conv"),
    "peft lokr": ("LoKrConfig", dict(r=2, alpha=1), "linear wide"),
    "peft oft": ("OFTConfig", dict(r=0, oft_block_size=4, use_cayley_neumann=True), "linear wide conv"),
    "peft oft exact": ("OFTConfig", dict(r=0, oft_block_size=4, use_cayley_neumann=False), "linear wide"),
}  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """A file, the checkpoint that it is for, and what the checkpoint's parameters then are (at multiplier 1)."""

    tensors: Mapping[str, Tensor]
    base: Mapping[str, Tensor]
    expected: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None  # adapter_config.json, beside the file

    def write(self, folder: Path, name: str = "adapter_model") -> Path:
        import json

        path = folder / f"{name}.safetensors"
        save_file(
            {key: tensor.contiguous() for key, tensor in self.tensors.items()}, path, metadata=dict(self.metadata)
        )
        if self.config is not None:
            (folder / "adapter_config.json").write_text(json.dumps(dict(self.config)))
        return path


def layers() -> dict[str, nn.Module]:
    """The layers of a small model, always with the same values."""
    torch.manual_seed(1)
    made: dict[str, nn.Module] = {
        "linear": nn.Linear(16, 16, bias=False), "wide": nn.Linear(24, 16), "conv": nn.Conv2d(16, 16, 3),
        "small": nn.Conv2d(6, 16, 1), "norm": nn.LayerNorm(12),
    }  # fmt: skip
    for layer in made.values():
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.5)
    return made


def base_tensors(made: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The layers as a checkpoint file names them."""
    return {
        f"{UNET}{PATHS[name][0]}.{part}": tensor.detach().clone()
        for name, layer in made.items()
        for part, tensor in layer.state_dict().items()
    }


@torch.no_grad()
def effective(layer: Callable[[Tensor], Tensor], like: nn.Module) -> dict[str, Tensor]:
    """The weight and bias with which `layer` computes, from what it does to basis vectors."""
    if isinstance(like, nn.LayerNorm):
        one = torch.zeros(1, like.normalized_shape[0])
        one[0, 0], one[0, 1] = 1, -1
        unit = nn.functional.layer_norm(one, like.normalized_shape, eps=like.eps)
        outputs = [layer(torch.roll(one, shift, 1))[0] for shift in range(one.shape[1])]
        bias = torch.stack([outputs[(i - 5) % len(outputs)][i] for i in range(len(outputs))])
        at_one = torch.stack([outputs[i][i] for i in range(len(outputs))])
        return {"weight": (at_one - bias) / unit[0, 0], "bias": bias}
    weight = like.weight
    if isinstance(like, nn.Linear):
        inputs = torch.eye(weight.shape[1])
        bias = layer(torch.zeros(1, weight.shape[1]))[0]
        return {"weight": (layer(inputs) - bias).T, "bias": bias}
    size = weight[0].numel()
    inputs = torch.eye(size).reshape(size, *weight.shape[1:])
    bias = layer(torch.zeros(1, *weight.shape[1:]))[0, :, 0, 0]
    return {"weight": (layer(inputs)[:, :, 0, 0] - bias).T.reshape(weight.shape), "bias": bias}


def _disturb(module: nn.Module, std: float = 0.2) -> None:
    """As if trained: every parameter away from where it starts."""
    for name, parameter in module.named_parameters():
        if parameter.is_floating_point() and not name.startswith("org_"):
            parameter.data = parameter.data + std * torch.randn_like(parameter)


@cache
def reference(name: str) -> Reference:
    """One case of `LYCORIS` or `PEFT`. Raises ImportError without the library."""
    return _lycoris(*LYCORIS[name]) if name in LYCORIS else _peft(*PEFT[name])


def _lycoris(path: str, options: Mapping[str, Any], used: str) -> Reference:
    file, kind = path.split(".")
    made = layers()
    base = base_tensors(made)
    tensors, expected = {}, {}
    for name in used.split():
        prefix = "lora_unet_" + PATHS[name][1].replace(".", "_")
        torch.manual_seed(2)
        layer, like = made[name], copy.deepcopy(made[name])
        module = getattr(importlib.import_module(f"lycoris.modules.{file}"), kind)(prefix, layer, 1.0, **options).eval()
        torch.manual_seed(3)
        _disturb(module)
        module.apply_to()
        for part, tensor in module.state_dict().items():
            tensors[f"{prefix}.{part}"] = tensor.detach().clone()
        found = effective(layer, like)
        expected |= {
            f"{UNET}{PATHS[name][0]}.{part}": tensor
            for part, tensor in found.items()
            if part == "weight" or like.bias is not None
        }
    metadata = {"ss_network_module": "lycoris.kohya"}
    if options.get("rs_lora"):
        metadata["ss_network_args"] = '{"rs_lora": "True"}'
    return Reference(tensors, base, expected, metadata)


class _Named(nn.Module):
    """The layers under their diffusers names, so that PEFT saves them by these."""

    def __init__(self, made: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.config: dict[str, Any] = {}
        for name, layer in made.items():
            self.add_module(name, layer)


def _peft(kind: str, options: Mapping[str, Any], used: str) -> Reference:
    import peft

    made = layers()
    base = base_tensors(made)
    names = used.split()
    config = getattr(peft, kind)(target_modules=names, **options)
    likes = {name: copy.deepcopy(made[name]) for name in names}
    torch.manual_seed(2)
    model = peft.get_peft_model(_Named(made), config).eval()
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "magnitude" not in name:
            parameter.data = parameter.data + 0.2 * torch.randn_like(parameter)
        elif parameter.requires_grad:
            parameter.data = parameter.data * (1 + 0.2 * torch.rand_like(parameter))
    tensors = {}
    for key, tensor in peft.get_peft_model_state_dict(model).items():
        name, _, part = key.removeprefix("base_model.model.").partition(".")
        tensors[f"base_model.model.{PATHS[name][1]}.{part}"] = tensor.detach().clone()
    expected = {}
    for name in names:
        found = effective(getattr(model.base_model.model, name), likes[name])
        expected |= {
            f"{UNET}{PATHS[name][0]}.{part}": tensor
            for part, tensor in found.items()
            if part == "weight" or likes[name].bias is not None
        }
    written = {
        key: value for key, value in config.to_dict().items() if isinstance(value, (str, int, float, bool, dict))
    }
    for pattern in ("rank_pattern", "alpha_pattern"):
        if pattern in written:
            written[pattern] = {PATHS[name][1]: value for name, value in written[pattern].items()}
    return Reference(tensors, base, expected, config=written)
