"""Files as chance or somebody who means harm would leave them: damaged(seed) -> (name, bytes), the same for a seed."""

# ruff: noqa: E501  (tables, and pickles by hand)

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from typing import Any

Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
METADATA = ("ss_tag_frequency", "ss_dataset_dirs", "ss_datasets", "ot_config", "ssmd_cover_images", "ss_network_args",
            "lora_adapter_metadata", "modelspec.title", "modelspec.date", "modelspec.trigger_phrase", "ss_steps",
            "modelspec.thumbnail", "ss_num_train_images", "ss_training_started_at", "ss_output_name", "ss_resolution",
            "ss_network_module", "sshs_model_hash", "modelspec.architecture", "ss_base_model_version", "other",
            "ss_network_dim", "ss_sd_model_name", "ss_keep_tokens", "ot_branch")  # fmt: skip
PARTS = ("lora_up.weight", "lora_down.weight", "lora_mid.weight", "alpha", "dora_scale", "hada_w1_a", "hada_w1_b",
         "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a",
         "lokr_w2_b", "lokr_t2", "diff", "diff_b", "w_norm", "b_norm", "a1.weight", "a2.weight", "b1.weight",
         "b2.weight", "oft_blocks", "oft_diag", "rescale", "oft_R.weight", "q_layer.weight", "p_layer.weight",
         "lambda_layer", "on_input", "weight", "scalar", "bias_indices", "bias_values", "bias_size", "lora_A.weight",
         "lora_B.weight", "lora_magnitude_vector", "reshape_weight", "set_weight", "zeta")  # fmt: skip
SIZES = (0, 1, 2, 3, 4, 8, 16, 320, 768, 2**31, 2**32 + 1, 2**47, 2**48 + 1, 2**62, 2**63, 2**64, 10**30, -1)
WORDS = ("NaN", "Infinity", "-Infinity", "1e999", "9" * 30, "9" * 5000, "-0", "1.5", "true", "null", '"\\ud800"',
         '"\\udfff x"', '"é"', '""', "[]", "{}", '"\\u0000"', "[" * 200 + "]" * 200, '{"a":' * 300 + "1" + "}" * 300,
         "[" * 3000, '"x' + "y" * 500 + '"', "0", "-5", "1e308", '"1_a"', '{"1_a": {"tag": 3, "\\ud800": 2}}',
         '{"unet.r": 4, "unet.alpha_pattern": {"(a|a)*b": 2, ".*.*.*": 1}}', '{"1_a": {"img_count": 9}}')  # fmt: skip
CODES = bytes(range(0x80, 0x99)) + b"(.)}{]l[dtuesabcRbQqrhjNKMJGXUTCBIFLSVio012PgpQ\x8c\x8a"


def damaged(seed: int) -> tuple[str, bytes]:
    """A file's name and content."""
    chance = random.Random(seed)
    content = chance.choice(MAKERS)(chance)
    for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 5))):
        content = chance.choice(WOUNDS)(chance, content)
    return f"file{chance.choice(('.safetensors', '.safetensors', '.pt', '.ckpt', '.lora.bin'))}", content


# whole files


WIDTHS = {"F16": 16, "F32": 32, "BF16": 16, "F64": 64, "F8_E4M3": 8, "I8": 8, "BOOL": 8, "C64": 64, "F4": 4, "Z": 16}
ALGORITHMS = (  # parts and shapes that belong together
    {"lora_up.weight": (8, 2), "lora_down.weight": (2, 8), "alpha": ()},
    {"lora_B.weight": (8, 2), "lora_A.weight": (2, 8)},
    {"lora_up.weight": (8, 2, 1, 1), "lora_down.weight": (2, 4, 1, 1), "lora_mid.weight": (2, 2, 3, 3)},
    {"hada_w1_a": (8, 2), "hada_w1_b": (2, 8), "hada_w2_a": (8, 2), "hada_w2_b": (2, 8), "alpha": ()},
    {"lokr_w1": (2, 2), "lokr_w2_a": (4, 2), "lokr_w2_b": (2, 4), "alpha": (1,)},
    {"diff": (8, 8), "diff_b": (8,)}, {"w_norm": (8,), "b_norm": (8,)}, {"weight": (8,), "on_input": ()},
    {"a1.weight": (8, 2), "a2.weight": (2, 8), "b1.weight": (8, 2), "b2.weight": (2, 8)},
    {"oft_blocks": (2, 4, 4), "rescale": (8, 1), "alpha": ()}, {"oft_blocks": (3, 2, 4, 4)}, {"oft_diag": (2, 4, 4)},
    {"oft_R.weight": (2, 6)}, {"q_layer.weight": (2, 8), "p_layer.weight": (8, 2), "lambda_layer": (1, 2)},
)  # fmt: skip


