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
from imgret_tools.chat.understand import Request, fold, understand
from imgret_tools.records import quoted

SEARCH, INDEX, COMPARE = "search_similar_image", "index_folder", "compare_metrics"
LIBRARIES, DESCRIBE, SHOW, DUPLICATES = "list_libraries", "describe_library", "show_image", "find_duplicates"
_PAGE = 5
"""Hits of a page when nobody said a number: the search's own default."""
_LOOKED_AT = 50
"""Hits that are judged to say about how many pictures show a thing."""

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
    "delete": {
        "en": "I can't do that: nothing here deletes a picture. `imgret forget` takes pictures out of a library's index.",
        "vi": "Tôi không làm được việc đó: ở đây không có gì xóa ảnh. `imgret forget` bỏ ảnh khỏi chỉ mục của thư viện.",
    },
    "folder": {
        "en": "A whole folder of queries is compared on the page's Compare tab, or by imgret compare --queries {folder}; here "
        "I compare one picture, such as #1.",
        "vi": "Cả một thư mục truy vấn được so sánh ở thẻ So sánh của trang, hoặc bằng imgret compare --queries {folder}; ở đây "
        "tôi so sánh một ảnh, chẳng hạn #1.",
    },
    "hello": {
        "en": "Hello! Tell me what the pictures should show, or say help.",
        "vi": "Xin chào! Hãy cho tôi biết ảnh cần có gì, hoặc gõ giúp tôi.",
    },
    "thanks": {"en": "You're welcome.", "vi": "Không có gì."},
    "first_page": {"en": "This is the first page already.", "vi": "Đây đã là trang đầu tiên."},
    "nothing_to_undo": {"en": "There is no earlier search to go back to.", "vi": "Không có tìm kiếm nào trước đó để quay lại."},
    "switched": {
        "en": "Now searching library {name}: {count} pictures.",
        "vi": "Từ giờ tìm trong thư viện {name}: {count} ảnh.",
    },
    "which": {"en": "This is library {name}: {count} pictures.", "vi": "Đây là thư viện {name}: {count} ảnh."},
    "count": {"en": "Library {name} holds {count} pictures.", "vi": "Thư viện {name} có {count} ảnh."},
    "count_label": {"en": "{count} pictures are labelled {label}.", "vi": "Có {count} ảnh mang nhãn {label}."},
    "count_like": {
        "en": "No label says so; about {count} of {total} pictures look like it.",
        "vi": "Không có nhãn như vậy; khoảng {count} trong {total} ảnh trông giống.",
    },
    "browsed": {"en": "{matching} pictures, here {count}:", "vi": "Có {matching} ảnh, đây là {count}:"},
    "answered": {"en": "{text}", "vi": "{text}"},
    "indexed": {"en": "Done. {text}", "vi": "Đã xong. {text}"},
    "compared": {"en": "The measures compared:\n\n{text}", "vi": "So sánh các độ đo:\n\n{text}"},
    "failed": {"en": "That did not work: {text}", "vi": "Không thực hiện được: {text}"},
}  # fmt: skip

_DELETES = re.compile(r"\b(?:delete|erase|remove|wipe|trash|throw away|get rid|xoa|vut|loai bo)\b")
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
    if request.do in ("help", "refuse", "hello", "thanks") and not upload:
        deletes = request.do == "refuse" and _DELETES.search(fold(text))
        return _say(request, "delete" if deletes else request.do)
    if request.do == "folder":
        return _say(request, "folder", folder=request.folder)
    library = request.library or _current_library(messages[:start])
    if request.do in ("libraries", "describe", "which", "switch", "count", "duplicates"):
        return _of_the_library(request, library, results)
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
    if request.do == "show":
        if not results:
            last = found[0].get("library") if found and request.image != image else None
            return _call(SHOW, {"image": upload[1] if upload else image, "library": last or library})
        return _told("answered", request, results[-1])
    if request.do == "undo":
        earlier = _searches(messages[:start])
        if len(earlier) < 2 and not results:
            return _say(request, "nothing_to_undo")
        return _after_search(request, {} if results else earlier[-2][0], results)
    if request.do == "compare":
        if not results:
            library = request.library or (found[0].get("library") if found else None) or library
            return _call(COMPARE, {"image": image, "k": request.k, "library": library})
        return _compared(request, results[-1])
    if request.same and found is None:
        return _say(request, "nothing_before")
    arguments = _search_arguments(request, image, found[0] if found else {}, library)
    if arguments.get("offset", 0) < 0 and not results:
        return _say(request, "first_page")
    return _after_search(request, arguments, results)


