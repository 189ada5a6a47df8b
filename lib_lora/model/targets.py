"""Target: one weight of a model, or the part of it that an adapter's module means. TargetIndex: all of a model's.

A module of a file and a parameter of a model are not always the same thing: OpenCLIP packs q, k and v into one
parameter (a module is a third of its rows), keeps `text_projection` transposed, and an inpainting UNet has more input
channels than the adapter knows (a module is the first columns). A Target says which view of which parameter is meant;
nothing else in the package treats these as special.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, TypeVar

from lib_lora.describe import families
from lib_lora.keys import ModuleName, diffusers, layout, motion, names, sd3, spellings
from lib_lora.keys.names import ENCODERS, Encoder, flat

if TYPE_CHECKING:
    from torch import Tensor

UNET_ROOT = "model.diffusion_model"
KEPT = 4  # indices of models that were looked at last: checkpoints of one kind have the same
WRAPPERS = ("module.", "_orig_mod.")  # left in keys by DDP and torch.compile
PEFT_FLAT = "base_model_model_"

Shape = tuple[int, ...]
Place = tuple[str, str, "tuple[int, int] | None"]  # the module's name here and in a checkpoint, and its rows
Found = TypeVar("Found")


@dataclass(frozen=True)
class Target:
    """A view of the parameter `key`, with the shape that an adapter's module sees."""

    key: str  # the parameter's name at its host
    component: str  # "unet", "text_encoder", "text_encoder_2": decides which of the user's multipliers counts
    shape: Shape  # (out, in[, kh, kw]) of a weight, (out,) of a bias
    rows: tuple[int, int] | None = None  # begin, end
    columns: tuple[int, int] | None = None  # begin, end along the input axis
    transposed: bool = False
    piece: tuple[int, int, int] | None = (
        None  # begin, end, total: rows of the delta, where the module is several parameters
    )
    new_bias_of: str | None = (
        None  # the weight's key, where this is a bias that the model does not have: it is made, and unmade
    )
    path: str = ""  # of the module in checkpoint layout, whatever this model's is: "input_blocks.1.1.proj_in"

    @property
    def place(self) -> Place:
        """Which rows of which module's parameter it is."""
        return (self.new_bias_of or self.key).rpartition(".")[0], self.path, self.rows

    @property
    def is_whole(self) -> bool:
        """True if the view is the parameter itself."""
        return self.rows is None and self.columns is None and not self.transposed

    def view(self, parameter: Tensor) -> Tensor:
        """The meant part of `parameter`; writing into it writes into the parameter."""
        if self.rows is not None:
            parameter = parameter[self.rows[0] : self.rows[1]]
        if self.columns is not None:
            parameter = parameter[:, self.columns[0] : self.columns[1]]
        return parameter.T if self.transposed else parameter

    def narrowed(self, inputs: int) -> Target:
        """Only the first `inputs` input channels (an inpainting model's `conv_in`)."""
        return replace(self, columns=(0, inputs), shape=(self.shape[0], inputs, *self.shape[2:]))


