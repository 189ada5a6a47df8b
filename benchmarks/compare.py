"""How a comparison scales on this machine: the same grid of the demo model, drawn by more and more processes.

    python -m benchmarks.compare --cells 1000 --workers 1 2

Also what it costs beside the drawing: the same grid with a runner that only paints.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path

from PIL import Image

from lib_lora.compare.grid import Grid, Settings, make_grid
from lib_lora.compare.report import write_report
from lib_lora.compare.run import compare
from lib_lora.compare.runner import Drawn, Ground, Runner, Task
from lib_lora.compare.runners.processes import Loading, start
from lib_lora.compare.sheet import write_sheet
from lib_lora.compare.subject import Needed
from lib_lora.drawing.demo_files import ADAPTERS
from lib_lora.library import Library

SIZE = (128, 128)


class Painter:
    """Costs nothing."""

    name = "painter"

    def open(self) -> Ground:
        return Ground("painter", "none", "none", 1, 1.0, SIZE, "none")

    def lacks(self, needed: list[Needed]) -> dict[str, str]:
        return {}

    def draw(self, task: Task) -> Drawn:
        file = io.BytesIO()
        Image.new("RGB", task.size, (task.seed % 256, 80, 80)).save(file, "PNG")
        return Drawn(file.getvalue())

    def close(self) -> None:
        pass


def grid_of(cells: int, steps: int) -> Grid:
    """Two adapters at five weights; as many seeds as give `cells` different pictures."""
    return make_grid(Library([ADAPTERS]), adapters=["outline", "night"], weights=[0.4, 0.6, 0.8, 1, 1.2],
                     prompts=["a red heart"], seeds=range(max(cells // 10, 1)),
                     settings=Settings(steps=steps, size=SIZE))  # fmt: skip


def measure(what: str, grid: Grid, runners: list[Runner]) -> None:
    """One line: the time from the first cell on, models loaded."""
    for runner in runners:
        runner.open()
    with tempfile.TemporaryDirectory() as folder:
        begun, own = time.perf_counter(), time.process_time()
        done = compare(grid, Path(folder), runners)
        took, own = time.perf_counter() - begun, time.process_time() - own
        assert all(result.file for result in done.results), done.problems
        count = len(done.results)
        print(f"{what:12} {count} cells  {took:8.1f} s  {count / took:7.2f} cells/s  {1000 * own / count:6.1f} ms of "
              "this process a cell", flush=True)  # fmt: skip
        if what == "painter":
            for name, write in {"sheet.png": write_sheet, "report.html": write_report}.items():
                begun = time.perf_counter()
                write(done, Path(folder, name))
                print(f"{name:12} {time.perf_counter() - begun:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    options = parser.parse_args()
    grid = grid_of(options.cells, options.steps)
    measure("painter", grid, [Painter()])
    for count in options.workers:
        measure(f"{count} workers", grid, list(start(Loading(None, (str(ADAPTERS),)), count)))


if __name__ == "__main__":
    main()
