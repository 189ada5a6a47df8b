"""Baking adapters into a checkpoint file: what changes is right to the last digit, what does not keeps every byte."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_lora.errors import CheckpointError, PatchError
from lib_lora.formats.header import read_header
from lib_lora.grammar.tag import LoraTag, read_prompt
from lib_lora.tools.bake import MergeRefused, merge
from tests.support import SHARED, Folder

UNET = "model.diffusion_model."
TO_Q = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
TO_K = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
CONV = f"{UNET}input_blocks.1.0.in_layers.2.weight"
TEXT = "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
KOHYA = {
    TO_Q: "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
    CONV: "lora_unet_down_blocks_0_resnets_0_conv1",
    TEXT: "lora_te_text_model_encoder_layers_0_mlp_fc1",
}


def write_base(path: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Part of an SD1 checkpoint, narrower than any real one, with what no adapter touches and odd numbers of bytes."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        TO_Q: (16, 16),
        TO_K: (16, 768),
        CONV: (16, 16, 3, 3),
        TEXT: (24, 12),
        "first_stage_model.quant_conv.weight": (8, 8),
    }
    tensors = {key: torch.randn(shape, generator=generator).to(dtype) for key, shape in shapes.items()}
    tensors |= {"alphas_cumprod": torch.rand(7, dtype=torch.float64), "model_ema.num_updates": torch.tensor(3),
                "odd": torch.tensor([1, 2, 3], dtype=torch.uint8)}  # fmt: skip
    save_file(tensors, path, metadata={"format": "pt", "modelspec.title": "Grün ✓"})
    return path


def write_lora(path: Path, keys=(TO_Q, CONV, TEXT), *, seed: int = 1, alpha: float = 1.0) -> Path:
    """A kohya LoRA of rank 2 for some weights of `write_base`."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {TO_Q: ((16, 2), (2, 16)), CONV: ((16, 2, 1, 1), (2, 16, 3, 3)), TEXT: ((24, 2), (2, 12))}
    tensors = {}
    for key in keys:
        up, down = shapes[key]
        tensors[f"{KOHYA[key]}.lora_up.weight"] = torch.randn(up, generator=generator)
        tensors[f"{KOHYA[key]}.lora_down.weight"] = torch.randn(down, generator=generator)
        tensors[f"{KOHYA[key]}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path)
    return path


def delta(lora: Path, key: str, alpha: float = 1.0) -> torch.Tensor:
    """alpha / rank * up @ down, in float64."""
    tensors = load_file(lora)
    up, down = (tensors[f"{KOHYA[key]}.lora_{part}.weight"].double().flatten(1) for part in ("up", "down"))
    return alpha / 2 * up @ down


def raw(path: Path) -> dict[str, bytes]:
    """The bytes of each tensor."""
    header = read_header(path)
    content = path.read_bytes()[header.data_start :]
    return {key: content[tensor.begin : tensor.end] for key, tensor in header.tensors.items()}


def run(base: Path, out: Path, prompt: str, **options):
    read = read_prompt(prompt)
    return merge(base, out, read.tags, Folder(base.parent), errors=read.errors, **options)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (torch.float32, 1e-6),
        (torch.float64, 1e-14),
        (torch.float16, 2e-3),
        (torch.bfloat16, 1.6e-2),
        (torch.float8_e4m3fn, 0.13),
    ],
)
def test_merged_weights_are_base_plus_weight_times_delta_in_the_type_of_the_base(tmp_path, dtype, tolerance):
    base = write_base(tmp_path / "base.safetensors", dtype)
    lora = write_lora(tmp_path / "a.safetensors")
    run(base, tmp_path / "out.safetensors", "<lora:a:0.8>")
    before, after = load_file(base), load_file(tmp_path / "out.safetensors")
    for key in KOHYA:
        expected = before[key].double() + 0.8 * delta(lora, key).reshape(before[key].shape)
        assert after[key].dtype == dtype
        assert torch.allclose(after[key].double(), expected, rtol=tolerance, atol=tolerance / 2)