@dataclass(frozen=True)
class TargetIndex:
    """Every module of one model under every spelling a file may use."""

    family: families.Family
    modules: Mapping[str, Mapping[str, Target]] = field(repr=False)  # spelling -> {"weight": Target, "bias": Target}
    keys: frozenset[str] = field(repr=False)  # the parameters that can be targets
    # What files know as one module and this model as several (q, k and v), whose rows stand one below the other.
    fused: Mapping[str, tuple[Mapping[str, Target], ...]] = field(default_factory=dict, repr=False)
    # Modules of text encoders as a file names them that does not say for which encoder it is: those of each encoder.
    either: Mapping[str, tuple[Mapping[str, Target], ...]] = field(default_factory=dict, repr=False)
    names: Mapping[Place, ModuleName] = field(default_factory=dict, repr=False)  # of the module at each place
    _completed: tuple[frozenset[str], TargetIndex] | None = field(default=None, init=False, repr=False, compare=False)

    def name_of(self, target: Target) -> ModuleName | None:
        """The module that `target` is a weight or bias of."""
        return self.names.get(target.place)

    def find(self, module: str) -> Mapping[str, Target] | None:
        """The targets of a module as a file spells it, or None if this model has no such module."""
        return _find(self.modules, module) or self._find_flat(module)

    def find_all(self, module: str) -> tuple[Mapping[str, Target], ...]:
        """The same as `find`, and all of them where one module of the file is several here; empty if there is none."""
        return next(iter(self.find_each(module)), ())

    def find_each(self, module: str) -> tuple[tuple[Mapping[str, Target], ...], ...]:
        """What `find_all` finds in each place that the spelling may mean: more than one only if it does not tell."""
        found = _find(self.modules, module)
        if found is not None:
            return ((found,),)
        if pieces := _find(self.fused, module):
            return (pieces,)
        if choice := _find(self.either, module):
            return tuple((each,) for each in choice)
        found = self._find_flat(module)
        return () if found is None else ((found,),)

    def _find_flat(self, module: str) -> Mapping[str, Target] | None:
        """By the name without its dots, which converters leave in part of it: `lora_unet_down_blocks.0.attentions…`."""
        name = flat(module).replace(PEFT_FLAT, "")
        return self._flat.get(name) or self._flat.get(f"{name}_0" if name.endswith("to_out") else "")

    @cached_property
    def _flat(self) -> dict[str, Mapping[str, Target]]:
        return {flat(spelling): targets for spelling, targets in self.modules.items()}

    def with_new_biases(self, weights: Collection[str]) -> TargetIndex:
        """The same, with a bias as target for each of `weights` (their keys) that has none; its host can make one."""
        known = frozenset(weights)
        if self._completed is None or self._completed[0] != known:
            # Kept, since models of one kind share this index; the fields of a frozen dataclass are set so.
            object.__setattr__(self, "_completed", (known, self._with_new_biases(known)))
        assert self._completed is not None
        return replace(self._completed[1])  # each model has an index of its own: by it a host knows its model

    def _with_new_biases(self, weights: frozenset[str]) -> TargetIndex:
        completed: dict[int, Mapping[str, Target]] = {}

        def complete(targets: Mapping[str, Target]) -> Mapping[str, Target]:
            if id(targets) in completed:
                return completed[id(targets)]
            weight = targets.get("weight")
            if weight is None or "bias" in targets or not weight.is_whole or weight.key not in weights:
                made = targets
            else:
                key = f"{weight.key.removesuffix('weight')}bias"
                bias = Target(key, weight.component, weight.shape[:1], piece=weight.piece, new_bias_of=weight.key,
                              path=weight.path)
                made = {**targets, "bias": bias}
            completed[id(targets)] = made
            return made

        return replace(
            self,
            modules={module: complete(targets) for module, targets in self.modules.items()},
            fused={module: tuple(map(complete, pieces)) for module, pieces in self.fused.items()},
            either={module: tuple(map(complete, choice)) for module, choice in self.either.items()},
        )


def _find(modules: Mapping[str, Found], module: str) -> Found | None:
    found = modules.get(module)
    for wrapper in WRAPPERS:
        if found is None and wrapper in module:
            found = modules.get(module.replace(wrapper, "", 1))
    return found


def index_checkpoint(shapes: Mapping[str, Shape]) -> TargetIndex:
    """The index of a model in checkpoint (CompVis / SGM) layout, from its parameters' names and shapes.

    Partial models are fine: what is not there cannot be a target.
    """
    return _index_checkpoint(_frozen(shapes))


def index_diffusers(components: Mapping[str, Mapping[str, Shape]]) -> TargetIndex:
    """The index of a diffusers pipeline: {"unet": {parameter name: shape}, "text_encoder": ..., "text_encoder_2": ...}.

    Keys of the targets are `component.parameter`.
    """
    return _index_diffusers(tuple((name, _frozen(shapes)) for name, shapes in components.items()))


def _frozen(shapes: Mapping[str, Shape]) -> tuple[tuple[str, Shape], ...]:
    return tuple((key, tuple(shape)) for key, shape in shapes.items())


@lru_cache(maxsize=KEPT)
def _index_checkpoint(parameters: tuple[tuple[str, Shape], ...]) -> TargetIndex:
    shapes = dict(parameters)
    layers = layout.resnets_per_block(
        [key.removeprefix(f"{UNET_ROOT}.") for key in shapes if key.startswith(UNET_ROOT)]
    )
    found = (entry for key, shape in shapes.items() for entry in _checkpoint_targets(key, shape, layers))
    return _index(found, families.detect_checkpoint(shapes))


