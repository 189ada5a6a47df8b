"""`python -m tests.make_formats_table`: write docs/formats.md from what the golden files give now."""

# ruff: noqa: E501  (a table)

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file

from lib_lora.adapters.adapter import read_adapter
from lib_lora.algorithms.refused import REFUSED
from lib_lora.describe import foreign
from lib_lora.engine.active import Active
from lib_lora.engine.schedule import plan
from lib_lora.grammar.tag import LoraTag
from lib_lora.keys import SPELLINGS, ModuleName
from lib_lora.keys.names import SDXL_2
from tests.support_golden import (
    GIVEN,
    OWN,
    base_key,
    by_plan,
    folded,
    given_base,
    given_cases,
    index_of,
    own_file,
    tag_of,
)
from tests.support_reference import LYCORIS, PEFT

PAGE = Path(__file__).parents[1] / "docs" / "formats.md"
START = """# Adapter files that are read

Written by `python -m tests.make_formats_table`; a test compares it with what the code does.

Where programs differ, the answer is that of the library which trained the file. Every delta is linear in the multiplier:
at 0 nothing changes, at 0.5 half as much as at 1, for DoRA, OFT and BOFT too.

| what | how |
| --- | --- |
| stored alpha 0 | alpha = rank, as the loaders of kohya and LyCORIS; it is told |
| no alpha stored | from `lora_adapter_metadata` in the header, or `adapter_config.json` beside the file, patterns and rs-LoRA included; else alpha = rank |
| rs-LoRA of LyCORIS | alpha / rank; files of 2024-04-05 to 2024-07-09, and GLoRA of any date: alpha / √rank |
| LoKr with both factors whole | alpha does not count (of PEFT's files it does) |
| DoRA | the axis is that of the stored magnitude; PEFT's is always the outputs' |
| several adapters | in prompt order; what depends on the weight (DoRA, OFT, IA3, GLoRA, T-LoRA) sees what those before it left |
| dyn | the first ranks of LoRA, with the scale of the full rank |
| OFT v2 on convolutions | OneTrainer's files turn the other way than PEFT's; told by metadata, `scaled_oft`, or kohya's spelling |
| T-LoRA | started from singular vectors that the file leaves out: taken from the weight at hand, exact on the checkpoint that it was trained on; it is told |
| PiSSA, OLoRA, MiLoRA (PEFT's `init_lora_weights`) | training took a part out of the base first: computed from the weight at hand as for T-LoRA, and told; files that PEFT converted are plain LoRA |
| CorDA, LoRA-GA, LoftQ, PiSSA by random iterations | what they took out depended on more than the weight: refused |
| `oft_diag` | a rotation R, or R - I of the days before LyCORIS 2.0.0: whichever has mutually orthogonal rows |
| all values zero | it changes nothing, which is told, by `info` too |
| values or scales that are no finite numbers, or absurdly large | the module is refused |
| a module that brings parts that are not understood (a trained bias, PEFT's newer tuners) | refused: never half of it |
| a module spelt dotted and flat in one file | is one module, as diffusers' converter leaves the magnitudes of DoRA |
| PEFT's folder of one text encoder | which one it is for, its width tells |
| AnimateDiff's motion LoRAs | applied while the model has the motion modules, else named |
| a bias that the model does not have | is made while the adapter is active and unmade after; a checkpoint file has no place for it, which is told |
| one module named twice | the first spelling counts |
| packed q, k, v | any subset of them; a packed adapter on a model that keeps them apart is cut by rows, and the other way round |
| fp8 | is read; integers (quantised factors) are refused |
"""


