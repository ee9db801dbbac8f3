"""Both generations of the MCP SDK, as server and as client."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, copy_photos, other_python, serving
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.tools import TOOLS

pytestmark = pytest.mark.slow

SERVE = ("-m", "imgret_tools.cli", "mcp")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that serves a library of photos."""
    folder = tmp_path_factory.mktemp("generations")
    copy_photos(folder / "photos")
    with Runtime.open(Settings(data_dir=folder / "data", roots=(folder,), encoder="mini")) as runtime:
        ImageTools(runtime).index_folder(str(folder / "photos"))
    own = {"IMGRET_DATA_DIR": str(folder / "data"), "IMGRET_ROOTS": str(folder), "PYTHONPATH": str(ROOT)}
    return os.environ | own


def by_client_2(world: dict[str, str], *server: str) -> dict[str, Any]:
    program = [str(other_python("mcp2")), str(Path(__file__).with_name("mcp_client_2.py")), *server]
    done = subprocess.run(program, env=world, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "neither side complains"
    return dict(json.loads(done.stdout))


def is_right(answered: dict[str, Any]) -> None:
    assert answered["tools"] == list(TOOLS)
    assert '"rocket"' in answered["text"]
    assert answered["structured"]["hits"][0]["label"] == "rocket"
    assert answered["refused"]
    assert answered["picture"] == "image/jpeg"
    assert "call the tool again" in answered["missing"]


def test_a_client_of_sdk_2_talks_to_a_server_on_sdk_1(world: dict[str, str]) -> None:
    answered = by_client_2(world, "--", sys.executable, *SERVE)
    is_right(answered)
    assert answered["protocol"] == "2025-11-25"


def test_a_client_of_sdk_2_talks_to_a_server_on_sdk_2(world: dict[str, str]) -> None:
    answered = by_client_2(world, "--", str(other_python("mcp2")), *SERVE)
    is_right(answered)
    assert answered["protocol"] == "2026-07-28"


@pytest.mark.parametrize("generation", [1, 2])
def test_a_client_of_sdk_2_talks_to_the_app(world: dict[str, str], generation: int, tmp_path: Path) -> None:
    python = sys.executable if generation == 1 else str(other_python("mcp2"))
    with serving([python, "-m", "imgret_tools.cli", "serve"], tmp_path, **world) as address:
        is_right(by_client_2(world, f"{address}/mcp"))


def test_a_client_of_sdk_1_talks_to_a_server_on_sdk_2(world: dict[str, str]) -> None:
    async def go() -> tuple[list[str], str, list[float]]:
        command = StdioServerParameters(command=str(other_python("mcp2")), args=list(SERVE), env=world)
        told: list[float] = []

        async def progress(done: float, total: float | None, message: str | None) -> None:
            told.append(done)

        async with stdio_client(command) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            names = [tool.name for tool in (await session.list_tools()).tools]
            folder = str(Path(world["IMGRET_ROOTS"]) / "photos")
            await session.call_tool("index_folder", {"folder": folder}, progress_callback=progress)
            found = await session.call_tool("search_similar_image", {"text": "a rocket", "k": 1})
            return names, found.content[0].text, told  # type: ignore[union-attr]

    names, text, told = asyncio.run(go())
    assert names == list(TOOLS)
    assert '"rocket"' in text
    assert told[-1] == 12
