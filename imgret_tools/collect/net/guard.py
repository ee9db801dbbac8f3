"""What may be fetched: which addresses are never asked, and one picture by URL. Cheap to import.

The rule is applied to the address a connection is really made to: a name is resolved once, every address it has is
judged, and the connection goes to that very address. A redirect is a new connection, and a name that changes its answer
between two look-ups has only the one that was judged, so neither gets round it.
"""

from __future__ import annotations

import socket
import time
from urllib.parse import urljoin, urlsplit

from imgret_tools.errors import CollectError, Message, PathRefused
from imgret_tools.hosts import why_refused

USER_AGENT = "imgret-collect"
REDIRECTS = 5

_MAGIC = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (8, b"WEBP", "WEBP"),
    (0, b"BM", "BMP"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    *((4, b"ftyp" + brand, "HEIF") for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG2000"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JXL"),
    (0, b"\xff\x0a", "JXL"),
)


class FetchError(CollectError):
    """One address that gave nothing. `permanent`: asking again is useless; `wait`: seconds the host asked for."""

    def __init__(
        self, template: str, /, *, permanent: bool = False, wait: float | None = None, **values: object
    ) -> None:
        super().__init__(template, **values)
        self.permanent = permanent
        self.wait = wait


def host_of(url: str) -> str:
    """The lower-case `host` or `host:port` of an http(s) URL; PathRefused for any other kind of address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise PathRefused("{url!r} is not a URL; expected one like https://host/path.", url=url[:200]) from None
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise PathRefused("{url!r} is not fetched: only http:// and https:// addresses with a host are.", url=url[:200])
    return host if port is None else f"{host}:{port}"


def addresses(host: str, port: int, *, allow_private: bool = False) -> list[str]:
    """The IP addresses of `host`, all of them public; PathRefused when one is not, FetchError when there are none.

    Forms like `0x7f.1`, `2130706433` and `[::ffff:127.0.0.1]` are judged by what the system resolves them to.
    """
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError("the name {host!r} does not resolve ({error})", host=host, error=error) from error
    found = list(dict.fromkeys(str(info[4][0]) for info in infos))
    if not allow_private:
        for address in found:
            if kind := why_refused(address):
                raise PathRefused(
                    "{host} is {kind} ({address}), which is never fetched from; use a public address.",
                    host=host,
                    kind=Message(kind),
                    address=address,
                )
    return found


def picture_kind(head: bytes) -> str:
    """The picture format that the first bytes announce (`JPEG`, `PNG`...), or "" when they are no picture's."""
    return next((kind for at, magic, kind in _MAGIC if head[at : at + len(magic)] == magic), "")


def fetch_image(url: str, *, max_bytes: int = 50_000_000, allow_private: bool = False, timeout: float = 20.0) -> bytes:
    """The bytes of the picture at `url`, at most `max_bytes` of them, within `timeout` seconds in all.

    Follows up to five redirects, each judged like the first address. Raises PathRefused for an address that is never
    fetched from and CollectError when the answer is missing, too large or no picture.
    """
    from imgret_tools.collect.net.transport import make_client, opened, read_body

    deadline = time.monotonic() + timeout
    with make_client(allow_private=allow_private, timeout=timeout) as client:
        for _ in range(REDIRECTS + 1):
            host_of(url)
            with opened(client, url) as response:
                if response.has_redirect_location:
                    url = urljoin(url, response.headers["location"])
                    continue
                if response.status_code != 200:
                    raise FetchError(
                        "{url} answers {status_code}; expected a picture.",
                        url=url[:200],
                        status_code=response.status_code,
                    )
                data = b"".join(read_body(response, max_bytes=max_bytes, deadline=deadline))
            if not picture_kind(data):
                kind = response.headers.get("content-type", "no content type")
                raise FetchError(
                    "{url} is not a picture ({kind}); give the address of the picture itself.", url=url[:200], kind=kind
                )
            return data
    raise FetchError(
        "{url} redirects more than {redirects} times; give the address of the picture itself.",
        url=url[:200],
        redirects=REDIRECTS,
    )
