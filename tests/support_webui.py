"""Model objects put together like the WebUI's: the same attribute paths, the same packed parameters, tiny."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from lib_lora.keys import layout
from lib_lora.session.torch_host import TorchHost
from tests.support import tiny_encoder, tiny_unet, twin

TEXT_WIDTH = 12


def tiny_sd_model(family: str, *, seed: int = 0, short: bool = False) -> nn.Module:
    """What `shared.sd_model` is for SD1, SD2 or SDXL, as far as weights go."""
    model, random_state = _tiny_sd_model(family, seed, short)
    torch.set_rng_state(random_state)
    return twin(model)


@functools.cache
def _tiny_sd_model(family: str, seed: int, short: bool) -> tuple[nn.Module, Tensor]:
    """Made once, and not to be changed; and what chance is after it is made."""
    torch.manual_seed(seed)
    root = nn.Module()
    root.model = nn.Module()
    root.model.diffusion_model = _compvis(tiny_unet(family, short=short))
    if family == "sdxl":
        root.conditioner = nn.Module()
        root.conditioner.embedders = nn.ModuleList([_wrapped(transformer=_clip()), _wrapped(model=_OpenClip())])
    elif family == "sd2":
        root.cond_stage_model = _wrapped(model=_OpenClip())
    else:
        root.cond_stage_model = _wrapped(transformer=_clip())
    return root.eval(), torch.get_rng_state()


def webui_host(model: nn.Module) -> TorchHost:
    """The WebUI room's host on such a model."""
    from lib_lora.webui.a1111.host import WebUIHost

    return WebUIHost(model)


def _compvis(unet: nn.Module) -> nn.Module:
    """The same leaf modules under their CompVis names."""
    leaves = {name: module for name, module in unet.named_modules() if module._parameters}
    layers = layout.resnets_per_block(leaves)
    root = nn.Module()
    for name, module in leaves.items():
        native = layout.unet_to_native(name, leaves, layers)
        assert native is not None, name
        put(root, native, module)
    return root


def _clip() -> nn.Module:
    """A Hugging Face CLIP text model with the `text_model` level that the WebUI's version has."""
    root = nn.Module()
    for name, module in tiny_encoder(TEXT_WIDTH).named_modules():
        if module._parameters:
            put(root, name if name.startswith("text_model.") else f"text_model.{name}", module)
    return root


class _OpenClip(nn.Module):
    """The parameters of an OpenCLIP text tower: packed attention, a transposed projection, a bare position table."""

    def __init__(self) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(16, TEXT_WIDTH))
        self.text_projection = nn.Parameter(torch.randn(TEXT_WIDTH, TEXT_WIDTH))
        self.token_embedding = nn.Embedding(99, TEXT_WIDTH)
        self.ln_final = nn.LayerNorm(TEXT_WIDTH)
        for number in range(2):
            path = f"transformer.resblocks.{number}"
            put(self, f"{path}.attn", nn.MultiheadAttention(TEXT_WIDTH, 2))
            put(self, f"{path}.ln_1", nn.LayerNorm(TEXT_WIDTH))
            put(self, f"{path}.ln_2", nn.LayerNorm(TEXT_WIDTH))
            put(self, f"{path}.mlp.c_fc", nn.Linear(TEXT_WIDTH, 2 * TEXT_WIDTH))
            put(self, f"{path}.mlp.c_proj", nn.Linear(2 * TEXT_WIDTH, TEXT_WIDTH))


def _wrapped(**children: nn.Module) -> nn.Module:
    outer, inner = nn.Module(), nn.Module()
    for name, child in children.items():
        setattr(inner, name, child)
    outer.wrapped = inner
    return outer


def put(root: nn.Module, path: str, module: nn.Module) -> None:
    """Make `module` the one at the dotted `path` below `root`."""
    *parents, last = path.split(".")
    for name in parents:
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root._modules[name]
    root.add_module(last, module)
