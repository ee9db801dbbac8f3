"""Real provider clients over real protocols, in our loop and in LangChain's agent."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from wire_servers import KEY, Asked, Provider, Step, provider

from imgret_tools import ImageTools, Runtime
from imgret_tools.chat.events import Answered, Called, Said
from imgret_tools.chat.models import ModelError
from imgret_tools.chat.talk import CONTEXT, Chat
from imgret_tools.langchain import as_langchain_tools

BOTH = pytest.mark.parametrize("protocol", ["openai", "anthropic"])
LOOPS = pytest.mark.parametrize("loop", ["ours", "create_agent"])


def model(protocol: str, server: Provider, key: str = KEY) -> BaseChatModel:
    common: dict[str, Any] = {"model": "test", "api_key": key, "max_retries": 0, "timeout": 20}
    if protocol == "openai":
        return ChatOpenAI(base_url=f"{server.url}/v1", **common)
    return ChatAnthropic(base_url=server.url, **common)


def run(loop: str, protocol: str, server: Provider, tools: ImageTools, question: str, with_images: bool = False) -> str:
    made = model(protocol, server)
    if loop == "ours":
        events = list(Chat(tools, made, with_images=with_images).ask(question))
        return "".join(event.text for event in events if isinstance(event, Said))
    agent: Any = create_agent(made, as_langchain_tools(tools, with_images=with_images))
    return str(agent.invoke({"messages": [("user", question)]})["messages"][-1].text)


def steps(*answers: Step | Callable[[Asked], Step]) -> Callable[[Asked], Step]:
    """One answer for each round of tool results; callables see what came back."""
    rounds: list[int] = []

    def script(asked: Asked) -> Step:
        rounds.append(1)
        step = answers[len(rounds) - 1]
        return step(asked) if callable(step) else step

    return script


def first_id(asked: Asked) -> str:
    found = re.search(r"^1\. (\S+)", asked.results[-1], re.MULTILINE)
    assert found, asked.results
    return found[1]


@BOTH
@LOOPS
def test_index_then_search_then_compare(runtime: Runtime, photos: Path, protocol: str, loop: str) -> None:
    script = steps(
        [("index_folder", {"folder": str(photos)})],
        [("search_similar_image", {"text": "a cheetah", "k": 3})],
        lambda asked: [("compare_metrics", {"image": first_id(asked), "k": 2})],
        lambda asked: f"Compared {len(asked.results)} results.",
    )
    with provider(protocol, script) as server:
        said = run(loop, protocol, server, ImageTools(runtime), "index my photos, find a cheetah, compare")
    assert said == "Compared 3 results."
    assert "added 12" in server.asked[1].results[0]
    assert "embedding cosine exact" in server.asked[3].results[2]
    assert {tool.get("name") or tool["function"]["name"] for tool in server.asked[0].body["tools"]} >= {
        "index_folder",
        "search_similar_image",
        "compare_metrics",
    }


@BOTH
@LOOPS
def test_a_multimodal_model_is_shown_what_was_found(indexed: ImageTools, protocol: str, loop: str) -> None:
    script = steps([("search_similar_image", {"text": "a rocket", "k": 2})], "A rocket.")
    with provider(protocol, script) as server:
        run(loop, protocol, server, indexed, "a rocket?", with_images=True)
    assert server.asked[1].images == 2


@BOTH
@LOOPS
def test_a_model_recovers_from_a_tool_error(indexed: ImageTools, protocol: str, loop: str) -> None:
    script = steps(
        [("search_similar_image", {"text": "a lion", "k": 10**9})],
        lambda asked: [("search_similar_image", {"text": "a lion", "k": 2})] if "200" in asked.results[-1] else "lost",
        lambda asked: first_id(asked),
    )
    with provider(protocol, script) as server:
        said = run(loop, protocol, server, indexed, "all lions")
    assert re.fullmatch(r"[0-9a-f]{12}", said)
    assert server.asked[1].errors == (1 if protocol == "anthropic" else 0)


@BOTH
@LOOPS
@pytest.mark.parametrize("path", ["/etc/passwd", "../../secret.png", "file:///etc/passwd", "http://10.0.0.1/x.png"])
def test_an_invented_path_is_refused_with_what_to_do(indexed: ImageTools, protocol: str, loop: str, path: str) -> None:
    with provider(protocol, steps([("search_similar_image", {"image": path})], "Sorry.")) as server:
        assert run(loop, protocol, server, indexed, "like that one") == "Sorry."
    told = server.asked[1].results[0]
    assert re.search("IMGRET_ROOTS|plain path|give a path or an id", told), told
    assert "root:" not in told


@BOTH
@LOOPS
def test_parallel_calls_are_all_answered(indexed: ImageTools, protocol: str, loop: str) -> None:
    calls = [("search_similar_image", {"text": text, "k": 1}) for text in ("a rocket", "a lion", "a cup of coffee")]
    with provider(protocol, steps(calls, "Three.")) as server:
        assert run(loop, protocol, server, indexed, "three things") == "Three."
    found = [re.search(r'^1\. \S+ "(\w+)"', result, re.MULTILINE)[1] for result in server.asked[1].results]  # type: ignore[index]
    assert found == ["rocket", "lion", "coffee"]


@BOTH
def test_twenty_turns_stay_within_the_context(indexed: ImageTools, protocol: str) -> None:
    def script(asked: Asked) -> Step:
        return (
            "done"
            if asked.results
            else [("search_similar_image", {"text": "animals", "k": 12}), ("compare_metrics", {"image": "x"})]
        )

    with provider(protocol, script) as server:
        chat = Chat(indexed, model(protocol, server))
        for turn in range(20):
            events = list(chat.ask(f"turn {turn} " + "words " * 400))
            assert events[-2:] == [Said("do"), Said("ne")]
    sizes = [asked.size for asked in server.asked]
    assert server.asked[-1].question.startswith("turn 19")
    assert max(sizes) < CONTEXT * 1.3 + 10_000
    assert len(server.asked[-1].body["messages"]) < len(chat.messages)


@BOTH
def test_text_streams_and_calls_are_shown_as_they_happen(indexed: ImageTools, protocol: str) -> None:
    with provider(protocol, steps([("search_similar_image", {"text": "a rocket"})], "Here it is.")) as server:
        kinds = [type(event) for event in Chat(indexed, model(protocol, server)).ask("a rocket")]
    assert kinds == [Called, Answered, Said, Said]


@BOTH
def test_a_model_that_never_ends_is_stopped(indexed: ImageTools, protocol: str) -> None:
    with provider(protocol, lambda asked: [("search_similar_image", {"text": "again", "k": 1})]) as server:
        chat = Chat(indexed, model(protocol, server), max_calls=3)
        events = list(chat.ask("on and on"))
        assert isinstance(events[-1], Said)
        assert "Stopped after 3" in events[-1].text
        assert len(server.asked) == 3
        list(chat.ask("and again"))  # the talk is still one that a provider takes


@BOTH
def test_cancelling_ends_the_turn_before_the_next_call(indexed: ImageTools, protocol: str) -> None:
    with provider(protocol, lambda asked: [("search_similar_image", {"text": "again", "k": 1})]) as server:
        seen: list[object] = []
        for event in Chat(indexed, model(protocol, server)).ask("go", cancelled=lambda: bool(seen)):
            seen.append(event)
    assert len(server.asked) == 1
    assert [event.failed for event in seen if isinstance(event, Answered)] == [True]


@BOTH
def test_cancelling_ends_an_answer_between_two_words(indexed: ImageTools, protocol: str) -> None:
    with provider(protocol, lambda asked: "Here it is.") as server:
        chat = Chat(indexed, model(protocol, server))
        seen: list[object] = []
        for event in chat.ask("go", cancelled=lambda: bool(seen)):
            seen.append(event)
        said = "".join(event.text for event in seen if isinstance(event, Said))
        assert said.endswith("⏹ Stopped.")
        assert not said.startswith("Here it is.")
        assert str(chat.messages[-1].text) == said
        list(chat.ask("and again"))  # the talk is still one that a provider takes


@BOTH
def test_a_wrong_key_is_told_without_the_key_and_the_talk_goes_on(indexed: ImageTools, protocol: str) -> None:
    with provider(protocol, steps("Hello.")) as server:
        chat = Chat(indexed, model(protocol, server, key="sk-wrong-key-987654"))
        with pytest.raises(ModelError, match="401") as refused:
            list(chat.ask("hello"))
        assert "987654" not in str(refused.value)
        assert refused.value.__cause__ is None
        assert chat.messages == []


def test_a_tool_nobody_knows_and_broken_arguments_are_answered(indexed: ImageTools) -> None:
    with provider("openai", steps([("delete_everything", {})], "No.")) as server:
        list(Chat(indexed, model("openai", server)).ask("delete"))
    assert "there are index_folder" in server.asked[1].results[0]
