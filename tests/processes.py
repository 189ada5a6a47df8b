"""Hooks for a run in several processes: the longest files come first, and one process compiles for all of them.

Nor is what tests import looked through for garbage, again and again: a third of what collecting them takes.
"""

from __future__ import annotations

import functools
import importlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib_lora.garbage import all_stays

HERE = Path(__file__).parent
FIRST, SECOND = "gw0", "gw1"
LARGE = "gradio", "playwright.sync_api"  # and without torch: compiled by the second while the first begins with that
PATIENCE = 300  # seconds; after that each process compiles for itself
# By the time they take: a process that begins one of them at the end would work on when all others have ended.
LONGEST = (
    "test_strength page/test_strip_editor test_benchmarks test_cli test_soak test_beside test_library_faults "
    "test_host_contract test_lifecycle test_faults test_models page/test_drawing test_hostile page/test_marking "
    "page/test_strip page/test_looks page/test_listing page/test_hostile_page test_roundtrip test_cli_faults "
    "test_compare_ray test_against_diffusers page/test_compare test_pickles test_originals page/test_editing "
    "test_books test_golden test_architecture test_regions page/test_report test_merge"
).split()
PLACES = {HERE / f"{name}.py": place for place, name in enumerate(LONGEST)}
assert all(path.is_file() for path in PLACES), "where the longest are now"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: PLACES.get(item.path, len(PLACES)))


@functools.cache
def nothing_is_compiled() -> bool:
    """A fresh clone: nothing of what the tests import, nor they themselves, has been read by this Python yet."""
    return not sys.dont_write_bytecode and not any((HERE / "__pycache__").glob("test_*.pyc"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Of pytest-xdist, for each process, before the first of them begins."""
    node.workerinput["waits"] = nothing_is_compiled() and node.gateway.id != FIRST


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """On a fresh clone the first process collects before the others, who find everything compiled then. The second has
    compiled some of it meanwhile.

    All at once would each compile the same: torch, diffusers, Gradio, and the tests with pytest's own eyes in them.
    """
    given = getattr(session.config, "workerinput", {"waits": False, "workerid": ""})
    with all_stays():
        if given["waits"] and given["workerid"] == SECOND:
            for name in LARGE:
                importlib.import_module(name)
        end = time.monotonic() + PATIENCE
        while given["waits"] and not collected(given).exists() and time.monotonic() < end:
            time.sleep(0.2)
        try:
            return (yield)
        finally:
            if given["workerid"] == FIRST:
                collected(given).touch()


def collected(given: dict[str, Any]) -> Path:
    """The file that says so to the other processes."""
    return Path(tempfile.gettempdir()) / f"lib_lora-collected-{given['testrunuid']}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    given = getattr(session.config, "workerinput", None)
    if given is not None and given["workerid"] == FIRST:
        collected(given).unlink(missing_ok=True)
