"""The library at 10,000 adapters: scan, start, memory, search, and how the listing paints and scrolls in a browser.

    python -m benchmarks.library [--quick] [--files 10000] [--json OUT] [--plot OUT.png] [--folder KEEP]
                                 [--webui-root PATH --webui-python PATH [--webui-files 2000]]

The files are generated: headers of real size, tensors that take no room (10,000 files: 2.8 GB). Every process is a
fresh one. `--quick` takes 1,000 files, within 60 s on two cores. With a WebUI v1.10.1 its built-in Lora extension and
ours are measured on the same files in the same run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks import library_browser as browser
from benchmarks import library_process as process
from benchmarks import library_webui as webui
from benchmarks.library_files import Written, write_library
from benchmarks.report import Table

SEARCHES = ("i", "in", "ink", "ink castle", "trigger00777", "red hair 3", "folder 07", "sdxl lunar", "pony", "nowhere")
ROUTE = "/lora/v1/adapters"
STARTS = 5  # or as many as there are repetitions
PACE = 1_500  # pixels a second, somebody who looks at cards
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    what: str
    unit: str
    goal: str = ""  # "<= 1"

    def met(self, value: float) -> bool | None:
        if not self.goal:
            return None
        sign, number = self.goal.split()
        return value <= float(number) if sign == "<=" else value >= float(number)


FIGURES = {
    "cold": Figure("cold scan, files no longer in the page cache", "files/s", ">= 1000"),
    "cold_floor": Figure("reading those headers and nothing else, one after the other", "files/s"),
    "warm_cache": Figure("cold scan, files in the page cache", "files/s", ">= 1000"),
    "per_cpu": Figure("the same, for each second that a core was busy with it", "files"),
    "scan_vs_floor": Figure("the same, time / reading the headers and nothing else", "times"),
    "start": Figure("warm start: from the imports to the first page of the listing", "s", "<= 1"),
    "start_process": Figure("the same with Python's start and all imports", "s"),
    "scan_memory": Figure("memory that a cold scan adds", "MB", "<= 150"),
    "memory": Figure("memory that the library adds, searched and listed", "MB", "<= 150"),
    "rescan": Figure("scan again, nothing changed", "s"),
    "first_page": Figure("first page of 100 cards", "ms"),
    "last_page": Figure("last page", "ms"),
    "all_ids": Figure("ids of all that fit (select all)", "ms"),
    "facets": Figure("two facets chosen, counts of all", "ms"),
    "detail": Figure("all about one adapter", "ms"),
    "search_p50": Figure("search as you type, median", "ms"),
    "search_p95": Figure("search as you type, 95 of 100", "ms"),
    "paint": Figure("browser: from navigation to 20 cards drawn", "s"),
    "pictures": Figure("browser: to their pictures", "s"),
    "slow_frame": Figure("browser: frame while scrolling 1,500 pixels a second, median", "ms"),
    "slow_long_frames": Figure("browser: of 100 such frames, longer than 50 ms", "frames"),
    "slow_ghosts": Figure("browser: of 100 such frames, with a card that had not come yet", "frames"),
    "frame": Figure("browser: frame while flying over all adapters, median", "ms"),
    "long_frames": Figure("browser: of 100 such frames, longer than 50 ms", "frames"),
    "ghosts": Figure("browser: of 100 such frames, with a card that had not come yet", "frames"),
}


def measure(written: Written, database: Path, *, repeat: int, seconds: float) -> dict[str, float]:
    """All figures. `seconds`: for the way from the first card to the last."""
    found = scans(written, database) | starts(written, database, min(STARTS, repeat))
    found |= server(written, database, repeat=repeat, seconds=seconds)
    assert found.pop("listed") == written.files, "the listing does not have all files"
    return found


def scans(written: Written, database: Path) -> dict[str, float]:
    folder, found = written.folder, {}
    floor = min(process.run("floor", folder, database)["seconds"] for _ in range(2))
    told = process.run("scan", folder, database)
    assert (told["added"], told["broken"]) == (written.files, 0), told
    found |= {"warm_cache": written.files / told["seconds"], "per_cpu": written.files / told["cpu"],
              "scan_vs_floor": told["seconds"] / floor, "scan_memory": told["bytes"] / 1e6}  # fmt: skip
    if process.forget(folder):
        database.unlink()
        found["cold"] = written.files / process.run("scan", folder, database)["seconds"]
        process.forget(folder)
        found["cold_floor"] = written.files / process.run("floor", folder, database)["seconds"]
    return found


def starts(written: Written, database: Path, count: int) -> dict[str, float]:
    """Seconds until a fresh process has answered: the medians of a few, one after the other."""
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        with process.served(written.folder, database) as told:
            up = time.perf_counter()
            with closing(http.client.HTTPConnection("127.0.0.1", told["port"], timeout=600)) as connection:
                asking(connection)(ROUTE)
            times.append((time.perf_counter() - up, time.perf_counter() - begin))
    return {"start": median(each[0] for each in times), "start_process": median(each[1] for each in times)}


def server(written: Written, database: Path, *, repeat: int, seconds: float) -> dict[str, float]:
    with process.served(written.folder, database) as told:
        before = process.memory(told["pid"])
        with closing(http.client.HTTPConnection("127.0.0.1", told["port"], timeout=600)) as connection:
            ask = asking(connection)
            first = ask(ROUTE)
            found: dict[str, float] = {"listed": first["total"]}
            found |= {"rescan": best(lambda: ask("/lora/v1/rescan", {}), 2)}
            found |= requests(ask, first, repeat)
        found["memory"] = (process.memory(told["pid"]) - before) / 1e6
        return found | in_browser(told["url"], written, seconds)


def requests(ask: Callable[..., Any], first: dict[str, Any], repeat: int) -> dict[str, float]:
    """Milliseconds."""
    card = first["items"][0]
    asked = {
        "first_page": ROUTE,
        "last_page": f"{ROUTE}?offset={first['total'] - 100}",
        "all_ids": f"{ROUTE}?ids=1",
        "facets": f"{ROUTE}?limit=0&family=sd1&state=words",
        "detail": f"{ROUTE}/{card['id']}",
    }
    found = {name: best(lambda path=path: ask(path), repeat) * 1e3 for name, path in asked.items()}
    searches = [f"{ROUTE}?q={words.replace(' ', '+')}" for words in SEARCHES] * repeat
    times = [best(lambda path=path: ask(path), 1) for path in searches]
    return found | {"search_p50": median(times) * 1e3, "search_p95": quantiles(times, n=20)[-1] * 1e3}


def in_browser(url: str, written: Written, seconds: float) -> dict[str, float]:
    try:
        with browser.opened() as page:
            browser.first_paint(page, url)  # the browser's own first use
            paint, slow = browser.first_paint(page, url), browser.scroll(page, seconds, speed=PACE)
            moved = browser.scroll(page, seconds)
    except browser.NoBrowser as error:
        print(f"left out: {error}", file=sys.stderr)
        return {}
    assert moved["last_card"] == written.files, moved
    told = {name: {"frame": each["median"] * 1e3, "long_frames": 100 * each["over_50_ms"] / each["frames"],
                   "ghosts": 100 * each["ghosts"] / each["frames"]} for name, each in (("", moved), ("slow_", slow))}
    found = {f"{pace}{name}": value for pace, figures in told.items() for name, value in figures.items()}
    return {"paint": paint["cards"], "pictures": paint["pictures"], **found}


def asking(connection: http.client.HTTPConnection) -> Callable[..., Any]:
    """ask(path) or ask(path, body), over one connection, as a browser does."""

    def ask(path: str, body: Any = None) -> Any:
        connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), JSON)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, (path, answer.status, content[:500])
        return json.loads(content)

    return ask


def best(work: Callable[[], Any], repeat: int) -> float:
    """Seconds."""
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def table(found: dict[str, float]) -> Table:
    rows = Table(["what", "measured", "goal"])
    for name, figure in FIGURES.items():
        if name in found:
            met = {True: "", False: " (missed)", None: ""}[figure.met(found[name])]
            rows.add(figure.what, f"{_short(found[name])} {figure.unit}", f"{figure.goal}{met}")
    return rows


def plot(found: dict[str, float], title: str, path: Path) -> None:
    """How much of each goal is used up; 1 is the goal. Needs the extra `bench`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    used = {}
    for name, figure in {**FIGURES, **webui.FIGURES}.items():
        if name in found and figure.goal:
            sign, goal = figure.goal.split()
            used[f"{figure.what}\n{_short(found[name])} {figure.unit} ({figure.goal})"] = (
                found[name] / float(goal) if sign == "<=" else float(goal) / found[name])
    figure, axes = plt.subplots(figsize=(9, 0.5 * len(used) + 1.2))
    axes.barh(list(used), list(used.values()), color="#4f7cac")
    axes.axvline(1, color="#c1440e", linewidth=2)
    axes.invert_yaxis()
    axes.tick_params(labelsize=8)
    figure.suptitle(f"{title}; how much of each goal is used up, red: all of it", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def written_into(folder: Path, files: int) -> Written:
    """The library, generated unless the folder has it."""
    told, library = folder / f"library-{files}.json", folder / f"library-{files}"
    if told.exists():
        return Written(**{**json.loads(told.read_text()), "folder": library})
    written = write_library(library, files)
    told.write_text(json.dumps({**asdict(written), "folder": str(library)}))
    return written


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 files, few repetitions")
    parser.add_argument("--files", type=int)
    parser.add_argument("--folder", type=Path, help="where the files are kept for the next time")
    parser.add_argument("--seconds", type=float, help="for the way from the first card to the last")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    webui.add_arguments(parser)
    options = parser.parse_args(argv)
    files = options.files or (1_000 if options.quick else 10_000)
    repeat, seconds = (3, options.seconds or 4.0) if options.quick else (10, options.seconds or 12.0)
    with tempfile.TemporaryDirectory() as temporary:
        kept = options.folder or Path(temporary)
        kept.mkdir(parents=True, exist_ok=True)
        written = written_into(kept, files)
        title = f"{files:,} adapters, {written.header_bytes / 1e6:,.0f} MB of headers, {os.cpu_count()} cores"
        print(f"{title}, {platform.platform()}, Python {platform.python_version()}\n", flush=True)
        found = measure(written, Path(temporary, "index.sqlite"), repeat=repeat, seconds=seconds)
        print(f"{table(found)}\n", flush=True)
        if options.webui_root:
            found |= webui.measure(options, kept)
            print(f"{webui.table(found)}\n")
    if options.json:
        machine = {"machine": platform.platform(), "cores": os.cpu_count(), "files": files}
        options.json.write_text(json.dumps({**found, **machine}, indent=2))
    if options.plot:
        plot(found, title, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
