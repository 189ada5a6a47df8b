"""What the commands keep for a user is kept elsewhere while they are tested; every process computes on one core."""

from __future__ import annotations

import gc
import os

import pytest

from tests.processes import (  # noqa: F401
    pytest_collection,
    pytest_collection_modifyitems,
    pytest_configure_node,
    pytest_sessionfinish,
)
from tests.webui.environment import ENVIRONMENT

# Before torch is imported, and for the programs that tests start: on tensors as small as these more threads only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_report_header() -> list[str]:
    """What tests/webui needs. Said here: a folder's own conftest is read too late for the header of a whole run."""
    return ENVIRONMENT.header()


def pytest_collection_finish() -> None:
    """What is imported by now stays to the end: Python need not look through it for garbage again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.fixture(autouse=True, scope="module")
def no_garbage_of_other_files():
    """A whole look through what a file's tests leave: of its own accord Python now seldom takes one."""
    yield
    gc.collect()


@pytest.fixture(autouse=True, scope="session")
def no_index_of_the_users(tmp_path_factory):
    """Commands that the tests run, in this process or in another, have a cache of their own."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before
