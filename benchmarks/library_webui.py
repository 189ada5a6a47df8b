"""The same files in the real WebUI: its built-in Lora extension, and ours."""

from __future__ import annotations

import argparse
import http.client
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from benchmarks import library_browser as browser
from benchmarks.library_files import write_library
from benchmarks.library_process import forget
from benchmarks.report import Table
from tests.webui.instance import FULL, WebUI

CONTESTANTS = {"built_in": False, "ours": True}  # name -> with this extension
HEADER = (16_000, 16_000)  # bytes of metadata
FILES = 2_000
API_FILES = 5_000
QUIET = 5_000  # milliseconds without a byte: all is there
CARDS = "#txt2img_lora_cards .card"
TAB = "#txt2img_extra_tabs button:text-is('Lora')"


@dataclass(frozen=True)
class Figure:
    """One line of the table, for each contestant."""

    what: str
    unit: str
    goal: str = ""


CASES = {
    "first_start": Figure("first start, files never seen", "s"),
    "start": Figure("every other start", "s"),
    "page": Figure("from navigation to 20 cards", "s"),
    "page_bytes": Figure("bytes for the page", "MB"),
    "loras": Figure("`/sdapi/v1/loras`", "s"),
    "loras_bytes": Figure("its bytes", "MB"),
    "refresh": Figure("`/sdapi/v1/refresh-loras`, nothing changed", "s"),
}
FIGURES = {"webui_ours_loras_5000": Figure(f"`/sdapi/v1/loras`, {API_FILES:,} adapters, 16 KB headers", "s", "<= 0.5")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--webui-root", type=Path)
    parser.add_argument("--webui-python", help="the Python that runs it")
    parser.add_argument("--webui-files", type=int, default=FILES)
    parser.add_argument("--checkpoint", type=Path, help="for the WebUI (default: the first that lies in it)")


def measure(options: argparse.Namespace, kept: Path) -> dict[str, float]:
    """{"webui_ours_page": seconds, ...}"""
    root = options.webui_root.resolve()
    checkpoint = options.checkpoint or next((root / "models" / "Stable-diffusion").glob("*.safetensors"))
    start = partial(WebUI, checkpoints=checkpoint.parent.resolve(), checkpoint=checkpoint.name, root=root,
                    python=options.webui_python, threads=2)  # fmt: skip
    found = {}
    files = {number: _library(kept, number) for number in {options.webui_files, API_FILES}}
    for name, extension in CONTESTANTS.items():
        forget(files[options.webui_files])  # else who comes second finds them in memory
        with tempfile.TemporaryDirectory() as data:
            flags = f"{FULL} --lora-dir {files[options.webui_files]}"
            told = _all_cases(start(Path(data), flags=flags, extension=extension), options.webui_files)
        found |= {f"webui_{name}_{case}": value for case, value in told.items()}
        with tempfile.TemporaryDirectory() as data:
            told = _loras(start(Path(data), flags=f"{FULL} --lora-dir {files[API_FILES]}", extension=extension))
        found[f"webui_{name}_loras_{API_FILES}"] = told
    return found


def _library(kept: Path, files: int) -> Path:
    folder = kept / f"webui-{files}"
    if not folder.exists():
        write_library(folder, files, metadata_bytes=HEADER, seed=1)
    return folder


def _all_cases(webui: WebUI, files: int) -> dict[str, float]:
    try:
        found = {"first_start": _seconds(webui.start)}
        webui.stop()
        found |= {"start": _seconds(webui.start)}
        found |= {"loras": median(_seconds(lambda: _get(webui, "/sdapi/v1/loras")) for _ in range(3)),
                  "loras_bytes": _get(webui, "/sdapi/v1/loras") / 1e6}  # fmt: skip
        assert len(webui.request("/sdapi/v1/loras")) == files, "not all adapters are listed"
        found |= {"refresh": _seconds(lambda: webui.request("/sdapi/v1/refresh-loras", {}))}
        return found | _page(webui)
    finally:
        webui.stop()


def _loras(webui: WebUI) -> float:
    try:
        webui.start()
        _get(webui, "/sdapi/v1/loras")
        return median(_seconds(lambda: _get(webui, "/sdapi/v1/loras")) for _ in range(3))
    finally:
        webui.stop()


def _page(webui: WebUI) -> dict[str, float]:
    try:
        with browser.opened() as page:
            page.goto(webui.url)  # the browser's own first use, and what the WebUI does for the first visitor only
            page.wait_for_selector(TAB)
            size = _counted(page)
            page.goto(webui.url, wait_until="commit")
            page.click(TAB)
            cards, before = browser.until_cards(page, CARDS), -1
            while sum(size) > before:  # the first cards are not all that comes
                before = sum(size)
                page.wait_for_timeout(QUIET)
            return {"page": cards, "page_bytes": sum(size) / 1e6}
    except browser.NoBrowser:
        return {}


def _counted(page: Any) -> list[int]:
    """Sizes of everything that comes from the server from now on, answers and messages."""
    sizes: list[int] = []
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.dataReceived", lambda told: sizes.append(told["dataLength"]))
    session.on("Network.webSocketFrameReceived", lambda told: sizes.append(len(told["response"]["payloadData"])))
    return sizes


def _get(webui: WebUI, path: str) -> int:
    """Bytes of the answer, which is not decoded."""
    connection = http.client.HTTPConnection(urlsplit(webui.url).netloc, timeout=600)
    connection.request("GET", path)
    return len(connection.getresponse().read())


def _seconds(work: Any) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def table(found: dict[str, float]) -> Table:
    """Both side by side."""
    rows = Table(["in the WebUI", "built-in", "ours", "goal"])
    for case, figure in {**CASES, f"loras_{API_FILES}": FIGURES[f"webui_ours_loras_{API_FILES}"]}.items():
        values = [found.get(f"webui_{name}_{case}") for name in CONTESTANTS]
        rows.add(figure.what, *("" if value is None else f"{value:.2f} {figure.unit}" for value in values), figure.goal)
    return rows
