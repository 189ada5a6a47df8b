"""What adapters change: figures from factors are those of the deltas built whole, in float64."""

from __future__ import annotations

import gc
import json
import math
import threading

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_lora.adapters.adapter import read_adapter
from lib_lora.algorithms.parallel import each, side_by_side
from lib_lora.analysis import picture as pictures
from lib_lora.analysis.conflicts import Conflicts, alone, conflicts
from lib_lora.analysis.measure import AT_ONCE, Spectrum, measure
from lib_lora.analysis.picture import AGAINST, CELL, HEAD, MARGIN, STRONG, cells, draw_conflicts, draw_map
from lib_lora.cli import main
from lib_lora.engine.active import Active
from lib_lora.engine.schedule import plan
from lib_lora.errors import CheckpointError
from lib_lora.grammar.tag import LoraTag
from lib_lora.model.base_weights import BaseWeights
from lib_lora.model.usual import USUAL, shapes_of, usual_index
from tests.support_golden import GIVEN, OWN, folded, given_base, given_cases, index_of, own_file

BASE = OWN / "base.safetensors"
NAMES = sorted(path.name.removesuffix(".expected.safetensors") for path in OWN.glob("*.expected.safetensors"))


def differences(base, path):
    """{parameter: how it changes at weight 1}, float64: the plan's own fold, which the golden tests hold to others."""
    made = plan([Active(LoraTag("x", force=True), read_adapter(path))], index_of(base))
    after = folded(base, made, torch.float64)
    return {key: after[key] - base[key].double() for key in made.terms if key in base}


def of_base(base):
    return lambda target: target.view(base[target.key]) if target.new_bias_of is None else None


@pytest.mark.parametrize("name", NAMES)
def test_the_norm_is_that_of_the_change_of_all_weights(name):
    base = load_file(BASE)
    found = measure(read_adapter(own_file(name)), index_of(base), of_base(base))
    changed = differences(base, own_file(name))
    assert found.untold == ()
    assert found.delta == pytest.approx(math.hypot(*(float(each.norm()) for each in changed.values())), rel=1e-6)


@pytest.mark.parametrize("file", sorted(given_cases()))
def test_the_same_for_the_files_of_others(file):
    """Those that stand beside the repository, where they do."""
    base = given_base(given_cases()[file][0]["family"])
    path = GIVEN.parent / file
    adapter = read_adapter(path)
    found = measure(adapter, index_of(base), of_base(base))
    changed = differences(base, path)
    known = [layer for layer in found.layers if layer.base is not None]
    assert math.hypot(*(layer.delta for layer in known)) == pytest.approx(
        math.hypot(*(float(each.norm()) for each in changed.values())), rel=1e-5)


@pytest.mark.parametrize("name", ["lora", "locon_tucker", "lokr", "lokr_full", "lokr_tucker", "loha", "full"])
def test_the_spectrum_is_that_of_the_matrix(name):
    base = load_file(BASE)
    index = index_of(base)
    changed = differences(base, own_file(name))
    seen = 0
    for layer in measure(read_adapter(own_file(name)), index).layers:
        target = index.find(layer.name)["weight"]
        if layer.spectrum is None or target.key not in changed or not target.is_whole:
            continue
        values = torch.linalg.svdvals(changed[target.key].flatten(1))
        energy = values.square().cumsum(0) / values.square().sum()
        count = layer.spectrum.rank
        assert list(layer.spectrum.energy) == pytest.approx(energy[:count].tolist(), abs=1e-6)
        assert float(energy[count - 1]) == pytest.approx(1, abs=1e-6)
        shares = values[:count] / values[:count].sum()
        entropy = -float((shares * shares.log()).sum())
        assert layer.spectrum.effective_rank == pytest.approx(math.exp(entropy), rel=1e-4)
        bias = changed.get(target.key.replace("weight", "bias"), torch.zeros(1))  # counts in a layer's norm
        assert layer.delta == pytest.approx(math.hypot(float(values.norm()), float(bias.norm())), rel=1e-6)
        seen += 1
    assert seen


def test_what_a_spectrum_says_in_numbers_that_one_can_do_in_the_head():
    even = Spectrum.of(torch.tensor([4.0, 4.0, 4.0, 4.0], dtype=torch.float64))
    assert (even.rank, even.effective_rank, even.energy) == (4, pytest.approx(4), (0.25, 0.5, 0.75, 1.0))
    assert Spectrum.of(torch.tensor([9.0, 0.0], dtype=torch.float64)) == Spectrum(1, 1.0, (1.0,))
    assert Spectrum.of(torch.zeros(3, dtype=torch.float64)) == Spectrum(0, 0.0, ())


