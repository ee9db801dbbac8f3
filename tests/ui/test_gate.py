"""The gate: other hosts' pages, simple requests, wrong passwords, floods and slow senders go no further."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from imgret_tools.mcp import Tokens
from imgret_tools.ui import gate as gate_module
from imgret_tools.ui.gate import OPEN, Gate, Limits, Recent, same_login

PATHS = [
    "/",
    "/gradio_api/info",
    "/gradio_api/call/x",
    "/gradio_api/queue/join",
    "/gradio_api/upload",
    "/mcp",
    "/login",
]


async def answers(request: Request) -> Response:
    body = await request.body()
    if request.url.path == "/login" and body != b"right":
        return JSONResponse({}, status_code=400)
    response = JSONResponse({"bytes": len(body)})
    response.set_cookie("access-token-x", "t", samesite="none", secure=True)
    return response


def gated(**options: Any) -> Gate:
    app = Starlette(routes=[Route("/{path:path}", answers, methods=["GET", "POST", "DELETE", "PUT"])])
    return Gate(app, **options)


def client(gate: Gate, base: str = "http://127.0.0.1:7860") -> TestClient:
    return TestClient(gate, base_url=base)


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1.nip.io", "localhost.evil.example", ""]
)
def test_no_way_in_answers_under_another_name(path: str, host: str) -> None:
    """DNS rebinding: a name of somebody else's that leads here."""
    answer = client(gated()).get(path, headers={"host": host})
    assert answer.status_code == 421
    assert "--allow-host" in answer.json()["error"]


def test_a_refusal_comes_in_the_browsers_language() -> None:
    asked = client(gated(limits=Limits(request=1_500_000)))
    answer = asked.post(
        "/gradio_api/queue/join", content=b"0" * 2_600_000, headers=JSON | {"accept-language": "vi-VN,en;q=0.5"}
    )
    assert answer.status_code == 413
    assert answer.json()["error"] == "Đã gửi 3 MB; chỉ nhận nhiều nhất 2 MB."


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:7860", "localhost:7860", "[::1]:7860", "192.168.1.7:80", "LOCALHOST"]
)
def test_addresses_in_figures_and_own_names_are_answered(host: str) -> None:
    assert client(gated()).get("/", headers={"host": host}).status_code == 200


def test_names_that_were_given_are_answered() -> None:
    gate = gated(hosts=["Pictures.example.org"])
    asked = client(gate)
    assert asked.get("/", headers={"host": "pictures.example.org:443"}).status_code == 200
    assert asked.get("/", headers={"host": "abc.gradio.live"}).status_code == 421
    gate.allow("abc.gradio.live")
    assert asked.get("/", headers={"host": "abc.gradio.live"}).status_code == 200
    assert client(gated(hosts=["*"])).get("/", headers={"host": "any.example"}).status_code == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:8000", "http://localhost:7860", "file://", "http://["]
)
def test_pages_of_other_origins_use_nothing(path: str, origin: str) -> None:
    asked = client(gated())
    for method in ("GET", "POST", "OPTIONS"):
        assert asked.request(method, path, headers={"origin": origin, **JSON}).status_code == 403


