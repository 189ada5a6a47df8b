"""An adapter in a part of the picture: the layers' own definition, written down slowly, gives the same picture."""

from __future__ import annotations

import contextlib
import functools
import re

import pytest
import torch
from torch import nn

from lib_lora.engine.call import Call
from lib_lora.engine.regions import area_mask, levels, mask_of
from lib_lora.errors import PatchError
from lib_lora.grammar.who import Area, Row
from lib_lora.keys.places import about, level_of
from tests.support_rows import KINDS, Tiny, Typed, acting, assert_near, leaving_nothing, one_row, put

FINE = 4096  # samples of a place, in each direction; edges are at sixteenths, which are between two samples
LEFT, RIGHT = (0, 0, 0.5, 1), (0.5, 0, 0.5, 1)
MIDDLE, SOFT = (0.3125, 0.1875, 0.4375, 0.5), (0.25, 0.25, 0.5, 0.5, 0.3)


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def tiny(request, tmp_path_factory):
    return Tiny(request.param, tmp_path_factory.mktemp(request.param))


def within(name: str, weight: float, area, *, sides=None) -> Typed:
    side = f":on={sides[0]}" if sides else ""
    text = f"<lora:{name}:{weight}:area={','.join(map(str, area))}{side}>"
    return Typed(text, name, lambda step, steps: weight, sides, tuple(area))


def everywhere(name: str, weight: float) -> Typed:
    return Typed(f"<lora:{name}:{weight}>", name, lambda step, steps: weight)


# The definition


def sampled(count: int, start: float, length: float, feather: float) -> torch.Tensor:
    """The mean, over each of `count` places, of what is 1 within and rises and falls in a line at the edges."""
    at = (torch.arange(count * FINE, dtype=torch.float64) + 0.5) / (count * FINE)

    def beyond(edge: float) -> torch.Tensor:
        return ((at - edge) / feather + 0.5).clamp(0, 1) if feather else (at > edge).double()

    rising = beyond(start) if start > 0 else torch.ones_like(at)
    falling = beyond(start + length) if start + length < 1 else torch.zeros_like(at)
    return (rising - falling).reshape(count, FINE).mean(1)


@functools.cache  # each layer of a row asks, and each row
def sampled_mask(area, size, latent) -> torch.Tensor:
    x, y, w, h, feather = (*area, 0)[:5]
    feather *= min(latent)
    return sampled(size[0], y, h, feather / latent[0])[:, None] * sampled(size[1], x, w, feather / latent[1])


class Reference:
    """A UNet in float64 for one row, each of whose layers is made of layers with and without what acts in areas."""

    def __init__(self, tiny: Tiny, tags, latent) -> None:
        self.unet, self.latent = tiny.reference, latent
        self.areas = list(dict.fromkeys(typed.area for typed in tags if typed.area))
        self.none = tiny.merged([typed for typed in tags if typed.area is None], 0, 4)
        self.within = [tiny.merged([typed for typed in tags if typed.area in (None, area)], 0, 4)
                       for area in self.areas]  # fmt: skip

    def mask(self, area, out: torch.Tensor) -> torch.Tensor:
        if out.dim() == 4:
            return sampled_mask(area, out.shape[-2:], self.latent)
        height, width = self.latent
        while height * width != out.shape[1]:
            height, width = (height + 1) // 2, (width + 1) // 2
        return sampled_mask(area, (height, width), self.latent).reshape(-1, 1)

    def mixed(self, path: str, module: nn.Module, call):
        """`call` with the weights of all places, and what those of each area add to it."""
        put(module, self.none, path)
        whole = nothing = call()
        for area, weights in zip(self.areas, self.within, strict=True):
            put(module, weights, path)
            whole = whole + self.mask(area, nothing) * (call() - nothing)
        return whole

    @contextlib.contextmanager
    def layers(self):
        changed = []
        for path, module in self.unet.named_modules():
            put(module, self.none, path)
            if re.search(r"attn2\.to_[kv]$|time_embedding|add_embedding|time_emb_proj", path):
                continue
            if module._parameters.get("weight") is not None:
                own = type(module).forward
                module.forward = lambda x, *rest, own=own, path=path, module=module: self.mixed(
                    path, module, lambda: own(module, x, *rest))
                changed.append(module)
            elif path.endswith("attn2"):
                module.forward = self.attention(path, module)
                changed.append(module)
        try:
            yield
        finally:
            for module in changed:
                del module.forward

    def attention(self, path: str, attention: nn.Module):
        def forward(*args, **named):
            def call(weights):
                for name in ("to_k", "to_v"):
                    put(getattr(attention, name), weights, f"{path}.{name}")
                return type(attention).forward(attention, *args, **named)

            nothing = whole = call(self.none)
            for area, weights in zip(self.areas, self.within, strict=True):
                whole = whole + self.mask(area, nothing) * (call(weights) - nothing)
            return whole

        return forward

    def call(self, inputs, row: int) -> torch.Tensor:
        with self.layers(), torch.no_grad():
            return self.unet(timestep=500, **{key: one_row(value, row) for key, value in inputs.items()}).sample[0]


def check(tiny: Tiny, prompts, *, latent=(8, 8)) -> None:
    with leaving_nothing(tiny):
        rows = [Row(image, side) for side in ("cond", "uncond") for image in range(len(prompts))]
        inputs = tiny.inputs(len(rows), latent)
        report = tiny.session.activate(tiny.wanted(prompts))
        assert all("know no places" in sentence for sentence in report.sentences())
        tiny.session.rows(rows, latent)
        together = tiny.call(inputs)
        for number, row in enumerate(rows):
            reference = Reference(tiny, acting(prompts, (), row), latent).call(inputs, number)
            assert_near(together[number], reference)


