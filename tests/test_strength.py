"""Pictures with weights that change over steps, blocks, passes, sides and pictures are those of the slow reference."""

from __future__ import annotations

from functools import partial
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
from tests.support import fingerprint, twin
from tests.support_rows import Effect, Maker, effect_of
from tests.support_strength import BLOCKS, ENCODER, VECTORS, Effects, Line, Picture, Reference, Tag, When

NEAR = 1e-5  # of the largest value
SAMPLERS = {"euler": "EulerDiscreteScheduler", "heun": "HeunDiscreteScheduler", "ddim": "DDIMScheduler",
            "dpm": "DPMSolverMultistepScheduler"}  # fmt: skip
STAGES = {"": Stage(), "hires": Stage(hires=True), "refiner": Stage(refiner=True)}
KINDS = {  # the adapters: what they are
    "lora": "lora", "more": "lora", "diff": "full", "tucker": "tucker", "loha": "loha", "lokr": "lokr", "dora": "dora",
    "oft": "oft",
}  # fmt: skip
SIZE = 8  # pixels; of the demo model, more
TOKENS = 8  # of a prompt, padding among them: no text here has more than 6


class World:
    """One small model twice: with adapters attached, and as the reference has it."""

    def __init__(self, family: str, folder: Path, *, single_beside: World | None = None) -> None:
        """`single_beside`: in single precision, set against the reference that this one has."""
        self.family, self.dtype = family, torch.float32 if single_beside else torch.float64
        pipe = small_pipeline(family, folder).to(self.dtype)
        for name in ("tokenizer", "tokenizer_2")[: 1 + (family == "sdxl")]:
            getattr(pipe, name).model_max_length = TOKENS
        other = None if single_beside else twin_of(pipe)
        self.schedulers: dict[Any, Any] = {}  # by who draws, and the sampler
        effects = write_adapters(pipe, family, folder)
        self.draw = attach(pipe, folder)
        self.untouched = self.state()
        kind = type(pipe).__name__.replace("Pipeline", "Img2ImgPipeline")
        options = {} if family == "sdxl" else {"requires_safety_checker": False}

        def of_image(each: Any) -> Any:
            return getattr(diffusers, kind)(**each.components, **options)

        self.draws = {False: self.draw, True: Attached(of_image(pipe), self.draw.library)}
        if single_beside:
            self.references = single_beside.references
        else:
            reference = Reference(other, family, effects)
            self.references = {False: reference, True: reference.drawing_with(of_image(other))}
        for each in (*self.draws.values(), *self.references.values()):
            each.pipe.set_progress_bar_config(disable=True)

    def state(self) -> Any:
        parts = [getattr(self.draw.pipe, name, None) for name in ("unet", "text_encoder", "text_encoder_2")]
        modules = [part for part in parts if part is not None]
        hooks = [hook for part in modules for module in part.modules()
                 for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())]  # fmt: skip
        ours = [hook for hook in hooks if getattr(hook, "__module__", type(hook).__module__).startswith("lib_lora")]
        return [fingerprint(part.named_parameters()) for part in modules], ours

    def use(self, sampler: str) -> None:
        for each in (*self.draws.values(), *self.references.values()):
            made = self.schedulers.get((each, sampler))
            if made is None:
                made = getattr(diffusers, SAMPLERS[sampler]).from_config(each.pipe.scheduler.config)
                self.schedulers[each, sampler] = made
            each.pipe.scheduler = made


def twin_of(pipe: Any) -> Any:
    """A pipeline of its own models, with the same weights."""
    parts = {name: twin(part) if isinstance(part, torch.nn.Module) else part for name, part in pipe.components.items()}
    options = {} if "text_encoder_2" in parts else {"requires_safety_checker": False}
    return type(pipe)(**parts, **options)


def write_adapters(pipe: Any, family: str, folder: Path) -> Effects:
    """One of each algorithm, for all those modules; `diff` for the UNet's alone."""
    maker, effects = Maker(7), {}
    for name, kind in KINDS.items():
        tensors: dict[str, torch.Tensor] = {}
        of_file: dict[str, dict[str, Effect]] = effects.setdefault(name, {})
        for component in ("unet", "text_encoder", "text_encoder_2"):
            model = getattr(pipe, component, None)
            if model is None or (component != "unet" and kind == "full"):
                continue
            prefix = {"unet": "lora_unet", "text_encoder": "lora_te1" if family == "sdxl" else "lora_te"}
            for module in BLOCKS[family] if component == "unet" else ENCODER:
                path = next(path for path, _ in model.named_modules() if path.endswith(module))
                inner = path if component == "unet" or path.startswith("text_model.") else f"text_model.{path}"
                parts = getattr(maker, kind)(model.get_parameter(f"{path}.weight").shape)
                key = f"{prefix.get(component, 'lora_te2')}_{inner.replace('.', '_')}"
                tensors |= {f"{key}.{part}": tensor for part, tensor in parts.items()}
                of_file.setdefault(component, {})[module] = effect_of(parts)
        save_file(tensors, folder / f"{name}.safetensors")
    return effects