def test_everything_else_keeps_every_byte_header_included(tmp_path):
    base = write_base(tmp_path / "base.safetensors", torch.float16)
    write_lora(tmp_path / "a.safetensors")
    merged = run(base, tmp_path / "out.safetensors", "<lora:a:0.8>")
    before, after = raw(base), raw(tmp_path / "out.safetensors")
    assert {key for key in before if before[key] != after[key]} == set(KOHYA)
    start = read_header(base).data_start
    assert base.read_bytes()[:start] == (tmp_path / "out.safetensors").read_bytes()[:start]
    assert (merged.changed, merged.tensors) == (3, 8)


def test_several_adapters_add_up_and_te_and_unet_have_their_own_weights(tmp_path):
    base = write_base(tmp_path / "base.safetensors")
    a, b = write_lora(tmp_path / "a.safetensors"), write_lora(tmp_path / "b.safetensors", (TO_Q,), seed=2)
    run(base, tmp_path / "out.safetensors", "<lora:a:te=0.5:unet=2> a picture <lora:b:-0.3><lora:b:0.1>")
    before, after = load_file(base), load_file(tmp_path / "out.safetensors")
    assert torch.allclose(after[TO_Q].double(), before[TO_Q] + 2 * delta(a, TO_Q) - 0.2 * delta(b, TO_Q), atol=1e-5)
    assert torch.allclose(after[TEXT].double(), before[TEXT] + 0.5 * delta(a, TEXT), atol=1e-6)


def test_block_weights_are_baked_in(tmp_path):
    base = write_base(tmp_path / "base.safetensors")
    lora = write_lora(tmp_path / "a.safetensors")
    numbers = ["0.5", "2", *["0"] * 15]  # BASE, IN01
    merged = run(base, tmp_path / "out.safetensors", f"<lora:a:0.5:lbw={','.join(numbers)}:lbwe=IN01:to_q:0:in=3>")
    before, after = load_file(base), load_file(tmp_path / "out.safetensors")
    assert torch.allclose(after[TEXT].double(), before[TEXT] + 0.25 * delta(lora, TEXT), atol=1e-6)
    conv = (3 * delta(lora, CONV)).reshape(before[CONV].shape)  # 0.5 x 2 x 3
    assert torch.allclose(after[CONV].double(), before[CONV] + conv, atol=1e-5)
    assert torch.equal(after[TO_Q], before[TO_Q])
    assert (merged.changed, merged.report.sentences()) == (2, [])


ONLY_FOR_PICTURES = {
    "0@0,1@1": "te=0@0,1@1", "1:0@0,1@1": "unet=0@0,1@1", "1:mid=0@0,1@1": "mid=0@0,1@1", "1:start=0.5": "start=0.5",
    "1:step=2-5": "start=2 and stop=5", "1:hr=0.5": "hr=0.5", "1:hrte=off": "hrte=0", "1:refiner=off": "refiner=0",
    "1:on=cond": "on=cond", "1:area=0,0,0.5,1": "area=0,0,0.5,1",
    "1:lbw=R,U,1,1,1,1,1,1,1,1,1,1": "R in lbw= and U in lbw=",
}  # fmt: skip


@pytest.mark.parametrize("arguments", ONLY_FOR_PICTURES)
def test_what_means_nothing_without_a_picture_is_refused_by_name(tmp_path, arguments):
    base = write_base(tmp_path / "base.safetensors")
    write_lora(tmp_path / "a.safetensors")
    with pytest.raises(MergeRefused) as caught:
        run(base, tmp_path / "out.safetensors", f"<lora:a:1><lora:a:{arguments}>")
    assert f"so that {ONLY_FOR_PICTURES[arguments]} cannot be baked in; write one number instead" in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("prompt", ["<lora:a:0>", "", "<lora:a:1><lora:a:-1>", "<lora:a:0.5:on=both><lora:a:-0.5>"])
