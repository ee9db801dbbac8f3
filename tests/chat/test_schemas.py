"""One schema everywhere: Python, LangChain and MCP show the same tools, and a change of them is seen here.

To take a change over: `python tests/chat/test_schemas.py`.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from langchain_core.utils.function_calling import convert_to_openai_tool

from imgret_tools import ImageTools
from imgret_tools.langchain import as_langchain_tools
from imgret_tools.mcp import make_mcp
from imgret_tools.schemas import published, read_docstring
from imgret_tools.tools import TOOLS

SNAPSHOT = Path(__file__).with_name("schemas.json")

T = TypeVar("T")


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in a thread of its own: the loop that pytest-asyncio keeps for this thread stays as it is."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def current() -> list[dict[str, object]]:
    return [
        {"name": tool.name, "description": tool.description, "arguments": tool.arguments.model_json_schema()}
        for tool in published()
    ]


def test_the_schemas_are_those_of_the_snapshot() -> None:
    assert current() == json.loads(SNAPSHOT.read_text(encoding="utf-8"))


def test_python_langchain_and_mcp_show_the_same(indexed: ImageTools) -> None:
    langchain = [
        {"name": tool.name, "description": tool.description, "arguments": tool.tool_call_schema.model_json_schema()}  # type: ignore[union-attr]
        for tool in as_langchain_tools(indexed)
    ]
    mcp = [
        {"name": tool["name"], "description": tool["description"], "arguments": tool["inputSchema"]}
        for tool in make_mcp(indexed).tools()
    ]
    for name in TOOLS:
        method = getattr(ImageTools, name)
        description, told = read_docstring(method)
        parameters = {key: value for key, value in inspect.signature(method).parameters.items() if key != "self"}
        for shown in (
            *(one for one in langchain if one["name"] == name),
            *(one for one in mcp if one["name"] == name),
        ):
            properties = shown["arguments"]["properties"]  # type: ignore[index]
            assert shown["description"] == description
            assert {key: value["description"] for key, value in properties.items()} == told
            assert list(properties) == list(parameters)
            assert {key: value["default"] for key, value in properties.items() if "default" in value} == {
                key: value.default
                for key, value in parameters.items()
                if value.default not in (inspect.Parameter.empty, None)
            }
    assert [untitled(one) for one in langchain] == [untitled(one) for one in mcp]


def untitled(tool: dict[str, Any]) -> dict[str, dict[str, object]]:
    """A tool's arguments without the titles that LangChain puts back."""
    properties = tool["arguments"]["properties"]
    return {name: {key: fact for key, fact in field.items() if key != "title"} for name, field in properties.items()}


def test_what_a_provider_is_sent_says_the_same(indexed: ImageTools) -> None:
    for tool, listed in zip(as_langchain_tools(indexed), published(), strict=True):
        sent = convert_to_openai_tool(tool)["function"]
        assert (sent["name"], sent["description"]) == (listed.name, listed.description)
        assert list(sent["parameters"]["properties"]) == list(listed.arguments.model_fields)


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(current(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"{SNAPSHOT} written\n")
