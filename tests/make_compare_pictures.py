"""The pictures of docs/compare.md, drawn with the demo model and seen in Chromium.

    python -m tests.make_compare_pictures
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path

import uvicorn
from playwright.sync_api import Browser, sync_playwright
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from install import CHROMIUM
from lib_lora.compare.grid import make_grid
from lib_lora.compare.local import Local
from lib_lora.compare.report import write_report
from lib_lora.compare.run import compare
from lib_lora.demo.page import build_app, listen
from lib_lora.demo.studio import Studio
from lib_lora.drawing.demo_files import ADAPTERS
from lib_lora.drawing.pipelines import load_pipeline
from lib_lora.hosts.diffusers import Attached
from lib_lora.library import Library
from tests.page.conftest import FLAGS
from tests.page.hands import card

IMAGES = Path(__file__).parents[1] / "docs" / "images"
PROMPT = "a large red heart on a white background"
STRENGTHS = {"-000002": 0.35, "-000004": 0.6, "-000006": 0.85, "": 1.0}  # of the epochs
PATIENCE = 300_000  # milliseconds


def main() -> None:
    pipe = load_pipeline()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
        browser = started.chromium.launch(executable_path=chromium, args=FLAGS)
        show_report(browser, pipe, Path(folder))
        show_panel(browser, Studio(pipe, [ADAPTERS], outputs=Path(folder, "outputs")))


def show_report(browser: Browser, pipe: object, folder: Path) -> None:
    loras = folder / "loras"
    loras.mkdir()
    for name in ("night", "warm"):
        shutil.copy(ADAPTERS / f"{name}.safetensors", loras)
    tensors = load_file(ADAPTERS / "outline.safetensors")
    with safe_open(ADAPTERS / "outline.safetensors", "pt") as file:
        metadata = file.metadata()
    for place, (name, strength) in enumerate(STRENGTHS.items(), 1):
        weaker = {key: value * strength if ".lora_up." in key else value for key, value in tensors.items()}
        save_file(weaker, loras / f"outline{name}.safetensors", {**metadata, "ss_epoch": str(2 * place)})
    grid = make_grid(Library([loras]), weights=[0, 0.5, 1, 1.5, "te=1:unet=0@0,1@1"], prompts=[PROMPT], seeds=[3])
    done = compare(grid, folder / "out", [Local(Attached(pipe, Library([loras])))])  # type: ignore[arg-type]
    assert not done.problems, done.problems
    write_report(done, folder / "report.html")
    page = browser.new_page(viewport={"width": 1280, "height": 1270}, color_scheme="light")
    page.goto((folder / "report.html").as_uri())
    page.select_option("#order", "strong")
    page.locator("#all").evaluate("it => { it.value = 2; it.dispatchEvent(new Event('input')); }")
    page.screenshot(path=IMAGES / "compare.png")


def show_panel(browser: Browser, studio: Studio) -> None:
    studio.attached.library.refresh()
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(build_app(studio), log_level="warning"))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
    page = browser.new_page(viewport={"width": 1280, "height": 1130}, color_scheme="light")
    page.set_default_timeout(PATIENCE)
    page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}")
    page.get_by_role("tab", name="Adapters").click()
    page.get_by_label("Select several").click()
    for title in ("Outline", "Night", "Spotlight"):
        card(page, title).click()
    page.locator(".lora-picking").get_by_role("button", name="Compare").click()
    panel = page.locator(".lora-compare")
    for name, text in {"weights": "-0.5 0 0.5 1 1.5", "seeds": "3", "prompts": PROMPT}.items():
        panel.locator(f"[name={name}]").fill(text)
    panel.get_by_role("button", name="Start", exact=True).click()
    panel.locator(".lora-compare-cell img").nth(10).wait_for()
    panel.locator("summary").click()
    page.wait_for_timeout(300)
    page.screenshot(path=IMAGES / "compare-page.png", full_page=True)
    panel.get_by_text("Done").wait_for()


if __name__ == "__main__":
    main()
