"""What an adapter changes, for the panel: block by block. Reading the tensors takes a moment, so it is asked for."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from lib_lora.library import Entry

KEPT = 64  # files whose figures stay in memory


def inside(entry: Entry) -> dict[str, Any]:
    """Figures at weight 1, by the layout of the usual checkpoint of that family. Raises AdapterFileError."""
    stat = entry.path.stat()
    return _inside(entry.path, entry.family.id, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=KEPT)
def _inside(path: Path, family: str, size: int, changed: int) -> dict[str, Any]:
    from lib_lora.adapters.adapter import read_adapter  # torch: not before somebody asks
    from lib_lora.analysis.measure import measure
    from lib_lora.analysis.picture import cells
    from lib_lora.model.usual import usual_index

    found = measure(read_adapter(path), usual_index(family))
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
