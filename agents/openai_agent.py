"""An OpenAI Agents SDK agent on the image tools: `python agents/openai_agent.py MODEL "find a red apple"`.

Needs `pip install openai-agents` and OPENAI_API_KEY; OPENAI_BASE_URL names any server that speaks chat completions.
"""

# The SDK's package is called as this folder is, so mypy would look for it here.
# mypy: ignore-errors

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

from langchain_core.utils.function_calling import convert_to_openai_tool
from openai import AsyncOpenAI

from agents import Agent, FunctionTool, OpenAIChatCompletionsModel, RunContextWrapper, Runner, set_tracing_disabled
from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.langchain import as_langchain_tools


def tools_for(tools: ImageTools) -> list[FunctionTool]:
    """The tools as the SDK takes them: their own schemas, their text as the answer."""
    made = []
    for tool in as_langchain_tools(tools):

        def calling(name: str) -> Callable[[RunContextWrapper[object], str], Awaitable[str]]:
            async def call(_: RunContextWrapper[object], arguments: str) -> str:
                chosen = next(one for one in as_langchain_tools(tools) if one.name == name)
                return str(await chosen.ainvoke(json.loads(arguments or "{}")))

            return call

        sent = convert_to_openai_tool(tool)["function"]["parameters"]
        made.append(FunctionTool(tool.name, tool.description, sent, calling(tool.name), strict_json_schema=False))
    return made


async def ask(model: str, question: str) -> str:
    """The agent's last word."""
    set_tracing_disabled(True)
    with Runtime.open(Settings.from_env()) as runtime:
        agent = Agent(
            name="Image search",
            instructions="Search the user's pictures with the tools; never make up ids or paths.",
            model=OpenAIChatCompletionsModel(model, AsyncOpenAI()),
            tools=list(tools_for(ImageTools(runtime))),
        )
        return str((await Runner.run(agent, question, max_turns=12)).final_output)


if __name__ == "__main__":
    print(asyncio.run(ask(*sys.argv[1:3])))