def test_weight_0_gives_a_copy(tmp_path, prompt):
    base = write_base(tmp_path / "base.safetensors")
    write_lora(tmp_path / "a.safetensors")
    merged = run(base, tmp_path / "out.safetensors", prompt)
    assert (tmp_path / "out.safetensors").read_bytes() == base.read_bytes()
    assert merged.changed == 0


def test_a_merge_and_its_opposite_meet_the_base_again(tmp_path):
    base = write_base(tmp_path / "base.safetensors")
    write_lora(tmp_path / "a.safetensors")
    run(base, tmp_path / "there.safetensors", "<lora:a:1>")
    run(tmp_path / "there.safetensors", tmp_path / "back.safetensors", "<lora:a:-1>")
    before, after = load_file(base), load_file(tmp_path / "back.safetensors")
    assert all(torch.allclose(before[key], after[key], atol=1e-5) for key in KOHYA)


def test_a_partial_checkpoint_takes_what_it_has_room_for(tmp_path):
    """One layer of many, and nothing that tells the family."""
    save_file({CONV: torch.zeros(16, 16, 3, 3)}, tmp_path / "base.safetensors")
    lora = write_lora(tmp_path / "a.safetensors")
    merged = run(tmp_path / "base.safetensors", tmp_path / "out.safetensors", "<lora:a:1>")
    assert torch.allclose(
        load_file(tmp_path / "out.safetensors")[CONV].double().flatten(1), delta(lora, CONV), atol=1e-6
    )
    (sentence,) = merged.report.sentences()
    assert sentence.startswith("a: 2 of 3 layers are not in this model and were left out")


@pytest.mark.parametrize(("prompt", "sentence"), [
    ("<lora:nosuch:1>", "Lora not found: nosuch"),
    ("<lora:a:1><lora:nosuch:1>", "Lora not found: nosuch"),
    ("<lora:a:much>", "'much' is not a weight"),
    ("<lora:xl:1>", "xl: 0 of 1 layers match"),
    ("<lora:cut:1>", "cut.safetensors is not a safetensors file"),
    ("<lora:a:1:lbw=MIDDD>", r"'MIDDD' is no preset of block weights \(did you mean MIDD\?\)"),
])  # fmt: skip
def test_if_any_tag_cannot_be_applied_nothing_is_written(tmp_path, prompt, sentence):
    base = write_base(tmp_path / "base.safetensors")
    write_lora(tmp_path / "a.safetensors")
    save_file(
        {
            "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.ones(4, 1),
            "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(1, 4),
        },
        tmp_path / "xl.safetensors",
    )
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(MergeRefused, match=sentence):
        run(base, tmp_path / "out.safetensors", prompt)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_files_are_not_harmed(tmp_path):
    base = write_base(tmp_path / "base.safetensors")
    write_lora(tmp_path / "a.safetensors")
    content = base.read_bytes()
    (tmp_path / "link.safetensors").symlink_to(base)
    (tmp_path / "there.safetensors").write_text("mine")
    for out, sentence in {
        "base.safetensors": "the base checkpoint itself",
        "link.safetensors": "the base checkpoint itself",
        "there.safetensors": "exists already",
        "no/such/out.safetensors": "no such folder",
        "out.ckpt": r"is a \.safetensors file",
    }.items():
        for overwrite in (False, True) if "itself" in sentence else (False,):
            with pytest.raises(CheckpointError, match=sentence):
                run(base, tmp_path / out, "<lora:a:1>", overwrite=overwrite)
    assert base.read_bytes() == content
    assert (tmp_path / "there.safetensors").read_text() == "mine"
    run(base, tmp_path / "there.safetensors", "<lora:a:1>", overwrite=True)
    assert load_file(tmp_path / "there.safetensors").keys() == load_file(base).keys()


