"""Whether the extension's files are still those that run.

After a `git pull` under a running WebUI the browser would get the new scripts, and talk to the old program. The page
asks here when it is opened; where something has changed its scripts stay away and say so. Modules that are imported
only when they are needed are imported at the start, so that no new one joins the old.
"""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("lib_lora/**/*.py", "scripts/*.py", "javascript/*.js", "style.css")
LATE = ("lib_lora.library.workers", "lib_lora.browser.thumbnail", "lib_lora.browser.writing")
_at_start: list[str] = []  # what `fingerprint` said when this Python came in for the first time


def begin() -> None:
    """Called each time the extension is registered; "Reload UI" leaves the modules as they were."""
    for name in LATE:
        importlib.import_module(name)
    if not _at_start:
        _at_start.append(fingerprint(ROOT))


def is_outdated() -> bool:
    """Whether the files on disk are others than at the start: the WebUI has to be started anew."""
    return _at_start != [fingerprint(ROOT)]


def fingerprint(root: Path) -> str:
    """Of the content of all files that run here or in the browser; an empty text while they are being written."""
    digest = hashlib.sha256()
    try:
        for path in sorted({path for part in PARTS for path in root.glob(part)}):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()} {len(content)} ".encode())
            digest.update(content)
    except OSError:
        return ""
    return digest.hexdigest()
