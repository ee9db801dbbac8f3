"""A picture site on loopback that serves the course's own pictures, so that the last lesson collects without a network."""

from __future__ import annotations

import html
import mimetypes
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, urlsplit

from imgret_tools.course.lab import Photo


@contextmanager
def picture_site(photos: Sequence[Photo]) -> Iterator[str]:
    """The address of a site whose `/search?text=LABEL` shows the pictures of that label, while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            body, kind, status = b"nothing here", "text/plain", 404
            if address.path == "/search":
                term = parse_qs(address.query).get("text", [""])[0]
                shown = [number for number, photo in enumerate(photos) if photo.label == term]
                images = "".join(
                    f'<img width="320" height="240" src="/photos/{number}/{quote(photos[number].path.name)}">'
                    for number in shown
                )
                body, kind, status = f"<h1>{html.escape(term)}</h1>{images}".encode(), "text/html; charset=utf-8", 200
            elif number := re.match(r"/photos/(\d{1,9})/", address.path):
                path = photos[int(number[1]) % len(photos)].path
                body, kind, status = path.read_bytes(), mimetypes.guess_type(path.name)[0] or "image/jpeg", 200
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
