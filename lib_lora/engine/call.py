"""Call: what the next call of the UNet holds, as its host has told. It lies on the UNet, for all who add to it."""

from __future__ import annotations

from dataclasses import dataclass

from lib_lora.grammar.who import Row

Size = tuple[int, int]  # height, width


@dataclass
class Call:
    """Changed in place before each call."""

    rows: tuple[Row, ...] = ()  # in order; none: not told
    size: Size | None = None  # of the latent that is denoised, in its own pixels; None: not told