@pytest.fixture(scope="module")
def worlds(tmp_path_factory) -> dict[str, World]:
    return {family: World(family, tmp_path_factory.mktemp(family)) for family in ("sd1", "sdxl")}


@pytest.fixture(scope="module")
def singles(tmp_path_factory, worlds) -> dict[str, World]:
    """In single precision, as models are used where there is no half; the reference stays in double."""
    return {family: World(family, tmp_path_factory.mktemp(family), single_beside=world)
            for family, world in worlds.items()}  # fmt: skip


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
    options = options_of(world, len(pictures) * each, steps, torch.float64)
    made = steps
    if of_image:
        noise, _, _ = (options.pop(name) for name in ("latents", "width", "height"))
        options |= dict(image=noise[::each], strength=0.7)
        made = int(steps * 0.7)
    options |= dict(num_images_per_prompt=each, guidance_scale=guidance)
    own = {name: value.to(world.dtype) if isinstance(value, torch.Tensor) else value for name, value in options.items()}
    ours = draw([picture.prompt for picture in pictures],
                negative_prompt=[picture.negative_prompt for picture in pictures], **own).images  # fmt: skip
    assert not draw.report.problems
    assert all(each.applied for each in draw.report.adapters)
    options["generator"] = torch.Generator().manual_seed(1)
    when = reference_moments(reference.pipe.scheduler, made)
    theirs = reference.draw(pictures, stage=stage, when=when, **options)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < NEAR * theirs.abs().max(), (ours - theirs).abs().max() / theirs.abs().max()
    return ours


def options_of(world: World, count: int, steps: int, dtype: torch.dtype | None = None) -> dict[str, Any]:
    """Of a call that makes so many pictures; the same noise in any precision."""
    size = 64 if world.family == "demo" else SIZE
    side = size // world.draw.pipe.vae_scale_factor
    noise = torch.randn(count, 4, side, side, generator=torch.Generator().manual_seed(3)).to(dtype or world.dtype)
    return dict(num_inference_steps=steps, generator=torch.Generator().manual_seed(1), latents=noise, width=size,
                height=size, guidance_scale=2.0, output_type="latent")  # fmt: skip


def left_alone(world: World) -> None:
    """The model is the untouched one after a `clear`, and nothing is left on it."""
    for draw in world.draws.values():
        draw.clear()
    assert world.state() == world.untouched


# What is drawn from, made once: Hypothesis looks through each strategy that is new to it.
NUMBERS = st.sampled_from([-0.5, 0.25, 0.5, 1.0, 1.5])
PLACES = {"share": [0.0, 0.2, 0.5, 0.75, 1.0], "step": [0, 1, 2, 3, 5], "sigma": [0.0, 0.5, 1.0, 3.0, 14.0]}
UNITS, YES, NAMES = st.sampled_from(list(PLACES)), st.booleans(), st.sampled_from(list(KINDS))
KNOTS = {unit: st.sets(st.sampled_from(places), min_size=2, max_size=3) for unit, places in PLACES.items()}
INNER = {unit: [place for place in places if place > (1 if unit == "step" else 0)] for unit, places in PLACES.items()}
ENDS = {unit: st.lists(st.sampled_from(inner), min_size=2, max_size=2, unique=True) for unit, inner in INNER.items()}
WHICH = st.sampled_from(["start", "stop", "both"])
LENGTHS = {"sd1": st.sampled_from([26, 17]), "sdxl": st.sampled_from([20, 12])}
SHARES = st.sampled_from([0.0, 0.5, 1.0])
GROUPS = st.sets(st.sampled_from(["in", "mid", "out"]))
ONE_OF_3, ONE_OF_4 = st.integers(0, 2), st.integers(0, 3)
SIDES = st.sampled_from([None, None, "cond", "uncond", "both"])