def test_many_layers_at_once_are_each_what_they_are_alone(tmp_path):
    """Some of full rank, some that repeat their ranks, some of zeros; more than go into one batch."""
    generator = torch.Generator().manual_seed(5)
    tensors, expected = {}, {}
    for number in range(AT_ONCE + 40):
        up, down = torch.randn(24, 4, generator=generator), torch.randn(4, 20, generator=generator)
        if number % 3 == 1:
            up, down = torch.cat([up[:, :2]] * 2, 1), torch.cat([down[:2]] * 2)
        up = up * 0 if number % 50 == 2 else up
        name = f"lora_unet_down_blocks_0_attentions_0_transformer_blocks_{number}_attn1_to_q"
        tensors |= {f"{name}.lora_up.weight": up.half(), f"{name}.lora_down.weight": down.half()}
        expected[name] = torch.linalg.svdvals(up.half().double() @ down.half().double()).square()[:4]
    save_file(tensors, tmp_path / "many.safetensors")
    with side_by_side():
        found = measure(read_adapter(tmp_path / "many.safetensors"), None)
    assert len(found.layers) == len(expected) == AT_ONCE + 40
    for layer in found.layers:
        squares = expected[layer.name]
        rank = int((squares > squares[:1] * 1e-13).sum())
        assert layer.spectrum.rank == rank
        assert rank in (0, 2, 4)
        assert layer.delta == pytest.approx(float(squares.sum().sqrt()), rel=1e-12)
        kept = (squares.cumsum(0) / squares.sum())[:rank].tolist()
        assert list(layer.spectrum.energy) == pytest.approx(kept, abs=1e-12)


@pytest.mark.parametrize("names", [("lora", "loha"), ("lora", "lora_scalar", "full"), ("lokr", "locon_tucker")])
def test_cosines_and_the_sum_are_those_of_the_changes_built_whole(names):
    base = load_file(BASE)
    index = index_of(base)
    weights = [0.8, -0.5, 1.2][: len(names)]
    found = conflicts([(read_adapter(own_file(name)), weight) for name, weight in zip(names, weights, strict=True)],
                      index)  # fmt: skip
    flat = []
    for name, weight in zip(names, weights, strict=True):
        changed = differences(base, own_file(name))
        flat.append(weight * torch.cat([changed[key].flatten() if key in changed else base[key].double().flatten() * 0
                                        for key in sorted(base)]))  # fmt: skip
    for a, one in enumerate(flat):
        for b, other in enumerate(flat):
            expected = float(one @ other / (one.norm() * other.norm()))
            assert found.cosine()[a][b] == pytest.approx(expected, abs=1e-6)
    assert found.together == pytest.approx(float(sum(flat).norm()), rel=1e-6)
    assert sum(found.shares) == pytest.approx(1)


def test_a_delta_that_asks_for_the_weight_is_told_only_with_one():
    base = load_file(BASE)
    alone = measure(read_adapter(own_file("dora_output")), index_of(base))
    assert alone.untold
    assert all(layer.delta is None for layer in alone.layers if layer.name in alone.untold)
    assert not measure(read_adapter(own_file("dora_output")), index_of(base), of_base(base)).untold


@pytest.mark.parametrize(("family", "parameters"), [
    ("sd1", 859_520_964), ("sd2", 865_910_724), ("sdxl", 2_567_463_684),
])  # fmt: skip
def test_usual_checkpoints_have_the_size_that_they_are_known_for(family, parameters):
    shapes = shapes_of(USUAL[family])
    assert sum(math.prod(shape) for key, shape in shapes.items() if "diffusion_model" in key) == parameters
    assert usual_index(family).family.id == family


def test_the_map_has_every_block_in_its_place():
    placed = {cell.block: (cell.column, cell.row) for cell in cells(["IN01", "OUT11", "M00"])}
    assert placed["IN00"] == (0, 0)
    assert placed["OUT11"] == (2, 0)
    assert placed["M00"] == (1, 12)
    assert len(cells(["IN08", "OUT08"])) == 9 + 9 + 3


