"""Whether we are at home in the program that has loaded our script; only then the room behind is opened.

Forge, Forge Neo and reForge are descendants of the WebUI with another engine: they keep weights, encodings and
adapters in ways of their own. What of us would load there would do harm, so nothing does. Their folders tell them
apart, not their version's name. The browser's scripts look for an option of ours before they do anything.
"""

from __future__ import annotations

import sys
from pathlib import Path

HOME = "AUTOMATIC1111's stable-diffusion-webui"
FOREIGN = ("modules_forge", "ldm_patched", "backend/patcher")  # below the program's folder: parts of the other engine
_told: set[str] = set()


def enter() -> None:
    """Called each time scripts are loaded."""
    reason = stranger(_root())
    if reason is None:
        try:
            from lib_lora.webui.register import register
        except ImportError as error:
            if (error.name or "").partition(".")[0] != "modules":
                raise
            reason = f"it lacks '{error.name}'"
        else:
            register()
            return
    _say(f"lib_lora: this is not {HOME} ({reason}) and is not supported yet, so the extension does nothing here; "
         "the program's own LoRA tags work as before")  # fmt: skip


def stranger(root: Path) -> str | None:
    """What in the program's folder says that it is another one; None if nothing does."""
    return next((f"it has '{part}'" for part in FOREIGN if (root / part).is_dir()), None)


def _root() -> Path:
    """The folder with the program's package `modules`."""
    import modules

    return Path(next(iter(modules.__path__))).resolve().parent


def _say(sentence: str) -> None:
    """Once, also when the page is loaded again."""
    if sentence not in _told:
        _told.add(sentence)
        print(sentence, file=sys.stderr)
