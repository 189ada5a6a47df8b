"""The standalone page in headless Chromium: the demo model, some adapters, a page that fails for any script error.

Without Chromium these tests fail: put `chromium` on PATH, or name it in LIB_LORA_CHROMIUM.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright
from safetensors.torch import load_file, save_file

from install import CHROMIUM
from lib_lora.demo.page import build_app, listen
from lib_lora.demo.studio import Studio
from lib_lora.drawing.pipelines import load_pipeline
from lib_lora.errors import LoraError
from tests.support import kohya_shapes, write_lora

# What asks another host finds an error in its console: hearing of every request took as long as loading the page.
ELSEWHERE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", ELSEWHERE]
PATIENCE = 60_000  # milliseconds; other tests run beside these
SIZE: ViewportSize = {"width": 1280, "height": 900}
SCRIPTS = [Path(__file__).with_name(name) for name in ("rest.js", "as_new.js")]
THEMES = pytest.mark.parametrize("query", ["?__theme=light", "?__theme=dark"], ids=["light", "dark"])
PASSED = pytest.StashKey[bool]()
UNFINISHED = ".lora-is-comparing, #lora-gallery img"  # it asks on, or Gradio has kept something
USUAL: dict[str, Any] = {"media": "screen", "color_scheme": "light", "reduced_motion": "no-preference"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("browser")


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """The demo model with adapters that change every layer a little, one for another base model, one broken."""
    folder = tmp_path_factory.mktemp("adapters")
    made = Studio(load_pipeline(), [folder], outputs=tmp_path_factory.mktemp("outputs"))
    shapes = kohya_shapes(made.attached.session.host.targets(), limit=60)
    (folder / "styles").mkdir()
    write_soft_lora(folder / "bend.safetensors", shapes)
    words = {"modelspec.trigger_phrase": "ink wash, <b>brush</b>"}
    write_soft_lora(folder / "styles" / "ink wash.safetensors", shapes, words)
    write_lora(folder / "grain.safetensors", {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k": (64, 2048)})
    (folder / "half.safetensors").write_bytes(b"hello")
    made.attached.library.refresh()
    return made


def write_soft_lora(path: Path, shapes: dict, metadata: dict | None = None) -> None:
    """Weak enough that a trained model still draws."""
    write_lora(path, shapes, metadata=metadata)
    tensors = {key: tensor * 0.02 if key.endswith("down.weight") else tensor for key, tensor in load_file(path).items()}
    save_file(tensors, path, metadata)


@pytest.fixture(scope="module")
def folder(studio: Studio) -> Path:
    """Where the adapters lie."""
    return studio.attached.library.folders[0]


@pytest.fixture(scope="session")
def ports() -> list[int]:
    """Where the last studio of this process was served."""
    return [0]


@pytest.fixture(scope="module")
def address(studio: Studio, ports: list[int]) -> Iterator[str]:
    """Each studio has the address of the one before: the browser has Gradio's scripts from there already."""
    try:
        listener = listen("127.0.0.1", ports[-1])
    except LoraError:  # somebody else has it by now
        listener = listen("127.0.0.1", 0)
    ports.append(listener.getsockname()[1])
    server = uvicorn.Server(uvicorn.Config(build_app(studio), log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{ports[-1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    wanted = (os.environ.get("LIB_LORA_CHROMIUM"), os.environ.get("CHROMIUM"), *CHROMIUM)
    found = next((path for name in wanted if name and (path := shutil.which(name))), None)
    with sync_playwright() as started:
        made = started.chromium.launch(executable_path=found, args=FLAGS)
        yield made
        made.close()


@pytest.fixture
def failures() -> list[str]:
    """What went wrong in the page; a test that provokes an error empties it."""
    return []


@pytest.fixture(scope="session")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A profile for all tests: it has Gradio's scripts read and compiled for the next page."""
    made = browser.new_context(viewport=SIZE, permissions=["clipboard-read", "clipboard-write"])
    for script in SCRIPTS:
        made.add_init_script(path=script)
    yield made
    made.close()


@pytest.fixture(scope="module")
def left(context: BrowserContext, address: str) -> Iterator[list[str]]:
    """The address of the page in which the next test of this file may go on, if it can be made as new."""
    yield []
    for page in context.pages:  # before the server ends: it waits for pages that are open
        leave(page)


@pytest.fixture
def query() -> str:
    """What is asked of the page with its address; a test may have something else here."""
    return ""


@pytest.fixture
def page(
    request: pytest.FixtureRequest,
    context: BrowserContext,
    address: str,
    query: str,
    left: list[str],
    failures: list[str],
) -> Iterator[Page]:
    """The page, loaded or as new; it fails the test for any error in its console, and for what asks another host.

    All tests have the same tab: a new one takes the browser longer than what most of them do in it.
    """
    made = context.pages[0] if context.pages else context.new_page()
    is_there = f"{address}/{query}" in left
    left.clear()
    made.set_viewport_size(SIZE)
    made.emulate_media(**USUAL)
    forget(made, address)
    made.set_default_timeout(PATIENCE)
    here = (address, "about:")
    with failing(made, failures, framenavigated=lambda frame: None if frame.url.startswith(here) else frame.url):
        if not is_there or not made.evaluate("asNew.again()"):
            made.goto(f"{address}/{query}")
            made.wait_for_selector("#lora-generate")
            made.wait_for_selector(".lora-strip[data-lora-mounted]", state="attached")
            made.evaluate("asNew.begin()")
        yield made
    for other in context.pages:
        if other is not made:
            other.close()
    if not made.is_closed():
        made.unroute_all(behavior="ignoreErrors")
        if not failures and is_reusable(request, made):
            left.append(made.url)
        else:
            leave(made)
    assert not failures


@contextmanager
def failing(page: Page, failures: list[str], **more: Callable[[Any], str | None]) -> Iterator[None]:
    """What goes wrong in `page` is added to `failures`; `more`: of other events, what is wrong with one, or None."""
    told: dict[str, Callable[[Any], str | None]] = {
        "pageerror": str,
        "console": lambda line: line.text if line.type == "error" else None,
        "dialog": lambda dialog: f"dialog: {dialog.message}",
        **more,
    }

    def listener(of: Callable[[Any], str | None]) -> Callable[[Any], None]:
        return lambda happened: failures.extend(filter(None, [of(happened)]))

    listeners: dict[Any, Any] = {event: listener(of) for event, of in told.items()}
    for event, each in listeners.items():
        page.on(event, each)
    yield
    if not page.is_closed():
        for event, each in listeners.items():
            page.remove_listener(event, each)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


def is_reusable(request: pytest.FixtureRequest, page: Page) -> bool:
    """Whether the next test may go on in this page: after one that passed, and left nothing that asks or draws on."""
    return request.node.stash.get(PASSED, False) and page.locator(UNFINISHED).count() == 0


def leave(page: Page) -> None:
    """The tab stays, empty."""
    page.once("dialog", lambda dialog: dialog.accept())  # notes that are not saved
    page.goto("about:blank")


def forget(page: Page, address: str) -> None:
    """All that the page kept in this profile: the next test meets a browser that has never seen it."""
    page.context.clear_cookies()
    session = page.context.new_cdp_session(page)
    session.send("Storage.clearDataForOrigin", {"origin": address, "storageTypes": "all"})
    session.detach()
