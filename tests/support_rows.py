"""A slow reference for what varies: each row of a call alone, its weights merged in float64 from the files' tensors.

Nothing of the engine is in it: the formulas of the algorithms stand here once more, plainly, and whose tag acts on
which row at which moment is written down as the prompts say it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lib_lora.engine.call import Size
from lib_lora.grammar.moment import Moment
from lib_lora.grammar.tag import read_prompt
from lib_lora.grammar.who import Row
from lib_lora.model.slots import slots_of
from lib_lora.model.targets import index_diffusers
from lib_lora.session.session import Session
from lib_lora.session.torch_host import TorchHost
from lib_lora.session.wanted import Wanted
from tests.support import Folder, fingerprint
from tests.support_graphs import Graphs

RANK = 2
NEAR = 1e-5  # of the largest value

Tensors = dict[str, Tensor]


def _product(parts: Tensors, weight: Tensor) -> Tensor:
    up, down = parts["lora_up.weight"].double(), parts["lora_down.weight"].double()
    scale = float(parts["alpha"]) / down.shape[0]
    if "lora_mid.weight" in parts:
        core = parts["lora_mid.weight"].double()
        return scale * torch.einsum("or,rqhw,qi->oihw", up.flatten(1), core, down.flatten(1))
    return scale * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)


def _hadamard(parts: Tensors, weight: Tensor) -> Tensor:
    one, two = (parts[f"hada_w{n}_a"].double() @ parts[f"hada_w{n}_b"].double() for n in (1, 2))
    return (one * two).reshape(weight.shape) * float(parts["alpha"]) / RANK


def _kronecker(parts: Tensors, weight: Tensor) -> Tensor:
    one, two = parts["lokr_w1"].double(), parts["lokr_w2"].double()
    return torch.kron(one.reshape(*one.shape, *[1] * (two.dim() - 2)), two)


def _dora(parts: Tensors, weight: Tensor) -> Tensor:
    whole = weight + _product(parts, weight)
    length = whole.flatten(1).norm(dim=1).reshape(-1, *[1] * (weight.dim() - 1))
    return whole * parts["dora_scale"].double().reshape(length.shape) / length - weight


def _turned(parts: Tensors, weight: Tensor) -> Tensor:
    blocks = parts["oft_blocks"].double()
    skew, one = blocks - blocks.mT, torch.eye(blocks.shape[1], dtype=torch.float64)
    turn = (one + skew) @ torch.linalg.inv(one - skew)
    return (turn.mT @ weight.reshape(*blocks.shape[:2], -1)).reshape(weight.shape) - weight


FORMULAS = {"hada_w1_a": _hadamard, "lokr_w1": _kronecker, "dora_scale": _dora, "oft_blocks": _turned,
            "lora_up.weight": _product, "diff": lambda parts, weight: parts["diff"].double(),
            "w_norm": lambda parts, weight: parts["w_norm"].double()}  # fmt: skip
Effect = Callable[[Tensor], Tensor]  # (weight) -> what is added to it at 1
BIASES = ("diff_b", "b_norm")


def effect_of(parts: Tensors) -> Effect:
    """What some tensors of one layer do to its weight."""
    return partial(next(formula for part, formula in FORMULAS.items() if part in parts), parts)


class Maker:
    """Writes the tensors of adapters: about as large as what they are added to, so that an error shows."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def noise(self, *shape: int, size: float = 0.3) -> Tensor:
        return torch.randn(*shape, generator=self.generator) * size

    def lora(self, shape: Sequence[int]) -> Tensors:
        outputs, *inputs = shape
        tail = [1] * (len(inputs) - 1)
        return {"lora_up.weight": self.noise(outputs, RANK, *tail), "lora_down.weight": self.noise(RANK, *inputs),
                "alpha": torch.tensor(1.0)}  # fmt: skip

    def tucker(self, shape: Sequence[int]) -> Tensors:
        if len(shape) == 2:
            return self.lora(shape)
        return {"lora_up.weight": self.noise(shape[0], RANK, 1, 1), "lora_down.weight": self.noise(3, shape[1], 1, 1),
                "lora_mid.weight": self.noise(RANK, 3, *shape[2:]), "alpha": torch.tensor(2.0)}  # fmt: skip

    def loha(self, shape: Sequence[int]) -> Tensors:
        inputs = torch.Size(shape[1:]).numel()
        return {f"hada_w{n}_{side}": self.noise(*size, size=0.5) for n in (1, 2)
                for side, size in (("a", (shape[0], RANK)), ("b", (RANK, inputs)))} | {"alpha": torch.tensor(2.0)}

    def lokr(self, shape: Sequence[int]) -> Tensors:
        outputs, inputs, *kernel = shape
        return {"lokr_w1": self.noise(2, 4, size=0.5), "lokr_w2": self.noise(outputs // 2, inputs // 4, *kernel)}

    def dora(self, shape: Sequence[int]) -> Tensors:
        return self.lora(shape) | {"dora_scale": 0.5 + self.noise(shape[0], *[1] * (len(shape) - 1)).abs()}

    def oft(self, shape: Sequence[int]) -> Tensors:
        return {"oft_blocks": self.noise(shape[0] // 4, 4, 4), "alpha": torch.tensor(0.0)}

    def full(self, shape: Sequence[int]) -> Tensors:
        return {"diff": self.noise(*shape, size=0.1)}

    def bias(self, shape: Sequence[int]) -> Tensors:
        return self.lora(shape) | {"diff_b": self.noise(shape[0])}

    def norm(self, shape: Sequence[int]) -> Tensors:
        return {"w_norm": self.noise(*shape), "b_norm": self.noise(*shape)}


def tiny_unet(family: str) -> nn.Module:
    """As SD1's or SDXL's, with two levels."""
    from diffusers import UNet2DConditionModel

    common: dict[str, Any] = dict(sample_size=8, norm_num_groups=4, layers_per_block=1, block_out_channels=(8, 16),
                                  cross_attention_dim=12)  # fmt: skip
    if family == "sd1":
        return UNet2DConditionModel(
            attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), **common)  # fmt: skip
    return UNet2DConditionModel(
        attention_head_dim=(2, 4), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2),
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=36, **common)  # fmt: skip


KINDS = ("lora", "tucker", "loha", "lokr", "dora", "oft", "full", "bias")


@dataclass(frozen=True)
class Typed:
    """One tag as a test types it: its text, and what it is worth at (step, steps), written down apart."""

    text: str
    name: str
    value: Any  # (step, steps) -> weight
    sides: tuple[str, ...] | None = None  # None: both, in a negative prompt uncond
    area: tuple[float, ...] | None = None  # x, y, w, h, feather


class Tiny:
    """A tiny UNet with adapters of each kind on layers of each kind, and a session for it."""

    def __init__(self, family: str, folder: Path, *, every: int = 3, kinds: Sequence[str] = KINDS) -> None:
        torch.manual_seed(7)
        self.family, self.folder = family, folder
        self.unet = tiny_unet(family).eval().requires_grad_(False)
        for parameter in self.unet.parameters():  # a new UNet's norms and biases are ones and zeros
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        self.modules = {name: module for name, module in self.unet.named_modules()
                        if isinstance(module, nn.Linear | nn.Conv2d | nn.GroupNorm | nn.LayerNorm)}  # fmt: skip
        self.reference = copy.deepcopy(self.unet).double()
        self.inside = [(path, module) for path, module in self.reference.named_modules() if module._parameters]
        self.plain = dict(self.reference.named_parameters())
        self.slots = {f"{path}.{part}": (module, part) for path, module in self.inside for part in ("weight", "bias")
                      if part in module._parameters}  # fmt: skip
        self.graphs = Graphs(self._call, list(self.slots.values()))
        self.last: tuple[Any, dict[str, Tensor]] | None = None  # what was merged last
        self.files: dict[str, dict[str, Tensors]] = {}
        self._effects: dict[tuple[str, str], Tensor] = {}  # on the plain weights
        for seed, name in enumerate(dict.fromkeys(("lora", "more", *kinds))):
            self.write(name, "lora" if name == "more" else name, every=every, seed=seed)
        self.host = TorchHost(lambda: slots_of(self.unet, "unet."), index_of)
        self.session = Session(self.host, Folder(folder))

    def write(self, name: str, kind: str, *, every: int, seed: int) -> None:
        """The file `name`, with something for each `every`-th layer, and for some norms."""
        maker, tensors = Maker(seed), {}
        norms = [name for name, module in self.modules.items() if isinstance(module, nn.GroupNorm | nn.LayerNorm)]
        layers = [name for name in self.modules if name not in norms]
        chosen = dict.fromkeys(layers[seed % every :: every] + layers[::4])  # those of the latter have all of them
        made = {path: getattr(maker, kind)(self.modules[path].weight.shape) for path in chosen}
        if kind == "full":
            made |= {path: maker.norm(self.modules[path].weight.shape) for path in norms[::every]}
        for path, parts in made.items():
            tensors |= {f"lora_unet_{path.replace('.', '_')}.{part}": tensor for part, tensor in parts.items()}
        save_file(tensors, self.folder / f"{name}.safetensors")
        self.files[name] = made

    def inputs(self, count: int, size: Size = (8, 8), *, seed: int = 0) -> dict[str, Any]:
        """Of a call with `count` rows, each another."""
        generator = torch.Generator().manual_seed(seed)
        found = {"sample": torch.randn(count, 4, *size, generator=generator),
                 "encoder_hidden_states": torch.randn(count, 5, self.unet.config.cross_attention_dim,
                                                      generator=generator)}  # fmt: skip
        if self.family == "sdxl":
            found["added_cond_kwargs"] = {"text_embeds": torch.randn(count, 12, generator=generator),
                                          "time_ids": torch.rand(count, 6, generator=generator)}  # fmt: skip
        return found

    def wanted(self, prompts: Sequence[Sequence[Typed]], negative: Sequence[Sequence[Typed]] = ()) -> Wanted:
        read = [tuple(read_prompt("".join(typed.text for typed in tags)).tags for tags in each)
                for each in (prompts, negative)]
        return Wanted(*read)

    def call(self, inputs: Mapping[str, Any]) -> Tensor:
        with torch.no_grad():
            return self.unet(timestep=500, **inputs).sample

    def merged(self, tags: Sequence[Typed], step: int, steps: int) -> dict[str, Tensor]:
        """The weights with `tags`, in float64."""
        weights: dict[str, Tensor] = dict(self.plain)
        for typed in tags:
            multiplier = typed.value(step, steps)
            for path, parts in self.files[typed.name].items():
                weight = weights[f"{path}.weight"]
                weights[f"{path}.weight"] = weight + multiplier * self.effect(typed.name, path, weight)
                for bias in set(BIASES) & set(parts):
                    old = weights.get(f"{path}.bias", torch.zeros(len(weight), dtype=torch.float64))
                    weights[f"{path}.bias"] = old + multiplier * parts[bias].double()
        return weights

    def effect(self, name: str, path: str, weight: Tensor) -> Tensor:
        """What that file adds to that weight at 1; to the plain one most often, and always the same."""
        if weight is not self.plain[f"{path}.weight"]:
            return effect_of(self.files[name][path])(weight)
        if (name, path) not in self._effects:
            self._effects[name, path] = effect_of(self.files[name][path])(weight)
        return self._effects[name, path]

    def alone(self, tags: Sequence[Typed], step: int, steps: int, inputs: Mapping[str, Any], row: int) -> Tensor:
        """What row number `row` of a call is with `tags`, by a UNet that has nothing else and gets nothing else."""
        asked = (tuple(tags), step, steps)
        if self.last is None or self.last[0] != asked:  # the next row often asks the same
            self.last = asked, self.merged(tags, step, steps)
        weights = [self.last[1].get(name) for name in self.slots]
        sample, states, added = (one_row(inputs.get(key, {}), row) for key in
                                 ("sample", "encoder_hidden_states", "added_cond_kwargs"))
        return self.graphs(weights, sample, states, *added.values())[0]

    def _call(self, sample: Tensor, states: Tensor, *added: Tensor) -> Tensor:
        told = {"added_cond_kwargs": dict(zip(("text_embeds", "time_ids"), added, strict=True))} if added else {}
        return self.reference(sample, 500, states, return_dict=False, **told)[0]


def put(module: nn.Module, weights: Mapping[str, Tensor], path: str) -> None:
    """The weight and the bias of `module`, or none."""
    for part in ("weight", "bias"):
        if part in module._parameters:
            weight = weights.get(f"{path}.{part}")
            is_made = weight is not None and type(weight) is not nn.Parameter
            module._parameters[part] = nn.Parameter(weight, requires_grad=False) if is_made else weight


def one_row(value: Any, row: int) -> Any:
    """Of what a call gets, in float64."""
    if isinstance(value, dict):
        return {key: one_row(each, row) for key, each in value.items()}
    return value[[row]].double()


def acting(prompts: Sequence[Sequence[Typed]], negative: Sequence[Sequence[Typed]], row: Row) -> list[Typed]:
    """The tags that act on `row`, in order: those of its prompt, then those of its negative one."""
    more = negative[row.image] if row.image < len(negative) else ()
    return [typed for tags, usual in ((prompts[row.image], ("cond", "uncond")), (more, ("uncond",))) for typed in tags
            if row.side in (typed.sides or usual)]  # fmt: skip


def assert_near(mine: Tensor, reference: Tensor) -> None:
    """Within rounding, measured by the largest value."""
    assert torch.isfinite(mine).all()
    error = float((mine.double() - reference).abs().max() / reference.abs().max())
    assert error < NEAR, error


def moment(step: int, steps: int) -> Moment:
    return Moment(step, steps, 10.0 - step)


def index_of(shapes: Mapping[str, tuple[int, ...]]) -> Any:
    return index_diffusers({"unet": {key.removeprefix("unet."): shape for key, shape in shapes.items()}})


def no_problem(report: Any) -> bool:
    """True if nothing is told but what a curve is to text encoders, which this model does not have."""
    return all("the text encoders get" in sentence for sentence in report.sentences())


@contextmanager
def leaving_nothing(tiny: Tiny) -> Iterator[None]:
    """What is done meanwhile leaves no trace, once the session is cleared: the very weights, and no hook."""
    before = fingerprint(tiny.unet.named_parameters())
    try:
        yield
    finally:
        tiny.session.clear()
    assert fingerprint(tiny.unet.named_parameters()) == before
    assert not any(module._forward_hooks for module in tiny.unet.modules())
