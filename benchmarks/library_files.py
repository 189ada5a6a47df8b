"""A library of adapters as it lies on users' disks, to be listed and never applied.

Headers are real ones: a trainer's metadata with its tag counts, and the listing of every tensor of a kohya LoRA for SD1
or SDXL. The tensors are holes in the files, which have their usual sizes and take no room. Torch is not needed.
"""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

RANKS = (4, 8, 16, 32, 64, 128)
DTYPES = ("F16", "F32")
BYTES = {"F16": 2, "F32": 4}
KINDS = ("sd1", "sd1 unet", "sdxl", "sdxl unet")  # with and without text encoders
METADATA = (16_000, 60_000)  # bytes
FOLDERS = 40
SAME_DAY = 1_700_000_000  # seconds since 1970; no two files are of one time
FIRST = "ink pastel neon marble velvet copper lunar misty amber crystal paper clay woven gilded frozen solar".split()
SECOND = "castle portrait dragon garden harbor robot forest lantern armor kimono skyline orchid tiger temple".split()
THINGS = "eye hair dress sky hat shirt background light skirt glove window flower tree cloud sword ribbon".split()
QUALITIES = "long short blue red green white black open closed large small striped glowing wet soft holding".split()


@dataclass(frozen=True)
class Written:
    """What was written, for a comparison with what is found."""

    folder: Path
    files: int
    families: dict[str, int]  # {family: files}
    with_notes: int
    with_preview: int
    header_bytes: int


def write_library(folder: Path, count: int, *, metadata_bytes: tuple[int, int] = METADATA, seed: int = 0) -> Written:
    """`count` files in FOLDERS folders; every fifth with notes, every fifth as Civitai's helpers leave it, half with a
    preview. The same arguments give the same library."""
    chance, pictures = random.Random(seed), _pictures(folder)
    layouts = list(product(KINDS, RANKS, DTYPES))
    families, header_bytes, with_notes, with_preview = {"sd1": 0, "sdxl": 0}, 0, 0, 0
    for number in range(count):
        kind, rank, dtype = layouts[chance.randrange(len(layouts))]
        name = f"{chance.choice(FIRST)} {chance.choice(SECOND)} {number:05}"
        path = folder / f"folder {number % FOLDERS:02}" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = _metadata(name, kind, rank, chance.randint(*metadata_bytes), chance)
        header_bytes += _write(path, json.dumps(metadata), *listing(kind, rank, dtype))
        os.utime(path, (SAME_DAY + number, SAME_DAY + number))
        families[kind.split()[0]] += 1
        if number % 5 == 0:
            with_notes += 1
            path.with_suffix(".json").write_text(json.dumps(_notes(name, number)))
        if number % 5 == 1:
            path.with_suffix(".civitai.info").write_text(json.dumps(_civitai(name, kind, number)))
        if number % 2 == 0:
            with_preview += 1
            os.link(pictures[number // 2 % len(pictures)], path.with_suffix(".png"))
    return Written(folder, count, families, with_notes, with_preview, header_bytes)


@cache
def listing(kind: str, rank: int, dtype: str) -> tuple[str, int]:
    """The tensors as they stand in a header (without braces), and how many bytes of them there are."""
    entries, place = {}, 0
    for name, (outputs, inputs) in layers(kind).items():
        parts = {"alpha": [], "lora_down.weight": [rank, inputs], "lora_up.weight": [outputs, rank]}
        for part, shape in parts.items():
            size = BYTES[dtype] * (shape[0] * shape[1] if shape else 1)
            entries[f"{name}.{part}"] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + size]}
            place += size
    return json.dumps(entries, separators=(",", ":"))[1:-1], place


def layers(kind: str) -> dict[str, tuple[int, int]]:
    """The layers that kohya's trainer takes by default: {its name: (out, in)}; 264 for SD1, 986 for SDXL."""
    family, _, only_unet = kind.partition(" ")
    found = dict(_sd1() if family == "sd1" else _sdxl())
    encoders = {"sd1": (("lora_te", 768, 12),), "sdxl": (("lora_te1", 768, 12), ("lora_te2", 1280, 32))}[family]
    for prefix, width, depth in () if only_unet else encoders:
        found |= _encoder(prefix, width, depth)
    return found


def _sd1() -> Iterator[tuple[str, tuple[int, int]]]:
    places = [(f"down_blocks_{block}_attentions_{n}", width) for block, width in enumerate((320, 640, 1280))
              for n in range(2)]
    places += [("mid_block_attentions_0", 1280)]
    places += [(f"up_blocks_{block}_attentions_{n}", width) for block, width in zip((1, 2, 3), (1280, 640, 320),
                                                                                     strict=True) for n in range(3)]
    for place, width in places:
        yield from _transformer(f"lora_unet_{place}", width, 768, 1)


