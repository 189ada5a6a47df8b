"""all_stays(): work whose objects all stay is not looked through for garbage meanwhile, again and again.

That is a fifth of the time of a loop that makes tens of thousands of them, and a tenth of the time of importing torch.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def all_stays() -> Iterator[None]:
    """Python's search for garbage waits; afterwards it is as it was."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
