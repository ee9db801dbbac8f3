"""A smolagents agent on the image tools: `python agents/smolagents_agent.py MODEL "find a red apple"`.

Needs `pip install "smolagents[openai]"` and OPENAI_API_KEY; OPENAI_BASE_URL names any server that speaks chat completions.
"""

from __future__ import annotations

import os
import sys

from smolagents import OpenAIServerModel, Tool, ToolCallingAgent  # type: ignore[import-untyped]

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.langchain import as_langchain_tools


def main(model: str, question: str) -> str:
    """The agent's last word."""
    with Runtime.open(Settings.from_env()) as runtime:
        agent = ToolCallingAgent(
            tools=[Tool.from_langchain(tool) for tool in as_langchain_tools(ImageTools(runtime))],
            model=OpenAIServerModel(
                model, api_base=os.environ.get("OPENAI_BASE_URL"), api_key=os.environ.get("OPENAI_API_KEY")
            ),
            max_steps=12,
            verbosity_level=0,
        )
        return str(agent.run(question))


if __name__ == "__main__":
    print(main(*sys.argv[1:3]))