def _of_the_library(request: Request, library: str | None, results: list[ToolMessage]) -> AIMessage:
    """What a library holds, or which there are: one call, and of a count by likeness a second."""
    if not results:
        calls = {"libraries": LIBRARIES, "duplicates": DUPLICATES}
        name = calls.get(request.do, DESCRIBE)
        return _call(name, {"library": None if name == LIBRARIES else library})
    last = results[-1]
    if last.status == "error" or request.do in ("libraries", "describe", "duplicates"):
        return _told("answered", request, last)
    if last.name == SEARCH:
        hits = _hits(last)
        return _say(request, "count_like", count=sum(hit.get("match") != "weak" for hit in hits), total=len(hits))
    record = last.artifact if isinstance(last.artifact, dict) else {}
    known = {"name": quoted(str(record.get("name", "")), 60), "count": record.get("images", 0)}
    if request.do in ("switch", "which"):
        return _say(request, "switched" if request.do == "switch" else "which", **known)
    if not request.text:
        return _say(request, "count", **known)
    wanted = {
        form for word in (request.text.casefold(),) for form in (word, word.removesuffix("s"), word.removesuffix("es"))
    }
    for label, count in record.get("labels", {}).items():
        if label.casefold().replace("_", " ") in wanted:
            return _say(request, "count_label", count=count, label=quoted(label, 40))
    return _call(SEARCH, {"text": request.text, "k": _LOOKED_AT, "library": library})


def _current_library(messages: Sequence[BaseMessage]) -> str | None:
    """The library that the talk was last switched to, None for the page's own."""
    asked: Request | None = None
    current = None
    for message in messages:
        if isinstance(message, HumanMessage):
            asked = understand(_UPLOAD.sub("", str(message.text)))
        elif isinstance(message, ToolMessage) and asked and asked.do == "switch" and message.status != "error":
            current = asked.library
    return current


def _search_arguments(request: Request, image: str | None, last: dict[str, Any], library: str | None) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "image": image,
        "text": request.text,
        "not_text": request.not_text,
        "k": request.k,
        "measure": request.measure,
        "space": request.space,
        "where": list(request.where) or None,
        "library": request.library or request.place,
        "sort": request.sort,
    }
    if request.image:  # a reference lives in the library of its result
        arguments["library"] = arguments["library"] or last.get("library")
    if request.same:
        arguments = last | {name: value for name, value in arguments.items() if value is not None}
        arguments.pop("offset", None)
        step = int(arguments.get("k") or _PAGE)
        if request.more:
            arguments["offset"] = last.get("offset", 0) + int(last.get("k") or _PAGE)
        elif request.page is not None:
            arguments["offset"] = last.get("offset", 0) - step if request.page < 0 else (request.page - 1) * step
            if arguments["offset"] == 0:
                del arguments["offset"]
    if request.do == "browse":
        arguments["sort"] = arguments["sort"] or "newest"
    arguments["library"] = arguments.get("library") or library
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
    browsed = isinstance(last.artifact, dict) and not any(
        last.artifact.get("query", {}).get(x) for x in ("text", "image")
    )
    facts = {"count": len(hits), "matching": last.artifact.get("matching") if browsed else 0}
    return AIMessage("\n".join([TEXTS["browsed" if browsed else "found"][request.language].format(**facts), *lines]))


def _searches(messages: Sequence[BaseMessage]) -> list[tuple[dict[str, Any], list[str]]]:
    """Arguments and ids of the searches that answered, those that were undone left out."""
    found: list[tuple[dict[str, Any], list[str]]] = []
    calls: dict[str | None, dict[str, Any]] = {}
    undone = False
    for message in messages:
        if isinstance(message, HumanMessage):
            undone = understand(_UPLOAD.sub("", str(message.text))).do == "undo"
        elif isinstance(message, AIMessage):
            calls |= {call["id"]: call["args"] for call in message.tool_calls if call["name"] == SEARCH}
        elif isinstance(message, ToolMessage) and message.tool_call_id in calls and message.status != "error":
            if undone:
                del found[-2:]
            found.append((dict(calls[message.tool_call_id]), [str(hit["id"]) for hit in _hits(message)]))
    return found


def _last_search(messages: Sequence[BaseMessage]) -> tuple[dict[str, Any], list[str]] | None:
    """Arguments and ids of the last search that answered."""
    found = _searches(messages)
    return found[-1] if found else None


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
