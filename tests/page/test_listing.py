"""The listing of the adapters: search, filters, cards, keys, and details that go into the prompt."""

from __future__ import annotations

from tests.page.hands import CARDS, card, choose, count_cards, focus_is_in, open_details, open_listing, text, write


def test_it_lists_searches_and_inserts(page):
    write(page, "a castle")
    cards = open_listing(page)
    assert cards.count() == 4
    page.fill(".lora-search", "ink")
    count_cards(page, 1)
    cards.first.click()
    assert text(page) == "a castle <lora:ink wash:1>"
    assert cards.first.get_attribute("aria-selected") == "true"
    cards.first.click()
    assert text(page) == "a castle"
    page.fill(".lora-search", "")
    count_cards(page, 4)


def test_a_filter_is_chosen_from_its_menu_and_taken_away_by_its_chip(page):
    cards = open_listing(page)
    choose(page, "family", "SDXL")
    count_cards(page, 1)
    assert "made for SDXL" in cards.first.get_attribute("title")
    assert page.locator(".lora-told").inner_text() == "1 of 4 adapters"
    choose(page, "folder", "(top)")
    chips = page.locator(".lora-chosen-chip")
    assert chips.all_inner_texts() == ["SDXL", "(top)"]
    chips.first.click()
    count_cards(page, 3)
    choose(page, "family", "SD 1.5")
    page.get_by_role("button", name="Clear filters").click()
    count_cards(page, 4)
    assert chips.count() == 0


def test_the_menu_of_a_filter_is_used_with_keys(page):
    open_listing(page)
    page.locator("[data-lora-facet=family]").focus()
    page.keyboard.press("Enter")
    assert page.locator("[data-lora-facet=family]").get_attribute("aria-expanded") == "true"
    page.keyboard.press("ArrowDown")
    value = page.evaluate("document.activeElement.value")
    page.keyboard.press("Space")
    page.locator(".lora-chosen-chip").wait_for()
    assert page.evaluate("[document.activeElement.value, document.activeElement.checked]") == [value, True]
    page.keyboard.press("Escape")
    assert page.locator(".lora-menu").is_hidden()
    assert page.evaluate("document.activeElement.dataset.loraFacet") == "family"


def test_it_works_without_a_mouse(page):
    write(page, "a castle")
    open_listing(page)
    page.fill(".lora-search", "b")
    card(page, "bend").wait_for()
    page.fill(".lora-search", "bend")
    count_cards(page, 1)
    page.press(".lora-search", "ArrowDown")
    page.keyboard.press("Enter")
    assert text(page) == "a castle <lora:bend:1>"
    page.keyboard.press("i")
    page.locator(".lora-details h3", has_text="bend").wait_for()
    page.keyboard.press("i")
    assert focus_is_in(page, ".lora-details")
    page.keyboard.press("Escape")
    assert page.locator(".lora-details").is_hidden()
    assert focus_is_in(page, ".lora-window")
    active = page.locator(".lora-window").get_attribute("aria-activedescendant")
    assert page.locator(f"#{active} .lora-title").inner_text() == "bend"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.className") == "lora-search"


def test_slash_leads_to_the_search_from_anywhere_but_a_text(page):
    open_listing(page)
    page.get_by_role("tab", name="Adapters").focus()
    page.keyboard.press("/")
    assert focus_is_in(page, ".lora-search")
    assert page.input_value(".lora-search") == ""
    page.keyboard.type("styles/")
    assert page.input_value(".lora-search") == "styles/"
    count_cards(page, 1)


def test_the_list_of_keys_names_every_key_and_closes(page):
    open_listing(page)
    page.locator(".lora-window").focus()
    page.keyboard.press("?")
    dialog = page.locator("dialog.lora-help")
    assert dialog.is_visible()
    assert dialog.locator("kbd").all_inner_texts()[:9] == ["/", "Enter, Space", "i", "e", "f", "x", "c", "Esc", "?"]
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    assert focus_is_in(page, ".lora-window")


def test_arrow_keys_take_the_details_along(page):
    open_listing(page)
    page.locator(".lora-window").focus()
    page.keyboard.press("i")
    first = page.locator(".lora-details h3").inner_text()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("first => document.querySelector('.lora-details h3').textContent !== first", arg=first)
    assert focus_is_in(page, ".lora-window")


def test_the_details_put_the_adapter_in_at_the_weight_of_the_slider_and_move_it_there(page):
    write(page, "a castle")
    open_listing(page)
    panel = open_details(page, "bend")
    panel.get_by_label("Weight").last.fill("0.4")
    assert text(page) == "a castle"
    panel.get_by_role("button", name="Put into the prompt").click()
    assert text(page) == "a castle <lora:bend:0.4>"
    panel.locator("input[type=range]").press("ArrowRight")
    assert text(page) == "a castle <lora:bend:0.45>"
    panel.get_by_role("button", name="Take out of the prompt").click()
    assert text(page) == "a castle"


