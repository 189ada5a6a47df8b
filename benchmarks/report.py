"""A table in Markdown whose columns also stand straight in a terminal, and bars beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path


class Table:
    """`str()` of it is Markdown."""

    def __init__(self, head: Sequence[str]) -> None:
        self._rows = [list(head)]

    def add(self, *cells: str) -> None:
        self._rows.append(list(cells))

    def __str__(self) -> str:
        columns = list(zip_longest(*self._rows, fillvalue=""))
        widths = [max(map(len, column)) for column in columns]
        head, *rows = zip(*columns, strict=True)
        lines = [head, ["-" * width for width in widths], *rows]
        return "\n".join(
            f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
        )


def plot_bars(groups: Mapping[str, Sequence[float]], names: Sequence[str], title: str, path: Path) -> None:
    """For each group one bar of each name, with its value. Needs the extra `bench`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    height = 0.8 / len(names)
    figure, axes = plt.subplots(figsize=(9, 0.3 * len(names) * len(groups) + 1.2))
    for place, (name, color) in enumerate(zip(names, ("#b5b5b5", "#4f7cac", "#2f9e77"), strict=False)):
        rows = [row + place * height for row in range(len(groups))]
        bars = axes.barh(rows, [values[place] for values in groups.values()], height, label=name, color=color)
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set_yticks([row + height * (len(names) - 1) / 2 for row in range(len(groups))], list(groups))
    axes.invert_yaxis()
    axes.set_title(title, fontsize=9)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=130)
