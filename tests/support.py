"""Small real models, adapters and folders that tests share. Nothing here imitates lib_lora or its hosts."""

from __future__ import annotations

import copy
import functools
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lib_lora.errors import NotFoundError
from lib_lora.model.slots import slots_of
from lib_lora.model.targets import TargetIndex, index_checkpoint
from lib_lora.session.torch_host import TorchHost

SHARED = Path(__file__).parents[2] / "shared"
WIDTH = 8


class Folder:
    """Finds adapters as files of one folder: the smallest possible finder for a Session."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, name: str) -> SimpleNamespace:
        path = self.path / f"{name}.safetensors"
        if not path.exists():
            raise NotFoundError(name)
        return SimpleNamespace(path=path)


class ThreeLayers(nn.Module):
    """A linear layer, a convolution and a norm, named as a checkpoint names them."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.Module()
        block.to_q = nn.Linear(WIDTH, WIDTH, bias=False)
        block.norm = nn.LayerNorm(WIDTH)
        block.conv = nn.Conv2d(WIDTH, WIDTH, 3)
        self.block = block


NAMES = {
    "block.to_q": "input_blocks.1.1.transformer_blocks.0.attn1.to_q",
    "block.norm": "input_blocks.1.1.transformer_blocks.0.norm1",
    "block.conv": "input_blocks.1.0.in_layers.2",
}


def three_layer_host(model: ThreeLayers) -> TorchHost:
    """`model` as host; its parameters go by their checkpoint names."""

    def find() -> dict:
        named = {}
        for key, slot in slots_of(model).items():
            path, _, part = key.rpartition(".")
            named[f"model.diffusion_model.{NAMES[path]}.{part}"] = slot
        return named

    return TorchHost(find, index_checkpoint)


def tiny_unet(family: str, *, short: bool = False) -> nn.Module:
    """A diffusers UNet of SD1's, SD2's or SDXL's structure, a few thousand times smaller.

    `short`: of two levels with one layer each, which are a third or less of the modules. For tests of what happens to
    a model; those of how modules are called want all of them.
    """
    from diffusers import UNet2DConditionModel

    common: dict[str, Any] = dict(sample_size=8, norm_num_groups=4, layers_per_block=1 if short else 2)
    down, cross_down, up, cross_up = "DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"
    if family == "sdxl":
        return UNet2DConditionModel(
            block_out_channels=(8, 16) if short else (8, 16, 32), cross_attention_dim=24,
            attention_head_dim=(2, 4) if short else (2, 4, 4),
            down_block_types=(down, cross_down) if short else (down, cross_down, cross_down),
            up_block_types=(cross_up, up) if short else (cross_up, cross_up, up),
            transformer_layers_per_block=(1, 2) if short else (1, 2, 3), use_linear_projection=True,
            addition_embed_type="text_time", addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=36, **common)
    levels = 2 if short else 4
    return UNet2DConditionModel(
        block_out_channels=(8,) + (16,) * (levels - 1), cross_attention_dim=12, attention_head_dim=4,
        down_block_types=(cross_down,) * (levels - 1) + (down,), up_block_types=(up,) + (cross_up,) * (levels - 1),
        use_linear_projection=family == "sd2", **common)


