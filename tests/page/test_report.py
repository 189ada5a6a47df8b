"""The report of a comparison in headless Chromium, opened from the disk without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from lib_lora.compare.grid import make_grid
from lib_lora.compare.report import write_report
from lib_lora.compare.run import compare, compare_each
from lib_lora.library import Library
from tests.page.conftest import failing
from tests.support import write_lora
from tests.test_compare import SHAPES, Grey

HERE = ("file:", "data:", "blob:")
HOSTILE = "</script><img src=x onerror=alert(1)>"


class Stronger(Grey):
    """The later an adapter in the alphabet, the more it changes."""

    def draw(self, task):
        if "<lora:zebra:2>" in task.prompt:
            task = type(task)(**{**vars(task), "prompt": "refuse"})
        more = 10 * ("<lora:ink" in task.prompt) + 60 * ("<lora:zebra" in task.prompt)
        return super().draw(type(task)(**{**vars(task), "seed": task.seed + more}))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    (folder / "loras").mkdir()
    titles = {"ink-000002": {}, "ink-000010": {}, "ink": {}, "zebra": {"modelspec.title": f"Zebra {HOSTILE}"}}
    for name, metadata in titles.items():
        write_lora(folder / "loras" / f"{name}.safetensors", SHAPES, metadata=metadata)
    grid = make_grid(Library([folder / "loras"]), weights=[0, 0.5, 1, 2], prompts=["a heart", f"a star {HOSTILE}"],
                     seeds=[1, 2])  # fmt: skip
    write_report(compare(grid, folder, [Stronger()]), folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def two_checkpoints(report: Path) -> Path:
    grid = make_grid(Library([report.parent / "loras"]), adapters=["ink", "zebra"], weights=[0, 1], prompts=["a heart"],
                     seeds=[1], checkpoints=["one.safetensors", "two.safetensors"])  # fmt: skip
    runners = {"one.safetensors": Stronger(checkpoint="one"), "two.safetensors": Grey(checkpoint="two")}
    done = compare_each(grid, report.parent / "two", lambda checkpoint: [runners[checkpoint]])
    write_report(done, report.parent / "two.html")
    return report.parent / "two.html"


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Page]:
    """One for all tests here: a new one takes the browser longer than most of them."""
    context = browser.new_context(offline=True, color_scheme="light", permissions=["clipboard-read", "clipboard-write"])
    yield context.new_page()
    context.close()


@pytest.fixture(params=["wide", "phone"])
def page(request: pytest.FixtureRequest, tab: Page, report: Path) -> Iterator[Page]:
    size = {"wide": (1280, 900), "phone": (390, 844)}[request.param]
    tab.set_viewport_size({"width": size[0], "height": size[1]})
    failures: list[str] = []
    with failing(tab, failures, request=lambda asked: None if asked.url.startswith(HERE) else asked.url):
        tab.goto(report.as_uri())
        tab.wait_for_selector("#rows .row")
        yield tab
        is_narrow = tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.evaluate("localStorage.clear()")
    tab.goto("about:blank")
    assert is_narrow
    assert not failures


def shown(page: Page, row: int) -> str:
    return page.locator("#rows .row").nth(row).locator(".stage img").get_attribute("src")


def titles(page: Page) -> list[str]:
    return page.locator("#rows .row h2").all_inner_texts()


def test_every_row_has_a_slider_and_one_moves_them_all(page):
    row = page.locator("#rows .row").nth(3)
    before = shown(page, 2)
    row.locator("input").evaluate("it => { it.value = 0; it.dispatchEvent(new Event('input')); }")
    assert "weight 0" in row.locator(".says").inner_text()
    assert shown(page, 2) == before
    page.locator("#all").evaluate("it => { it.value = 1; it.dispatchEvent(new Event('input')); }")
    for number in range(4):
        assert "weight 0.5" in page.locator("#rows .row").nth(number).locator(".says").inner_text()
    assert len({shown(page, number) for number in range(4)}) == 2  # the three inks are alike
    page.select_option("#seed", label="2")
    assert shown(page, 2) != before


def test_a_cell_that_failed_says_why_among_the_others(page):
    zebra = page.locator("#rows .row").nth(3)
    assert zebra.locator(".stage .why").inner_text() == "it refuses"
    assert zebra.locator(".strip img").count() == 3
    assert "it refuses" in page.locator("#problems").inner_text()


def test_rows_are_sorted_by_effect_and_a_training_is_a_ladder(page):
    given = titles(page)
    assert [name.split()[0] for name in given] == ["ink-000002", "ink-000010", "ink", "Zebra"]
    page.select_option("#order", "strong")
    assert titles(page)[0].startswith("Zebra")
    page.select_option("#order", "weak")
    assert titles(page)[3].startswith("Zebra")
    assert page.locator(".ladder figcaption b").all_inner_texts() == ["2", "10", "last"]


def test_the_plot_has_a_line_for_each_adapter_and_its_points_lead_to_the_cells(page):
    plots = page.locator("#plots > figure")
    assert plots.count() == 2  # against the weight, and against the epoch
    assert plots.first.locator(".line").count() == 4
    assert plots.first.locator("circle").count() == 4 * 4 - 1
    point = plots.first.locator("circle").nth(1)
    assert point.get_attribute("aria-label").startswith("ink-000002 at 0.5: ")
    point.focus()
    page.keyboard.press("Enter")
    assert "weight 0.5" in page.locator("#rows .row").first.locator(".says").inner_text()


def test_two_cells_side_by_side_in_turn_and_their_difference_by_the_keyboard(page):
    page.locator("#rows .row").first.locator(".strip .picture").first.click()
    page.keyboard.press("a")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("b")
    assert page.locator("#tray .name").all_inner_texts()[0].startswith("ink-000002 0, a heart, seed 1")
    page.keyboard.press("s")
    assert page.locator("#viewer .pane img").count() == 2
    before = page.locator("#viewer .pane img").first.evaluate("it => it.style.transform")
    page.keyboard.press("-")
    after = page.locator("#viewer .pane img").evaluate_all("all => all.map(it => it.style.transform)")
    assert before not in after
    assert after[0] == after[1]  # zoomed together
    page.keyboard.press("f")
    name = page.locator("#viewer .name")
    seen = set()
    for _ in range(12):
        seen.add(name.inner_text()[:2])
        page.wait_for_timeout(150)
    assert seen == {"A:", "B:"}
    page.keyboard.press(" ")
    halted = name.inner_text()
    page.wait_for_timeout(700)
    assert name.inner_text() == halted
    page.keyboard.press("d")
    canvas = page.locator("#viewer canvas")
    expect(canvas).to_have_attribute("width", "8")  # the page's own policy lets no other waiting in
    assert canvas.evaluate("it => it.getContext('2d').getImageData(4, 4, 1, 1).data[0]") == (50 + 10) * 4
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()


def test_the_settings_of_a_cell_are_copied(page):
    page.locator("#rows .row").first.locator(".strip .picture").nth(1).click()
    page.keyboard.press("c")
    expect(page.locator("#said")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("a heart <lora:ink-000002:0.5>\nSteps: 1")


def test_dark_and_light_and_the_keys_are_told(page):
    def ground():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = ground()
    page.keyboard.press("t")
    assert ground() != light
    page.reload()
    page.wait_for_selector("#rows .row")
    assert ground() != light  # it is remembered
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")


def test_another_checkpoint_is_chosen_and_everything_follows(page, two_checkpoints):
    expect(page.locator("#checkpoint")).to_be_hidden()
    page.goto(two_checkpoints.as_uri())
    page.wait_for_selector("#rows .row")
    assert page.locator("#checkpoint option").all_inner_texts() == ["one", "two"]
    assert page.locator("#title").inner_text().endswith("2 checkpoints")
    before = shown(page, 1)
    strength = page.locator("#plots circle").last.get_attribute("aria-label")
    page.keyboard.press("m")
    assert page.locator("#checkpoint").evaluate("it => it.selectedOptions[0].text") == "two"
    assert shown(page, 1) != before
    assert page.locator("#plots circle").last.get_attribute("aria-label") != strength
    letters = page.locator("#plots svg text").first
    assert 10 < letters.evaluate("it => it.getBoundingClientRect().height") < 20  # as large as those around it