@st.composite
def lines(draw) -> Line:
    if draw(YES):
        return Line(((0.0, draw(NUMBERS)),))
    unit = draw(UNITS)
    places = sorted(draw(KNOTS[unit]))
    if unit == "step" and max(places) <= 1:
        places[-1] = 2
    return Line(tuple((place, draw(NUMBERS)) for place in places), unit)


LINES = lines()


@st.composite
def tags(draw, family: str) -> Tag:
    options: dict[str, Any] = {}
    if draw(ONE_OF_3) == 0:
        unit = draw(UNITS)
        start, stop = sorted(draw(ENDS[unit]), reverse=unit == "sigma")
        which = draw(WHICH)
        options = {"start": start if which != "stop" else None, "unit": unit,
                   "stop": stop if which != "start" else None}  # fmt: skip
    if draw(ONE_OF_4) == 0:
        options["vector"] = tuple(draw(SHARES) for _ in VECTORS[draw(LENGTHS[family])])
    if draw(ONE_OF_4) == 0:
        options["groups"] = tuple((key, draw(LINES)) for key in sorted(draw(GROUPS)))
    for key in ("hires", "refiner"):
        if draw(ONE_OF_3) == 0:
            options[key] = draw(LINES)
    side = draw(SIDES)
    return Tag(draw(NAMES), draw(LINES), draw(LINES), on=side, **options)


SOME_TAGS = {family: st.lists(tags(family), max_size=2) for family in LENGTHS}
ONE_TAG = {family: st.lists(tags(family), max_size=1) for family in LENGTHS}
WORDS = st.sampled_from(["a cat", "a red house"])


@st.composite
def pictures(draw, family: str) -> Picture:
    return Picture(tuple(draw(SOME_TAGS[family])), tuple(draw(ONE_TAG[family])), draw(WORDS))


def cases(family: str):
    return st.fixed_dictionaries({
        "pictures": st.lists(pictures(family), min_size=1, max_size=2),
        "sampler": st.sampled_from(list(SAMPLERS)), "steps": st.sampled_from([1, 2, 2, 3]),
        "each": st.sampled_from([1, 1, 1, 2]),
        "guidance": st.sampled_from([1.0, 2.0, 2.0]), "stage": st.sampled_from(["", "", "hires", "refiner"]),
    })  # fmt: skip


RANDOM = settings(deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck))


@settings(RANDOM, max_examples=120)
@given(case=cases("sd1"))
def test_any_combination_on_sd1(worlds, case):
    compare(worlds["sd1"], **case)


@settings(RANDOM, max_examples=30)
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
    "a curve": [Picture((Tag("lora", unet=UP),))],
    "a curve by steps": [Picture((Tag("lora", unet=Line(((0.0, 1.0), (3.0, 0.0)), "step")),))],
    "a curve by sigma": [Picture((Tag("lora", unet=Line(((0.5, 0.0), (14.0, 1.0)), "sigma")),))],
    "a window": [Picture((Tag("lora", start=0.3, stop=0.8),))],
    "one side": [Picture((Tag("lora", on="cond"), Tag("more", on="uncond")))],
    "a negative tag": [Picture((Tag("lora", Line(((0.0, 0.5),))),), (Tag("more", unet=DOWN),))],
    "blocks": [Picture((Tag("lora", groups=(("in", UP), ("mid", DOWN), ("out", Line(((0.0, 0.5),))))),))],
    "one file twice": [Picture((Tag("lora", unet=UP), Tag("lora", unet=DOWN, start=0.5), Tag("lora")))],
    "four pictures": [Picture((Tag("lora"),)), Picture((Tag("more", unet=UP),)), Picture((), (Tag("diff"),)),
                      Picture()],
}


@pytest.mark.parametrize(("family", "what"), [*(("sd1", what) for what in ALONE), ("sdxl", "four pictures")])
def test_by_itself(worlds, family, what):
    world = worlds[family]
    made = compare(world, ALONE[what])
    plain = world.draw(["a cat"] * len(made), negative_prompt=["a dog"] * len(made), **options_of(world, len(made), 3))
    assert (made - plain.images).abs().amax(dim=(1, 2, 3))[0] > 1000 * NEAR
    left_alone(world)


