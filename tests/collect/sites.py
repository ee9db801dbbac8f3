"""Sites that behave like the real thing, served on loopback, each with a log of what it was asked and when."""

from __future__ import annotations

import io
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image


@cache
def picture(seed: int, *, size: tuple[int, int] = (160, 120), kind: str = "JPEG") -> bytes:
    """A smooth picture unlike that of any other seed, as a file's bytes."""
    rng = np.random.default_rng(seed)
    blobs = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    out = io.BytesIO()
    blobs.resize(size, Image.Resampling.BICUBIC).save(out, kind)
    return out.getvalue()


@dataclass(frozen=True)
class Asked:
    """One request as the server saw it. `at` is monotonic seconds at its arrival."""

    at: float
    path: str
    status: int
    headers: dict[str, str]


@dataclass
class Answer:
    """What a route says; `body` is bytes or pieces, `drop` ends the connection after that many bytes."""

    body: bytes | Iterator[bytes] = b""
    status: int = 200
    type: str = "text/html; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    drop: int | None = None


Route = Callable[[str, dict[str, str]], Answer | None]


class Site:
    """A loopback site: routes are asked in order, the first that answers is used, else 404."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.log: list[Asked] = []
        self.routes: list[Route] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                at, headers = time.monotonic(), {k.lower(): v for k, v in self.headers.items()}
                answers = (route(self.path, headers) for route in site.routes)
                answer = next((found for found in answers if found is not None), Answer(b"nothing here", 404))
                site.log.append(Asked(at, self.path, answer.status, headers))
                self.send_response_only(answer.status)
                self.send_header("Content-Type", answer.type)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                pieces = [answer.body] if isinstance(answer.body, bytes) else answer.body
                length = len(answer.body) if isinstance(answer.body, bytes) else answer.length
                if answer.length is not None:
                    length = answer.length
                if length is None:
                    self.close_connection = True
                else:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                for piece in pieces:
                    if answer.drop is not None:
                        self.wfile.write(piece[: answer.drop])
                        self.close_connection = True
                        return
                    self.wfile.write(piece)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: object) -> None:
                """Clients that hang up are part of the game."""

            def server_bind(self) -> None:
                socketserver.TCPServer.server_bind(self)
                self.server_name, self.server_port = host, self.server_address[1]

        self._server = Server((host, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://{host}:{self._server.server_port}"

    def on(self, path: str, answer: Answer | Callable[[], Answer]) -> None:
        """Answers exactly `path` (query included)."""
        self.routes.append(
            lambda asked, _: (answer if isinstance(answer, Answer) else answer()) if asked == path else None
        )

    def images(self, prefix: str = "/img/", **options: object) -> None:
        """Pictures at `prefix<number>.jpg`, with ETag, Range and If-None-Match."""

        def route(path: str, headers: dict[str, str]) -> Answer | None:
            name = path.partition("?")[0]
            if not (name.startswith(prefix) and name.endswith(".jpg")):
                return None
            number = int("".join(c for c in name[len(prefix) :] if c.isdigit()) or 0)
            return with_range(picture(number, **options), f'"{number}"', headers)  # type: ignore[arg-type]

        self.routes.append(route)

    def paths(self, prefix: str = "/") -> list[str]:
        """The paths asked for, in order, that begin with `prefix`."""
        return [asked.path for asked in self.log if asked.path.startswith(prefix)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def with_range(body: bytes, etag: str, headers: dict[str, str]) -> Answer:
    """`body` as a server with validators answers it: 200, 206, 304 or 416."""
    told = {"ETag": etag, "Accept-Ranges": "bytes"}
    if headers.get("if-none-match") == etag:
        return Answer(b"", 304, "image/jpeg", told)
    if "range" in headers and headers.get("if-range", etag) == etag:
        start = int(headers["range"].removeprefix("bytes=").split("-")[0])
        if start >= len(body):
            return Answer(b"", 416, "image/jpeg", {**told, "Content-Range": f"bytes */{len(body)}"})
        told["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return Answer(body[start:], 206, "image/jpeg", told)
    return Answer(body, 200, "image/jpeg", told)
