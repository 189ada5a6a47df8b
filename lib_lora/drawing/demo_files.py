"""Where the model lies that is drawn with, and the adapters: those of the demo when nobody names others. No torch."""

from __future__ import annotations

from pathlib import Path

from lib_lora.errors import CheckpointError

MODEL, ADAPTERS = (Path(__file__).parents[1] / "demo" / name for name in ("model", "adapters"))


def model_at(path: str | Path | None) -> Path:
    """A file or a folder, of whatever kind; None: the demo model. Raises CheckpointError if nothing is there."""
    place = MODEL if path is None else Path(path).expanduser()
    if not place.is_dir() and not place.is_file():
        missing = "the demo model is missing; clone the repository again" if path is None else "no such file or folder"
        raise CheckpointError(f"{place}: {missing}")
    return place
