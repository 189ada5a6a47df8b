"""Files from the internet on the standalone page: whatever they say is shown as it was typed, and nothing of it runs.

What the routes do with the same files: tests/test_hostile.py.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lib_lora.demo.studio import Studio
from lib_lora.drawing.pipelines import load_pipeline
from tests.hostile_files import ADDRESS, IMAGE, MARKUP, SECRET, write_hostile_files
from tests.page.hands import CARDS, PROMPT, put_steps
from tests.support import write_lora

EVIL = """() => [
    window.pwned ?? "",
    ...[...document.querySelectorAll(".lora-listing *, .lora-strip *, #lora-report *")].filter((node) =>
        /^(script|iframe|object|embed|base|link|meta|style|form)$/i.test(node.localName)
            && !node.matches("form.lora-save-form, form.lora-compare-form")
        || [...node.attributes].some(({name, value}) => /^on|^srcdoc$/.test(name)
            || /^(href|src|action|formaction)$/.test(name)
                && !/^(http:\\/\\/127\\.0\\.0\\.1[:/]|blob:|data:image\\/)/.test(value)),
    ).map((node) => node.outerHTML.slice(0, 300)),
].filter(Boolean)"""
TITLES = """() => [...document.querySelectorAll(".lora-card")]
    .sort((one, other) => one.getAttribute("aria-posinset") - other.getAttribute("aria-posinset"))
    .map((card) => card.querySelector(".lora-title").textContent)"""
# What the panel says of the file comes after all else.
IS_SHOWN = """(title) => document.querySelector(".lora-details h3")?.textContent === title
    && document.querySelector(".lora-details .lora-facts")"""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """The demo model with adapters that mean harm."""
    top = tmp_path_factory.mktemp("hostile")
    (top / "secrets").mkdir()
    (top / "secrets" / "passwd").write_text(SECRET)
    (top / "adapters").mkdir()
    write_hostile_files(top / "adapters")
    return Studio(load_pipeline(), [top / "adapters"], outputs=top / "outputs")


@pytest.fixture
def listing(page):
    page.get_by_role("tab", name="Adapters").click()
    page.locator(CARDS).first.wait_for()
    return page


@pytest.fixture
def evil() -> Iterator[str]:
    """Another site on this machine: a browser lets no page from elsewhere come this far."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<link rel=icon href=data:><form method=post enctype=text/plain></form>")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


def harmless(page) -> bool:
    found = page.evaluate(EVIL)
    assert found == []
    return True


def search(page, words: str, count: int) -> None:
    page.fill(".lora-search", words)
    page.wait_for_function(
        "(count) => document.querySelectorAll('.lora-card:not(.lora-ghost)').length === count", arg=count
    )


def test_every_card_and_every_panel_shows_what_was_typed(listing):
    page = listing
    page.set_viewport_size({"width": 1600, "height": 8000})  # all cards at once
    page.wait_for_function("() => document.querySelectorAll('.lora-card:not(.lora-ghost)').length > 30")
    assert harmless(page)
    titles = page.evaluate(TITLES)
    page.locator(".lora-bar [aria-label='List or grid']").click()
    page.locator(".lora-as-list .lora-card").first.wait_for()
    assert harmless(page)
    page.set_viewport_size({"width": 1600, "height": 900})
    page.locator(".lora-window").focus()
    page.keyboard.press("Home")
    page.keyboard.press("i")
    for title in titles:  # the panel follows the arrow key from card to card
        page.wait_for_function(IS_SHOWN, arg=title)
        assert harmless(page)
        page.keyboard.press("ArrowDown")


def test_markup_is_text_in_titles_words_tags_notes_and_facts(listing):
    page = listing
    search(page, "markup", 1)
    page.locator(".lora-card .lora-open").evaluate("button => button.click()")
    page.wait_for_selector(".lora-details .lora-histogram")
    shown = page.locator(".lora-details").inner_text()
    for text in (MARKUP[:200], IMAGE, ADDRESS):
        assert text in shown
    assert page.locator(".lora-details .lora-histogram .lora-bin-tag").first.inner_text() == MARKUP
    page.locator(".lora-details .lora-chip", has_text=IMAGE).first.click()
    assert IMAGE in page.input_value(PROMPT)
    assert page.locator(".lora-card .lora-title").inner_text().startswith(MARKUP[:100])
    assert harmless(page)


