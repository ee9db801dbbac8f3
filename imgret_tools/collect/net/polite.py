"""Asking hosts politely: one pace a host, robots.txt first, waiting when told to, and giving up with a reason.

`Pace` hands out the moments at which a host may be asked; `Web` is the client that keeps to them. Both are used by many
threads at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import quote, urljoin, urlsplit

import httpx

from imgret_tools.collect.net.guard import REDIRECTS, USER_AGENT, FetchError, host_of
from imgret_tools.collect.net.transport import make_client, opened, read_body
from imgret_tools.errors import BadInput, Message, PathRefused
from imgret_tools.extras import needs

with needs("collect"):
    from protego import Protego

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_ROBOTS_BYTES = 512_000
_LONGEST_CRAWL_DELAY = 60.0
_FORBIDDING = frozenset({"none", "noindex", "noimageindex", "noai", "noimageai"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How hosts are asked. `delay`, `timeout` and `longest_wait` are seconds; `contact` a URL or an e-mail address."""

    contact: str = ""
    delay: float = 0.5
    timeout: float = 20.0
    retries: int = 4
    longest_wait: float = 120.0
    obey_robots: bool = True
    allow_private: bool = False

    def __post_init__(self) -> None:
        for name, least in (("delay", 0.0), ("timeout", 0.001), ("retries", 0), ("longest_wait", 0.0)):
            if getattr(self, name) < least:
                raise BadInput(
                    "{name} is {value}; it must be at least {least}.", name=name, value=getattr(self, name), least=least
                )
        if not self.contact.isprintable() or not self.contact.isascii():
            raise BadInput(
                "contact is {contact!r}; give a URL or an e-mail address in plain letters.", contact=self.contact
            )

    @property
    def user_agent(self) -> str:
        """Who asks: the product, its version and whom to write to, e.g. `imgret-collect/0.1.0 (+me@example.org)`."""
        try:
            product = f"{USER_AGENT}/{version('imgret-tools')}"
        except PackageNotFoundError:
            product = USER_AGENT
        return f"{product} (+{self.contact})" if self.contact else product


class Pace:
    """When each host may be asked next: request starts on one host lie at least `delay` seconds apart."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._delays: dict[str, float] = {}
        self._next: dict[str, float] = {}
        self._lock = threading.Lock()

    def slow_down(self, host: str, delay: float) -> None:
        """Keeps at least `delay` seconds for this host (its robots.txt asked for it)."""
        with self._lock:
            self._delays[host] = max(delay, self._delay)

    def hold(self, host: str, seconds: float) -> None:
        """Leaves the host alone for `seconds` from now (it answered with Retry-After)."""
        with self._lock:
            self._next[host] = max(self._next.get(host, 0.0), time.monotonic() + seconds)

    def free_at(self, host: str) -> float:
        """The `time.monotonic()` moment from which the host may be asked."""
        with self._lock:
            return self._next.get(host, 0.0)

    def reserve(self, host: str) -> float:
        """Takes the host's next moment and returns how many seconds it is away."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next.get(host, 0.0))
            self._next[host] = start + self._delays.get(host, self._delay)
            return start - now


