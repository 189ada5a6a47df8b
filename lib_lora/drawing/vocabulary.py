"""CLIP's vocabulary, which single-file checkpoints need and do not carry: the tokenizer's files, without a download."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

MERGES = Path(__file__).with_name("clip") / "merges.txt.gz"
SIZE = 49408  # tokens: 256 bytes, the same at a word's end, 48894 merges, start and end of text
START, END = "<|startoftext|>", "<|endoftext|>"
VISIBLE = (
    range(ord("!"), ord("~") + 1),
    range(0xA1, 0xAC + 1),
    range(0xAE, 0xFF + 1),
)  # bytes that stand for themselves


def write_tokenizer(folder: Path, *, padding: str = END) -> None:
    """The files of a `transformers.CLIPTokenizer`. `padding`: SD2 and the second encoder of SDXL pad with "!"."""
    merges, numbers = _files()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "merges.txt").write_bytes(merges)
    (folder / "vocab.json").write_bytes(numbers)
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": padding}
    config = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


@cache
def _files() -> tuple[bytes, bytes]:
    """The merges and the vocabulary as files have them, made once: SDXL wants them twice for each checkpoint."""
    merges = gzip.decompress(MERGES.read_bytes())
    return merges, json.dumps(vocabulary(merges.decode("utf-8")), ensure_ascii=False).encode("utf-8")


def vocabulary(merges: str) -> dict[str, int]:
    """Token -> number, in the order in which CLIP numbers them."""
    letters = byte_letters()
    pairs = [line.replace(" ", "") for line in merges.splitlines()[1:] if line]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *pairs, START, END]
    return {token: number for number, token in enumerate(tokens)}


def byte_letters() -> list[str]:
    """One visible letter for each byte: those that have one first, then the others from U+0100 on."""
    seen = [chr(byte) for numbers in VISIBLE for byte in numbers]
    return seen + [chr(0x100 + number) for number in range(256 - len(seen))]
