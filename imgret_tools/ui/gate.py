"""The gate: what every request passes before the page, its API, uploads, the queue or /mcp see it.

In this order: is the request addressed to this app (Host)? does it come from this app's own page or from a program (Origin,
Sec-Fetch-Site)? is it a way in that was judged (`OPEN`)? is its content of a kind that no form of another page can send? is there
room, for its bytes and for one more at work? was the wrong password tried too often? Whatever else Gradio answers, today or in
its next version, is not there.

Names are what DNS rebinding needs, so an address in figures is always the app's own: https://github.com/taviso/rbndr.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
import time
from asyncio import get_running_loop as loop
from asyncio import sleep, timeout_at
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imgret_tools.errors import Message as Told
from imgret_tools.ui.texts.messages import translated
from imgret_tools.ui.texts.table import language_of

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

_NAME = "[A-Za-z0-9_-]{1,64}"
OPEN: tuple[tuple[str, str], ...] = (
    # The page and its files.
    ("GET", r"/"),
    ("GET", r"/(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json|pwa_icon(/\d+)?)/?"),
    ("GET", r"/(assets|static|svelte)/.*"),
    ("GET", r"/gradio_api/(theme\.css|startup-events|app_id/?|user/?|login_check/?)"),
    ("GET", r"/thumbnail/[^/]+/[^/]+"),
    # Login.
    ("POST", r"/login/?"),
    ("GET", r"/logout/?"),
    # What the page's components and gradio_client call.
    ("GET", r"/gradio_api/info/?"),
    ("GET", rf"/gradio_api/heartbeat/{_NAME}"),
    ("GET", r"/gradio_api/queue/(data|status)"),
    ("POST", r"/gradio_api/queue/join"),
    ("POST", rf"/gradio_api/(call(/v2)?|run|api)/{_NAME}/?"),
    ("GET", rf"/gradio_api/call(/v2)?/{_NAME}/{_NAME}"),
    ("POST", r"/gradio_api/(cancel|reset/?|component_server/?)"),
    # Pictures that visitors send, and those the app made for them.
    ("POST", r"/gradio_api/upload"),
    ("GET", r"/gradio_api/upload_progress"),
    ("GET", r"/gradio_api/file=(?!(?i:[a-z][a-z0-9+.-]*:/?/)).*"),
    # Agents.
    ("GET POST DELETE", r"/mcp/?"),
)
"""The ways in, methods and path; HEAD goes wherever GET does. A test holds it against all routes that there are."""

_OPEN = [(frozenset(methods.split()), re.compile(path, re.DOTALL)) for methods, path in OPEN]
_SENT_AS = {
    "/gradio_api/upload": ("multipart/form-data",),
    "/login": ("multipart/form-data", "application/x-www-form-urlencoded"),
    "/gradio_api/component_server": ("application/json", "multipart/form-data"),
}
"""Forms that are taken, where the page sends them: another site's are stopped by their Origin."""
_WORK = re.compile(r"/mcp/?|/gradio_api/(queue/join|call/.*|run/.*|api/.*|component_server/?|upload)")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a visitor, who is an address, and all of them together may ask for.

    Attributes:
        at_work: Requests that are worked on at once.
        request: Bytes of a request.
        upload: Bytes of an upload.
        seconds: Time for a request's body to arrive.
        kept: Bytes that a visitor may upload in `hour`.
        kept_in_all: Bytes that all visitors may upload in `hour`; Gradio deletes them after about as long.
        files: Uploads of a visitor in `hour`.
        hour: Seconds.
        wrong: Wrong passwords of one address before it is locked out.
        wrong_in_all: Wrong passwords of all addresses before nobody can log in.
        locked: Seconds that a wrong password counts.
    """

    at_work: int = 128
    request: int = 32_000_000
    upload: int = 25_000_000
    seconds: float = 60.0
    kept: int = 300_000_000
    kept_in_all: int = 3_000_000_000
    files: int = 300
    hour: float = 3600.0
    wrong: int = 8
    wrong_in_all: int = 200
    locked: float = 900.0


OWN = Limits(upload=2_100_000_000, seconds=3600.0, kept=50_000_000_000, kept_in_all=50_000_000_000, files=100_000)
"""For an app that indexes: its visitors are its owner."""


class Refused(Exception):
    """A request that goes no further: the status, and a sentence that says what was wrong and what to do."""

    def __init__(self, status: int, template: str, wait: float = 0, **values: object) -> None:
        super().__init__(Told(template, **values))
        self.status, self.wait = status, wait


class Gate:
    """An ASGI app before another.

    Args:
        app: What lies behind.
        hosts: Names under which the app may be asked, beside addresses in figures, `localhost` and this machine's name; `*`
            for any.
        limits: How much may be asked for.
        embedded_by: Origin whose pages may hold the app in a frame; nobody else's may.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Iterable[str] = (),
        limits: Limits = OWN,
        embedded_by: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        machine = socket.gethostname().lower()
        self.app = app
        self.hosts = {"localhost", machine, f"{machine}.local", *(host.lower() for host in hosts)}
        self.limits, self.embedded_by = limits, embedded_by
        self.sent = Recent(limits.hour, clock)
        self._at_work = 0
        self._wrong = Recent(limits.locked, clock)

    def allow(self, host: str) -> None:
        """Also answer requests addressed to `host`, such as a public link's name."""
        self.hosts.add(host.lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge a request, and hand it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # there are no WebSockets here
        passage = _Passage(self, scope, receive, send)
        try:
            await self._through(scope, passage)
        except Refused as refused:
            await passage.refuse(refused)
        except Exception:
            if not passage.refused:
                raise

    async def _through(self, scope: Scope, passage: _Passage) -> None:
        headers, path, method = Headers(scope=scope), str(scope["path"]), str(scope["method"])
        self._addressed(headers)
        self._from_here(headers, path, method)
        wanted = "GET" if method == "HEAD" else method
        if not any(wanted in methods and known.fullmatch(path) for methods, known in _OPEN):
            raise Refused(404, "There is nothing at {path!r} for {method}.", path=path[:80], method=method)
        if method == "POST":
            self._of_a_kind(headers, path)
        passage.admit()
        if path.rstrip("/") == "/login":
            await self._login(scope, passage)
        elif method == "POST" and _WORK.fullmatch(path):
            if self._at_work >= self.limits.at_work:
                raise Refused(503, "The app is busy with as much as it can do at once; try again in a second.", 1)
            self._at_work += 1
            try:
                await self.app(scope, passage.receive, passage.send)
            finally:
                self._at_work -= 1
        else:
            await self.app(scope, passage.receive, passage.send)

    # Who asks whom

    def _addressed(self, headers: Headers) -> None:
        if not self._ours(headers.get("host", "")):
            name = _name_of(headers.get("host", ""))
            raise Refused(
                421,
                "This app is not asked under the name {name!r}; use its address, or start it with --allow-host NAME.",
                name=name[:80],
            )

    def _ours(self, netloc: str) -> bool:
        name = _name_of(netloc)
        return bool(name) and ("*" in self.hosts or name in self.hosts or _in_figures(name))

    def _from_here(self, headers: Headers, path: str, method: str) -> None:
        """A browser says where a request comes from; programs that are no browser say nothing."""
        origin = headers.get("origin")
        if origin is not None:
            try:
                theirs = urlsplit(origin).netloc.lower()
            except ValueError:
                theirs = ""
            same = theirs == headers.get("host", "").lower() and bool(theirs)
            if not same and not (_name_of(theirs) in self.hosts and self._public(theirs)):
                raise Refused(403, "Pages of {origin!r} may not use this app; open its own page.", origin=origin[:80])
        elif headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            visits = method == "GET" and path == "/" and headers.get("sec-fetch-mode") == "navigate"
            if not visits:
                raise Refused(403, "Pages of another site may link to this app but not use it; open its own page.")

    def _public(self, netloc: str) -> bool:
        """Whether an origin is a name given to the app: behind a proxy, Host and Origin may differ in name or port."""
        return _name_of(netloc) not in LOOPBACK and not _in_figures(_name_of(netloc))

    def _of_a_kind(self, headers: Headers, path: str) -> None:
        """Only what a page of another host cannot send without being asked about first (CORS), but for the two forms."""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        wanted = _SENT_AS.get(path.rstrip("/"), ("application/json",))
        if kind not in wanted and headers.get("content-length") != "0":
            raise Refused(
                415,
                "Content of type {kind!r} was sent; {wanted} is expected.",
                kind=kind[:60],
                wanted=" / ".join(wanted),
            )

    # Passwords

    async def _login(self, scope: Scope, passage: _Passage) -> None:
        """A try to log in: the more wrong ones before, the longer it takes; after too many, not at all."""
        mine, all_ = self._wrong.of(passage.visitor)[0], self._wrong.of("")[0]
        if mine >= self.limits.wrong or all_ >= self.limits.wrong_in_all:
            raise Refused(429, "Too many wrong passwords were tried; wait a quarter of an hour.", self.limits.locked)
        # Counted before it is looked at: tries side by side are tries too.
        self._wrong.add(passage.visitor)
        self._wrong.add("")
        if mine:
            await sleep(min(0.25 * 2**mine, 8.0))
        await self.app(scope, passage.receive, passage.send)
        if passage.status < 400:
            self._wrong.forget(passage.visitor)
            self._wrong.take_back("")


class _Passage:
    """One request on its way through the gate: its body within bounds, its answer with what browsers should know.

    What is refused while the body arrives is answered at once; the app behind is told that its client has gone.
    """

    def __init__(self, gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
        self._gate, self._scope, self._receive, self._send = gate, scope, receive, send
        self.visitor = str(scope["client"][0]) if scope.get("client") else "-"
        self.status, self.refused = 0, False
        limits = gate.limits
        self._uploading = scope["path"] == "/gradio_api/upload"
        self._most = limits.upload if self._uploading else limits.request
        self._seen, self._whole = 0, False
        self._until = loop().time() + limits.seconds

    def admit(self) -> None:
        """Judge what is known before the body arrives.

        Raises:
            Refused: it would be too large, or the visitor, or all of them, have sent enough for now.
        """
        length = Headers(scope=self._scope).get("content-length", "")
        if length.isdecimal() and int(length) > self._most:
            raise Refused(
                413,
                "{sent:.0f} MB were sent; at most {most:.0f} MB are taken.",
                sent=int(length) / 1e6,
                most=self._most / 1e6,
            )
        if self._uploading:
            limits, sent = self._gate.limits, self._gate.sent
            files, kept = sent.of(self.visitor)
            if files >= limits.files or kept >= limits.kept or sent.of("")[1] >= limits.kept_in_all:
                raise Refused(429, "So much was uploaded here that no more is taken for now; come back later.", 600)
            sent.add(self.visitor)

    async def receive(self) -> Message:
        """The next piece of the body."""
        if self.refused:
            return {"type": "http.disconnect"}
        if self._whole:
            return await self._receive()
        try:
            async with timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            return await self.refuse(Refused(408, "The request took too long to arrive; send it again."))
        size = len(message.get("body", b""))
        self._seen += size
        self._whole = not message.get("more_body", False)
        over = self._seen > self._most
        if self._uploading and size:
            sent, limits = self._gate.sent, self._gate.limits
            sent.add(self.visitor, size, count=0)
            sent.add("", size, count=0)
            over = over or sent.of(self.visitor)[1] > limits.kept or sent.of("")[1] > limits.kept_in_all
        if over:
            return await self.refuse(
                Refused(413, "More than {seen:.0f} MB cannot be taken; send less.", seen=self._seen / 1e6)
            )
        return message

    async def send(self, message: Message) -> None:
        """Send a piece of the answer, unless the request was refused meanwhile."""
        if self.refused:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._add_headers(MutableHeaders(raw=message.setdefault("headers", [])))
        await self._send(message)

    async def refuse(self, refused: Refused) -> Message:
        """Answer why the request goes no further, if nothing was answered yet; what the app behind receives from then on."""
        if not self.status and not self.refused:
            self.refused = True
            language = language_of(None, Headers(scope=self._scope).get("accept-language"))
            told = dict.fromkeys(("error", "detail"), translated(language, refused.args[0]))
            headers = {"Retry-After": str(max(1, round(refused.wait)))} if refused.wait else {}
            headers["Connection"] = "close"  # what is left of the body is not waited for
            await JSONResponse(told, status_code=refused.status, headers=headers)(
                self._scope, self._receive, self._send
            )
        self.refused = True
        return {"type": "http.disconnect"}

    def _add_headers(self, headers: MutableHeaders) -> None:
        embedded = self._gate.embedded_by
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "same-origin"
        headers["Content-Security-Policy"] = f"frame-ancestors 'self' {embedded}".strip()
        cookies = headers.getlist("set-cookie")
        del headers["set-cookie"]
        for cookie in cookies:
            secure = self._scope["scheme"] == "https" or bool(embedded)
            headers.append("set-cookie", _kept_here(cookie, secure, embedded=bool(embedded)))


def same_login(user: str, password: str) -> Callable[[str, str], bool]:
    """Whether a name and a password are these, in a time that does not depend on how much of them is right."""

    def right(given_user: str, given_password: str) -> bool:
        named = hmac.compare_digest(given_user.encode(), user.encode())
        known = hmac.compare_digest(given_password.encode(), password.encode())
        return named & known

    return right


def _kept_here(cookie: str, secure: bool, *, embedded: bool) -> str:
    """A Set-Cookie with HttpOnly, SameSite (Lax, or None for an app in another site's frame) and Secure where there is TLS."""
    parts = [part.strip() for part in cookie.split(";")]
    kept = [part for part in parts if part.partition("=")[0].lower() not in ("httponly", "samesite", "secure")]
    same = "None" if embedded else "Lax"
    return "; ".join([*kept, "HttpOnly", f"SameSite={same}", *(["Secure"] if secure else [])])


def _name_of(netloc: str) -> str:
    """The name in a `Host` header, without its port and in lower case."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:@/\[\]]+)(:\d{1,5})?", netloc.strip())
    return found[1].lower().rstrip(".") if found else ""


def _in_figures(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


class Recent:
    """What visitors did within the last `seconds`: how often, and how much in all. At most `MOST` visitors are known."""

    MOST = 20_000

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds, self._clock = seconds, clock
        self._done: OrderedDict[str, deque[list[float]]] = OrderedDict()

    def add(self, visitor: str, amount: float = 0, *, count: int = 1) -> None:
        """Note a deed of that amount."""
        deeds = self._done.setdefault(visitor, deque())
        self._done.move_to_end(visitor)
        now = self._clock()
        if deeds and not count and now - deeds[-1][0] < self._seconds / 60:
            deeds[-1][2] += amount
        elif deeds and len(deeds) >= 1000:
            deeds[-1][1] += count
            deeds[-1][2] += amount
        else:
            deeds.append([now, count, amount])
        if len(self._done) > self.MOST:
            self._done.popitem(last=False)

    def of(self, visitor: str) -> tuple[int, float]:
        """How often, and how much in all."""
        deeds = self._done.get(visitor, deque())
        while deeds and self._clock() - deeds[0][0] > self._seconds:
            deeds.popleft()
        return int(sum(count for _, count, _ in deeds)), sum(amount for _, _, amount in deeds)

    def forget(self, visitor: str) -> None:
        """Nothing was done."""
        self._done.pop(visitor, None)

    def take_back(self, visitor: str) -> None:
        """The last deed was none."""
        if self._done.get(visitor):
            self._done[visitor].pop()
