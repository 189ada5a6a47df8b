"""Where a new file goes: everything about its name that would fail after minutes of work fails before."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from lib_lora.errors import LoraError
from lib_lora.formats.opening import strange
from lib_lora.session.session import Report

SUFFIX = ".safetensors"


def check_out(
    out: Path, what: str, inputs: Mapping[str, Path], *, overwrite: bool, error: type[LoraError] = LoraError
) -> None:
    """Raises `error` if `what` cannot be written to `out`. `inputs`: what it is made from, by what it is called."""
    if out.suffix.lower() != SUFFIX:
        raise error(f"{out.name}: {what} is a {SUFFIX} file; name it so")
    if not out.parent.is_dir():
        raise error(f"{out.parent}: no such folder")
    require_others(out, inputs, error=error)
    if os.path.lexists(out):
        kind = strange(out.stat().st_mode) if out.exists() else ""
        if kind:
            raise error(f"{out.name}: exists already, and is {kind}; nothing was written")
        if not overwrite:
            raise error(f"{out.name}: exists already; nothing was written")


def require_others(out: Path, inputs: Mapping[str, Path], *, error: type[LoraError] = LoraError) -> None:
    """Raises `error` if `out` is one of `inputs`: with leave to overwrite, too, none of them is written over."""
    for called, path in inputs.items():
        if out.exists() and path.exists() and out.samefile(path):
            raise error(f"{out.name}: that is {called} itself; write to another file")


def adapters_of(report: Report) -> dict[str, Path]:
    """The files that a report is about, by what they are called."""
    return {f"the adapter {each.name}": Path(each.path) for each in report.adapters if each.path is not None}