def test_the_base_weights_of_a_file_and_of_a_folder(tmp_path):
    from lib_lora.drawing.demo_files import MODEL

    with BaseWeights(MODEL) as base:
        target = base.index.find("lora_unet_mid_block_attentions_0_proj_in")["weight"]
        assert base(target).shape == target.shape
    tensors = load_file(BASE)
    with BaseWeights(BASE) as base:
        found = {target.key: target for targets in base.index.modules.values() for target in targets.values()
                 if target.is_whole and target.new_bias_of is None}  # fmt: skip
        assert found
        assert all(torch.equal(base(target), tensors[key]) for key, target in found.items())
    with pytest.raises(CheckpointError, match=r"no folder of a model"):
        BaseWeights(tmp_path)
    (tmp_path / "x.ckpt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"only .safetensors"):
        BaseWeights(tmp_path / "x.ckpt")


def test_the_command_shows_tells_and_draws(tmp_path, capsys):
    from PIL import Image

    from lib_lora.drawing.demo_files import ADAPTERS, MODEL

    files = [str(ADAPTERS / f"{name}.safetensors") for name in ("outline", "night")]
    assert main(["inspect", *files, "--model", str(MODEL), "--json", "--plot", str(tmp_path / "map.png")]) == 0
    told = json.loads(capsys.readouterr().out)
    outline = told["files"][0]
    squares = [kind["delta"] ** 2 for kinds in outline["blocks"].values() for kind in kinds.values()]
    assert outline["delta"] == pytest.approx(math.sqrt(sum(squares)))
    assert all(kind["base"] > 0 for kinds in outline["blocks"].values() for kind in kinds.values())
    assert told["cosine"][0][0] == pytest.approx(1)
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.width > 400
    assert main(["inspect", *files]) == 0
    lines = capsys.readouterr().out
    assert "outline.safetensors: SD 1.5, LoCon" in lines
    assert "together" in lines


def test_adapters_of_several_base_models_are_refused_together(tmp_path, capsys):
    shapes = {"lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn2_to_k": (640, 2048)}
    tensors = {f"{name}.lora_{side}.weight": torch.randn(size) for name, (o, i) in shapes.items()
               for side, size in (("up", (o, 2)), ("down", (2, i)))}  # fmt: skip
    save_file(tensors, tmp_path / "xl.safetensors")
    assert main(["inspect", str(own_file("lora")), str(tmp_path / "xl.safetensors")]) == 1
    assert "no layers in common" in capsys.readouterr().err


def test_a_map_of_nothing_known_is_drawn_all_the_same():
    assert draw_map(measure(read_adapter(own_file("norm")), None), "norm").height > 0


@pytest.mark.parametrize("name", ["lora", "lokr", "locon_tucker"])
def test_one_file_alone_is_what_several_with_one_among_them_are(name):
    adapter, index = read_adapter(own_file(name)), index_of(load_file(BASE))
    found, expected = alone(measure(adapter, index)), conflicts([(adapter, 1.0)], index)
    assert found.together == pytest.approx(expected.together)
    assert found.cosine() == ((pytest.approx(1),),)
    assert {block: rows[0][0] for block, rows in found.products.items()} == pytest.approx(
        {block: rows[0][0] for block, rows in expected.products.items()})


@pytest.mark.parametrize("has_letters", [True, False])
@pytest.mark.parametrize("name", ["墨 и лён", "broken \udcff name", "two\nlines", ""])
def test_any_name_of_a_file_is_drawn_also_where_the_font_has_latin_letters_only(monkeypatch, name, has_letters):
    """As with Pillow 9.5, which the WebUI has; its font fails at all others."""
    from PIL import ImageFont

    if not has_letters:
        old = ImageFont.load_default_imagefont() if hasattr(ImageFont, "load_default_imagefont") else None
        monkeypatch.setattr(pictures, "_font", lambda size: old or ImageFont.load_default())
    measured = measure(read_adapter(own_file("lora")), index_of(load_file(BASE)))
    assert draw_map(measured, name).size == draw_map(measured, "x").size
    assert draw_conflicts(Conflicts({"": ((1.0,),)}), [name * 9]).height > 0


def test_several_files_are_drawn_each_with_each():
    adapters = [read_adapter(own_file(name)) for name in ("lora", "lokr", "locon_tucker")]
    together = conflicts([(adapter, 1.0) for adapter in adapters], index_of(load_file(BASE)))
    picture = draw_conflicts(together, ["lora", "a\x1b[31m" + "long" * 20, "locon"])
    left = MARGIN + pictures.NAMES + 4
    assert picture.getpixel((left, HEAD + 4)) == STRONG  # a file pulls as itself
    assert picture.getpixel((left + CELL, HEAD + 4)) == picture.getpixel((left, HEAD + CELL + 4)) != STRONG
    against = Conflicts({"": ((1.0, -1.0), (-1.0, 1.0))})
    assert draw_conflicts(against, ["a", "b"]).getpixel((left + CELL, HEAD + 4)) == AGAINST


def test_layers_side_by_side_stand_in_order_and_leave_torch_as_it_was():
    before, patience = torch.get_num_threads(), gc.get_threshold()
    threads = set()

    def work(number):
        threads.add(threading.get_ident())
        return number * 2

    with side_by_side():
        assert torch.get_num_threads() == 1
        assert list(each(work, list(range(50)))) == list(range(0, 100, 2))
        assert list(each(work, list(range(1000)))) == list(range(0, 2000, 2))  # some at a time
        assert list(each(work, [])) == []
        with pytest.raises(ZeroDivisionError):
            list(each(lambda number: 1 / number, [1, 0, 2]))
    assert (torch.get_num_threads(), gc.get_threshold()) == (before, patience)
    assert len(threads) <= 8
