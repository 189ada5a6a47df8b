"""How much memory a process has for itself, and memory that can be had at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

TOUCH = "import sys; b'x' * int(sys.argv[1])"


def private_bytes(pid: int | str = "self") -> int:
    """Memory of a process that is not a file's; 0 where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def warm(size: int) -> None:
    """Have the system hold `size` bytes ready, or three quarters of what is free.

    A virtual machine's host takes back memory that is not used, and fetching it again takes several times as long as
    anything that is measured here. Called before whatever asks for fresh memory, so that nobody pays for that.
    """
    size = min(size, psutil.virtual_memory().available * 3 // 4)
    subprocess.run([sys.executable, "-c", TOUCH, str(size)], check=True)