@lru_cache(maxsize=KEPT)
def _index_diffusers(parameters: tuple[tuple[str, tuple[tuple[str, Shape], ...]], ...]) -> TargetIndex:
    components = {name: dict(shapes) for name, shapes in parameters}
    unet = components.get("unet", {})
    paths = {key.rpartition(".")[0] for key in unet}
    layers = layout.resnets_per_block(paths)
    encoders = _pipeline_encoders(components)
    native: dict[str, Shape] = {}
    entries: list[tuple[ModuleName, str, Target]] = []
    for key, shape in unet.items():
        path, _, part = key.rpartition(".")
        compvis = layout.unet_to_native(path, paths, layers)
        if compvis is not None and part in ("weight", "bias"):
            native[f"{UNET_ROOT}.{compvis}.{part}"] = tuple(shape)
            target = _in_fused(path, part, unet) or Target(f"unet.{key}", "unet", tuple(shape))
            entries.append((ModuleName(path, compvis), part, target))
    for component, encoder in encoders.items():
        for key, shape in components[component].items():
            path, _, part = key.rpartition(".")
            name = path if path.startswith(("text_model.", "text_projection")) else f"text_model.{path}"
            if part in ("weight", "bias"):
                module = ModuleName(name, layout.text_to_open_clip(name), encoder)
                native[f"{encoder.checkpoint}.{name}.{part}"] = tuple(shape)
                entries.append((module, part, Target(f"{component}.{key}", component, tuple(shape))))
    return _index(entries, families.detect_checkpoint(native))


def _in_fused(path: str, part: str, unet: Mapping[str, Shape]) -> Target | None:
    """Where a pipeline with `fuse_qkv_projections` has this projection: in some rows of a packed one."""
    for packed in layout.packed_around(path):
        shapes = [unet.get(f"{name}.{part}") for name in packed.parts]
        if f"{packed.name}.{part}" in unet and None not in shapes:
            place = packed.parts.index(path)
            begin = sum(shape[0] for shape in shapes[:place] if shape)
            shape = tuple(unet[f"{path}.{part}"])
            return Target(f"unet.{packed.name}.{part}", "unet", shape, rows=(begin, begin + shape[0]))
    return None


def _index(entries: Iterable[tuple[ModuleName, str, Target]], family: families.Family) -> TargetIndex:
    by_module: dict[ModuleName, dict[str, Target]] = {}
    for module, part, target in entries:
        by_module.setdefault(module, {})[part] = replace(target, path=module.native)
    spelled = {spelling: targets for module, targets in by_module.items() for spelling in spellings(module)}
    keys = frozenset(target.key for targets in by_module.values() for target in targets.values())
    fused = {spelling: pieces for module, pieces in _fused(by_module) for spelling in spellings(module)}
    either: dict[str, tuple[Mapping[str, Target], ...]] = {}
    for module, targets in by_module.items():
        for spelling in diffusers.spell_alone(module):
            either[spelling] = (*either.get(spelling, ()), targets)
    places = {target.place: module for module, targets in by_module.items() for target in targets.values()}
    return TargetIndex(family, spelled, keys, fused, either, places)


def _fused(
    modules: Mapping[ModuleName, Mapping[str, Target]],
) -> Iterator[tuple[ModuleName, tuple[Mapping[str, Target], ...]]]:
    """Modules that other layouts pack into one, where this model has every one of them apart."""
    by_name = {(module.diffusers, module.encoder): module for module in modules}
    for module in modules:
        for packed in layout.packed_from(module.diffusers):
            found = [by_name.get((name, module.encoder)) for name in packed.parts]
            pieces = [modules[each] for each in found if each is not None]
            native = packed.name if module.encoder else packed.name_beside(module.native)
            name = ModuleName(packed.name, native, module.encoder)
            if len(pieces) == len(packed.parts) and name not in modules and all("weight" in piece for piece in pieces):
                yield name, tuple(_pieces(pieces))


def _pieces(pieces: Iterable[Mapping[str, Target]]) -> Iterator[Mapping[str, Target]]:
    """The targets with the rows of the delta that are theirs."""
    pieces = list(pieces)
    total = sum(piece["weight"].shape[0] for piece in pieces)
    begin = 0
    for piece in pieces:
        end = begin + piece["weight"].shape[0]
        yield {part: replace(target, piece=(begin, end, total)) for part, target in piece.items()}
        begin = end