def test_names_with_markup_go_into_the_prompt_the_strip_and_the_report(listing):
    page = listing
    search(page, "onerror=window", 2)
    for n in range(2):
        page.locator(".lora-card").nth(n).click()
    page.get_by_role("tab", name="Draw").click()
    page.fill(PROMPT, f"{page.input_value(PROMPT)} <lora:{IMAGE.strip('<>')}:1> <lora:{MARKUP[2:40]}:x> <lora:plain:1>")
    page.locator(".lora-row").nth(2).wait_for()
    page.locator(".lora-row .lora-problem").first.wait_for()
    assert harmless(page)
    put_steps(page, 1)
    page.click("#lora-generate")
    page.locator("#lora-report", has_text="Seed").wait_for()
    assert harmless(page)


def test_the_users_own_tags_are_text_in_chips_filters_and_suggestions(listing):
    page = listing
    search(page, "plain", 1)
    page.locator(".lora-card .lora-open").evaluate("button => button.click()")
    page.wait_for_selector(".lora-details .lora-facts")
    page.locator(".lora-details .lora-tag-field").fill(IMAGE)
    page.locator(".lora-details .lora-tag-field").press("Enter")
    page.locator(".lora-card .lora-tag", has_text=IMAGE).wait_for()
    page.fill(".lora-search", "")
    page.locator(".lora-filters, .lora-facet").first.wait_for()
    assert harmless(page)
    assert IMAGE in page.locator(".lora-listing").inner_text()


def test_notes_with_markup_are_edited_as_text(listing, folder: Path):
    page = listing
    write_lora(folder / "edited.safetensors", {"lora_unet_mid_block_attentions_0_proj_in": (8, 8)})
    shutil.copy(folder / "markup.json", folder / "edited.json")
    page.locator(".lora-bar [aria-label='Look for new files']").click()
    search(page, "edited", 1)
    page.locator(".lora-card .lora-open").evaluate("button => button.click()")
    page.wait_for_selector(".lora-details .lora-facts")
    page.locator(".lora-details .lora-edit").click()
    assert page.locator(".lora-details textarea").first.input_value() == MARKUP
    page.locator(".lora-details .lora-primary", has_text="Save").click()
    page.locator(".lora-details .lora-edit").wait_for()
    assert harmless(page)


def test_duplicates_and_broken_files_are_text_too(listing, folder: Path):
    page = listing
    (folder / "again").mkdir()
    shutil.copy(folder / IMAGE / f"{IMAGE}.safetensors", folder / "again" / f"{IMAGE}.safetensors")
    page.locator(".lora-bar [aria-label='Look for new files']").click()
    page.locator(".lora-bar [aria-label='Duplicates']").click()
    page.locator(".lora-line", has_text=IMAGE).first.wait_for()
    assert harmless(page)


def test_a_picture_opened_by_its_address_is_no_page(page, address: str):
    for number in range(1, 45):
        answer = page.request.get(f"{address}/lora/v1/adapters/{number}/thumbnail?original=1")
        assert answer.status in (204, 404) or answer.headers["content-type"].startswith("image/")
        assert answer.status == 204 or answer.status == 404 or answer.headers["x-content-type-options"] == "nosniff"


def test_another_site_changes_nothing_with_the_users_browser(browser, address: str, evil: str, studio: Studio):
    """Forms and fetches of another origin, as an evil page sends them while the user has ours open."""
    context = browser.new_context()
    other = context.new_page()
    other.goto(evil)
    entry = next(entry for entry in studio.attached.library.entries() if entry.stem == "svg")
    statuses = other.evaluate(
        """async ([address, id]) => {
        const send = (path, options) => fetch(`${address}/lora/v1/${path}`, {method: "POST", ...options})
            .then((answer) => answer.type, () => "refused");
        const body = JSON.stringify({ids: [id], favorite: true, add_tags: ["evil"], digest: "", notes: "evil"});
        const found = [];
        for (const path of ["marks", `adapters/${id}/notes`, `adapters/${id}/preview`, "rescan"]) {
            found.push(await send(path, {body, mode: "no-cors"}));
            found.push(await send(path, {body, headers: {"Content-Type": "application/json"}}));
        }
        return found;
    }""",
        [address, entry.id],
    )
    assert statuses == ["opaque", "refused"] * 4
    other.evaluate(
        "address => { const form = document.forms[0]; form.action = `${address}/lora/v1/marks`;form.submit(); }",
        address,
    )
    other.wait_for_url(f"{address}/**")
    assert "another page" in other.inner_text("body")
    context.close()
    now = studio.attached.library.entry(entry.id)
    assert (now.favorite, now.user_tags, now.details.notes) == (False, (), "")
