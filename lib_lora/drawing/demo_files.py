"""Where the demo model and its adapters lie: what is drawn with when nobody names another. No torch."""

from __future__ import annotations

from pathlib import Path

MODEL, ADAPTERS = (Path(__file__).parents[1] / "demo" / name for name in ("model", "adapters"))
