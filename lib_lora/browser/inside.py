"""What an adapter changes, block by block, for pages: measured once, kept in the index by its tensors."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from lib_lora.errors import AdapterFileError, first_line
from lib_lora.keys.blocks import block_of
from lib_lora.library import Entry, Library
from lib_lora.library.gently import Gently

if TYPE_CHECKING:
    from lib_lora.model.targets import TargetIndex


def inside(library: Library, entry: Entry, loaded: TargetIndex | None = None) -> dict[str, Any]:
    """Figures at weight 1, by the blocks of the usual checkpoint of that family. Raises AdapterFileError.

    `loaded`: of the loaded model; if that is one for this adapter and has other blocks, they are by its blocks.
    """
    from lib_lora.model.usual import usual_index  # torch: not before somebody asks

    _ = entry.hashes  # by which they are known
    index, layout = usual_index(entry.family.id), ""
    if loaded is not None and entry.family.fits(loaded.family) is not False and _blocks(loaded) != _blocks(index):
        index, layout = loaded, f"{loaded.family.id} {zlib.crc32(_blocks(loaded).encode()):08x}"
    known = library.measured(entry, layout)
    if known is None:
        try:
            known = _measured(entry, index)
        except RuntimeError as error:  # of torch: numbers that nobody has thought of
            raise AdapterFileError(f"{entry.name} cannot be measured: {first_line(error)}") from error
        library.keep_measured(entry, known, known["delta"], layout)
    return known


def measurer(library: Library) -> Gently:
    """Measures what is missing, once it is started."""
    return Gently(library, "measures", lambda entry: not entry.broken and library.change(entry) is None,
                  lambda entry: inside(library, entry))  # fmt: skip


def _blocks(index: TargetIndex | None) -> str:
    """Of its UNet; models of one family have the same, but for small ones."""
    return " ".join(sorted({block_of(path, "unet") for _, path, _ in index.names} if index else ()))


def _measured(entry: Entry, index: TargetIndex | None) -> dict[str, Any]:
    from lib_lora.adapters.adapter import read_adapter
    from lib_lora.analysis.measure import measure
    from lib_lora.analysis.picture import cells

    found = measure(read_adapter(entry.path), index)
    blocks = found.blocks()
    return {
        "delta": found.delta,
        "blocks": [
            {"block": cell.label, "column": cell.column, "row": cell.row,
             "kinds": {kind: delta for kind, (delta, _) in blocks.get(cell.block, {}).items()}}
            for cell in cells(list(blocks))
        ],
        "layers": len(found.layers),
        "energy": found.energy(),
        "effective_rank": found.effective_rank,
        "untold": len(found.untold),
        "notes": found.oddities(),
    }  # fmt: skip
