"""Options that several commands have, and the kinds of values that stand behind them."""

from __future__ import annotations

import argparse
import re
from pathlib import Path


def add_lora_dir(parser: argparse.ArgumentParser) -> None:
    """`--lora-dir`"""
    parser.add_argument(
        "--lora-dir",
        type=Path,
        action="append",
        metavar="DIR",
        help="folder of adapters; may be repeated (default: those of the demo model)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`"""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_model(parser: argparse.ArgumentParser) -> None:
    """`--model`"""
    parser.add_argument(
        "--model",
        type=Path,
        metavar="PATH",
        help="SD1, SD2 or SDXL checkpoint, or diffusers folder (default: the demo model)",
    )


def add_tokenizer(parser: argparse.ArgumentParser) -> None:
    """`--tokenizer`"""
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="DIR",
        help="folder with merges.txt and vocab.json, for a checkpoint with a vocabulary of its own",
    )


def add_presets(parser: argparse.ArgumentParser) -> None:
    """`--presets`, of the commands that read tags"""
    parser.add_argument("--presets", type=Path, metavar="FILE",
                        help="names of block weights: lines NAME:v,v,..., or the WebUI's config.json")  # fmt: skip


def size(text: str) -> tuple[int, int]:
    """512x768"""
    match = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size; write 512x768")
    return int(match[1]), int(match[2])


def positive(text: str) -> int:
    """1, 2, ..."""
    if not re.fullmatch(r"\d{1,6}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 up")
    return int(text)


def png(text: str) -> Path:
    """The name of a PNG."""
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"'{text}' is not the name of a .png file")
    return path
