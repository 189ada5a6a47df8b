"""A byte-level CLIP tokenizer of our own: every caption word is one token, other text falls back to pieces or bytes."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77
FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")


def byte_letters() -> list[str]:
    """One printable letter for each byte 0..255, in the order of GPT-2's and CLIP's vocabularies."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(hidden))]


def learn_merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent pair first, until each of `words` is one token. Ties go to the alphabet."""
    pieces = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while any(len(word) > 1 for word in pieces):
        pairs = Counter(pair for word in pieces for pair in pairwise(word))
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append((left, right))
        for word in pieces:
            for i in range(len(word) - 2, -1, -1):
                if word[i : i + 2] == [left, right]:
                    word[i : i + 2] = [left + right]
    return merges


def write_tokenizer(folder: Path, words: list[str]) -> int:
    """Write the four files that transformers 4 and 5 both read; returns the size of the vocabulary."""
    letters = byte_letters()
    merges = learn_merges(words)
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges), START, END]
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": LENGTH,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
        "clean_up_tokenization_spaces": True,
    }
    special = {name: config[name] for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", "utf-8")
    return len(tokens)


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