def test_a_base_that_cannot_be_merged_is_refused(tmp_path):
    write_lora(tmp_path / "a.safetensors")
    (tmp_path / "base.ckpt").write_bytes(b"PK")
    (tmp_path / "cut.safetensors").write_bytes(write_base(tmp_path / "whole.safetensors").read_bytes()[:-1])
    save_file({TO_Q: torch.zeros(16, 16, dtype=torch.int8)}, tmp_path / "int8.safetensors")
    for name, sentence in {
        "base.ckpt": "convert it first", "cut.safetensors": "1 bytes are missing", "int8.safetensors": "stored as I8",
        "missing.safetensors": "No such file",
    }.items():  # fmt: skip
        with pytest.raises(CheckpointError, match=sentence):
            run(tmp_path / name, tmp_path / "out.safetensors", "<lora:a:1>")
    assert not (tmp_path / "out.safetensors").exists()


def test_an_interrupt_or_a_weight_that_overflows_leaves_no_file(tmp_path):
    base = write_base(tmp_path / "base.safetensors", torch.float16)
    write_lora(tmp_path / "a.safetensors")
    before = set(tmp_path.iterdir())

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(base, tmp_path / "out.safetensors", "<lora:a:1>", progress=stop)
    with pytest.raises(PatchError, match="does not fit into F16; use smaller weights"):
        run(base, tmp_path / "out.safetensors", "<lora:a:1000000>")
    assert set(tmp_path.iterdir()) == before


def test_a_full_disk_is_noticed_before_the_work(tmp_path, monkeypatch):
    base = write_base(tmp_path / "base.safetensors")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(CheckpointError, match=r"GB are needed, 0\.0 GB are free"):
        run(base, tmp_path / "out.safetensors", "")


def test_progress_goes_from_the_header_to_the_last_byte(tmp_path):
    base = write_base(tmp_path / "base.safetensors")
    write_lora(tmp_path / "a.safetensors")
    seen: list[int] = []
    run(base, tmp_path / "out.safetensors", "<lora:a:1>", progress=lambda done, total: seen.append(done))
    assert seen == sorted(seen)
    assert seen[-1] == base.stat().st_size


