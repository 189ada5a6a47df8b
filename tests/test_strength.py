"""Pictures with weights that change over steps, blocks, passes, sides and pictures are those of the slow reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lib_lora.drawing.demo_files import ADAPTERS
from lib_lora.drawing.pipelines import load_pipeline
from lib_lora.grammar.who import Stage
from lib_lora.hosts.diffusers import Attached, attach
from tests.checkpoints import small_pipeline
from tests.support import fingerprint
from tests.support_strength import BLOCKS, ENCODER, VECTORS, Deltas, Line, Picture, Reference, Tag, When

NEAR = 1e-5  # of the largest value
SAMPLERS = {"euler": "EulerDiscreteScheduler", "heun": "HeunDiscreteScheduler", "ddim": "DDIMScheduler",
            "dpm": "DPMSolverMultistepScheduler"}  # fmt: skip
STAGES = {"": Stage(), "hires": Stage(hires=True), "refiner": Stage(refiner=True)}
SIZE = 8  # pixels; of the demo model, more


class World:
    """One small model twice: with adapters attached, and as the reference has it."""

    def __init__(self, family: str, folder: Path) -> None:
        pipe, other = small_pipeline(family, folder).to(torch.float64), small_pipeline(family, folder).to(torch.float64)
        self.family, self.deltas = family, write_adapters(pipe, family, folder)
        self.draw = attach(pipe, folder)
        self.untouched = self.state()
        kind = type(pipe).__name__.replace("Pipeline", "Img2ImgPipeline")
        options = {} if family == "sdxl" else {"requires_safety_checker": False}
        of_image, other_of_image = (getattr(diffusers, kind)(**each.components, **options) for each in (pipe, other))
        self.draws = {False: self.draw, True: Attached(of_image, self.draw.library)}
        self.references = {False: Reference(other, family, self.deltas),
                           True: Reference(other_of_image, family, self.deltas)}  # fmt: skip
        for each in (pipe, other, of_image, other_of_image):
            each.set_progress_bar_config(disable=True)

    def state(self) -> Any:
        parts = [getattr(self.draw.pipe, name, None) for name in ("unet", "text_encoder", "text_encoder_2")]
        modules = [part for part in parts if part is not None]
        hooks = [hook for part in modules for module in part.modules()
                 for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())]  # fmt: skip
        ours = [hook for hook in hooks if getattr(hook, "__module__", type(hook).__module__).startswith("lib_lora")]
        return [fingerprint(part.named_parameters()) for part in modules], ours

    def use(self, sampler: str) -> None:
        for each in (*self.draws.values(), *self.references.values()):
            each.pipe.scheduler = getattr(diffusers, SAMPLERS[sampler]).from_config(each.pipe.scheduler.config)


def write_adapters(pipe: Any, family: str, folder: Path) -> Deltas:
    """`a` and `b` are LoRA of all those modules, `c` is a whole difference of the UNet's; and what they add at 1."""
    generator = torch.Generator().manual_seed(7)
    deltas: dict[str, dict[str, dict[str, torch.Tensor]]] = {}
    for name, rank in (("a", 2), ("b", 3), ("c", 0)):
        tensors, of_file = {}, deltas.setdefault(name, {})
        for component in ("unet", "text_encoder", "text_encoder_2"):
            model = getattr(pipe, component, None)
            if model is None or (component != "unet" and not rank):
                continue
            prefix = {"unet": "lora_unet", "text_encoder": "lora_te1" if family == "sdxl" else "lora_te"}
            for module in BLOCKS[family] if component == "unet" else ENCODER:
                path = next(path for path, _ in model.named_modules() if path.endswith(module))
                weight = model.get_parameter(f"{path}.weight")
                inner = path if component == "unet" or path.startswith("text_model.") else f"text_model.{path}"
                key = f"{prefix.get(component, 'lora_te2')}_{inner.replace('.', '_')}"
                scale = 0.5 * weight.std().item()
                if not rank:
                    tensors[f"{key}.diff"] = scale * torch.randn(weight.shape, generator=generator)
                    of_file.setdefault(component, {})[module] = tensors[f"{key}.diff"].double()
                    continue
                down = torch.randn(rank, *weight.shape[1:], generator=generator)
                up = scale * torch.randn(weight.shape[0], rank, *[1] * (weight.dim() - 2), generator=generator)
                tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
                tensors[f"{key}.alpha"] = torch.tensor(1.0)
                delta = up.double().flatten(1) @ down.double().flatten(1) / rank
                of_file.setdefault(component, {})[module] = delta.reshape(weight.shape)
        save_file(tensors, folder / f"{name}.safetensors")
    return deltas


