"""The extension is switched on and off while the WebUI runs, and removed: nothing of it stays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

from tests.webui.instance import WebUI, difference

PROMPT = "a red circle, a cat"
TAGGED = f"{PROMPT} <lora:sd1:0.8>"
OURS = "lib_lora.webui.network"
PAGES = ["lib_lora.webui.cards.extra_page"]


@pytest.fixture(scope="module")
def own(checkpoints, adapters, tmp_path_factory) -> Iterator[WebUI]:
    """A WebUI whose extensions come and go; it starts with ours switched off."""
    webui = WebUI(tmp_path_factory.mktemp("coming"), checkpoints, disabled=("lib_lora",))
    shutil.copytree(adapters, webui.loras, dirs_exist_ok=True)
    yield webui.start()
    webui.stop()


def test_switched_on_it_takes_the_weights_over_as_the_built_in_found_them(own):
    assert own.request("/probe")["registry"] == "extra_networks_lora"
    untouched = own.draw(PROMPT).picture
    tagged = own.draw(TAGGED)  # the built-in leaves this adapter in the weights
    own.reload(disabled_extensions=[])
    seen = own.request("/probe")
    assert (seen["registry"], seen["torch is patched"], seen["session"]) == (OURS, False, True)
    assert difference(own.draw(PROMPT).picture, untouched) == 0
    again = own.draw(TAGGED)
    assert difference(again.picture, tagged.picture) <= 1
    assert again.text == tagged.text


def test_reloaded_it_is_there_once(own):
    before = own.draw(TAGGED).picture
    for options in ({}, {"enable_reloading_ui_scripts": True}):
        own.reload(**options)
    seen = own.request("/probe")
    assert (seen["registry"], seen["pages"], seen["torch is patched"]) == (OURS, PAGES, False)
    assert difference(own.draw(TAGGED).picture, before) == 0
    assert "is in the way" not in own.log.read_text()


def test_the_built_in_can_be_switched_off_and_on_beside_it(own):
    before = own.draw(TAGGED).picture
    for disabled in (["Lora"], []):
        own.reload(disabled_extensions=disabled)
        seen = own.request("/probe")
        assert (seen["registry"], seen["torch is patched"], seen["same objects"]) == (OURS, False, True)
        assert own.request("/sdapi/v1/options")["sd_lora"] == "None"
        assert difference(own.draw(TAGGED).picture, before) == 0


def test_switched_off_the_built_in_is_back_and_the_weights_are_untouched(own):
    own.reload(disabled_extensions=[])
    untouched, tagged = own.draw(PROMPT), own.draw(TAGGED)  # ours is in the weights now
    own.reload(disabled_extensions=["lib_lora"])
    seen = own.request("/probe")
    assert (seen["registry"], seen["torch is patched"], seen["session"]) == ("extra_networks_lora", True, False)
    assert difference(own.draw(PROMPT).picture, untouched.picture) == 0
    assert difference(own.draw(TAGGED).picture, tagged.picture) <= 1
    assert {"sd1", "second"} <= {each["name"] for each in own.request("/sdapi/v1/loras")}
    assert "Error" not in "".join(line for line in own.log.read_text().splitlines() if "lib_lora" in line)


def test_a_start_with_it_changes_no_setting(checkpoints, adapters, tmp_path):
    webui = WebUI(tmp_path, checkpoints)
    shutil.copytree(adapters, webui.loras, dirs_exist_ok=True)
    before = json.loads(webui.config.read_text())
    files = {path.name for path in webui.loras.rglob("*")}
    webui.start()
    webui.draw(TAGGED)
    webui.stop()
    after = json.loads(webui.config.read_text())
    assert {key: after.get(key) for key in before} == before
    assert not [key for key in after if "lora" in key.lower()]
    assert {path.name for path in webui.loras.rglob("*")} == files