def tiny_encoder(width: int, layers: int = 2, *, projection: bool = False) -> nn.Module:
    """A CLIP text encoder of transformers."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=99, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=2, max_position_embeddings=16, projection_dim=width)
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def tiny_pipe(family: str, *, seed: int = 0, short: bool = False) -> SimpleNamespace:
    """The components of a pipeline that carry adapters."""
    parts, random_state = _tiny_parts(family, seed, short)
    torch.set_rng_state(random_state)
    return SimpleNamespace(**{name: twin(part) for name, part in parts.items()})


@functools.cache
def _tiny_parts(family: str, seed: int, short: bool) -> tuple[dict[str, nn.Module], Tensor]:
    """Made once, and not to be changed; and what chance is after they are made."""
    torch.manual_seed(seed)
    parts: dict[str, nn.Module] = {"unet": tiny_unet(family, short=short), "text_encoder": tiny_encoder(12)}
    if family == "sdxl":
        parts["text_encoder_2"] = tiny_encoder(12, projection=True)
    return {name: part.eval() for name, part in parts.items()}, torch.get_rng_state()


PLAIN = (bool, int, float, str, type(None), torch.dtype)
MEMBERS = ("_parameters", "_buffers", "_modules")
KNOWN_TO_NUMPY = frozenset((torch.float64, torch.float32, torch.float16))


def twin(model: nn.Module) -> nn.Module:
    """What `copy.deepcopy` makes of a model, which takes several times as long over each layer's empty dictionaries."""
    modules = list(model.modules())
    copies: dict[int, Any] = {id(module): module.__new__(type(module)) for module in modules}
    for module in modules:
        made = vars(copies[id(module)])
        for name, value in vars(module).items():
            if isinstance(value, PLAIN):
                made[name] = value
            elif name in MEMBERS:
                made[name] = type(value)((key, copy.deepcopy(member, copies)) for key, member in value.items())
            elif isinstance(value, dict | set) and not value:
                made[name] = type(value)()
            else:
                made[name] = copy.deepcopy(value, copies)
    return copies[id(model)]


def write_lora(path: Path, shapes: Mapping[str, tuple[int, ...]], *, rank: int = 2, seed: int = 0,
               dtype: torch.dtype = torch.float32, metadata: Mapping[str, str] | None = None) -> Path:
    """A kohya LoRA with random weights for `shapes`: {module as files spell it: weight shape (out, in[, kh, kw])}."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for module, (outputs, *inputs) in shapes.items():
        tail = (1, 1) if len(inputs) == 3 else ()
        tensors[f"{module}.lora_down.weight"] = torch.randn(rank, *inputs, generator=generator).to(dtype)
        tensors[f"{module}.lora_up.weight"] = torch.randn(outputs, rank, *tail, generator=generator).to(dtype)
        tensors[f"{module}.alpha"] = torch.tensor(float(rank) / 2).to(dtype)
    save_file(tensors, path, metadata=dict(metadata or {}))
    return path


def kohya_shapes(index: TargetIndex, *, limit: int | None = None) -> dict[str, tuple[int, ...]]:
    """Linear and convolution modules of a model by their kohya name, each once."""
    found: dict[str, tuple[int, ...]] = {}
    seen = set()
    for spelling, targets in index.modules.items():
        target = targets.get("weight")
        is_kohya = spelling.startswith(("lora_unet_", "lora_te")) and "embedding" not in spelling
        if is_kohya and target and len(target.shape) > 1 and target not in seen:
            seen.add(target)
            found[spelling] = target.shape
    return dict(list(found.items())[:limit]) if limit else found


def fingerprint(parameters: Iterable[tuple[str, Tensor]]) -> dict[str, int]:
    """name -> hash of the exact bits."""
    return {name: hash(_bytes(tensor.detach())) for name, tensor in parameters}


def _bytes(tensor: Tensor) -> bytes:
    if tensor.dtype in KNOWN_TO_NUMPY:
        return tensor.numpy().tobytes()
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def bits(roots: Iterable[nn.Module]) -> dict[str, int]:
    """All parameters of `roots` as they are now, those that came meanwhile among them."""
    return fingerprint(parameters(roots))


def parameters(roots: Iterable[nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    """Theirs as they are now, each as often as modules have it: `named_parameters` walks through them much longer."""
    return ((f"{number}.{path}{name}", parameter) for number, root in enumerate(roots)
            for path, module in (("", root), *_below(root))
            for name, parameter in module._parameters.items() if parameter is not None)  # fmt: skip


_walked: weakref.WeakKeyDictionary[nn.Module, list[tuple[str, nn.Module]]] = weakref.WeakKeyDictionary()


def _below(root: nn.Module) -> list[tuple[str, nn.Module]]:
    """Its modules, with a dot after their names: found once, since that takes longer than to look at their weights."""
    if root not in _walked:
        _walked[root] = [(f"{path}.", module) for path, module in root.named_modules() if path]
    return _walked[root]