def own_rows() -> Iterator[tuple[str, ...]]:
    base = load_file(OWN / "base.safetensors")
    for name in (*LYCORIS, *PEFT):
        stem = name.replace(" ", "_")
        expected = load_file(OWN / f"{stem}.expected.safetensors")
        after = by_plan(base, own_file(stem), LoraTag("x"))
        error = max(float((after[key] - tensor).abs().max()) for key, tensor in expected.items())
        options = (LYCORIS.get(name) or PEFT[name])[1]
        shown = ", ".join(f"{key}={value}" for key, value in options.items())
        algorithms = ", ".join(read_adapter(own_file(stem)).algorithms)
        maker = "lycoris-lora" if name in LYCORIS else "peft"
        yield algorithms, maker, (LYCORIS.get(name) or PEFT[name])[0].rpartition(".")[2], shown, power(error)


def given_rows() -> Iterator[tuple[str, ...]]:
    right: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for file, cases in given_cases().items():
        base, adapter = given_base(cases[0]["family"]), read_adapter(GIVEN.parent / file)
        expected = load_file(GIVEN / "expected" / f"{Path(file).stem}.safetensors")
        for multiplier in {case["multiplier"] for case in cases}:
            after = folded(base, plan([Active(tag_of(cases[0], multiplier), adapter)], index_of(base)))
            for case in (case for case in cases if case["multiplier"] == multiplier):
                count = right[case["algorithm"], case["naming"]]
                count[0] += is_right(case, after, base, expected)
                count[1] += 1
    yield from ((algorithm, naming, f"{good} of {all_}") for (algorithm, naming), (good, all_) in sorted(right.items()))


def is_right(case, after, base, expected) -> bool:
    found = after[base_key(case)].double() - base[base_key(case)].double()
    if cut := case.get("slice"):
        found = found.narrow(cut["dim"], cut["start"], cut["length"])
    wanted = expected[case["expected"]].double() * case["expected_scale"]
    return bool(((found - wanted).abs() <= case["atol"] + case["rtol"] * wanted.abs() + 2e-6).all())


def spelling_rows() -> Iterator[tuple[str, ...]]:
    path = "transformer_blocks.0.attn1.to_q"
    unet = ModuleName(f"down_blocks.0.attentions.0.{path}", f"input_blocks.1.1.{path}")
    layer = ModuleName("text_model.encoder.layers.0.mlp.fc1", "transformer.resblocks.0.mlp.c_fc", SDXL_2)
    for spell in SPELLINGS:
        tool = f"{spell.__module__.rpartition('.')[2]}{' (OFT)' if spell.__name__ == 'spell_oft' else ''}"
        for module in (unet, layer):
            yield from ((tool, f"`{name}`") for name in dict.fromkeys(spell(module)))


def refused_rows() -> Iterator[tuple[str, ...]]:
    yield from ((", ".join(f"`{part}`" for part in row.parts), row.why) for row in REFUSED)


def foreign_rows() -> Iterator[tuple[str, ...]]:
    for pattern, what in (*foreign.ALWAYS, *foreign.OTHERWISE):
        yield f"`{pattern}`".replace("|", "\\|"), what


def power(error: float) -> str:
    """ "≤ 1e-5": the next power of ten."""
    return "0" if error == 0 else f"≤ 1e{max(math.ceil(math.log10(error)), -5)}"


def table(title: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [" | ".join(row) for row in (head, tuple("---" for _ in head), *rows)]
    return f"\n## {title}\n\n" + "".join(f"| {line} |\n" for line in lines)


def own_part() -> str:
    """What does not need the golden folder beside the repository."""
    return "".join([
        START,
        table("Algorithms, against the libraries that train them", ("algorithm", "library", "its class", "options", "largest difference"), own_rows()),
        table("Spellings of one UNet layer and one text encoder layer", ("written by", "module"), spelling_rows()),
        table("Modules that are refused, each alone", ("parts", "why"), refused_rows()),
        table("Files that are refused, by what they are", ("tensors named", "what the file is"), foreign_rows()),
    ])  # fmt: skip


def given_part() -> str:
    """Algorithm x spelling x result over the golden folder."""
    return table(
        "Golden cases of other people's code that come out right", ("algorithm", "spelling", "right"), given_rows()
    )


def main() -> None:
    torch.set_num_threads(1)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(own_part() + given_part(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