def _sdxl() -> Iterator[tuple[str, tuple[int, int]]]:
    depths = {"input_blocks_4_1": 2, "input_blocks_5_1": 2, "input_blocks_7_1": 10, "input_blocks_8_1": 10,
              "middle_block_1": 10, "output_blocks_0_1": 10, "output_blocks_1_1": 10, "output_blocks_2_1": 10,
              "output_blocks_3_1": 2, "output_blocks_4_1": 2, "output_blocks_5_1": 2}  # fmt: skip
    for place, depth in depths.items():
        yield from _transformer(f"lora_unet_{place}", 1280 if depth == 10 else 640, 2048, depth)


def _transformer(place: str, width: int, context: int, depth: int) -> Iterator[tuple[str, tuple[int, int]]]:
    yield f"{place}_proj_in", (width, width)
    for number in range(depth):
        block = f"{place}_transformer_blocks_{number}"
        for attention, inputs in (("attn1", width), ("attn2", context)):
            yield f"{block}_{attention}_to_q", (width, width)
            yield f"{block}_{attention}_to_k", (width, inputs)
            yield f"{block}_{attention}_to_v", (width, inputs)
            yield f"{block}_{attention}_to_out_0", (width, width)
        yield f"{block}_ff_net_0_proj", (8 * width, width)
        yield f"{block}_ff_net_2", (width, 4 * width)
    yield f"{place}_proj_out", (width, width)


def _encoder(prefix: str, width: int, depth: int) -> dict[str, tuple[int, int]]:
    shapes = {"mlp_fc1": (4 * width, width), "mlp_fc2": (width, 4 * width)}
    shapes |= {f"self_attn_{part}_proj": (width, width) for part in ("k", "out", "q", "v")}
    return {f"{prefix}_text_model_encoder_layers_{number}_{part}": shape
            for number in range(depth) for part, shape in shapes.items()}


def _write(path: Path, metadata: str, tensors: str, data: int) -> int:
    header = f'{{"__metadata__":{metadata},{tensors}}}'.encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + data)
    return 8 + len(header)


@cache
def _tags() -> list[str]:
    """What pictures are tagged with."""
    return [f"{quality} {thing} {number}" for number in range(12) for quality in QUALITIES for thing in THINGS]


def _metadata(name: str, kind: str, rank: int, size: int, chance: random.Random) -> dict[str, str]:
    """`size` bytes of what kohya's trainer writes; most of it are tag counts."""
    images, is_sdxl = chance.randint(20, 200), kind.startswith("sdxl")
    first, tags = chance.randrange(len(_tags())), _tags()
    said = {
        "ss_output_name": name.replace(" ", "_"),
        "ss_sd_model_name": "sd_xl_base_1.0.safetensors" if is_sdxl else "v1-5-pruned.safetensors",
        "ss_base_model_version": "sdxl_base_v1-0" if is_sdxl else "sd_v1",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(rank / 2),
        "ss_steps": str(chance.randint(500, 9000)),
        "ss_resolution": "(1024, 1024)" if is_sdxl else "(512, 512)",
        "ss_unet_lr": "0.0001",
        "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit",
        "ss_num_train_images": str(images * 10),
        "ss_dataset_dirs": json.dumps({f"10_{name}": {"n_repeats": 10, "img_count": images}}),
        "sshs_model_hash": f"{chance.getrandbits(256):064x}",
        "modelspec.title": name.title(),
        "modelspec.date": "2024-05-31T12:00:00",
    }
    room = size - len(json.dumps(said)) - 50
    counts = {f"trigger{name[-5:]}": images}
    while room > 0:
        tag = tags[(first + len(counts)) % len(tags)]
        count = counts[f"{tag} {len(counts) // len(tags)}".removesuffix(" 0")] = chance.randint(1, images)
        room -= len(tag) + len(str(count)) + 8
    return {**said, "ss_tag_frequency": json.dumps({f"10_{name}": counts})}


def _notes(name: str, number: int) -> dict[str, object]:
    words = f"trigger{name[-5:]}, best"
    return {"description": f"About {name}.", "sd version": "Unknown", "activation text": words, "preferred weight": 0.7,
            "negative text": "", "notes": f"Note {number}: works with 0.6 to 0.9."}  # fmt: skip


def _civitai(name: str, kind: str, number: int) -> dict[str, object]:
    words = [f"trigger{name[-5:]}", f"{name.split()[0]} style"]
    return {"id": number, "modelId": number, "name": "v1.0", "baseModel": "Pony" if kind[2] == "x" else "SD 1.5",
            "trainedWords": words, "description": f"<p>{'All about it. ' * 40}</p>",
            "model": {"name": name.title(), "type": "LORA", "nsfw": False}}  # fmt: skip


def _pictures(folder: Path) -> list[Path]:
    """A few previews, which all files share as hard links."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(8):
        gradient = Image.linear_gradient("L").rotate(45 * number).resize((512, 768))
        picture, file = Image.merge("RGB", (gradient, gradient.rotate(180), gradient.transpose(0))), io.BytesIO()
        picture.save(file, "PNG")
        path = folder / f".picture-{number}.png"
        path.write_bytes(file.getvalue())
        made.append(path)
    return made
