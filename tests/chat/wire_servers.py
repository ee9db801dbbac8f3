"""Servers on loopback that speak as providers do: OpenAI chat completions and Anthropic messages, streamed or not.

What they answer is decided by a script: for each number of tool results since the last question, a text or tool calls.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Calls = list[tuple[str, dict[str, Any]]]
Step = str | Calls
KEY = "sk-secret-0123456789abcdef"


@dataclass
class Asked:
    """A request, whichever protocol it came in: the last question, and the tool results since."""

    question: str
    results: list[str]
    images: int
    errors: int
    size: int
    body: dict[str, Any] = field(repr=False)


Script = Callable[[Asked], Step]


@dataclass
class Provider:
    """A running server: where it is and what it was asked."""

    url: str
    asked: list[Asked]


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or [])


def _text(content: Any) -> str:
    return "".join(block.get("text", "") for block in _blocks(content))


def _images(content: Any) -> int:
    return sum(block.get("type") in ("image", "image_url") for block in _blocks(content))


def read_openai(body: dict[str, Any], size: int) -> Asked:
    """OpenAI: results are messages of role `tool`; there is no sign of an error but the text."""
    messages = body["messages"]
    last = max(place for place, message in enumerate(messages) if message["role"] == "user")
    results = [message for message in messages[last:] if message["role"] == "tool"]
    called = {call["id"] for message in messages for call in message.get("tool_calls") or []}
    assert all(message["tool_call_id"] in called for message in messages if message["role"] == "tool")
    return Asked(
        _text(messages[last]["content"]),
        [_text(message["content"]) for message in results],
        sum(_images(message["content"]) for message in results),
        0,
        size,
        body,
    )


def read_anthropic(body: dict[str, Any], size: int) -> Asked:
    """Anthropic: results are blocks of user messages, with `is_error`."""
    messages = body["messages"]

    def results(message: dict[str, Any]) -> list[dict[str, Any]]:
        return [block for block in _blocks(message["content"]) if block["type"] == "tool_result"]

    asked = [place for place, message in enumerate(messages) if message["role"] == "user" and not results(message)]
    found = [block for message in messages[asked[-1] :] for block in results(message)]
    return Asked(
        _text(messages[asked[-1]]["content"]),
        [_text(block["content"]) for block in found],
        sum(_images(block["content"]) for block in found),
        sum(bool(block.get("is_error")) for block in found),
        size,
        body,
    )


def _pieces(text: str) -> list[str]:
    half = len(text) // 2
    return [text[:half], text[half:]]


def openai_answer(step: Step, stream: bool, turn: int) -> Iterator[str]:
    """The lines of a chat completion, or its one JSON object."""
    head = {"id": f"chatcmpl-{turn}", "created": 1, "model": "test"}
    calls = [
        {
            "id": f"call_{turn}_{place}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for place, (name, arguments) in enumerate(step if isinstance(step, list) else [])
    ]
    reason = "tool_calls" if calls else "stop"
    if not stream:
        message = {"role": "assistant", "content": None if calls else step, "tool_calls": calls or None}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        yield json.dumps({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        return

    def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"

    yield chunk({"role": "assistant", "content": ""})
    if isinstance(step, str):
        for piece in _pieces(step):
            yield chunk({"content": piece})
    for place, call in enumerate(calls):
        function = {"name": call["function"]["name"], "arguments": ""}  # type: ignore[index]
        yield chunk({"tool_calls": [{**call, "index": place, "function": function}]})
        for piece in _pieces(call["function"]["arguments"]):  # type: ignore[index]
            yield chunk({"tool_calls": [{"index": place, "function": {"arguments": piece}}]})
    yield chunk({}, reason)
    yield "data: [DONE]\n\n"


def anthropic_answer(step: Step, stream: bool, turn: int) -> Iterator[str]:
    """The events of a message, or its one JSON object."""
    blocks: list[dict[str, Any]] = (
        [{"type": "text", "text": step}]
        if isinstance(step, str)
        else [
            {"type": "tool_use", "id": f"toolu_{turn}_{place}", "name": name, "input": arguments}
            for place, (name, arguments) in enumerate(step)
        ]
    )
    reason = "end_turn" if isinstance(step, str) else "tool_use"
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {
        "id": f"msg_{turn}",
        "type": "message",
        "role": "assistant",
        "model": "test",
        "stop_sequence": None,
        "usage": usage,
    }
    if not stream:
        yield json.dumps({**message, "content": blocks, "stop_reason": reason})
        return

    def event(kind: str, **data: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"

    yield event("message_start", message={**message, "content": [], "stop_reason": None})
    for place, block in enumerate(blocks):
        if block["type"] == "text":
            yield event("content_block_start", index=place, content_block={"type": "text", "text": ""})
            deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"])]
        else:
            yield event("content_block_start", index=place, content_block={**block, "input": {}})
            deltas = [
                {"type": "input_json_delta", "partial_json": piece} for piece in _pieces(json.dumps(block["input"]))
            ]
        for delta in deltas:
            yield event("content_block_delta", index=place, delta=delta)
        yield event("content_block_stop", index=place)
    yield event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=usage)
    yield event("message_stop")


PROTOCOLS = {
    "openai": ("/v1/chat/completions", read_openai, openai_answer),
    "anthropic": ("/v1/messages", read_anthropic, anthropic_answer),
}


@contextlib.contextmanager
def provider(protocol: str, script: Script) -> Iterator[Provider]:
    """A server of that protocol, following `script`; it wants `KEY` and answers 401 to any other."""
    path, read, answer = PROTOCOLS[protocol]
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            key = self.headers.get("x-api-key") or self.headers.get("Authorization", "").removeprefix("Bearer ")
            if key != KEY:
                self._send(
                    401,
                    "application/json",
                    [json.dumps({"error": {"type": "auth", "message": f"Incorrect API key: {key}"}})],
                )
                return
            assert self.path == path, self.path
            body = json.loads(raw)
            asked.append(read(body, len(raw)))
            lines = answer(script(asked[-1]), bool(body.get("stream")), len(asked))
            self._send(200, "text/event-stream" if body.get("stream") else "application/json", lines)

        def _send(self, status: int, kind: str, lines: Any) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Connection", "close")
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who stops listening may
                for line in lines:
                    self.wfile.write(line.encode())
                    self.wfile.flush()
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Provider(f"http://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
