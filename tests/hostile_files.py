"""Adapter files and sidecars as somebody who means harm would write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TENSORS = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": [2, 768],
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight": [32, 2],
}
SECRET = "root:x:0:0:the-secret-outside"
IMAGE = "<img src=x onerror=window.pwned=1>"  # can stand in a file name
MARKUP = (
    "\"'><script>window.pwned=1</script><svg onload=window.pwned=1><a href=javascript:window.pwned=1>x</a>"
    "<img src=http://evil.test/x.png onerror=window.pwned=1>"
    "</textarea></style>{{7*7}}${window.pwned=1} ' onmouseover=window.pwned=1 x='"
)
ADDRESS = "javascript:window.pwned=1//http://evil.test/"


def hostile_metadata() -> dict[str, str]:
    """Every key that is shown anywhere, with markup in it."""
    keys = """modelspec.title modelspec.author modelspec.license modelspec.description modelspec.prediction_type
        modelspec.date ss_training_comment ss_optimizer ss_sd_model_name ss_output_name ss_learning_rate ss_steps
        ss_epoch""".split()
    counts = {"10_" + MARKUP: {MARKUP: 5, ADDRESS: 4, IMAGE: 3, "\u202eevil\u0000": 2}}
    return {
        **dict.fromkeys(keys, MARKUP),
        "ss_tag_frequency": json.dumps(counts),
        MARKUP: MARKUP,
        "modelspec.thumbnail": ADDRESS,
        "ssmd_cover_images": json.dumps([MARKUP, ADDRESS]),
    }


def write_hostile_files(folder: Path) -> None:
    """Beside `folder` there must be `secrets/passwd`, which holds SECRET."""
    header_file(folder / "plain.safetensors", {"modelspec.title": "Plain"})
    header_file(folder / "markup.safetensors", hostile_metadata())
    _notes(folder / "markup.json", MARKUP)
    (folder / "markup.civitai.info").write_text(json.dumps(_civitai(MARKUP)))
    (folder / IMAGE).mkdir()
    header_file(folder / IMAGE / f"{IMAGE}.safetensors", {"modelspec.license": ADDRESS})
    header_file(folder / "quote' onmouseover=window.pwned=1 \" x.safetensors", {"ss_output_name": ADDRESS})
    header_file(folder / "bidi \u202egnp.fdp.safetensors", {"modelspec.title": "\u202e\u2066\u200f" * 50})
    _write_pictures(folder)
    _write_lying_headers(folder)
    _write_odd_metadata(folder)
    _write_odd_sidecars(folder)


def header_file(path: Path, metadata: Any, *, tensors: dict[str, Any] | None = None) -> Path:
    """A small file that is in order, unless `tensors` say otherwise."""
    entries, place = {}, 0
    for name, shape in TENSORS.items():
        size = 4 * shape[0] * shape[1]
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    header = json.dumps({"__metadata__": metadata, **entries, **(tensors or {})})
    return raw_file(path, header.encode("utf-8", "surrogatepass"), data=place)


def raw_file(path: Path, header: bytes, *, length: int | None = None, data: int = 0) -> Path:
    size = len(header) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + header + bytes(data))
    return path


def _write_pictures(folder: Path) -> None:
    contents = {
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='window.pwned=1'/>",
        "html": b"<!doctype html><script>window.pwned=1</script>",
        "script": b"window.pwned=1",
        "polyglot": b"GIF89a/*<script>window.pwned=1</script>*/=1",
    }
    for name, content in contents.items():
        header_file(folder / f"{name}.safetensors", {})
        (folder / f"{name}.png").write_bytes(content)
    header_file(folder / "link to a secret.safetensors", {})
    (folder / "link to a secret.preview.png").symlink_to(folder.parent / "secrets" / "passwd")


def _write_lying_headers(folder: Path) -> None:
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    raw_file(folder / "length 2^63.safetensors", b"{}", length=2**63)
    raw_file(folder / "length 2^64-1.safetensors", b"{}", length=2**64 - 1)
    raw_file(folder / "deep.safetensors", b'{"a":' * 100_000)
    raw_file(folder / "no object.safetensors", b"[1, 2, 3]")
    raw_file(folder / "metadata twice.safetensors", b'{"__metadata__":{"a":"b"},"__metadata__":{"a":"c"}}')
    raw_file(folder / "not text.safetensors", b"{\xff\xfe\xfd}")
    (folder / "empty.safetensors").write_bytes(b"")
    lies = {
        "offsets 2^63": {"x": {**tensor, "data_offsets": [2**63, 2**63 + 8]}},
        "shape 2^63": {"x": {**tensor, "shape": [2**63, 2**63]}},
        "negative": {"x": {**tensor, "data_offsets": [-8, 0]}},
        "overlapping": {"x": tensor, "y": tensor},
    }
    for name, tensors in lies.items():
        header_file(folder / f"{name}.safetensors", {}, tensors=tensors)


def _write_odd_metadata(folder: Path) -> None:
    deep, number = "[" * 50_000, "9" * 4300
    header_file(
        folder / "deep metadata.safetensors",
        dict.fromkeys(("ss_tag_frequency", "ss_dataset_dirs", "ss_datasets", "ot_config", "ssmd_cover_images"), deep),
    )
    twice = header_file(folder / "duplicate keys.safetensors", {"modelspec.title": "a"}).read_bytes()[8:]
    header, data = twice.split(b"]}}")
    header = (
        header.replace(b'"a"', b'"a", "modelspec.title": "<b>"', 1) + b"]}, " + header.partition(b"}, ")[2] + b"]}}"
    )
    raw_file(folder / "duplicate keys.safetensors", header, data=len(data))
    header_file(
        folder / "wrong types.safetensors",
        {
            "modelspec.title": 5,
            "ss_tag_frequency": {"a": [1]},
            "ss_dataset_dirs": json.dumps({"a": {"img_count": "x"}, "b": 1}),
            "ss_datasets": json.dumps([1, {"subsets": {"a": 1}}, {"subsets": [None, {"image_dir": []}]}]),
            "ss_output_name": None,
        },
    )
    header_file(
        folder / "huge numbers.safetensors",
        {
            "ss_tag_frequency": f'{{"1_a": {{"x": {number}, "y": -1}}, "1_b": {{"x": {number}}}}}',
            "ss_dataset_dirs": f'{{"1_a": {{"img_count": {number}}}, "1_b": {{"img_count": {number}}}}}',
            "ss_num_train_images": number,
            "ss_training_finished_at": "1e308",
            "ss_steps": number,
        },
    )
    header_file(
        folder / "long.safetensors",
        dict.fromkeys(
            (
                "modelspec.title",
                "ss_output_name",
                "modelspec.trigger_phrase",
                "modelspec.description",
                "modelspec.license",
            ),
            "x" * 2_000_000,
        ),
    )
    header_file(
        folder / "surrogates.safetensors",
        {
            "modelspec.title": "\ud800",
            "ss_output_name": "\udfff",
            "\ud800": "\udc00",
            "ss_tag_frequency": '{"a": {"\\ud800": 3}}',
        },
    )
    tags = {str(number): 1 for number in range(100_000)}
    header_file(folder / "many tags.safetensors", {"ss_tag_frequency": json.dumps({"1_a": tags})})


def _write_odd_sidecars(folder: Path) -> None:
    endings = (".json", ".civitai.info", ".metadata.json")
    contents = {
        "list sidecars": b"[]",
        "deep sidecars": b"[" * 200_000,
        "huge sidecars": b" " * (9 * 1024 * 1024),
        "binary sidecars": bytes(range(256)) * 10,
        "numbers sidecars": json.dumps(
            {
                "preferred weight": 10**400,
                "notes": 5,
                "description": [],
                "activation text": {"a": 1},
                "sd version": None,
                "model": 3,
                "trainedWords": {"a": 1},
                "files": [1, None],
                "usage_tips": "[" * 5000,
                "tags": [None, 5, []],
                "civitai": [],
                "favorite": "yes",
            }
        ).encode(),
    }
    for name, content in contents.items():
        header_file(folder / f"{name}.safetensors", {})
        for ending in endings:
            (folder / f"{name}{ending}").write_bytes(content)
    for name in ("folder sidecars", "linked sidecars"):
        header_file(folder / f"{name}.safetensors", {})
        for ending in endings:
            beside = folder / f"{name}{ending}"
            beside.mkdir() if name == "folder sidecars" else beside.symlink_to(folder.parent / "secrets" / "passwd")


def _notes(path: Path, text: str) -> None:
    names = ("description", "activation text", "negative text", "notes", "sd version", text)
    path.write_text(json.dumps({**dict.fromkeys(names, text), "preferred weight": 0.7}))


def _civitai(text: str) -> dict[str, Any]:
    return {
        "baseModel": text,
        "trainedWords": [text, ADDRESS, IMAGE],
        "description": text,
        "model": {"name": text, "tags": [text]},
        "images": [{"url": ADDRESS}],
    }
