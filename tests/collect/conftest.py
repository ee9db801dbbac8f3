"""Fixtures: two local sites and a browser."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .sites import Site


@pytest.fixture
def site() -> Iterator[Site]:
    running = Site()
    yield running
    running.close()


@pytest.fixture
def other_site() -> Iterator[Site]:
    running = Site()
    yield running
    running.close()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; without one the test skips and says so, under CI it fails."""
    from imgret_tools.collect.read.browser import find_chromium
    from imgret_tools.errors import CollectError

    try:
        return find_chromium()
    except CollectError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"needs a browser: {error}")