def _odd_header(chance: random.Random) -> bytes:
    """Entries with odd numbers, written by hand: JSON that a library would not write."""
    oddness = chance.choice((0, 0, 0.02, 0.2))
    entries, end = [], 0
    shapes: dict[str, tuple[int, ...]] = {}
    for number in range(chance.randint(0, 6)):
        module = f"{chance.choice((Q, 'unet.a.b', 'oft_unet_x', 'base_model.model.x'))}{number}"
        shapes |= {f"{module}.{part}": shape for part, shape in chance.choice(ALGORITHMS).items()}
        if chance.random() < oddness:
            shapes[f"{module}.{chance.choice(PARTS)}"] = tuple(chance.choice(SIZES[:6]) for _ in range(chance.randint(0, 5)))
    for name, shape in shapes.items():
        if chance.random() < oddness:
            shape = tuple(chance.choice(SIZES) if chance.random() < 0.5 else size for size in (*shape, 0)[: chance.choice((-1, 9))])
        if chance.random() < oddness:
            name = chance.choice(("bundle_emb.x.clip_l", "\\ud800", "", "emb_params", "a" * 5000, "__metadata__", f"{Q}.zeta"))
        dtype = chance.choice(tuple(WIDTHS) if chance.random() < oddness else ("F16", "F32", "BF16", "F64"))
        size = WIDTHS[dtype]
        for each in shape:
            size *= each
        begin, end = end, end + (size // 8 if 0 <= size < 10**7 else chance.choice((0, 2, 8)))
        odd = f',"odd":{chance.choice(WORDS)}' if chance.random() < oddness else ""
        entries.append(f'"{name}":{{"dtype":"{dtype}","shape":{json.dumps(shape)},"data_offsets":[{begin},{end}]{odd}}}')
    if chance.random() < 0.8:
        entries.insert(chance.choice((0, 0, len(entries))), f'"__metadata__":{_metadata(chance)}')
    header = ("{" + ",".join(entries) + "}").encode()
    data = bytes(end) if chance.random() < 0.2 else b"\x11\x22\x33\x3f" * (end // 4) + bytes(end % 4)
    return len(header).to_bytes(8, "little") + header + data


def _metadata(chance: random.Random) -> str:
    pairs = []
    for key in chance.sample(METADATA, chance.randint(0, 6)):
        word = chance.choice(WORDS)
        kind = chance.random()
        if kind < 0.6:  # JSON inside a text, as trainers write it
            word = json.dumps(word if kind < 0.3 else '{"x": ' + word + ', "1_a": {"t": 2}}')
        pairs.append(f"{json.dumps(key)}:{word}")
    return "{" + ",".join(pairs) + "}" if chance.random() < 0.95 else chance.choice(WORDS)


@cache
def _saved(kind: str) -> bytes:
    """What torch itself writes."""
    import torch

    tensors = {f"{Q}.lora_up.weight": torch.ones(8, 2), f"{Q}.lora_down.weight": torch.ones(2, 8).half(),
               f"{Q}.alpha": torch.tensor(2.0), "p": torch.nn.Parameter(torch.ones(3))}  # fmt: skip
    buffer = io.BytesIO()
    whole: Any = {"state_dict": tensors, "epoch": 3, "lr": 0.5, "betas": (0.9, 0.99)} if "wrapped" in kind else tensors
    torch.save(whole, buffer, _use_new_zipfile_serialization="old" not in kind)
    return buffer.getvalue()


def _torch_file(chance: random.Random) -> bytes:
    return _saved(chance.choice(("new", "new wrapped", "old", "old wrapped")))


def _archive(chance: random.Random) -> bytes:
    """A well-formed archive with an odd pickle in it."""
    with zipfile.ZipFile(io.BytesIO(_saved("new"))) as file:
        listing = file.read(next(name for name in file.namelist() if name.endswith("data.pkl")))
    pickled = chance.choice((_program, lambda _: listing, lambda _: listing[:-1] + _program(chance)))(chance)
    for _ in range(chance.choice((0, 1, 3))):
        pickled = chance.choice(WOUNDS)(chance, pickled)
    buffer = io.BytesIO()
    method = chance.choice((zipfile.ZIP_STORED,) * 6 + (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(buffer, "w", method) as file:
        def write(name: str, content: bytes) -> None:  # under a date of its own: the clock's would be another each time
            file.writestr(zipfile.ZipInfo(name), content, method)

        write("archive/data.pkl", pickled)
        for number in range(4):
            write(f"archive/data/{number}", bytes(chance.choice((0, 4, 64, 100))))
        if chance.random() < 0.1:
            write("archive/constants.pkl", b"")
    return buffer.getvalue()


def _program(chance: random.Random) -> bytes:
    """Instructions at random, some of them with what they need."""
    long = pickle.dumps(10 ** chance.choice((5, 30, 400)), 2)[2:-1]
    snippets = (b"}", b"]", b")", b"(", b"N", b"K\x02", long, b"X\x01\0\0\0a", b"X\x05\0\0\0items", b"2", b"0", b"\x86",
                b"q\0", b"h\0", b"t", b"s", b"u", b"b", b"R", b"Q", b"e", b"a", b"\x81", b"\x96" + struct.pack("<Q", 64),
                b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n",
                b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ",
                b"ctorch._utils\n_rebuild_tensor_v2\n(h\0K\0K\x02K\x02\x86K\x02K\x01\x86\x89NtR",
                b"cbuiltins\neval\n", b"ctorch.nn.modules.container\nParameterDict\n)\x81", b"2\x86" * 30, b"(" * 40)  # fmt: skip
    return b"\x80\x02" + b"".join(chance.choice(snippets) for _ in range(chance.randint(1, 40))) + b"."


def _something_else(chance: random.Random) -> bytes:
    starts = (b"", b"<!DOCTYPE html><html>", b'{"error":"Unauthorized"}', b"version https://git-lfs.github.com/spec/v1\n",
              b"PK\x03\x04", b"PK\x05\x06", b"\x80\x02", b"Rar!\x1a\x07", b"\x89PNG\r\n", b"\0" * 100, b"\xff" * 100,
              b'{"error":' + b"[" * 3000, "für alle".encode(), b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")  # fmt: skip
    return chance.choice(starts) + chance.randbytes(chance.choice((0, 0, 10, 1000)))


MAKERS: tuple[Callable[[random.Random], bytes], ...] = (
    _odd_header, _odd_header, _odd_header, _torch_file, _archive, _archive, _something_else,
)  # fmt: skip


# what happens to them


def _place(chance: random.Random, content: bytes) -> int:
    return chance.randrange(len(content) + 1) if chance.random() < 0.6 else min(len(content), chance.randrange(200))


def _flip(chance: random.Random, content: bytes) -> bytes:
    at = _place(chance, content)
    return content[:at] + chance.randbytes(1) + content[at + 1 :]


def _cut(chance: random.Random, content: bytes) -> bytes:
    return content[: _place(chance, content)]


def _insert(chance: random.Random, content: bytes) -> bytes:
    at = _place(chance, content)
    what = chance.choice((chance.randbytes(4), b"\xff" * 8, bytes(8), bytes([chance.choice(CODES)]) * chance.randint(1, 9),
                          b"(" * 100, b"[" * 100, b'"', b"\\ud800", chance.choice(WORDS).encode()))  # fmt: skip
    return content[:at] + what + content[at + chance.choice((0, len(what))) :]


def _repeat(chance: random.Random, content: bytes) -> bytes:
    at, length = _place(chance, content), chance.randint(1, 200)
    return content[:at] + content[at : at + length] * chance.choice((2, 3, 300)) + content[at + length :]


def _remove(chance: random.Random, content: bytes) -> bytes:
    at = _place(chance, content)
    return content[:at] + content[at + chance.randint(1, 30) :]


WOUNDS: tuple[Callable[[random.Random, bytes], bytes], ...] = (_flip, _flip, _cut, _insert, _insert, _repeat, _remove)
