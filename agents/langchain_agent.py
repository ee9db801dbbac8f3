"""A LangChain agent on the image tools: `python agents/langchain_agent.py MODEL "find a red apple in photos"`.

MODEL is `provider:name` as `init_chat_model` takes it; the provider's package and key variable have to be there.
"""

from __future__ import annotations

import sys

from langchain.agents import create_agent
from langchain.agents.middleware import ToolCallLimitMiddleware
from langchain_core.messages import HumanMessage

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.langchain import ImageToolkit


def main(model: str, question: str) -> None:
    """Ask once and print the answer."""
    with Runtime.open(Settings.from_env()) as runtime:
        tools = ImageToolkit(tools=ImageTools(runtime)).get_tools()
        agent = create_agent(model, tools, middleware=[ToolCallLimitMiddleware(run_limit=12)])
        answer = agent.invoke({"messages": [HumanMessage(question)]})
    print(answer["messages"][-1].text)


if __name__ == "__main__":
    main(*sys.argv[1:3])
