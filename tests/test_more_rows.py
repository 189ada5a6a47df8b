"""Pipelines of diffusers whose UNet sees more than two rows of a picture, or more than the picture: each row has what
its side asks for.

Held to the same pipeline with a UNet that makes the whole batch once for each set of weights, merged by hand, and takes
from each the rows that have them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.func import functional_call

from lib_lora.errors import PatchError
from lib_lora.hosts.diffusers import attach
from tests.checkpoints import small_pipeline
from tests.support import fingerprint

NEAR = 1e-5  # of the largest value
LAYERS = (  # of the UNet
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_v",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_q",
    "up_blocks.1.resnets.0.conv1",
)
PERTURBED = "mid_block.attentions.0.transformer_blocks.0.attn1.to_v"  # by PAG
STEPS = 3
Rows = Sequence[tuple[int, str]]  # (picture, side) of each row


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, Any]:
    pipe = small_pipeline("sd1", tmp_path_factory.mktemp("sd1"))
    return {**pipe.components, "scheduler": diffusers.DDIMScheduler.from_config(pipe.scheduler.config)}


@pytest.fixture(scope="module")
def deltas(parts, tmp_path_factory) -> tuple[Any, dict[str, dict[str, Tensor]]]:
    """A folder with two adapters, and one for a layer that PAG perturbs; what the two add at 1, by parameter."""
    folder = tmp_path_factory.mktemp("adapters")
    chance = torch.Generator().manual_seed(1)
    found: dict[str, dict[str, Tensor]] = {}
    for name in ("one", "two"):
        found[name] = {}
        tensors = {}
        for path in LAYERS:
            weight = parts["unet"].get_parameter(f"{path}.weight")
            diff = 0.5 * weight.std().item() * torch.randn(weight.shape, generator=chance)
            tensors[f"{kohya(path)}.diff"] = found[name][f"{path}.weight"] = diff
        save_file(tensors, folder / f"{name}.safetensors")
    save_file({f"{kohya(PERTURBED)}.diff": torch.randn(64, 64, generator=chance)}, folder / "perturbed.safetensors")
    return folder, found


def kohya(path: str) -> str:
    return f"lora_unet_{path.replace('.', '_')}"


def pix2pix(parts) -> tuple[Any, dict[str, Any]]:
    wide = diffusers.UNet2DConditionModel.from_config(parts["unet"].config, in_channels=8)
    same = {key: value for key, value in parts["unet"].state_dict().items() if key != "conv_in.weight"}
    wide.load_state_dict(same, strict=False)
    pipe = diffusers.StableDiffusionInstructPix2PixPipeline(**{**parts, "unet": wide.eval()},
                                                            requires_safety_checker=False)  # fmt: skip
    picture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    return pipe, {"image": picture, "image_guidance_scale": 1.5, "guidance_scale": 2.0}


def pag(parts, *, guidance: float = 2.0) -> tuple[Any, dict[str, Any]]:
    pipe = diffusers.StableDiffusionPAGPipeline(**parts, pag_applied_layers="mid", requires_safety_checker=False)
    return pipe, {"pag_scale": 3.0, "guidance_scale": guidance, "height": 8, "width": 8}


def controlnet(parts, *, guess: bool = False) -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(5)
    control = diffusers.ControlNetModel.from_unet(parts["unet"])
    for name, parameter in control.named_parameters():
        if "controlnet" in name:  # they begin with 0
            torch.nn.init.normal_(parameter, std=0.05)
    pipe = diffusers.StableDiffusionControlNetPipeline(**parts, controlnet=control.eval(),
                                                       requires_safety_checker=False)  # fmt: skip
    picture = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    return pipe, {"image": picture, "guess_mode": guess, "guidance_scale": 2.0, "height": 8, "width": 8}


def draw(call: Any, prompts: list[str], **options: Any) -> Tensor:
    noise = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    return call(prompts, negative_prompt=["ugly"] * len(prompts), num_inference_steps=STEPS, latents=noise,
                output_type="latent", **options).images  # fmt: skip


def by_hand(
    pipe: Any, weights_of: Callable[[int, str], dict[str, Tensor]], sides: Sequence[str], options: dict[str, Any]
) -> Tensor:
    """The pictures, whose rows have the weights of `weights_of(picture, side)`."""
    unet = pipe.unet
    plain = type(unet).forward
    rows: Rows = [(image, side) for side in sides for image in range(2)]

    def forward(*args: Any, **named: Any) -> Any:
        made = []
        for number, row in enumerate(rows):
            unet.forward = lambda *inner, **others: plain(unet, *inner, **others)
            whole = functional_call(unet, weights_of(*row), args, named)[0]
            assert len(whole) == len(rows)
            made.append(whole[number : number + 1])
            unet.forward = forward
        return (torch.cat(made),)

    unet.forward = forward
    try:
        with torch.no_grad():
            return draw(pipe, ["a cat", "a red house"], **options)
    finally:
        del unet.forward


CASES = {
    "InstructPix2Pix": (pix2pix, {}, ("cond", "uncond", "uncond")),
    "PAG": (pag, {}, ("uncond", "cond", "cond")),
    "PAG without guidance": (pag, {"guidance": 0.0}, ("cond", "cond")),
    "ControlNet": (controlnet, {}, ("uncond", "cond")),
    "ControlNet that guesses": (controlnet, {"guess": True}, ("uncond", "cond")),
}


@pytest.mark.parametrize("name", CASES)
def test_each_row_has_the_adapters_of_its_picture_and_side(parts, deltas, name):
    make, settings, sides = CASES[name]
    folder, added = deltas
    pipe, options = make(parts, **settings)
    pipe.set_progress_bar_config(disable=True)
    before = fingerprint(pipe.unet.named_parameters())

    def weights_of(image: int, side: str) -> dict[str, Tensor]:
        strengths = {"one": 0.7 if (image, side) == (0, "cond") else 0, "two": 0.9 if image == 1 else 0}
        return {key: pipe.unet.get_parameter(key) + sum(strengths[name] * added[name][key] for name in strengths)
                for key in added["one"]}  # fmt: skip

    expected = by_hand(pipe, weights_of, sides, options)
    attached = attach(pipe, folder)
    made = draw(attached, ["a cat<lora:one:0:0.7:on=cond>", "a red house<lora:two:0:0.9>"], **options)
    assert not attached.report.problems
    assert (made - expected).abs().max() < NEAR * expected.abs().max()
    plainly = draw(attached, ["a cat", "a red house"], **options)
    assert (made - plainly).abs().amax(dim=(1, 2, 3)).min() > 100 * NEAR
    attached.clear()
    assert fingerprint(pipe.unet.named_parameters()) == before


def test_a_window_and_edited_words_in_instruct_pix2pix(parts, deltas):
    """It encodes prompts in a way of its own."""
    pipe, options = pix2pix(parts)
    attached = attach(pipe, deltas[0])
    cat, dog = (draw(attached, [words, words], **options) for words in ("a cat", "a dog"))
    assert torch.allclose(draw(attached, ["a [cat|cat]", "a [dog|dog]"], **options)[0], cat[0], atol=1e-5)
    edited = draw(attached, ["a [cat:dog:1]", "a [cat:dog:9]"], **options)
    assert torch.allclose(edited[1], cat[1], atol=1e-5)
    assert not torch.allclose(edited[0], cat[0], atol=1e-3)
    assert not torch.allclose(edited[0], dog[0], atol=1e-3)
    attached.clear()


@pytest.mark.parametrize("guess", [False, True])
def test_a_controlnet_sees_the_words_that_are_due(parts, deltas, guess):
    """As they come to a layer of it: those of all rows, or of the rows for which it guesses."""
    pipe, options = controlnet(parts, guess=guess)
    attached = attach(pipe, deltas[0])
    seen: list[Tensor] = []
    layer = pipe.controlnet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k
    layer.register_forward_pre_hook(lambda _layer, args: seen.append(args[0].clone()))
    for words in ("a cat", "a dog", "a [cat:dog:1]"):
        draw(attached, [words, words], **options)
    cat, dog, edited = (seen[begin : begin + STEPS] for begin in range(0, len(seen), STEPS))
    assert len(cat[0]) == (2 if guess else 4)
    assert not torch.equal(cat[0], dog[0])
    assert all(map(torch.equal, edited, [*cat[:2], dog[2]]))
    assert not pipe.controlnet._forward_pre_hooks
    attached.clear()


def test_in_a_layer_that_pag_perturbs_an_adapter_acts_on_all_rows_or_is_refused(parts, deltas):
    pipe, options = pag(parts)
    attached = attach(pipe, deltas[0])
    plainly = draw(attached, ["a cat", "a cat"], **options)
    curve = draw(attached, ["a cat<lora:perturbed:0:0@0,1@1>"] * 2, **options)
    assert not torch.allclose(curve, plainly, atol=1e-3)
    with pytest.raises(PatchError, match="which cannot be told apart \\(perturbed attention guidance does that"):
        draw(attached, ["a cat<lora:perturbed:0:1:on=cond>"] * 2, **options)
    assert torch.equal(draw(attached, ["a cat", "a cat"], **options), plainly)
    attached.clear()
