"""A chat model that needs no key and no network: it reads plain requests by patterns and calls the tools for them.

It is a LangChain chat model, so it runs wherever a provider's runs. All it knows is in the messages: the last search
and the ids it found make "the second one" and "show 12" work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from imgret_tools.chat.grammar import Language
from imgret_tools.chat.understand import Request, understand
from imgret_tools.records import quoted

SEARCH, INDEX, COMPARE = "search_similar_image", "index_folder", "compare_metrics"

TEXTS: dict[str, dict[Language, str]] = {
    "help": {
        "en": "I work offline and understand plain requests: index the folder photos; find red apples; show 12; more like "
        "#2; only label dog; use l1; next page; compare the measures for #1.",
        "vi": "Tôi chạy ngoại tuyến và hiểu các yêu cầu đơn giản: lập chỉ mục thư mục photos; tìm táo đỏ; hiện 12 ảnh; tìm "
        "ảnh giống cái thứ hai; chỉ nhãn dog; dùng l1; trang sau; so sánh các độ đo cho #1.",
    },
    "refuse": {
        "en": "I can't do that: offline I index folders, search pictures by words or by a picture, and compare measures. "
        "Say help for examples, or set IMGRET_MODEL to a provider's model for free conversation.",
        "vi": "Tôi không làm được việc đó: khi ngoại tuyến tôi lập chỉ mục thư mục, tìm ảnh bằng chữ hoặc bằng ảnh, và so "
        "sánh các độ đo. Gõ giúp tôi để xem ví dụ, hoặc đặt IMGRET_MODEL để trò chuyện tự do.",
    },
    "nothing_before": {
        "en": "There is no earlier result to refer to; search for something first.",
        "vi": "Chưa có kết quả nào trước đó để nhắc tới; hãy tìm một thứ gì trước.",
    },
    "fewer": {
        "en": "The last result has only {count} pictures; name one of them.",
        "vi": "Kết quả trước chỉ có {count} ảnh; hãy chọn một trong số đó.",
    },
    "found": {"en": "Found {count} pictures, best first:", "vi": "Tìm thấy {count} ảnh, tốt nhất trước:"},
    "nothing": {"en": "Nothing was found.", "vi": "Không tìm thấy ảnh nào."},
    "indexed": {"en": "Done. {text}", "vi": "Đã xong. {text}"},
    "compared": {"en": "The measures compared:\n\n{text}", "vi": "So sánh các độ đo:\n\n{text}"},
    "failed": {"en": "That did not work: {text}", "vi": "Không thực hiện được: {text}"},
}  # fmt: skip

_UPLOAD = re.compile(r"^\[picture (upload-\d+)\]\s*")


class OfflineModel(BaseChatModel):
    """Plans each step from the messages alone."""

    @property
    def _llm_type(self) -> str:
        return "imgret-offline"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model itself: it knows the tools it calls."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=next_step(messages))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        step = next_step(messages)
        pieces = [*re.findall(r"\S+\s*", str(step.text))] or [""]
        for place, piece in enumerate(pieces):
            last = place == len(pieces) - 1
            chunk = AIMessageChunk(
                content=piece, tool_calls=step.tool_calls if last else [], chunk_position="last" if last else None
            )
            if run_manager:
                run_manager.on_llm_new_token(piece)
            yield ChatGenerationChunk(message=chunk)


def next_step(messages: Sequence[BaseMessage]) -> AIMessage:
    """The next tool call for the last thing a person said, or the answer when all is done."""
    start = max(place for place, message in enumerate(messages) if isinstance(message, HumanMessage))
    text = str(messages[start].text)
    upload = _UPLOAD.match(text)
    request = understand(_UPLOAD.sub("", text))
    results = [message for message in messages[start + 1 :] if isinstance(message, ToolMessage)]
    if request.do in ("help", "refuse") and not upload:
        return _say(request, request.do)
    if request.do == "index":
        if not results:
            given = {"folder": request.folder, "library": request.library, "dry_run": request.dry_run or None}
            return _call(INDEX, given)
        return _told("indexed", request, results[-1])
    found = _last_search(messages[:start])
    image: str | None = upload[1] if upload else request.image
    if image and image.startswith("#"):
        if found is None:
            return _say(request, "nothing_before")
        number, ids = int(image[1:]), found[1]
        if number > len(ids) or number == 0 or not ids:
            return _say(request, "fewer", count=len(ids))
        image = ids[number - 1 if number > 0 else number]
    if request.do == "compare":
        if not results:
            library = request.library or (found[0].get("library") if found else None)
            return _call(COMPARE, {"image": image, "k": request.k, "library": library})
        return _compared(request, results[-1])
    if request.same and found is None:
        return _say(request, "nothing_before")
    arguments = _search_arguments(request, image, found[0] if found else {})
    return _after_search(request, arguments, results)


def _search_arguments(request: Request, image: str | None, last: dict[str, Any]) -> dict[str, Any]:
    arguments = {
        "image": image,
        "text": request.text,
        "not_text": request.not_text,
        "k": request.k,
        "measure": request.measure,
        "space": request.space,
        "where": list(request.where) or None,
        "library": request.library or request.place,
    }
    if request.image:  # a reference lives in the library of its result
        arguments["library"] = arguments["library"] or last.get("library")
    if request.same:
        arguments = last | {name: value for name, value in arguments.items() if value is not None}
        arguments.pop("offset", None)
        if request.more:
            arguments["offset"] = last.get("offset", 0) + arguments.get("k")
    return arguments


def _after_search(request: Request, arguments: dict[str, Any], results: list[ToolMessage]) -> AIMessage:
    """Search; a place that is no library yet is a folder: index it and search again; then compare if asked to."""
    if not results:
        return _call(SEARCH, arguments)
    last = results[-1]
    if last.status == "error":
        missing = request.place and len(results) == 1 and "no library" in str(last.text)
        return (
            _call(INDEX, {"folder": request.place, "library": request.place})
            if missing
            else _told("failed", request, last)
        )
    if last.name == INDEX:
        return _call(SEARCH, arguments)
    if last.name == COMPARE:
        return _compared(request, last)
    hits = _hits(last)
    if request.then_compare and hits:
        library = arguments.get("library")
        return _call(COMPARE, {"image": hits[0]["id"], "library": library})
    if not hits:
        return _say(request, "nothing")
    lines = [_line(hit) for hit in hits]
    return AIMessage("\n".join([TEXTS["found"][request.language].format(count=len(hits)), *lines]))


def _last_search(messages: Sequence[BaseMessage]) -> tuple[dict[str, Any], list[str]] | None:
    """Arguments and ids of the last search that answered."""
    calls = {
        call["id"]: call["args"]
        for message in messages
        if isinstance(message, AIMessage)
        for call in message.tool_calls
        if call["name"] == SEARCH
    }
    for message in reversed(messages):
        if isinstance(message, ToolMessage) and message.tool_call_id in calls and message.status != "error":
            return dict(calls[message.tool_call_id]), [str(hit["id"]) for hit in _hits(message)]
    return None


def _hits(message: ToolMessage) -> list[dict[str, Any]]:
    """The hits of a search, from the record that lies beside its text."""
    record = message.artifact
    return list(record.get("hits", [])) if isinstance(record, dict) else []


def _line(hit: dict[str, Any]) -> str:
    label = f"{quoted(str(hit['label']), 40)} " if hit.get("label") else ""
    match = f" ({hit['match']})" if hit.get("match") else ""
    return f"{hit['rank']}. {label}{quoted(Path(str(hit['path'])).name, 60)}{match}"


def _call(name: str, arguments: dict[str, Any]) -> AIMessage:
    given = {key: value for key, value in arguments.items() if value is not None}
    return AIMessage(
        "", tool_calls=[{"name": name, "args": given, "id": f"call-{uuid4().hex[:12]}", "type": "tool_call"}]
    )


def _say(request: Request, key: str, **facts: object) -> AIMessage:
    return AIMessage(TEXTS[key][request.language].format(**facts))


def _compared(request: Request, result: ToolMessage) -> AIMessage:
    """The sentences of a comparison, as a list; its table is for whoever wants all figures."""
    if result.status == "error":
        return _told("failed", request, result)
    sentences = [line for line in str(result.text).splitlines() if " | " not in line]
    return _say(request, "compared", text="\n".join(f"- {line}" for line in sentences))


def _told(key: str, request: Request, result: ToolMessage) -> AIMessage:
    return _say(request, "failed" if result.status == "error" else key, text=str(result.text))
