"""HTTP through the guard: an httpx transport that connects only to addresses judged by `guard.addresses`."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager

import httpcore
import httpx

from imgret_tools.collect.net.guard import USER_AGENT, FetchError, addresses

_CHUNK = 65_536
_TRIED = 3


class GuardedBackend(httpcore.SyncBackend):
    """Opens sockets to judged addresses; the name stays in `Host` and in TLS, which see nothing of this."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to the first of `host`'s judged addresses that answers."""
        found = addresses(host, port, allow_private=self._allow_private)[:_TRIED]
        for address in found[:-1]:
            try:
                return super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return super().connect_tcp(found[-1], port, timeout, local_address, socket_options)


class _Body(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        with _translated():
            yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


class GuardedTransport(httpx.BaseTransport):
    """httpx over an httpcore pool whose connections are opened by `GuardedBackend`. Proxies are not used."""

    def __init__(self, *, allow_private: bool, connections: int) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=10.0,
            network_backend=GuardedBackend(allow_private=allow_private),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request and its answer; the body is read later, as a stream."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        with _translated():
            answer = self._pool.handle_request(
                httpcore.Request(
                    request.method,
                    url,
                    headers=request.headers.raw,
                    content=request.read(),
                    extensions=request.extensions,
                )
            )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    def close(self) -> None:
        """Closes the pool's connections."""
        self._pool.close()


@contextmanager
def _translated() -> Iterator[None]:
    """httpcore's errors as one of ours: each is a failure of the moment, so none is permanent."""
    try:
        yield
    except httpcore.TimeoutException as error:
        raise FetchError("the server did not answer in time") from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise FetchError("the connection failed ({error})", error=error or type(error).__name__) from error


def make_client(
    *, allow_private: bool = False, timeout: float = 20.0, connections: int = 16, user_agent: str = USER_AGENT
) -> httpx.Client:
    """A client that is guarded, follows no redirect by itself and asks for unpacked answers."""
    return httpx.Client(
        transport=GuardedTransport(allow_private=allow_private, connections=connections),
        timeout=timeout,
        headers={"User-Agent": user_agent, "Accept-Encoding": "identity"},
        follow_redirects=False,
        trust_env=False,
    )


@contextmanager
def opened(client: httpx.Client, url: str, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Response]:
    """The answer to GET `url` with its body unread; FetchError when there is none."""
    try:
        request = client.build_request("GET", url, headers=dict(headers or {}))
    except (httpx.InvalidURL, ValueError) as error:
        raise FetchError("{url!r} is not a URL ({error})", url=url[:200], error=error, permanent=True) from error
    with closing(client.send(request, stream=True)) as response:
        yield response


def read_body(response: httpx.Response, *, max_bytes: int, deadline: float | None = None) -> Iterator[bytes]:
    """The body in small chunks, unpacked; FetchError as soon as it is known to pass `max_bytes`.

    Unpacking is bounded chunk by chunk, so a small answer that inflates to gigabytes costs no more than `max_bytes`.
    `deadline` is a `time.monotonic()` moment: a server that drips a byte a second does not hold a worker for ever.
    """
    too_large = FetchError("larger than the limit of {max_bytes:,} bytes", max_bytes=max_bytes, permanent=True)
    declared = response.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise too_large
    seen = 0
    for chunk in _unpacked(response):
        seen += len(chunk)
        if seen > max_bytes:
            raise too_large
        if deadline is not None and time.monotonic() > deadline:
            raise FetchError("the server sends too slowly")
        yield chunk


def _unpacked(response: httpx.Response) -> Iterator[bytes]:
    # Without a chunk size iter_raw hands on what has come; with one, a broken connection loses what it held back.
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding in ("", "identity"):
        yield from response.iter_raw()
        return
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise FetchError("packed as {coding!r}, which was not asked for", coding=coding, permanent=True)
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        for packed in response.iter_raw():
            while packed:
                yield unpack.decompress(packed, _CHUNK)
                packed = unpack.unconsumed_tail
        yield unpack.flush()
    except zlib.error as error:
        raise FetchError(
            "its {coding} packing is damaged ({error})", coding=coding, error=error, permanent=True
        ) from error