@pytest.fixture(scope="module")
def worlds(tmp_path_factory) -> dict[str, World]:
    return {family: World(family, tmp_path_factory.mktemp(family)) for family in ("sd1", "sdxl")}


def reference_moments(scheduler: Any, steps: int) -> Any:
    """For the reference: which moment each call of the UNet is, from the sampler's definition."""
    alphas = scheduler.alphas_cumprod.double().numpy()
    each = 2 if type(scheduler).__name__.startswith("Heun") else 1

    def when(call: int, timestep: torch.Tensor) -> When:
        noise = np.sqrt((1 - alphas) / alphas)
        return When(call // each, steps, float(np.interp(float(timestep), np.arange(len(noise)), noise)))

    return when


def compare(world: World, pictures: list[Picture], *, sampler: str = "euler", steps: int = 3, each: int = 1,
            guidance: float = 2.0, stage: str = "", of_image: bool = False) -> torch.Tensor:  # fmt: skip
    """Both ways of making the pictures give the same; returns them."""
    world.use(sampler)
    draw, reference = world.draws[of_image], world.references[of_image]
    draw.stage = STAGES[stage]
    options = options_of(world, len(pictures) * each, steps)
    made = steps
    if of_image:
        noise, _, _ = (options.pop(name) for name in ("latents", "width", "height"))
        options |= dict(image=noise[::each], strength=0.7)
        made = int(steps * 0.7)
    options |= dict(num_images_per_prompt=each, guidance_scale=guidance)
    ours = draw([picture.prompt for picture in pictures],
                negative_prompt=[picture.negative_prompt for picture in pictures], **options).images  # fmt: skip
    assert not draw.report.problems
    assert all(each.applied for each in draw.report.adapters)
    options["generator"] = torch.Generator().manual_seed(1)
    when = reference_moments(reference.pipe.scheduler, made)
    theirs = reference.draw(pictures, stage=stage, when=when, **options)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < NEAR * theirs.abs().max(), (ours - theirs).abs().max() / theirs.abs().max()
    return ours


def options_of(world: World, count: int, steps: int) -> dict[str, Any]:
    """Of a call that makes so many pictures."""
    size = 64 if world.family == "demo" else SIZE
    side = size // world.draw.pipe.vae_scale_factor
    noise = torch.randn(count, 4, side, side, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return dict(num_inference_steps=steps, generator=torch.Generator().manual_seed(1), latents=noise, width=size,
                height=size, guidance_scale=2.0, output_type="latent")  # fmt: skip


def left_alone(world: World) -> None:
    """The model is the untouched one after a `clear`, and nothing is left on it."""
    for draw in world.draws.values():
        draw.clear()
    assert world.state() == world.untouched


NUMBERS = st.sampled_from([-0.5, 0.25, 0.5, 1.0, 1.5])
PLACES = {"share": [0.0, 0.2, 0.5, 0.75, 1.0], "step": [0, 1, 2, 3, 5], "sigma": [0.0, 0.5, 1.0, 3.0, 14.0]}


@st.composite
def lines(draw) -> Line:
    if draw(st.booleans()):
        return Line(((0.0, draw(NUMBERS)),))
    unit = draw(st.sampled_from(list(PLACES)))
    places = sorted(draw(st.sets(st.sampled_from(PLACES[unit]), min_size=2, max_size=3)))
    if unit == "step" and max(places) <= 1:
        places[-1] = 2
    return Line(tuple((place, draw(NUMBERS)) for place in places), unit)


@st.composite
def tags(draw, family: str) -> Tag:
    options: dict[str, Any] = {}
    if draw(st.integers(0, 2)) == 0:
        unit = draw(st.sampled_from(list(PLACES)))
        inner = [place for place in PLACES[unit] if place > (1 if unit == "step" else 0)]
        start, stop = sorted(draw(st.lists(st.sampled_from(inner), min_size=2, max_size=2, unique=True)),
                             reverse=unit == "sigma")  # fmt: skip
        which = draw(st.sampled_from(["start", "stop", "both"]))
        options = {"start": start if which != "stop" else None, "unit": unit,
                   "stop": stop if which != "start" else None}  # fmt: skip
    if draw(st.integers(0, 3)) == 0:
        length = draw(st.sampled_from([26, 17] if family == "sd1" else [20, 12]))
        options["vector"] = tuple(draw(st.sampled_from([0.0, 0.5, 1.0])) for _ in VECTORS[length])
    if draw(st.integers(0, 3)) == 0:
        options["groups"] = tuple((key, draw(lines())) for key in draw(st.sets(st.sampled_from(["in", "mid", "out"]))))
    for key, chance in (("hires", 2), ("refiner", 2)):
        if draw(st.integers(0, chance)) == 0:
            options[key] = draw(lines())
    side = draw(st.sampled_from([None, None, "cond", "uncond", "both"]))
    return Tag(draw(st.sampled_from("abc")), draw(lines()), draw(lines()), on=side, **options)


@st.composite
def pictures(draw, family: str) -> Picture:
    return Picture(tuple(draw(st.lists(tags(family), max_size=2))), tuple(draw(st.lists(tags(family), max_size=1))),
                   draw(st.sampled_from(["a cat", "a red house"])))  # fmt: skip


def cases(family: str):
    return st.fixed_dictionaries({
        "pictures": st.lists(pictures(family), min_size=1, max_size=2),
        "sampler": st.sampled_from(list(SAMPLERS)), "steps": st.sampled_from([1, 2, 2, 3]),
        "each": st.sampled_from([1, 1, 1, 2]),
        "guidance": st.sampled_from([1.0, 2.0, 2.0]), "stage": st.sampled_from(["", "", "hires", "refiner"]),
    })  # fmt: skip


RANDOM = settings(deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck))


@settings(RANDOM, max_examples=100)
@given(case=cases("sd1"))
def test_any_combination_on_sd1(worlds, case):
    compare(worlds["sd1"], **case)


@settings(RANDOM, max_examples=50)
@given(case=cases("sdxl"))
def test_any_combination_on_sdxl(worlds, case):
    compare(worlds["sdxl"], **case)


@settings(RANDOM, max_examples=50)
@given(case=cases("sd1"))
def test_any_combination_from_a_picture(worlds, case):
    compare(worlds["sd1"], **case | {"steps": case["steps"] + 1}, of_image=True)
    left_alone(worlds["sd1"])


# each by itself, for what random combinations seldom hit

UP, DOWN = Line(((0.0, 0.0), (1.0, 1.0))), Line(((0.0, 1.5), (1.0, -0.5)))
ALONE = {
    "a curve": [Picture((Tag("a", unet=UP),))],
    "a curve by steps": [Picture((Tag("a", unet=Line(((0.0, 1.0), (3.0, 0.0)), "step")),))],
    "a curve by sigma": [Picture((Tag("a", unet=Line(((0.5, 0.0), (14.0, 1.0)), "sigma")),))],
    "a window": [Picture((Tag("a", start=0.3, stop=0.8),))],
    "one side": [Picture((Tag("a", on="cond"), Tag("b", on="uncond")))],
    "a negative tag": [Picture((Tag("a", Line(((0.0, 0.5),))),), (Tag("b", unet=DOWN),))],
    "blocks": [Picture((Tag("a", groups=(("in", UP), ("mid", DOWN), ("out", Line(((0.0, 0.5),))))),))],
    "one file twice": [Picture((Tag("a", unet=UP), Tag("a", unet=DOWN, start=0.5), Tag("a")))],
    "four pictures": [Picture((Tag("a"),)), Picture((Tag("b", unet=UP),)), Picture((), (Tag("c"),)), Picture()],
}


@pytest.mark.parametrize(("family", "what"), [*(("sd1", what) for what in ALONE), ("sdxl", "four pictures")])
def test_by_itself(worlds, family, what):
    world = worlds[family]
    made = compare(world, ALONE[what])
    plain = world.draw(["a cat"] * len(made), negative_prompt=["a dog"] * len(made), **options_of(world, len(made), 3))
    assert (made - plain.images).abs().amax(dim=(1, 2, 3))[0] > 1000 * NEAR
    left_alone(world)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_with_every_sampler_and_from_a_picture(worlds, sampler):
    pictures = [Picture((Tag("a", unet=DOWN, stop=0.9), Tag("b", te=UP)), (Tag("b", start=0.4),))]
    for of_image in (False, True):
        compare(worlds["sd1"], pictures, sampler=sampler, steps=5, of_image=of_image)
    left_alone(worlds["sd1"])


@pytest.mark.parametrize("stage", ["hires", "refiner"])
def test_another_pass_has_its_own_weights(worlds, stage):
    pictures = [Picture((Tag("a", **{stage: DOWN}), Tag("b")))]
    own, first = (compare(worlds["sd1"], pictures, stage=each) for each in (stage, ""))
    assert (own - first).abs().max() > 1000 * NEAR


def test_prompt_editing_around_tags_and_words_says_in_which_steps_they_count(worlds):
    """`[a:b:2]` is a in the steps 0 to 2, as in the WebUI; the same in windows is what the reference knows."""
    world = worlds["sd1"]
    world.use("euler")
    a, b = Tag("a", stop=3, unit="step"), Tag("b", start=3, unit="step")

    def draw(prompt: str) -> torch.Tensor:
        return world.draw(prompt, **options_of(world, 1, 5)).images

    world.draw.stage = Stage()
    windows = draw(f"a cat{a.text}{b.text}")
    assert torch.equal(draw("a cat[<lora:a:1>:<lora:b:1>:2]"), windows)
    assert torch.equal(draw("a [cat<lora:a:1>:cat <lora:b:1>:0.4]"), windows)
    swapped = draw("a [cat<lora:a:1>:red house<lora:b:1>:2]")
    assert (swapped - windows).abs().max() > 1000 * NEAR
    assert torch.equal(draw("a [cat|cat]"), draw("a cat"))
    assert (draw("a [cat|dog]") - draw("a cat")).abs().max() > 1000 * NEAR
    left_alone(world)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_where_words_are_edited_the_unet_is_told_the_new_ones(worlds, family):
    world = worlds[family]
    world.use("euler")
    world.draw.stage = Stage()
    told: dict[str, list[torch.Tensor]] = {}

    def look(unet, args, named, output):
        added = [named["added_cond_kwargs"]["text_embeds"]] if family == "sdxl" else []
        told[prompt].append(torch.cat([each.flatten() for each in (named["encoder_hidden_states"], *added)]))

    hook = world.draw.pipe.unet.register_forward_hook(look, with_kwargs=True)
    try:
        for prompt in ("a [cat|red house]<lora:a:0.5>", "a cat<lora:a:0.5>", "a red house<lora:a:0.5>"):
            told[prompt] = []
            world.draw(prompt, **options_of(world, 1, 3))
    finally:
        hook.remove()
    edited, (cat, *_), (house, *_) = told.values()
    assert (cat - house).abs().max() > 1000 * NEAR
    for seen, expected in zip(edited, (cat, cat, house), strict=True):  # the WebUI's steps are counted from 1
        assert (seen - expected).abs().max() < NEAR

def test_an_area_of_a_picture_is_the_one_that_is_changed(worlds):
    """By the last layer alone, in one step, so that nothing carries it elsewhere: there, in full, and nowhere else."""
    world = worlds["sd1"]
    world.use("euler")
    world.draw.stage = Stage()
    layer = "lora_unet_conv_out"
    delta = 0.01 * torch.randn(world.draw.pipe.unet.conv_out.weight.shape, generator=torch.Generator().manual_seed(1))
    save_file({f"{layer}.diff": delta}, world.draw.library.folders[0] / "last.safetensors")

    def draw(*prompts: str) -> torch.Tensor:
        return world.draw(list(prompts), **options_of(world, len(prompts), 1)).images

    plain, whole = draw("a cat", "a dog"), draw("a cat<lora:last:1>", "a dog<lora:last:1>")
    made = draw("a cat<lora:last:1:area=0,0,0.5,1>", "a dog<lora:last:1:area=0.25,0,0.25,0.5>")
    assert (whole - plain).abs().min() > NEAR
    expected = plain.clone()
    expected[0, :, :, :2] = whole[0, :, :, :2]  # of 4 x 4
    expected[1, :, :2, 1:2] = whole[1, :, :2, 1:2]
    assert (made - expected).abs().max() < NEAR * whole.abs().max()
    left_alone(world)


# the demo model, its own adapters


class DemoWorld(World):
    """`night` is LoRA, `warm` is LoHa, of all attentions of the UNet."""

    def __init__(self) -> None:
        pipe, other = (load_pipeline(dtype=torch.float64) for _ in range(2))
        self.family, self.draw = "demo", attach(pipe, ADAPTERS)
        self.untouched = self.state()
        names = {f"lora_unet_{name.replace('.', '_')}": name for name, _ in pipe.unet.named_modules()}
        deltas = {adapter: {"unet": {names[key]: delta for key, delta in products(adapter).items()}}
                  for adapter in ("night", "warm")}  # fmt: skip
        reference = Reference(other, "sd1", deltas)
        reference.names = {"unet": {name: (name, "") for each in deltas.values() for name in each["unet"]},
                           "text_encoder": {}}  # fmt: skip
        self.draws, self.references = {False: self.draw}, {False: reference}
        for each in (pipe, other):
            each.set_progress_bar_config(disable=True)


def products(adapter: str) -> dict[str, torch.Tensor]:
    """What a file of LoRA or LoHa adds at 1, by the formulas of their papers."""
    modules: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(ADAPTERS / f"{adapter}.safetensors").items():
        module, _, part = key.partition(".")
        modules.setdefault(module, {})[part] = tensor.double()
    found = {}
    for module, part in modules.items():
        if "hada_w1_a" in part:
            product = (part["hada_w1_a"] @ part["hada_w1_b"]) * (part["hada_w2_a"] @ part["hada_w2_b"])
            rank = len(part["hada_w1_b"])
        else:
            product = part["lora_up.weight"].flatten(1) @ part["lora_down.weight"].flatten(1)
            rank = len(part["lora_down.weight"])
        found[module] = product * part["alpha"] / rank
    return found


def test_the_demo_model():
    world = DemoWorld()
    pictures = [Picture((Tag("night", unet=DOWN), Tag("warm", stop=0.9)), words="a big red heart"),
                Picture((Tag("warm", unet=UP, on="cond"),), (Tag("night", start=0.3),), words="a small blue star")]
    made = compare(world, pictures, sampler="heun")
    assert (made[0] - compare(world, pictures[1:] * 2, sampler="heun")[0]).abs().max() > 1000 * NEAR
    left_alone(world)
