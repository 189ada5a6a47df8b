"""One WebUI with the built-in Lora extension enabled, one with it disabled, and what one without us draws."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.webui.environment import ENVIRONMENT
from tests.webui.files import index_of, make_checkpoints, write_adapter
from tests.webui.instance import WebUI

collect_ignore_glob = ENVIRONMENT.ignored

if TYPE_CHECKING:
    from playwright.sync_api import Page

BUILT_IN = {"built-in enabled": (), "built-in disabled": ("Lora",)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if ENVIRONMENT.mistakes:
        raise pytest.UsageError("; ".join(ENVIRONMENT.mistakes))
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.webui)
            if ENVIRONMENT.root is None:  # a file that is named is collected all the same
                item.add_marker(pytest.mark.skip(reason="WEBUI_ROOT is not set"))


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def adapters(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every test WebUI has in models/Lora."""
    folder = tmp_path_factory.mktemp("loras")
    index = {name: index_of(checkpoints / f"tiny-{name}.safetensors") for name in ("sd1", "sdxl", "sd2")}
    for seed, (family, targets) in enumerate(index.items()):
        write_adapter(
            folder / f"{family}.safetensors", targets, seed=seed, metadata={"ss_output_name": f"the {family} one"}
        )
    write_adapter(folder / "second.safetensors", index["sd1"], seed=7)
    write_adapter(folder / "text.safetensors", index["sd1"], seed=8, only="lora_te")
    write_adapter(folder / "words.safetensors", index["sd1"], seed=9, only="mlp", words={"stardust": 64})
    write_adapter(folder / "styles" / "ink.safetensors", index["sd1"], seed=10)
    write_adapter(folder / "people" / "ink.safetensors", index["sd1"], seed=11)
    write_adapter(folder / "墨 v1.5 (final).safetensors", index["sd1"], seed=12)
    (folder / "broken.safetensors").write_bytes((folder / "sd1.safetensors").read_bytes()[:5000])
    return folder


@pytest.fixture(scope="session")
def plain(checkpoints: Path, adapters: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebUI]:
    """A WebUI without this extension."""
    webui = WebUI(tmp_path_factory.mktemp("plain"), checkpoints, extension=False)
    shutil.copytree(adapters, webui.loras, dirs_exist_ok=True)
    yield webui.start()
    webui.stop()


@pytest.fixture(scope="session", params=BUILT_IN)
def webui(
    request: pytest.FixtureRequest, checkpoints: Path, adapters: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebUI]:
    """A WebUI with this extension; the checkpoint is tiny-sd1."""
    webui = WebUI(tmp_path_factory.mktemp("data"), checkpoints, disabled=BUILT_IN[request.param])
    shutil.copytree(adapters, webui.loras, dirs_exist_ok=True)
    yield webui.start()
    webui.stop()


@pytest.fixture
def page(webui: WebUI) -> Iterator[Page]:
    """The page of the WebUI with this extension."""
    from tests.webui.browser import browsing, opened  # the other tests here need no Chromium

    with browsing() as browser, opened(browser, webui) as page:
        yield page
