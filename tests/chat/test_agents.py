"""The ready-made agents, each run as a user runs it: against a server on loopback that speaks the provider's protocol."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, other_python, photo
from wire_servers import KEY, Asked, Step, provider

from imgret_tools import ImageTools

pytestmark = pytest.mark.slow


def run(tools: ImageTools, script: str, *arguments: str, **environment: str) -> str:
    settings = tools.runtime.settings
    done = subprocess.run(
        [
            str(other_python("openai")) if script == "openai_agent.py" else sys.executable,
            str(ROOT / "agents" / script),
            *arguments,
        ],
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "IMGRET_DATA_DIR": str(settings.data_dir),
            "IMGRET_ROOTS": str(settings.roots[0]),
            "IMGRET_ENCODER": "mini",
            "OPENAI_API_KEY": KEY,
        }
        | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def script(asked: Asked) -> Step:
    """Search once, then say what was found; smolagents wants its answer as a call of `final_answer`."""
    known = {tool["function"]["name"] for tool in asked.body["tools"]}
    results = [one for one in asked.results if one] or [
        str(message["content"]) for message in asked.body["messages"] if '"rocket"' in str(message["content"])
    ]
    if not results:
        return [("search_similar_image", {"text": "a rocket", "k": 1})]
    answer = "A rocket." if '"rocket"' in results[-1] else "Nothing."
    return [("final_answer", {"answer": answer})] if "final_answer" in known else answer


@pytest.mark.parametrize(
    ("name", "model"),
    [("langchain_agent.py", "openai:test"), ("smolagents_agent.py", "test"), ("openai_agent.py", "test")],
)
def test_an_agent_searches_and_answers(indexed: ImageTools, name: str, model: str) -> None:
    with provider("openai", script) as server:
        said = run(indexed, name, model, "find a rocket", OPENAI_BASE_URL=f"{server.url}/v1")
    assert said.endswith("A rocket.")
    assert len(server.asked) == 2


def test_the_mcp_client_searches_by_words_and_by_a_picture(indexed: ImageTools, tmp_path: Path) -> None:
    assert '"rocket"' in run(indexed, "mcp_client.py", "a rocket")
    mine = tmp_path / "mine.jpg"
    mine.write_bytes(photo("gradio/media_assets/images/lion.jpg").read_bytes())
    assert "1. " in (said := run(indexed, "mcp_client.py", str(mine)))
    assert '"lion" strong' in said
