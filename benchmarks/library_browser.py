"""How the listing behaves in headless Chromium: when cards are there, and whether scrolling is smooth."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from install import CHROMIUM

FIRST = 20  # cards
PATIENCE = 300_000  # milliseconds
CARDS = ".lora-card:not(.lora-ghost)"
SCROLL = """async ([selector, seconds, speed]) => {
    const list = document.querySelector(selector);
    list.scrollTop = 0;
    const all = list.scrollHeight - list.clientHeight;
    const way = speed ? Math.min(all, speed * seconds) : all;
    const frames = [];
    const frame = () => new Promise(requestAnimationFrame);
    let ghosts = 0;
    const start = await frame();
    for (let last = start, now = start; now - start < 1000 * seconds; last = now) {
        list.scrollTop = way * (now - start) / (1000 * seconds);
        now = await frame();
        frames.push(now - last);
        ghosts += document.querySelector('.lora-ghost') ? 1 : 0;
    }
    list.scrollTop = way;
    return {frames, ghosts};
}"""


class NoBrowser(Exception):
    """Playwright or Chromium is not installed; the text says which."""


@contextmanager
def opened() -> Iterator[Any]:
    """A page in which no request leaves this machine. Raises NoBrowser."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise NoBrowser("playwright is not installed") from error
    names = (os.environ.get("LIB_LORA_CHROMIUM"), os.environ.get("CHROMIUM"), *CHROMIUM)
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    with sync_playwright() as started:
        try:
            browser = started.chromium.launch(
                executable_path=found, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        except Error as error:
            raise NoBrowser(f"Chromium does not start ({error.message.splitlines()[0]})") from error
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.route(lambda url: not url.startswith(("http://127.0.0.1", "data:", "blob:")), lambda route: route.abort())
        yield page
        browser.close()


def first_paint(page: Any, url: str) -> dict[str, float]:
    """Seconds from navigation until the first cards are drawn, and until their pictures are there."""
    page.goto(url, wait_until="commit")
    return {"cards": until_cards(page, CARDS), "pictures": _when(
        page, "([cards]) => [...document.querySelectorAll(`${cards} img`)].every((image) => image.complete)", [CARDS])}


def until_cards(page: Any, cards: str) -> float:
    """Seconds from navigation until FIRST of `cards` can be seen, or all if there are fewer."""
    return _when(page, """([cards, first]) => {
        const shown = [...document.querySelectorAll(cards)].slice(0, first);
        const all = Number(document.querySelector("[aria-setsize]")?.getAttribute("aria-setsize") ?? first);
        return shown.length >= Math.min(first, all) && shown.every((card) => card.offsetParent);
    }""", [cards, FIRST])


def _when(page: Any, condition: str, arguments: list[Any]) -> float:
    """The page's own clock in the frame after `condition` became true."""
    now = page.wait_for_function(f"(given) => ({condition})(given) && performance.now()", arg=arguments)
    return now.json_value() / 1000


def scroll(page: Any, seconds: float, *, speed: int = 0) -> dict[str, float]:
    """Down at `speed` pixels a second, else to the last card: how long frames took, in how many a card was missing."""
    told = page.evaluate(SCROLL, [".lora-window", seconds, speed])
    page.wait_for_function("([cards]) => document.querySelector(cards) && !document.querySelector('.lora-ghost')",
                           arg=[CARDS])
    last = page.evaluate("Math.max(...[...document.querySelectorAll('.lora-card')].map("
                         "(card) => Number(card.getAttribute('aria-posinset'))))")
    frames = told["frames"]
    return {"frames": len(frames), "median": median(frames) / 1000, "longest": max(frames) / 1000,
            "over_50_ms": sum(frame > 50 for frame in frames), "ghosts": told["ghosts"], "last_card": last}  # fmt: skip