class Web:
    """A polite, guarded client. `stop` is set to end every wait at once."""

    def __init__(self, manners: Manners, *, stop: threading.Event, connections: int = 16) -> None:
        self.manners = manners
        self.pace = Pace(manners.delay)
        self.stop = stop
        self._client = make_client(
            allow_private=manners.allow_private,
            timeout=manners.timeout,
            connections=connections,
            user_agent=manners.user_agent,
        )
        self._robots: dict[str, Protego | str] = {}
        self._robots_locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @contextmanager
    def ask(
        self, url: str, headers: Mapping[str, str] | None = None, *, paced: bool = False, found_on: str = ""
    ) -> Iterator[httpx.Response]:
        """The answer (200, 206, 304 or 416, body unread) to one GET after redirects; FetchError otherwise.

        PathRefused when the address is one never fetched from, or robots.txt forbids it.
        `paced` says that the caller already holds the host's moment for the first request; `found_on` is the page that
        named the address, told to its host as browsers do (`referer`).
        """
        for hop in range(REDIRECTS + 1):
            host = host_of(url)
            # A robots.txt read just now has used up the moment that the caller held.
            held = paced and hop == 0 and (not self.manners.obey_robots or _origin(url) in self._robots)
            if forbidden := self.forbidden(url):
                raise PathRefused(forbidden)
            if not held:
                self._wait(self.pace.reserve(host))
            told = dict(headers or {})
            if sent := referer(found_on, url):
                told["Referer"] = sent
            with opened(self._client, url, told) as response:
                if response.has_redirect_location:
                    url = urljoin(url, response.headers["location"])
                    continue
                _judge(response)
                if self.manners.obey_robots and (tag := forbidding_tag(response.headers.get_list("x-robots-tag"))):
                    raise FetchError("its X-Robots-Tag says {tag!r}", tag=tag, permanent=True)
                yield response
                return
        raise FetchError("more than {redirects} redirects", redirects=REDIRECTS, permanent=True)

    def page(self, url: str, *, max_bytes: int = 20_000_000) -> tuple[str, str]:
        """The text of the page at `url` and its content type; asks again after a failure of the moment."""
        for attempt in range(self.manners.retries + 1):
            try:
                with self.ask(url) as response:
                    deadline = time.monotonic() + 3 * self.manners.timeout
                    body = b"".join(read_body(response, max_bytes=max_bytes, deadline=deadline))
                    text = body.decode(response.charset_encoding or "utf-8", errors="replace")
                    return text, response.headers.get("content-type", "")
            except FetchError as failure:
                wait = back_off(failure, attempt)
                if failure.permanent or attempt == self.manners.retries or wait > self.manners.longest_wait:
                    raise
                if failure.wait is not None:
                    self.pace.hold(host_of(url), failure.wait)
                self._wait(wait)
        raise AssertionError("the last attempt returns or raises")

    def forbidden(self, url: str) -> str:
        """Why the host's robots.txt keeps us from `url`, or "". Its file is read once a host and run (RFC 9309)."""
        if not self.manners.obey_robots:
            return ""
        origin = _origin(url)
        with self._lock:
            lock = self._robots_locks.setdefault(origin, threading.Lock())
        with lock:
            if origin not in self._robots:
                self._robots[origin] = self._read_robots(origin)
        rules = self._robots[origin]
        if isinstance(rules, str):
            return rules
        return "" if rules.can_fetch(url, USER_AGENT) else Message("robots.txt of {host} forbids it", host=host_of(url))

    def _read_robots(self, origin: str) -> Protego | str:
        """The rules of one host; a reason to stay away when the host cannot say; no rules when it has no such file."""
        url, host = f"{origin}/robots.txt", host_of(origin)
        for attempt in range(self.manners.retries + 1):
            try:
                return self._robots_answer(url, host)
            except FetchError as failure:
                wait = back_off(failure, attempt)
                if attempt == self.manners.retries or wait > self.manners.longest_wait:
                    return Message("robots.txt of {host} cannot be read ({failure})", host=host, failure=failure)
                self._wait(wait)
        raise AssertionError("the last attempt returns")

    def _robots_answer(self, url: str, host: str) -> Protego:
        for _ in range(REDIRECTS + 1):
            self._wait(self.pace.reserve(host_of(url)))
            with opened(self._client, url) as response:
                if response.has_redirect_location:
                    url = urljoin(url, response.headers["location"])
                    continue
                if response.status_code in _RETRIED or response.status_code >= 500:
                    raise FetchError(
                        "it answers {status_code}", status_code=response.status_code, wait=retry_after(response)
                    )
                text = "" if response.status_code >= 400 else _first_bytes(response).decode("utf-8", errors="replace")
            rules = Protego.parse(text)
            if delay := rules.crawl_delay(USER_AGENT):
                self.pace.slow_down(host, min(float(delay), _LONGEST_CRAWL_DELAY))
            return rules
        return Protego.parse("")

    def _wait(self, seconds: float) -> None:
        if self.stop.wait(seconds) if seconds > 0 else self.stop.is_set():
            raise FetchError("stopped")


def referer(page: str, url: str) -> str:
    """What a browser tells the host of `url` about the page that named it, or "".

    The default policy of browsers, `strict-origin-when-cross-origin` (W3C Referrer Policy): the page's address to its own
    host, without fragment and password; its origin alone to another; nothing from https to http.
    """
    try:
        own = _origin(page)
        if urlsplit(page).scheme.lower() == "https" and urlsplit(url).scheme.lower() != "https":
            return ""
        if own != _origin(url):
            return f"{own}/" if own.isascii() else ""
    except PathRefused:
        return ""
    parts = urlsplit(page)
    sent = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
    return quote(sent, safe="%/:?&=;+,$!'()*~@#[]-._")


def _origin(url: str) -> str:
    return f"{urlsplit(url).scheme.lower()}://{host_of(url)}"


def back_off(failure: FetchError, attempt: int) -> float:
    """Seconds before the next try: what the host asked for, else 0.5, 1, 2, 4... up to 30."""
    return failure.wait if failure.wait is not None else float(min(0.5 * 2**attempt, 30.0))


def retry_after(response: httpx.Response) -> float | None:
    """The seconds of `Retry-After`, given as a number or as a date; None when it is absent or unreadable."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time()) if value else None
    except ValueError:
        return None


def forbidding_tag(values: list[str]) -> str:
    """The directive in `X-Robots-Tag` values (or robots meta tags) that keeps us out, or "".

    A value may be addressed to one robot (`otherbot: noindex`): only ours and unaddressed ones count. We stay away from
    `none`, `noindex`, `noimageindex`, `noai` and `noimageai`.
    """
    for value in values:
        agent, colon, rest = value.partition(":")
        addressed = (
            bool(colon) and "," not in agent and agent.strip().lower() not in ("unavailable_after", "max-snippet")
        )
        if addressed and agent.strip().lower() != USER_AGENT:
            continue
        for directive in (rest if addressed else value).split(","):
            if directive.strip().lower() in _FORBIDDING:
                return directive.strip().lower()
    return ""


def _judge(response: httpx.Response) -> None:
    status = response.status_code
    if status in (200, 206, 304, 416):
        return
    raise FetchError(
        "the server answers {status}",
        status=status,
        permanent=status not in _RETRIED,
        wait=retry_after(response) if status in (429, 503) else None,
    )


def _first_bytes(response: httpx.Response) -> bytes:
    """A robots.txt as far as it counts; a longer one is cut there, as RFC 9309 allows."""
    text = b""
    for chunk in read_body(response, max_bytes=10 * _ROBOTS_BYTES):
        text += chunk
        if len(text) > _ROBOTS_BYTES:
            break
    return text