def test_trigger_words_of_the_details_go_in_and_out_one_by_one(page):
    write(page, "a castle")
    open_listing(page)
    panel = open_details(page, "ink wash")
    chip = panel.locator("[data-lora-word]").first
    chip.click()
    assert chip.get_attribute("aria-pressed") == "true"
    assert text(page) == f"a castle, {chip.inner_text()}"
    chip.click()
    assert text(page) == "a castle"


def test_screen_readers_hear_how_many_cards_there_are_and_which_this_is(page):
    cards = open_listing(page)
    assert page.locator(".lora-window").get_attribute("role") == "listbox"
    said = [(card.get_attribute("aria-posinset"), card.get_attribute("aria-setsize")) for card in cards.all()]
    assert sorted(said) == [("1", "4"), ("2", "4"), ("3", "4"), ("4", "4")]
    fields = ".lora-listing :is(button, input, select, textarea)"
    unnamed = page.evaluate(
        """fields => [...document.querySelectorAll(fields)]
        .filter((each) => !(each.getAttribute('aria-label') || each.textContent.trim() || each.closest('label')))
        .map((each) => each.outerHTML)""",
        fields,
    )
    assert unnamed == []


def test_new_files_come_by_the_button_with_what_was_found(page, folder):
    cards = open_listing(page)
    (folder / "late.safetensors").write_bytes(b"hello")
    page.get_by_label("Look for new files").click()
    page.locator(".lora-told", has_text="1 new, 0 changed, 0 gone").wait_for()
    assert cards.count() == 5
    (folder / "late.safetensors").unlink()
    page.get_by_label("Look for new files").click()
    page.locator(".lora-told", has_text="0 new, 0 changed, 1 gone").wait_for()


def test_order_and_kind_of_view_are_remembered(page):
    open_listing(page)
    page.select_option("select[aria-label=Order]", "newest")
    page.get_by_label("List or grid").click()
    page.wait_for_timeout(300)
    page.reload()
    open_listing(page)
    assert page.input_value("select[aria-label=Order]") == "newest"
    assert page.locator(".lora-listing.lora-as-list").count() == 1
    assert page.locator(CARDS).first.bounding_box()["height"] < 80


def test_the_order_can_be_turned_round_and_stays_so(page):
    open_listing(page)
    titles = page.locator(f"{CARDS} .lora-title")
    forward = titles.all_inner_texts()
    page.get_by_label("The other way round").click()
    page.wait_for_function(
        "last => document.querySelector('.lora-listing .lora-title')?.innerText === last", arg=forward[-1]
    )
    assert titles.all_inner_texts() == forward[::-1]
    page.reload()
    open_listing(page)
    assert titles.all_inner_texts() == forward[::-1]
    assert page.get_by_label("The other way round").get_attribute("aria-pressed") == "true"


def test_a_long_search_for_files_shows_how_far_it_is(page):
    open_listing(page)
    asked = []

    def slow(route):
        if route.request.method == "POST":
            asked.append(route)  # answered at the end
        else:
            route.fulfill(json={"running": True, "done": 2500, "total": 10_000})

    page.route("**/lora/v1/rescan", slow)
    page.get_by_label("Look for new files").click()
    bar = page.get_by_role("progressbar", name="Reading 2,500 of 10,000 files")
    bar.wait_for()
    assert (bar.get_attribute("aria-valuenow"), bar.get_attribute("aria-valuemax")) == ("2500", "10000")
    asked[0].fulfill(json={"added": 0, "changed": 0, "removed": 0, "broken": 0, "problems": ["x.json is no JSON"]})
    page.locator(".lora-told", has_text="0 new, 0 changed, 0 gone. x.json is no JSON").wait_for()
    assert page.get_by_role("progressbar").count() == 0


def test_hashes_of_all_are_computed_in_the_background_and_the_bar_says_so(page):
    open_listing(page)
    state = {"running": True, "done": 1, "total": 4}
    page.route("**/lora/v1/hashing", lambda route: route.fulfill(json=state))
    page.get_by_label("Duplicates").first.click()
    page.get_by_role("progressbar", name="Computing hashes: 1 of 4 files").wait_for()
    assert page.get_by_role("button", name="Compute hashes").is_disabled()
    state["running"] = False
    page.get_by_role("progressbar").wait_for(state="hidden")
    assert page.get_by_role("button", name="Compute hashes").is_enabled()
