"""The chat tab: answers as they arrive, tool calls folded under titles, pictures inline, uploads to ask about."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import escape
from io import BytesIO
from pathlib import Path

import gradio as gr
from PIL import Image

from imgret_tools.chat.events import Answered, Called, Said, Talk, Working
from imgret_tools.comparing.figure import png_of
from imgret_tools.comparing.report import Comparison
from imgret_tools.engine.runtime import Runtime
from imgret_tools.errors import ImgretError
from imgret_tools.pictures.thumbnails import data_url
from imgret_tools.records import SearchReport, Shown, quoted
from imgret_tools.ui.detail import opened
from imgret_tools.ui.patches import Bound
from imgret_tools.ui.texts.messages import translated
from imgret_tools.ui.texts.table import Language, said
from imgret_tools.ui.uploads import showable

STARTERS = ("chat_try_describe", "chat_try_newest", "chat_try_twice", "chat_try_help")
"""What one may begin with, each a text that the offline model answers."""
_SCRIPT = Path(__file__).with_name("chat.js")
_PAUSE = 0.1
"""Seconds between two sights of an answer that is being written: each costs the page a drawing."""


@dataclass
class Conversation:
    """One visitor's talk and the messages shown for it."""

    talk: Talk
    shown: list[gr.ChatMessage] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class ChatTab:
    """Components whose texts follow the page's language, and the event after an answer, for what shows the libraries."""

    bound: Bound
    finished: gr.events.Dependency


def chat_tab(runtime: Runtime, start: Callable[[], Talk], language: gr.State) -> ChatTab:
    """Draw the tab inside the current Blocks.

    Args:
        runtime: Where thumbnails come from.
        start: Begins a talk; called once a visitor, on the server, where the provider's key stays.
        language: The page's.
    """

    def look(picture: list[str]) -> dict[str, str] | None:
        """A picture of an answer, [library, id], large; None where it has gone since."""
        try:
            library, id_ = map(str, picture)
            entry = runtime.entry(id_, library)
            data = opened(runtime, entry)
        except (ImgretError, OSError, ValueError, TypeError):
            return None
        return {"picture": data_url(data), "label": entry.label or Path(entry.path).name}

    conversation = gr.State(None)
    gr.HTML(elem_id="chat_large", js_on_load=_SCRIPT.read_text("utf-8"), server_functions=[look])
    chatbot = gr.Chatbot(elem_id="chat", show_label=False, height=560, buttons=["copy"])
    box = gr.MultimodalTextbox(elem_id="chat_box", show_label=False, file_types=["image"], file_count="single")
    with gr.Row(elem_id="chat_starters"):
        starters = [gr.Button(said("en", key), size="sm", variant="secondary") for key in STARTERS]
    with gr.Row():
        stop = gr.Button(elem_id="chat_stop")
        clear = gr.Button(elem_id="chat_clear")

    def reply(
        message: dict[str, object], now: Conversation | None, spoken: Language
    ) -> Iterator[tuple[list[gr.ChatMessage], Conversation, dict[str, object]]]:
        now = now or Conversation(start())
        box_next: dict[str, object] = {"text": "", "files": []}
        for shown in answer(runtime, now, message, spoken):
            yield list(shown), now, box_next
            box_next = gr.skip()  # what the visitor writes meanwhile stays

    def started(
        text: str, now: Conversation | None, spoken: Language
    ) -> Iterator[tuple[list[gr.ChatMessage], Conversation, dict[str, object]]]:
        for shown, then, _ in reply({"text": text, "files": []}, now, spoken):
            yield shown, then, gr.skip()

    asked = box.submit(
        reply,
        [box, conversation, language],
        [chatbot, conversation, box],
        trigger_mode="always_last",  # what is sent during an answer is asked after it
        api_visibility="private",
        concurrency_limit=4,
    )
    starting = [
        starter.click(
            started,
            [starter, conversation, language],
            [chatbot, conversation, box],
            api_visibility="private",
            concurrency_limit=4,
        )
        for starter in starters
    ]

    def stopped(now: Conversation | None) -> None:
        if now is not None:
            now.stop.set()

    def cleared(now: Conversation | None) -> tuple[list[gr.ChatMessage], None]:
        stopped(now)
        return [], None

    # A turn that is stopped ends by itself, says so, and keeps what a long call has done.
    stop.click(stopped, conversation, None, api_visibility="private", queue=False)
    gr.on(
        [clear.click, chatbot.clear],
        cleared,
        conversation,
        [chatbot, conversation],
        cancels=[asked, *starting],
        api_visibility="private",
    )
    bound: Bound = [
        (box, {"placeholder": "chat_hint"}),
        (stop, {"value": "chat_stop"}),
        (clear, {"value": "chat_clear"}),
    ]
    for starter, key in zip(starters, STARTERS, strict=True):
        bound.append((starter, {"value": key}))
    return ChatTab(bound, asked)