@pytest.mark.parametrize("what", ALONE)
def test_by_itself_in_single_precision(singles, what):
    compare(singles["sd1"], ALONE[what])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_every_algorithm_in_single_precision(singles, family, kind):
    """Over time and on one side, twice in one prompt, and twice with others between for one picture alone."""
    varying = Picture((Tag(kind, unet=UP), Tag("more", on="cond")), (Tag(kind, stop=0.8),))
    twice = Picture((Tag(kind, stop=0.4), Tag("oft" if kind != "oft" else "dora"), Tag(kind, unet=DOWN)))
    compare(singles[family], [varying, twice])
    left_alone(singles[family])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_with_every_sampler_and_from_a_picture(worlds, sampler):
    pictures = [Picture((Tag("lora", unet=DOWN, stop=0.9), Tag("more", te=UP)), (Tag("more", start=0.4),))]
    for of_image in (False, True):
        compare(worlds["sd1"], pictures, sampler=sampler, steps=5, of_image=of_image)
    left_alone(worlds["sd1"])


@pytest.mark.parametrize("stage", ["hires", "refiner"])
def test_another_pass_has_its_own_weights(worlds, stage):
    pictures = [Picture((Tag("lora", **{stage: DOWN}), Tag("more")))]
    own, first = (compare(worlds["sd1"], pictures, stage=each) for each in (stage, ""))
    assert (own - first).abs().max() > 1000 * NEAR


def test_prompt_editing_around_tags_and_words_says_in_which_steps_they_count(worlds):
    """`[a:b:2]` is a in the steps 0 to 2, as in the WebUI; the same in windows is what the reference knows."""
    world = worlds["sd1"]
    world.use("euler")
    a, b = Tag("lora", stop=3, unit="step"), Tag("more", start=3, unit="step")

    def draw(prompt: str) -> torch.Tensor:
        return world.draw(prompt, **options_of(world, 1, 5)).images

    world.draw.stage = Stage()
    windows = draw(f"a cat{a.text}{b.text}")
    assert torch.equal(draw("a cat[<lora:lora:1>:<lora:more:1>:2]"), windows)
    assert torch.equal(draw("a [cat<lora:lora:1>:cat <lora:more:1>:0.4]"), windows)
    swapped = draw("a [cat<lora:lora:1>:red house<lora:more:1>:2]")
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
        for prompt in ("a [cat|red house]<lora:lora:0.5>", "a cat<lora:lora:0.5>", "a red house<lora:lora:0.5>"):
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
    delta = 0.1 * torch.randn(world.draw.pipe.unet.conv_out.weight.shape, generator=torch.Generator().manual_seed(1))
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
        self.family, self.dtype, self.draw = "demo", torch.float64, attach(pipe, ADAPTERS)
        self.schedulers = {}
        self.untouched = self.state()
        names = {f"lora_unet_{name.replace('.', '_')}": name for name, _ in pipe.unet.named_modules()}
        effects = {adapter: {"unet": {names[key]: effect for key, effect in effects_of(adapter).items()}}
                   for adapter in ("night", "warm")}  # fmt: skip
        own_names = {name: (name, "") for each in effects.values() for name in each["unet"]}
        reference = Reference(other, "sd1", effects, {"unet": own_names, "text_encoder": {}})
        self.draws, self.references = {False: self.draw}, {False: reference}
        for each in (pipe, other):
            each.set_progress_bar_config(disable=True)
            each.tokenizer.model_max_length = TOKENS


def effects_of(adapter: str) -> dict[str, Effect]:
    """What a file of LoRA or LoHa does, by the formulas of their papers."""
    modules: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(ADAPTERS / f"{adapter}.safetensors").items():
        module, _, part = key.partition(".")
        modules.setdefault(module, {})[part] = tensor.double()
    found: dict[str, Effect] = {}
    for module, part in modules.items():
        if "hada_w1_a" in part:
            product = (part["hada_w1_a"] @ part["hada_w1_b"]) * (part["hada_w2_a"] @ part["hada_w2_b"])
            rank = len(part["hada_w1_b"])
        else:
            product = part["lora_up.weight"].flatten(1) @ part["lora_down.weight"].flatten(1)
            rank = len(part["lora_down.weight"])
        found[module] = partial(_adding, product * part["alpha"] / rank)
    return found


def _adding(delta: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return delta.reshape(weight.shape)


def test_the_demo_model():
    world = DemoWorld()
    pictures = [Picture((Tag("night", unet=DOWN), Tag("warm", stop=0.9)), words="a big red heart"),
                Picture((Tag("warm", unet=UP, on="cond"),), (Tag("night", start=0.3),), words="a small blue star")]
    made = compare(world, pictures, sampler="heun", steps=2)
    assert (made[0] - compare(world, pictures[1:] * 2, sampler="heun", steps=2)[0]).abs().max() > 1000 * NEAR
    left_alone(world)
