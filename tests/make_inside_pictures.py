"""`python -m tests.make_inside_pictures [FOLDER]`: the pictures of docs/together.md, from the demo's page."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from playwright.sync_api import Page, sync_playwright

from install import CHROMIUM
from lib_lora.demo.page import build_app, listen
from lib_lora.demo.studio import Studio
from lib_lora.drawing.demo_files import ADAPTERS
from lib_lora.drawing.pipelines import load_pipeline

IMAGES = Path(__file__).parents[1] / "docs" / "images"
PROMPT = "a red circle <lora:night:1> <lora:warm:1> <lora:outline:0.9>"
FLAGS = ["--no-sandbox", "--disable-gpu"]


@contextmanager
def page_with_the_demo(theme: str, width: int) -> Iterator[Page]:
    with tempfile.TemporaryDirectory() as place:
        studio = Studio(load_pipeline(), [ADAPTERS], outputs=Path(place))
        listener = listen("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(build_app(studio), log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        executable = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
        with sync_playwright() as started:
            browser = started.chromium.launch(executable_path=executable, args=FLAGS)
            page = browser.new_page(viewport={"width": width, "height": 1000}, device_scale_factor=2)
            page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/?__theme={theme}")
            page.wait_for_selector(".lora-strip[data-lora-mounted]", state="attached")
            yield page
            browser.close()
        server.should_exit = True
        thread.join(10)


def take(folder: Path, theme: str = "light", width: int = 1280, ending: str = "") -> None:
    """Both pictures; `ending` of their names, before the dot."""
    with page_with_the_demo(theme, width) as page:
        page.fill("#lora-prompt textarea", PROMPT)
        line = page.locator("#lora-strip-holder .lora-together")
        line.get_by_text("Together").wait_for()
        page.wait_for_timeout(5500)  # until the loaded weights are measured
        line.locator(".lora-together-open").click()
        page.wait_for_timeout(800)
        page.locator("#lora-strip-holder").screenshot(path=folder / f"together{ending}.png")
        page.get_by_role("tab", name="Adapters").click()
        page.locator(".lora-card:not(.lora-ghost)", has_text="outline").locator(".lora-open").click()
        panel = page.locator(".lora-details")
        panel.get_by_role("button", name="See inside").click()
        panel.locator(".lora-inside").wait_for()
        panel.locator("[data-lora-block=M00]").click()
        page.mouse.move(0, 0)
        page.wait_for_timeout(300)
        panel.locator(".lora-section", has_text="What it changes").screenshot(path=folder / f"inside{ending}.png")


if __name__ == "__main__":
    take(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