def answer(
    runtime: Runtime, now: Conversation, message: dict[str, object], language: Language = "en"
) -> Iterator[list[gr.ChatMessage]]:
    """The messages to show, again after each event of the turn; what goes wrong is said in `language`."""
    text = str(message.get("text") or "").strip()
    files = message.get("files") or []
    picture = Path(str(files[0])) if isinstance(files, list) and files else None
    if not text and picture is None:
        yield now.shown
        return
    if picture is not None:
        now.shown.append(
            gr.ChatMessage(role="user", content=gr.Image(showable(str(picture)), show_label=False, buttons=[]))
        )
    if text:
        now.shown.append(gr.ChatMessage(role="user", content=harmless(text)))
    yield now.shown
    stop = now.stop = threading.Event()
    calls: dict[str, gr.ChatMessage] = {}
    speaking: gr.ChatMessage | None = None
    spoken, shown_at = "", 0.0
    try:
        for event in now.talk.ask(text, picture, cancelled=stop.is_set):
            match event:
                case Working(id, at):
                    left = "" if at.seconds_left is None else f" · {at.seconds_left:.0f} s"
                    calls[id].content = f"{at.stage}: {at.done} / {at.total} · {at.rate:.0f}/s{left}"
                case Said(piece):
                    if speaking is None:
                        speaking, spoken = gr.ChatMessage(role="assistant", content=""), ""
                        now.shown.append(speaking)
                    spoken += piece
                    speaking.content = harmless(spoken)
                case Called(id, name, arguments):
                    speaking = None
                    title = (
                        f"{name}({', '.join(f'{key}={quoted(str(value), 40)}' for key, value in arguments.items())})"
                    )
                    calls[id] = gr.ChatMessage(
                        role="assistant", content="", metadata={"title": harmless(title), "status": "pending"}
                    )
                    now.shown.append(calls[id])
                case Answered():
                    _finish(calls, event)
                    yield now.shown
                    if pictures := _pictures(runtime, event):
                        now.shown.append(gr.ChatMessage(role="assistant", content=pictures))
            if isinstance(event, Said | Working) and time.monotonic() < shown_at + _PAUSE:
                continue
            yield now.shown
            shown_at = time.monotonic()
        yield now.shown
    except ImgretError as error:
        now.shown.append(gr.ChatMessage(role="assistant", content=translated(language, error)))
        yield now.shown


def harmless(text: str) -> str:
    """Markdown whose HTML and pictures are shown as text: a file name must not make the page fetch from elsewhere."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("![", "!\\[")


def _finish(calls: dict[str, gr.ChatMessage], event: Answered) -> None:
    message = calls.get(event.id)
    if message is not None:
        fenced = event.text.replace("```", "'''")
        message.content = f"```text\n{fenced}\n```"
        message.metadata = {"title": message.metadata.get("title", event.name), "status": "done"}


def _pictures(runtime: Runtime, event: Answered) -> gr.HTML | gr.Image | None:
    """What a tool found, to look at, opened here so that no folder of pictures is served.

    Of a search the hits' thumbnails with rank and label, of a comparison its figure.
    """
    if isinstance(event.report, Comparison):
        with Image.open(BytesIO(png_of(event.report, runtime))) as figure:
            return gr.Image(figure.copy(), show_label=False, buttons=[])
    if isinstance(event.report, Shown) and event.report.library:
        shown = [(event.report.id, event.report.name)]
    elif isinstance(event.report, SearchReport):
        shown = [(hit.id, f"#{hit.rank} {hit.label}".strip()) for hit in event.report.hits]
    else:
        return None
    found = [_button(event.report.library, id_, caption, runtime) for id_, caption in shown]
    return gr.HTML(f"<div class='imgret-answer'>{''.join(found)}</div>") if any(found) else None


def _button(library: str, id_: str, caption: str, runtime: Runtime) -> str:
    """A thumbnail that opens large; "" where it has gone since."""
    try:
        data = runtime.thumbnail(runtime.entry(id_, library)).read_bytes()
    except (ImgretError, OSError):
        return ""
    return (
        f"<button data-library='{escape(library)}' data-id='{escape(id_)}'>"
        f"<img src='{data_url(data)}' alt=''><span>{escape(caption)}</span></button>"
    )
