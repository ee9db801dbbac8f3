"""The browser's only way out: a loopback proxy that connects to judged addresses and to nothing else.

Intercepting a browser's requests is not enough: redirects, WebSockets and a name that changes its answer pass it by. A
proxy sees every connection, resolves the name itself and connects to the address it judged. TLS stays end to end.
"""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from urllib.parse import urlsplit

from imgret_tools.collect.net.guard import FetchError, addresses
from imgret_tools.errors import PathRefused

# Where Chromium goes on its own account: sign-in state, updates, hints. No page needs them to show its pictures.
_BROWSERS_OWN = frozenset(
    {
        "accounts.google.com",
        "clients2.google.com",
        "clientservices.googleapis.com",
        "content-autofill.googleapis.com",
        "optimizationguide-pa.googleapis.com",
        "redirector.gvt1.com",
        "update.googleapis.com",
    }
)
_HEAD = 65_536
_CONNECT = 20.0
_IDLE = 120.0


class GuardProxy(socketserver.ThreadingTCPServer):
    """Serves from a thread while the `with` block runs; `refused` tells which hosts were kept from the browser."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, *, allow_private: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.allow_private = allow_private
        self.refused: dict[str, str] = {}
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """`http://127.0.0.1:port`."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> GuardProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that hangs up is no event."""


class _Connection(socketserver.BaseRequestHandler):
    server: GuardProxy
    request: socket.socket

    def handle(self) -> None:
        self.request.settimeout(_IDLE)
        head, body = self._head()
        line, _, headers = head.partition(b"\r\n")
        parts = line.decode("latin-1").split(" ")
        if len(parts) != 3:
            return
        method, target, version = parts
        tunnel = method == "CONNECT"
        url = urlsplit(f"//{target}" if tunnel else target)
        try:
            host, port = url.hostname or "", url.port or (443 if tunnel else 80)
            if host in _BROWSERS_OWN:
                raise OSError("the browser's own errand")
            upstream = self._connect(host, port)
        except (PathRefused, FetchError, OSError, ValueError) as error:
            if isinstance(error, PathRefused):
                self.server.refused[url.hostname or target] = str(error)
            status = "403 Forbidden" if isinstance(error, PathRefused) else "502 Bad Gateway"
            self.request.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            return
        with upstream:
            if tunnel:
                self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                upstream.sendall(body)
            else:
                path = (url.path or "/") + (f"?{url.query}" if url.query else "")
                kept = [
                    header
                    for header in headers.split(b"\r\n")
                    if header and not header.lower().startswith((b"proxy-", b"connection:"))
                ]
                first = f"{method} {path} {version}".encode("latin-1")
                upstream.sendall(b"\r\n".join([first, *kept, b"Connection: close", b"", b""]) + body)
            _pump(self.request, upstream)

    def _head(self) -> tuple[bytes, bytes]:
        data = b""
        while b"\r\n\r\n" not in data and len(data) < _HEAD:
            if not (chunk := self.request.recv(_HEAD)):
                break
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        return head, body

    def _connect(self, host: str, port: int) -> socket.socket:
        error: OSError = OSError(f"{host} has no address")
        for address in addresses(host, port, allow_private=self.server.allow_private)[:3]:
            try:
                return socket.create_connection((address, port), timeout=_CONNECT)
            except OSError as failed:
                error = failed
        raise error


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Carries bytes both ways until one side closes or nothing moves for two minutes."""
    across = {one: other, other: one}
    while ready := select.select([one, other], [], [], _IDLE)[0]:
        for source in ready:
            if not (data := source.recv(65_536)):
                return
            across[source].sendall(data)