def _pipeline_encoders(components: Mapping[str, Mapping[str, Shape]]) -> dict[str, Encoder]:
    """Which encoder plays which role, from which of them the pipeline has."""
    present = [name for name in ("text_encoder", "text_encoder_2") if components.get(name)]
    if present == ["text_encoder", "text_encoder_2"]:
        return {"text_encoder": names.SDXL_1, "text_encoder_2": names.SDXL_2}
    if present == ["text_encoder_2"]:
        return {"text_encoder_2": names.REFINER}
    unet = components.get("unet", {})
    is_linear = any(key.endswith(".proj_in.weight") and len(shape) == 2 for key, shape in unet.items())
    return dict.fromkeys(present, names.SD2 if is_linear else names.SD1)  # SD1 projects by 1x1 convolutions


def _checkpoint_targets(key: str, shape: Shape, layers: int) -> Iterator[tuple[ModuleName, str, Target]]:
    """What one parameter of a checkpoint is to adapters: nothing, one module's weight or bias, or three of them."""
    if key.startswith(f"{UNET_ROOT}."):
        path, _, part = key.removeprefix(f"{UNET_ROOT}.").rpartition(".")
        name = layout.unet_from_native(path, layers)
        if name is not None and part in ("weight", "bias"):
            native = motion.original(name) if motion.MARK in name else path
            yield ModuleName(name, native), part, Target(key, "unet", shape)
        elif part in ("weight", "bias"):
            yield from _sd3_targets(key, path, part, shape)
        return
    for encoder in ENCODERS:
        if key.startswith(f"{encoder.checkpoint}."):
            yield from _text_targets(key, shape, encoder)


def _sd3_targets(key: str, path: str, part: str, shape: Shape) -> Iterator[tuple[ModuleName, str, Target]]:
    """A module of SD 3's transformer under its own name, and under those that diffusers gives to it or its thirds."""
    diffusers = sd3.names(path, shape[0], shape[-1] if len(shape) > 1 else 0)
    if diffusers is None:
        return
    yield ModuleName(path, path), part, Target(key, "unet", shape)
    rows = shape[0] // max(len(diffusers), 1)
    for place, name in enumerate(diffusers):
        cut = None if len(diffusers) == 1 else (place * rows, (place + 1) * rows)
        if name != path:
            yield ModuleName(name, name), part, Target(key, "unet", (rows, *shape[1:]), rows=cut)


def _text_targets(key: str, shape: Shape, encoder: Encoder) -> Iterator[tuple[ModuleName, str, Target]]:
    component = encoder.diffusers[0]
    path, _, part = key.removeprefix(f"{encoder.checkpoint}.").rpartition(".")
    if part in ("in_proj_weight", "in_proj_bias"):
        layer = path.removeprefix("transformer.resblocks.").split(".")[0]
        width = shape[0] // 3
        for third, projection in enumerate(("q_proj", "k_proj", "v_proj")):
            rows = (third * width, (third + 1) * width)
            module = ModuleName(
                f"text_model.encoder.layers.{layer}.self_attn.{projection}", f"{path}.{projection}", encoder
            )
            yield module, part.removeprefix("in_proj_"), Target(key, component, (width, *shape[1:]), rows=rows)
        native = ModuleName(f"{path}.in_proj", f"{path}.in_proj", encoder)
        yield native, part.removeprefix("in_proj_"), Target(key, component, shape)
    elif part == "positional_embedding":
        yield (
            ModuleName("text_model.embeddings.position_embedding", part, encoder),
            "weight",
            Target(key, component, shape),
        )
    elif part == "text_projection":
        target = Target(key, component, (shape[1], shape[0]), transposed=True)
        yield ModuleName("text_projection", part, encoder), "weight", target
    elif part in ("weight", "bias"):
        if path.startswith(("text_model.", "text_projection", "encoder.block.", "encoder.final_layer_norm", "shared")):
            yield ModuleName(path, path, encoder), part, Target(key, component, shape)
        elif (name := layout.text_from_open_clip(path)) is not None:
            yield ModuleName(name, path, encoder), part, Target(key, component, shape)