def test_the_own_page_and_programs_go_through() -> None:
    asked = client(gated(hosts=["pictures.example.org"]))
    for headers in ({}, {"origin": "http://127.0.0.1:7860"}, {"sec-fetch-site": "same-origin"}):
        assert asked.post("/gradio_api/call/x", content=b"{}", headers={**headers, **JSON}).status_code == 200
    # A proxy that hands on another Host than the browser saw.
    proxied = {"host": "127.0.0.1:7860", "origin": "https://pictures.example.org", **JSON}
    assert asked.post("/mcp", content=b"{}", headers=proxied).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_link_to_the_page_and_load_nothing(site: str) -> None:
    asked = client(gated())
    visit = {"sec-fetch-site": site, "sec-fetch-mode": "navigate"}
    assert asked.get("/?text=a", headers=visit).status_code == 200
    assert asked.get("/logout", headers=visit).status_code == 403
    assert (
        asked.get("/thumbnail/a/0123", headers={"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}).status_code == 403
    )
    assert asked.post("/login", content=b"right", headers={**visit, **FORM}).status_code == 403


FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_what_a_form_can_send_is_no_call(kind: str) -> None:
    for path in ("/gradio_api/call/x", "/gradio_api/queue/join", "/gradio_api/run/x", "/mcp", "/gradio_api/cancel"):
        answer = client(gated()).post(path, content=b'{"data": []}', headers={"content-type": kind})
        assert answer.status_code == 415, path


@pytest.mark.parametrize(
    "path",
    ["/monitoring", "/gradio_api/token", "/gradio_api/proxy=http://x.hf.space", "/gradio_api/deep_link", "/docs",
     "/gradio_api/file=https://example.org/x.png", "/gradio_api/file=HTTP://x", "/gradio_api/file=file:/etc/passwd",
     "/gradio_api/vibe-edit", "/gradio_api/../etc/passwd"],
)  # fmt: skip
def test_what_was_not_judged_is_not_there(path: str) -> None:
    asked = client(gated())
    assert asked.get(path).status_code == 404
    assert asked.request("PUT", "/gradio_api/call/x").status_code == 404
    assert asked.get("/gradio_api/queue/join").status_code == 404


def test_cookies_stay_here_and_frames_are_ours() -> None:
    answer = client(gated()).get("/")
    assert answer.headers["set-cookie"] == "access-token-x=t; Path=/; HttpOnly; SameSite=Lax"
    assert answer.headers["content-security-policy"] == "frame-ancestors 'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    over_tls = client(gated(), "https://127.0.0.1").get("/")
    assert over_tls.headers["set-cookie"].endswith("HttpOnly; SameSite=Lax; Secure")
    space = client(gated(embedded_by="https://huggingface.co")).get("/")
    assert space.headers["set-cookie"].endswith("HttpOnly; SameSite=None; Secure")
    assert space.headers["content-security-policy"] == "frame-ancestors 'self' https://huggingface.co"


# Passwords


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []

    async def sleep(seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr(gate_module, "sleep", sleep)
    return taken


def login(asked: TestClient, word: bytes) -> int:
    return asked.post("/login", content=word, headers=FORM).status_code


def test_wrong_passwords_slow_down_and_lock_out_and_time_forgives(waits: list[float]) -> None:
    now = [0.0]
    gate = gated(limits=Limits(wrong=6), clock=lambda: now[0])
    asked = client(gate)
    assert [login(asked, b"wrong") for _ in range(8)] == [400] * 6 + [429] * 2
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert login(asked, b"right") == 429
    assert asked.get("/").status_code == 200  # who is in stays in
    now[0] = 901
    assert login(asked, b"right") == 200
    assert login(asked, b"wrong") == 400


def test_addresses_are_counted_together_too(waits: list[float]) -> None:
    gate = gated(limits=Limits(wrong=5, wrong_in_all=20))
    told = [
        login(TestClient(gate, base_url="http://127.0.0.1", client=(f"10.0.0.{n}", 1)), b"wrong") for n in range(25)
    ]
    assert told == [400] * 20 + [429] * 5


def test_a_right_password_takes_back_its_own_wrong_ones(waits: list[float]) -> None:
    asked = client(gated(limits=Limits(wrong=3, wrong_in_all=100)))
    for _ in range(10):
        assert [login(asked, b"wrong"), login(asked, b"right")] == [400, 200]


def test_a_login_is_both_parts_and_nothing_like_them() -> None:
    right = same_login("ann", "grün é")
    assert right("ann", "grün é")
    assert not any(
        right(*pair) for pair in (("ann", ""), ("", "grün é"), ("bob", "grün é"), ("ann", "grün e"), ("ANN", "grün é"))
    )


def test_tokens_change_and_the_one_before_stays_good_for_a_while() -> None:
    now, told = [0.0], []
    tokens = Tokens(seconds=100, grace=10, told=told.append, clock=lambda: now[0])
    first = tokens.current()
    assert tokens.take(first.encode())
    assert not tokens.take(b"")
    now[0] = 100
    second = tokens.current()
    assert second != first
    assert told == [first, second]
    assert tokens.take(first.encode())
    assert tokens.take(second.encode())
    now[0] = 111
    assert not tokens.take(first.encode())
    assert tokens.take(second.encode())


# Floods


def test_more_at_work_than_there_is_room_for_is_told_to_come_back() -> None:
    async def go() -> tuple[list[int], dict[str, str], int]:
        inside, free = asyncio.Event(), asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            inside.set()
            await free.wait()
            await Response()(scope, receive, send)

        gate = Gate(slow, limits=Limits(at_work=2))
        told: list[tuple[int, dict[str, str]]] = []

        async def ask(path: str) -> None:
            async def receive() -> Any:
                return {"type": "http.request", "body": b"{}"}

            async def send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    told.append((message["status"], {k.decode(): v.decode() for k, v in message["headers"]}))

            headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
            scope = {"type": "http", "method": "POST" if path != "/" else "GET", "path": path, "headers": headers,
                     "scheme": "http", "client": ("1.2.3.4", 5), "query_string": b""}  # fmt: skip
            await gate(scope, receive, send)

        working = [asyncio.create_task(ask("/gradio_api/call/x")) for _ in range(2)]
        await inside.wait()
        await asyncio.sleep(0)
        await ask("/mcp")
        busy = told[0]
        visit = asyncio.create_task(ask("/"))  # to look is no work
        free.set()
        await asyncio.gather(*working, visit)
        await ask("/mcp")
        return [status for status, _ in told], busy[1], busy[0]

    statuses, headers, busy = asyncio.run(go())
    assert busy == 503
    assert headers["retry-after"] == "1"
    assert statuses == [503, 200, 200, 200, 200]


MULTIPART = {"content-type": "multipart/form-data; boundary=x"}


def test_uploads_are_bounded_each_and_for_a_visitor_and_in_all() -> None:
    now = [0.0]
    limits = Limits(upload=1000, kept=2500, kept_in_all=4000, files=10)
    gate = gated(limits=limits, clock=lambda: now[0])

    def send(size: int, visitor: str = "10.0.0.1") -> int:
        asked = TestClient(gate, base_url="http://127.0.0.1", client=(visitor, 1))
        return asked.post("/gradio_api/upload", content=b"x" * size, headers=MULTIPART).status_code

    assert send(1001) == 413
    assert [send(900), send(900), send(900), send(900)] == [200, 200, 413, 429]
    assert send(900, "10.0.0.2") == 200
    assert send(900, "10.0.0.3") == 413  # all of them together
    now[0] = 3700
    assert send(900) == 200
    assert [send(1, "10.0.0.9") for _ in range(12)] == [200] * 10 + [429] * 2


def test_a_body_without_a_length_ends_where_the_bound_is() -> None:
    def pieces() -> Iterator[bytes]:
        yield from [b"x" * 1000] * 20

    answer = client(gated(limits=Limits(request=5000))).post("/mcp", content=pieces(), headers=JSON)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"


def test_a_body_that_never_comes_is_not_waited_for() -> None:
    async def go() -> int:
        gate, told = gated(limits=Limits(seconds=0.05)), []

        async def receive() -> Any:
            await asyncio.sleep(60)

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                told.append(message["status"])

        scope = {"type": "http", "method": "POST", "path": "/gradio_api/call/x", "headers":
                 [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")], "scheme": "http",
                 "client": ("1.2.3.4", 5), "query_string": b"", "root_path": "", "server": ("127.0.0.1", 1)}  # fmt: skip
        await gate(scope, receive, send)
        return int(told[0])

    assert asyncio.run(go()) == 408


def test_what_visitors_did_takes_bounded_memory() -> None:
    recent = Recent(3600, lambda: 0.0)
    for number in range(Recent.MOST + 50):
        recent.add(str(number))
    assert len(recent._done) == Recent.MOST
    for _ in range(5000):
        recent.add("one", 2.0)
    assert recent.of("one") == (5000, 10_000.0)
    assert len(recent._done["one"]) <= 1000


def test_every_way_in_is_a_plain_pattern() -> None:
    assert len({path for _, path in OPEN}) == len(OPEN)
    assert all(path.startswith("/") for _, path in OPEN)