@pytest.mark.parametrize("kind", KINDS)
def test_every_algorithm_in_a_part_of_the_picture(tiny, kind):
    check(tiny, [[within(kind, 0.8, MIDDLE), everywhere("more", 0.4)]])


@pytest.mark.parametrize("latent", [(8, 12), (10, 6), (9, 7)])
def test_pictures_of_every_shape(tiny, latent):
    check(tiny, [[within("lora", 1, MIDDLE)]], latent=latent)


def test_two_areas_a_feather_and_what_acts_everywhere(tiny):
    check(tiny, [[within("lora", 0.7, LEFT), everywhere("bias", 0.3), within("more", -0.6, RIGHT),
                  within("tucker", 0.5, SOFT)]])  # fmt: skip


def test_two_pictures_with_areas_of_their_own_on_one_side(tiny):
    check(tiny, [[within("lora", 0.7, LEFT, sides=("cond",))], [within("dora", 0.7, SOFT), everywhere("more", 0.5)]])


def test_both_halves_are_the_whole(tiny):
    """Layer by layer half and half is all, and words are mixed where nothing is between two areas."""
    rows, inputs = [Row(0), Row(0, "uncond")], tiny.inputs(2)
    results = []
    for tags in ([within("half", 0.8, LEFT), within("half", 0.8, RIGHT)], [within("half", 0.8, (0, 0, 1, 1))]):
        tiny.write("half", "lora", every=5, seed=0)
        tiny.session.activate(tiny.wanted([tags]))
        tiny.session.rows(rows, (8, 8))
        results.append(tiny.call(inputs))
    tiny.session.clear()
    plain = tiny.call(inputs)
    assert_near(results[0], results[1].double())
    assert not torch.allclose(results[0], plain, atol=1e-2)


def test_layers_that_know_no_place_are_left_out_and_it_is_said_once(tiny):
    sentences = tiny.session.activate(tiny.wanted([[within("lora", 1, LEFT), everywhere("more", 1)]])).sentences()
    told = [sentence for sentence in sentences if "know no places" in sentence]
    assert len(told) == 1
    assert re.fullmatch(r"lora: \d+ of its layers know no places and are left out within an area", told[0])
    tiny.session.clear()


def test_what_fits_no_level_is_refused_with_a_sentence(tiny):
    tiny.session.activate(tiny.wanted([[within("lora", 1, LEFT)]]))
    inputs = tiny.inputs(2)
    for rows, size, why in (([Row(0), Row(0)], None, "nobody has told"), ([Row(0), Row(0)], (20, 20), "never becomes"),
                            ([Row(0)], (8, 8), "sees 2 pieces of 1 rows")):
        tiny.session.rows(rows, size)
        with pytest.raises(PatchError, match=why):
            tiny.call(inputs)
    tiny.session.clear()


# Masks


AREAS = [LEFT, MIDDLE, SOFT, (0, 0.875, 1, 0.125), (0.0625, 0, 0.0625, 1), (0.4, 0.4, 0.2, 0.2, 0.5)]


@pytest.mark.parametrize("area", AREAS)
@pytest.mark.parametrize("size", [(8, 12), (3, 5), (1, 1)])
def test_a_mask_is_the_share_of_each_place_that_lies_within(area, size):
    mine, other = area_mask(Area(*area), size, (24, 40)), sampled_mask(area, size, (24, 40))
    torch.testing.assert_close(mine.double(), other, atol=1e-6, rtol=0)


def test_left_and_right_add_up_to_one_also_with_feather():
    for feather in (0, 0.25):
        both = [area_mask(Area(x, 0, 0.5, 1, feather), (7, 9), (7, 9)) for x in (0, 0.5)]
        torch.testing.assert_close(both[0] + both[1], torch.ones(7, 9))


def test_levels_halve_and_round_up():
    assert list(levels((5, 9))) == [(5, 9), (3, 5), (2, 3), (1, 2), (1, 1)]


def test_masks_are_made_once_for_a_size():
    call = Call(size=(8, 8))
    one = mask_of(Area(*LEFT), call, torch.zeros(2, 64, 3), is_map=False)
    assert mask_of(Area(*LEFT), call, torch.zeros(2, 64, 3), is_map=False) is one
    assert one.shape == (64, 1)
    call.tell((), (16, 4))
    assert mask_of(Area(*LEFT), call, torch.zeros(2, 64, 3), is_map=False)[:, 0].tolist() == 16 * [1, 1, 0, 0]


def test_what_modules_are_about():
    assert about("input_blocks.1.1.transformer_blocks.0.attn2.to_k") == "words"
    assert about("input_blocks.1.1.transformer_blocks.0.attn2.to_q") == "places"
    assert {about(name) for name in ("time_embed.0", "label_emb.0.2", "input_blocks.1.0.emb_layers.1")} == {"neither"}
    assert [level_of(name, 4) for name in ("input_blocks.0.0", "input_blocks.4.1.proj_in", "middle_block.1.proj_in",
                                           "output_blocks.0.0.in_layers.2", "output_blocks.11.0.in_layers.2", "out.2")
            ] == [0, 1, 3, 3, 0, 0]  # fmt: skip