MEASURE = """
import resource, sys
from pathlib import Path
from lib_lora.tools.bake import merge
from lib_lora.grammar.tag import read_prompt
from tests.support import Folder
folder = Path(sys.argv[1])
def run(name):
    merge(folder / name, folder / f"out-{name}", read_prompt("<lora:a:1>").tags, Folder(folder))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
small = run("small.safetensors")
print((run("large.safetensors") - small) / 1024)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="measures the peak memory as POSIX has it")
def test_the_model_is_never_in_memory_as_a_whole(tmp_path):
    """200 MB, of which half changes; the peak grows by a few tensors of 8 MB, not by the file."""
    block = "model.diffusion_model.output_blocks.{}.1.transformer_blocks.0.attn1.to_q.weight"
    names = "lora_unet_up_blocks_{}_attentions_{}_transformer_blocks_0_attn1_to_q"
    lora, large = {}, {}
    for number in range(12):
        large[block.format(number)] = torch.zeros(2048, 2048, dtype=torch.float16)
        large[f"first_stage_model.{number}"] = torch.zeros(2048, 2048, dtype=torch.float16)
        module = names.format(number // 3, number % 3)
        lora |= {f"{module}.lora_up.weight": torch.ones(2048, 1), f"{module}.lora_down.weight": torch.ones(1, 2048)}
    save_file(lora, tmp_path / "a.safetensors")
    save_file(large, tmp_path / "large.safetensors")
    save_file({block.format(3): torch.zeros(2048, 2048, dtype=torch.float16)}, tmp_path / "small.safetensors")
    assert (tmp_path / "large.safetensors").stat().st_size > 200e6
    del large
    command = [sys.executable, "-c", MEASURE, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 60  # MiB more than for one tensor
    assert load_file(tmp_path / "out-large.safetensors")[block.format(11)].unique().tolist() == [1.0]


def reference_cases():
    """LoRA, LoCon, LoHa and LoKr as `lycoris-lora` makes them, with its own delta of each: (module, options).

    LoHa at alpha = rank only: `get_diff_weight` multiplies by the scale twice, `forward` once.
    """
    from lycoris.modules.locon import LoConModule
    from lycoris.modules.loha import LohaModule
    from lycoris.modules.lokr import LokrModule

    return [
        (LoConModule, {"lora_dim": 4, "alpha": 2}),
        (LoConModule, {"lora_dim": 4, "alpha": 1, "use_tucker": True}),
        (LohaModule, {"lora_dim": 3, "alpha": 3}),
        (LohaModule, {"lora_dim": 3, "alpha": 3, "use_tucker": True}),
        (LokrModule, {"lora_dim": 2, "alpha": 1, "factor": 4}),
        (LokrModule, {"lora_dim": 10**4, "alpha": 1, "factor": 4}),
    ]


@pytest.mark.parametrize("number", range(6))
def test_merged_weights_equal_those_of_lycoris(tmp_path, number):
    kind, options = reference_cases()[number]
    torch.manual_seed(number)
    base = write_base(tmp_path / "base.safetensors")
    layers = {TO_Q: torch.nn.Linear(16, 16), CONV: torch.nn.Conv2d(16, 16, 3, padding=1)}
    tensors, expected = {}, {}
    for key, layer in layers.items():
        module = kind(KOHYA[key], layer, 1.0, **options)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        tensors |= {
            f"{KOHYA[key]}.{name}": value.detach().clone().contiguous() for name, value in module.state_dict().items()
        }
        expected[key] = module.get_diff_weight(0.7)[0].detach()
    save_file(tensors, tmp_path / "a.safetensors")
    run(base, tmp_path / "out.safetensors", "<lora:a:0.7>")
    before, after = load_file(base), load_file(tmp_path / "out.safetensors")
    for key, difference in expected.items():
        assert difference.abs().max() > 0.01
        assert torch.allclose(after[key] - before[key], difference.reshape(before[key].shape), atol=2e-5)


# the numbers of other people's code, where the folder is beside the repository

GOLDEN = SHARED / "golden" / "dev"


@cache
def golden_cases() -> dict[str, list[dict]]:
    if not GOLDEN.is_dir():
        return {}
    by_file = defaultdict(list)
    for case in json.loads((GOLDEN / "index.json").read_text())["sets"]["dev"]["cases"]:
        by_file[case["file"]].append(case)
    return by_file


@pytest.mark.parametrize("file", sorted(golden_cases()))
def test_merged_weights_equal_the_golden_ones(tmp_path, file):
    cases = golden_cases()[file]
    base = GOLDEN / "base" / f"{cases[0]['family']}.safetensors"
    before = load_file(base)
    expected = load_file(GOLDEN / "expected" / f"{Path(file).stem}.safetensors")
    finder = SimpleNamespace(find=lambda name: SimpleNamespace(path=GOLDEN.parent / file))
    for multiplier in {case["multiplier"] for case in cases}:
        tag = LoraTag("x", multiplier, multiplier, dyn=4 if "truncated to rank 4" in cases[0]["variant"] else None)
        merge(base, tmp_path / "out.safetensors", [tag], finder, overwrite=True)
        after = load_file(tmp_path / "out.safetensors")
        for case in cases:
            if case["multiplier"] == multiplier:
                difference = after[key_of(case)].double() - before[key_of(case)].double()
                if "slice" in case:
                    difference = difference.narrow(
                        case["slice"]["dim"], case["slice"]["start"], case["slice"]["length"]
                    )
                wanted = expected[case["expected"]].double() * case["expected_scale"]
                assert torch.allclose(difference, wanted, rtol=case["rtol"], atol=case["atol"] + 2e-6), case["expected"]


def key_of(case: dict) -> str:
    key = case["base_weight"]
    if case["quantity"] != "delta_bias" or key.endswith("bias"):
        return key
    return key.replace("in_proj_weight", "in_proj_bias") if "in_proj" in key else f"{key.removesuffix('weight')}bias"
