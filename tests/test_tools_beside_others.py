"""What kohya's scripts and LyCORIS make of the same files: ours do the same, and come nearer at equal rank.

LyCORIS' own functions run here. kohya's are written down once more as what they compute: the singular values of the
whole matrix in float32, left vectors times values beside right vectors, in `svd_merge_lora` and
`extract_lora_from_models` cut to the 99th of a hundred of both, stored in float16.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_lora.adapters.adapter import read_adapter
from lib_lora.analysis.measure import measure
from lib_lora.grammar.tag import read_prompt
from lib_lora.model.usual import usual_index
from lib_lora.tools.extract import extract
from lib_lora.tools.factors import Limit
from lib_lora.tools.keep import save
from lib_lora.tools.resize import resize

BLOCK = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0"
SHAPES = {  # layers of SD1
    f"{BLOCK}_attn1_to_q": (320, 320), f"{BLOCK}_attn2_to_k": (320, 768), f"{BLOCK}_ff_net_2": (320, 1280),
    "lora_unet_down_blocks_0_attentions_0_proj_in": (320, 320, 1, 1),
    "lora_unet_down_blocks_0_resnets_0_conv1": (320, 320, 3, 3),
}  # fmt: skip
HELD, KEPT = 12, 5  # ranks of the adapters, and of what is made of them
CLAMPED = 0.99


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """a, b: adapters whose ranks grow weaker; base, tuned: checkpoints of these layers."""
    folder, generator = tmp_path_factory.mktemp("others"), torch.Generator().manual_seed(5)

    def noise(*shape):
        return torch.randn(shape, generator=generator)

    for name in "ab":
        tensors = {}
        for layer, (outputs, *inputs) in SHAPES.items():
            strength = 0.5 ** torch.arange(HELD)
            tensors[f"{layer}.lora_down.weight"] = (noise(HELD, *inputs) * 0.05).half()
            up = noise(outputs, HELD) * 0.05 * strength
            tensors[f"{layer}.lora_up.weight"] = up.half().reshape(outputs, HELD, *[1] * (len(inputs) - 1))
            tensors[f"{layer}.alpha"] = torch.tensor(HELD / 2).half()
        save_file(tensors, folder / f"{name}.safetensors")
    index, base, tuned = usual_index("sd1"), {}, {}
    for layer, shape in SHAPES.items():
        key = index.modules[layer]["weight"].key
        base[key] = noise(*shape) * 0.05
        learned = (noise(shape[0], 40) * 0.8 ** torch.arange(40)) @ noise(40, math.prod(shape[1:])) * 0.003
        tuned[key] = base[key] + learned.reshape(shape) + noise(*shape) * 1e-4
    save_file(base, folder / "base.safetensors")
    save_file(tuned, folder / "tuned.safetensors")
    return folder


def deltas(file):
    """{layer: what it adds, float64 (o, i*kh*kw)}, from the tensors alone."""
    tensors = load_file(file)
    found = {}
    for layer in SHAPES:
        up, down = (tensors[f"{layer}.lora_{side}.weight"].double().flatten(1) for side in ("up", "down"))
        found[layer] = up @ down * (float(tensors[f"{layer}.alpha"]) / len(down))
    return found


def difference(folder):
    base, tuned = load_file(folder / "base.safetensors"), load_file(folder / "tuned.safetensors")
    keys = {layer: usual_index("sd1").modules[layer]["weight"].key for layer in SHAPES}
    return {layer: (tuned[key].double() - base[key].double()).flatten(1) for layer, key in keys.items()}


def of_kohya(matrix, rank, *, is_clamped):
    """(up, down) of float16, and the singular values."""
    left, values, right = torch.linalg.svd(matrix.float(), full_matrices=False)
    up, down = left[:, :rank] * values[:rank], right[:rank]
    if is_clamped:
        most = torch.quantile(torch.cat([up.flatten(), down.flatten()]), CLAMPED)
        up, down = up.clamp(-most, most), down.clamp(-most, most)
    return up.half().double(), down.half().double(), values


def error(made, meant):
    missed = sum(float((made[layer] - meant[layer]).square().sum()) for layer in meant)
    return (missed / sum(float(each.square().sum()) for each in meant.values())) ** 0.5


def error_of_kohya(meant, *, is_clamped):
    made = {}
    for layer, matrix in meant.items():
        up, down, _ = of_kohya(matrix, KEPT, is_clamped=is_clamped)
        made[layer] = up @ down
    return error(made, meant)


def test_resized_it_is_as_near_as_what_kohyas_script_makes(folder, tmp_path):
    meant = deltas(folder / "a.safetensors")
    resized = resize(folder / "a.safetensors", tmp_path / "out.safetensors", Limit(rank=KEPT))
    ours = error(deltas(tmp_path / "out.safetensors"), meant)
    theirs = error_of_kohya(meant, is_clamped=False)
    assert 0.001 < ours <= theirs * (1 + 1e-6)
    assert ours == pytest.approx(theirs, rel=1e-4)  # both have cut all that a rank of this size can hold
    assert resized.built.error == pytest.approx(ours, rel=1e-6)


def test_two_saved_as_one_come_nearer_than_what_kohyas_script_makes(folder, tmp_path):
    finder = SimpleNamespace(find=lambda name: SimpleNamespace(path=folder / f"{name}.safetensors"))
    tags = read_prompt("<lora:a:0.7><lora:b:-0.3>").tags
    saved = save(tmp_path / "out.safetensors", tags, finder, limit=Limit(rank=KEPT), dtype=torch.float16)
    a, b = deltas(folder / "a.safetensors"), deltas(folder / "b.safetensors")
    meant = {layer: 0.7 * a[layer] - 0.3 * b[layer] for layer in SHAPES}
    ours = error(deltas(tmp_path / "out.safetensors"), meant)
    assert ours <= error_of_kohya(meant, is_clamped=False) * (1 + 1e-6)
    assert ours < error_of_kohya(meant, is_clamped=True) * 0.9  # what it cuts off is missing
    assert saved.built.error == pytest.approx(ours, rel=1e-6)


def test_extracted_it_is_as_near_as_lycoris_and_nearer_than_kohyas_script(folder, tmp_path):
    from lycoris.utils import extract_conv, extract_linear

    meant = difference(folder)
    extracted = extract(folder / "base.safetensors", folder / "tuned.safetensors", tmp_path / "out.safetensors",
                        Limit(rank=KEPT))  # fmt: skip
    ours = error(deltas(tmp_path / "out.safetensors"), meant)
    theirs = {}
    for layer, shape in SHAPES.items():
        weight = meant[layer].float().reshape(shape)
        cut = extract_linear if len(shape) == 2 else extract_conv
        (down, up, _), _ = cut(weight, "fixed", KEPT)
        theirs[layer] = up.half().double().flatten(1) @ down.half().double().flatten(1)
    assert ours <= error(theirs, meant) * (1 + 1e-6)
    assert ours == pytest.approx(error(theirs, meant), rel=1e-3)
    assert ours < error_of_kohya(meant, is_clamped=True) * 0.99
    assert extracted.built.error == pytest.approx(ours, rel=1e-6)


def test_the_energy_of_a_layer_is_what_kohyas_script_prints(folder):
    """Its "fro retained" is the root of ours, "sum(S) retained" and "max(S) ratio" are of the same singular values."""
    measured = measure(read_adapter(folder / "a.safetensors"), usual_index("sd1"))
    meant = deltas(folder / "a.safetensors")
    assert {layer.name for layer in measured.layers} == set(SHAPES)
    for layer in measured.layers:
        *_, values = of_kohya(meant[layer.name], KEPT, is_clamped=False)
        squares = values.double().square()
        retained = [float((squares[:rank].sum() / squares.sum()).sqrt()) for rank in range(1, HELD + 1)]
        assert [energy**0.5 for energy in layer.spectrum.energy] == pytest.approx(retained, abs=1e-5)
        assert layer.delta == pytest.approx(float(squares.sum().sqrt()), rel=1e-5)


@pytest.mark.parametrize("retained", [0.7, 0.9, 0.99])
def test_for_the_same_share_fewer_ranks_are_enough_and_it_is_kept(folder, tmp_path, retained):
    """kohya's `sv_fro` keeps one more than it needs; both speak of the root of the energy."""
    meant = deltas(folder / "a.safetensors")
    made = resize(folder / "a.safetensors", tmp_path / "out.safetensors", Limit(energy=retained**2))
    ranks = []
    for matrix in meant.values():
        values = torch.linalg.svdvals(matrix)
        shares = (values.square().cumsum(0) / values.square().sum()).sqrt()
        ranks.append(int((shares < retained).sum()) + 1)
    assert sorted(made.built.ranks) == sorted(ranks)
    for layer, matrix in deltas(tmp_path / "out.safetensors").items():
        assert float(matrix.norm() / meant[layer].norm()) >= retained - 1e-4
