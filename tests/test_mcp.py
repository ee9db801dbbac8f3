"""The MCP adapter with real clients: the official one (HTTP, stdio), LangChain's; and the conformance suite."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import jsonschema
import pytest
import uvicorn
from conftest import copy_photos, entries_of, free_port
from langchain_mcp_adapters.client import MultiServerMCPClient
from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import (
    LATEST_PROTOCOL_VERSION,
    CallToolResult,
    CancelledNotification,
    CancelledNotificationParams,
    ClientCapabilities,
    ClientNotification,
    ClientRequest,
    ImageContent,
    Implementation,
    InitializedNotification,
    InitializeRequest,
    InitializeRequestParams,
    InitializeResult,
    ListRootsResult,
    ResourceLink,
    ResourceTemplateReference,
    Root,
    TextContent,
)
from PIL import Image
from pydantic import AnyUrl, FileUrl
from starlette.applications import Starlette
from starlette.testclient import TestClient

from imgret_tools import ImageTools, Runtime, __version__
from imgret_tools.mcp import IMAGES, make_mcp, mount
from imgret_tools.records import Entry, IndexReport
from imgret_tools.tools import TOOLS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Use `streamable_http_client`:DeprecationWarning"),
]

TOKEN = "only-for-this-test"
CONFORMANCE = "0.1.13"
"""The newest version that runs on Node 20; `npm install --no-save @modelcontextprotocol/conformance@0.1.13`."""

T = TypeVar("T")


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in a thread of its own: the loop that pytest-asyncio keeps for this thread stays as it is."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@contextlib.contextmanager
def served(tools: ImageTools, *, token: str = "", with_images: bool = False) -> Iterator[str]:
    """The address of the endpoint in an app of its own, on loopback."""
    port = free_port()
    app = Starlette()
    mount(app, make_mcp(tools, with_images=with_images), token=token)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        for _ in range(200):
            if server.started:
                break
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def endpoint(indexed: ImageTools) -> Iterator[str]:
    with served(indexed) as url:
        yield url


@contextlib.asynccontextmanager
async def client(url: str, token: str = "") -> AsyncIterator[ClientSession]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with streamablehttp_client(url, headers=headers) as (read, write, _):
        async with ClientSession(read, write) as session:
            await session.initialize()
            yield session


def call(url: str, name: str, **arguments: object) -> CallToolResult:
    async def go() -> CallToolResult:
        async with client(url) as session:
            return await session.call_tool(name, arguments)

    return run_async(go())


def text(result: CallToolResult) -> str:
    first = result.content[0]
    assert isinstance(first, TextContent)
    return first.text


def test_it_lists_exactly_the_public_tools(endpoint: str) -> None:
    async def go() -> list[Any]:
        async with client(endpoint) as session:
            return (await session.list_tools()).tools

    listed = run_async(go())
    assert [tool.name for tool in listed] == list(TOOLS)
    assert [tool.annotations.readOnlyHint for tool in listed] == [name != "index_folder" for name in TOOLS]


def test_results_are_short_text_and_a_record_that_fits_its_schema(endpoint: str, indexed: ImageTools) -> None:
    async def go() -> tuple[dict[str, Any], list[CallToolResult]]:
        async with client(endpoint) as session:
            schemas = {tool.name: tool.outputSchema for tool in (await session.list_tools()).tools}
            found = await session.call_tool("search_similar_image", {"text": "a big cat", "k": 3})
            first = found.structuredContent["hits"][0]["id"]  # type: ignore[index]
            folder = str(Path(indexed.runtime.settings.roots[0]) / "photos")
            return schemas, [
                await session.call_tool("index_folder", {"folder": folder, "dry_run": True}),
                found,
                await session.call_tool("compare_metrics", {"image": first, "k": 3}),
                await session.call_tool("list_libraries", {}),
                await session.call_tool("describe_library", {}),
                await session.call_tool("show_image", {"image": first}),
                await session.call_tool("find_duplicates", {}),
            ]

    schemas, results = run_async(go())
    for name, result in zip(TOOLS, results, strict=True):
        assert not result.isError
        jsonschema.validate(result.structuredContent, schemas[name])
    assert results[1].structuredContent == json.loads(json.dumps(results[1].structuredContent))
    assert results[1].structuredContent["hits"][0]["id"] in text(results[1])  # type: ignore[index]
    assert "embedding cosine exact" in text(results[2])


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("search_similar_image", {"image": "/etc/passwd"}, "outside the folders"),
        ("search_similar_image", {"image": "file:///etc/passwd"}, "is no path"),
        ("search_similar_image", {"image": "http://127.0.0.1/x.png"}, "URLs are not allowed"),
        ("search_similar_image", {"text": "a", "k": 10**9}, "less than or equal to 200"),
        ("search_similar_image", {"text": "x" * 100_000}, "at most 1000 characters"),
        ("search_similar_image", {"text": "a", "limit": 2}, "arguments are image, text, k"),
        ("search_similar_image", {"text": "a", "library": "nowhere"}, "Index a folder"),
        ("index_folder", {}, "folder: Field required"),
        ("index_folder", {"folder": "/"}, "outside the folders"),
        ("delete_everything", {}, "there are index_folder, search_similar_image"),
    ],
)
def test_a_wrong_call_is_an_error_a_model_can_act_on(
    endpoint: str, name: str, arguments: dict[str, Any], told: str
) -> None:
    result = call(endpoint, name, **arguments)
    assert result.isError
    assert told in text(result)
    assert len(text(result)) < 800


def test_thumbnails_go_along_when_asked_for(indexed: ImageTools) -> None:
    with served(indexed, with_images=True) as url:
        result = call(url, "search_similar_image", text="a rocket", k=2)
    shown = [block for block in result.content if isinstance(block, ImageContent)]
    assert len(shown) == 2
    assert max(Image.open(io.BytesIO(base64.b64decode(shown[0].data))).size) <= 256


def test_pictures_are_resources_by_library_and_id(runtime: Runtime, photos: Path) -> None:
    tools = ImageTools(runtime)
    tools.index_folder(str(photos), library="ảnh của tôi")
    lion = next(entry for entry in entries_of(runtime, "ảnh của tôi") if entry.label == "lion")

    async def go(url: str) -> list[Image.Image]:
        shown = []
        async with client(url) as session:
            templates = (await session.list_resource_templates()).resourceTemplates
            for template in templates[:2]:
                uri = template.uriTemplate.replace("{library}", "ảnh của tôi").replace("{id}", lion.id)
                contents = (await session.read_resource(AnyUrl(uri))).contents[0]
                shown.append(Image.open(io.BytesIO(base64.b64decode(contents.blob))))  # type: ignore[union-attr]
            # The only library is meant by `default`.
            for library, refusal in (("default", "has no image"), ("zoo", "There is no library")):
                with pytest.raises(McpError, match=refusal):
                    await session.read_resource(AnyUrl(f"imgret://picture/{library}/0123456789ab"))
        return shown

    with served(tools) as url:
        small, full = run_async(go(url))
    assert max(small.size) <= 256
    assert full.size == (lion.width, lion.height)
    assert not full.getexif()


def test_indexing_notifies_of_its_progress(runtime: Runtime, photos: Path) -> None:
    seen: list[tuple[float, float | None, str | None]] = []

    async def show(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))

    async def go(url: str) -> CallToolResult:
        async with client(url) as session:
            return await session.call_tool("index_folder", {"folder": str(photos)}, progress_callback=show)

    with served(ImageTools(runtime)) as url:
        result = run_async(go(url))
    assert result.structuredContent["added"] == 12  # type: ignore[index]
    assert seen[-1][:2] == (12, 12)
    assert [progress for progress, *_ in seen] == sorted({progress for progress, *_ in seen})


def test_the_token_is_asked_of_every_request(indexed: ImageTools) -> None:
    with served(indexed, token=TOKEN) as url:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": "Bearer"},
        ):
            answer = httpx.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert TOKEN not in answer.text

        async def go() -> int:
            async with client(url, TOKEN) as session:
                return len((await session.list_tools()).tools)

        assert run_async(go()) == len(TOOLS)


def test_requests_for_another_host_are_refused(endpoint: str) -> None:
    answer = httpx.post(endpoint, json={}, headers={"Host": "evil.example.com", "Content-Type": "application/json"})
    assert answer.status_code == 421


def test_stdio_serves_the_same_tools(tmp_path: Path) -> None:
    copy_photos(tmp_path / "photos")
    program = (
        "from imgret_tools import ImageTools, Runtime, Settings; from imgret_tools.mcp import run_stdio\n"
        "with Runtime.open(Settings.from_env()) as runtime: run_stdio(ImageTools(runtime))"
    )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "IMGRET_ROOTS": str(tmp_path),
        "IMGRET_ENCODER": "mini",
        "IMGRET_DATA_DIR": str(tmp_path / "data"),
    }

    async def go() -> tuple[list[str], CallToolResult, CallToolResult]:
        server = StdioServerParameters(command=sys.executable, args=["-c", program], env=environment)
        async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            names = [tool.name for tool in (await session.list_tools()).tools]
            made = await session.call_tool("index_folder", {"folder": str(tmp_path / "photos")})
            return names, made, await session.call_tool("search_similar_image", {"text": "a rocket", "k": 1})

    names, made, found = run_async(go())
    assert names == list(TOOLS)
    assert made.structuredContent["added"] == 12  # type: ignore[index]
    assert '"rocket"' in text(found)


def test_langchains_mcp_client_calls_them(endpoint: str) -> None:
    async def go() -> tuple[list[str], Any]:
        servers = MultiServerMCPClient({"imgret": {"transport": "streamable_http", "url": endpoint}})
        tools = {tool.name: tool for tool in await servers.get_tools()}
        call = {"name": "search_similar_image", "args": {"text": "a rocket", "k": 1}, "id": "1", "type": "tool_call"}
        return list(tools), await tools["search_similar_image"].ainvoke(call)

    names, answer = run_async(go())
    assert names == list(TOOLS)
    assert '"rocket"' in str(answer.content)
    assert answer.artifact["structured_content"]["hits"][0]["label"] == "rocket"


# Conformance: every scenario of the suite is either run here or listed with the reason why it does not apply.

APPLIES = (
    "server-initialize",
    "ping",
    "tools-list",
    "tools-call-error",
    "resources-list",
    "prompts-list",
    "server-sse-multiple-streams",
    "dns-rebinding-protection",
    "completion-complete",
)
FIXTURE = "calls a tool, resource or prompt of the suite's own example server by a fixed name"
UNOFFERED = "tests a capability that the server does not offer and does not declare"
DOES_NOT_APPLY = {
    "tools-call-simple-text": FIXTURE,
    "tools-call-image": FIXTURE,
    "tools-call-audio": FIXTURE,
    "tools-call-embedded-resource": FIXTURE,
    "tools-call-mixed-content": FIXTURE,
    "tools-call-with-logging": FIXTURE,
    "tools-call-with-progress": FIXTURE,
    "tools-call-sampling": FIXTURE,
    "tools-call-elicitation": FIXTURE,
    "json-schema-2020-12": FIXTURE,
    "server-sse-polling": FIXTURE,
    "elicitation-sep1034-defaults": FIXTURE,
    "elicitation-sep1330-enums": FIXTURE,
    "resources-read-text": FIXTURE,
    "resources-read-binary": FIXTURE,
    "resources-templates-read": FIXTURE,
    "prompts-get-simple": FIXTURE,
    "prompts-get-with-args": FIXTURE,
    "prompts-get-embedded-resource": FIXTURE,
    "prompts-get-with-image": FIXTURE,
    "logging-set-level": UNOFFERED,
    "resources-subscribe": UNOFFERED,
    "resources-unsubscribe": UNOFFERED,
}


@pytest.fixture(scope="module")
def conformance() -> Path:
    here = Path(__file__).parents[1] / "node_modules" / ".bin"
    found = shutil.which("conformance", path=os.pathsep.join((str(here), os.environ.get("PATH", ""))))
    if found is None:
        reason = f"needs: npm install --no-save @modelcontextprotocol/conformance@{CONFORMANCE}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return Path(found)


def run_conformance(program: Path, url: str, cwd: Path, *more: str) -> str:
    command = [str(program), "server", "--url", url, *more]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("scenario", APPLIES)
def test_conformance(conformance: Path, endpoint: str, tmp_path: Path, scenario: str) -> None:
    shown = run_conformance(conformance, endpoint, tmp_path, "--scenario", scenario)
    checks = [line for line in shown.splitlines() if line.startswith("Passed:")]
    assert checks, shown
    passed, _, rest = checks[0].removeprefix("Passed: ").partition("/")
    assert passed == rest.split(",")[0], shown
    assert "0 failed" in checks[0], shown


def test_conformance_scenarios_are_all_accounted_for(conformance: Path) -> None:
    shown = subprocess.run(
        [str(conformance), "list", "--server"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    listed = {line.split()[1] for line in shown.splitlines() if line.strip().startswith("-")}
    assert listed == {*APPLIES, *DOES_NOT_APPLY}


# From afar


def data_url(path: str) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(Path(path).read_bytes()).decode()}"


def entry_of(tools: ImageTools, label: str) -> Entry:
    return next(entry for entry in entries_of(tools.runtime) if entry.label == label)


def test_a_picture_comes_in_as_a_data_url_and_is_shown_as_a_picture(endpoint: str, indexed: ImageTools) -> None:
    lion = entry_of(indexed, "lion")
    found = call(endpoint, "search_similar_image", image=data_url(lion.path), k=1)
    assert found.structuredContent["hits"][0]["id"] == lion.id  # type: ignore[index]
    shown = call(endpoint, "show_image", image=lion.id)
    (picture,) = [one for one in shown.content if isinstance(one, ImageContent)]
    assert max(Image.open(io.BytesIO(base64.b64decode(picture.data))).size) <= 256
    big = call(endpoint, "search_similar_image", image="data:image/png;base64," + "A" * 8_000_000)
    assert big.isError
    assert "cannot be used" in text(big)


def test_a_request_of_100_mb_is_refused_and_the_next_one_answered(endpoint: str) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"x": "A" * 100_000_000}}
    headers = {"Accept": "application/json, text/event-stream"}
    with contextlib.suppress(httpx.WriteError, httpx.ReadError):  # who reads no further may hang up
        assert httpx.post(endpoint, json=body, headers=headers).status_code == 413
    assert not call(endpoint, "list_libraries").isError


def test_both_forms_of_the_address_answer_with_and_without_a_session(endpoint: str) -> None:
    headers = {"Accept": "application/json, text/event-stream"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    for url in (endpoint, f"{endpoint}/"):
        answer = httpx.post(url, json=body, headers=headers)
        assert answer.status_code == 200
        assert "search_similar_image" in answer.text

        async def go(url: str = url) -> str | None:
            async with streamablehttp_client(url) as (read, write, session_id), ClientSession(read, write) as session:
                await session.initialize()
                await session.list_tools()
                return session_id()

        assert run_async(go())


def test_it_says_who_it_is_and_what_its_tools_do(endpoint: str) -> None:
    async def go() -> tuple[Any, list[Any]]:
        async with streamablehttp_client(endpoint) as (read, write, _), ClientSession(read, write) as session:
            return await session.initialize(), (await session.list_tools()).tools

    said, listed = run_async(go())
    assert (said.serverInfo.name, said.serverInfo.version) == ("imgret", __version__)
    assert said.capabilities.completions is not None
    assert all(tool.title and tool.annotations.openWorldHint is False for tool in listed)


def test_hints_and_tools_follow_what_the_app_allows(indexed: ImageTools) -> None:
    settings = indexed.runtime.settings
    indexed.runtime.settings = replace(settings, read_only=True, allow_urls=True)
    try:
        listed = {tool["name"]: tool["annotations"] for tool in make_mcp(indexed).tools()}
        refused = run_async(make_mcp(indexed).call_tool("index_folder", {"folder": "/tmp"}))
    finally:
        indexed.runtime.settings = settings
    assert list(listed) == [name for name in TOOLS if name != "index_folder"]
    assert listed["search_similar_image"]["openWorldHint"]
    assert not listed["list_libraries"]["openWorldHint"]
    assert refused["isError"]
    assert "There is no tool" in refused["content"][0]["text"]


def test_libraries_and_labels_are_completed(endpoint: str) -> None:
    async def go() -> tuple[list[str], list[str], list[str]]:
        async with client(endpoint) as session:
            ref = ResourceTemplateReference(type="ref/resource", uri="imgret://label/{library}/{label}")
            libraries = await session.complete(ref, {"name": "library", "value": "def"})
            labels = await session.complete(ref, {"name": "label", "value": "c"}, {"library": "default"})
            none = await session.complete(ref, {"name": "label", "value": ""}, {"library": "nowhere"})
            return libraries.completion.values, labels.completion.values, none.completion.values

    libraries, labels, none = run_async(go())
    assert libraries == ["default"]
    assert sorted(labels) == ["cat", "cheetah", "coffee"]
    assert none == []


def test_the_whole_record_and_the_pictures_are_links(endpoint: str, indexed: ImageTools) -> None:
    async def go() -> tuple[dict[str, Any], Image.Image, dict[str, Any]]:
        async with client(endpoint) as session:
            found = await session.call_tool("compare_metrics", {"image": entry_of(indexed, "lion").id})
            links = [one for one in found.content if isinstance(one, ResourceLink)]
            record = (await session.read_resource(links[0].uri)).contents[0]
            found = await session.call_tool("search_similar_image", {"where": "label=lion"})
            picture = [one for one in found.content if isinstance(one, ResourceLink)][1]
            data = (await session.read_resource(picture.uri)).contents[0]
            label = (await session.read_resource(AnyUrl("imgret://label/default/cheetah"))).contents[0]
            with pytest.raises(McpError, match="call the tool again"):
                await session.read_resource(AnyUrl("imgret://record/0123456789ab"))
            opened = Image.open(io.BytesIO(base64.b64decode(data.blob)))  # type: ignore[union-attr]
            return json.loads(record.text), opened, json.loads(label.text)  # type: ignore[union-attr]

    record, picture, label = run_async(go())
    assert len(record["agreement"]["overlap_at_k"]) == len(record["rows"])
    assert picture.size == (entry_of(indexed, "lion").width, entry_of(indexed, "lion").height)
    assert label["matching"] == 3


def test_the_records_kept_are_bounded(indexed: ImageTools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgret_tools.mcp.MOST_RECORDS", 3)
    server = make_mcp(indexed)
    for k in range(1, 8):
        run_async(server.call_tool("search_similar_image", {"text": "a", "k": k}))
    assert len(server._records) == 3


def test_a_client_may_ask_for_thumbnails(endpoint: str) -> None:
    async def go() -> CallToolResult:
        async with streamablehttp_client(endpoint) as (read, write, _), ClientSession(read, write) as session:
            capabilities = ClientCapabilities(experimental={IMAGES: {}})
            parameters = InitializeRequestParams(
                protocolVersion=LATEST_PROTOCOL_VERSION,
                capabilities=capabilities,
                clientInfo=Implementation(name="test", version="1"),
            )
            await session.send_request(ClientRequest(InitializeRequest(params=parameters)), InitializeResult)
            await session.send_notification(ClientNotification(InitializedNotification()))
            return await session.call_tool("search_similar_image", {"text": "a rocket", "k": 2})

    assert sum(isinstance(one, ImageContent) for one in run_async(go()).content) == 2
    assert not any(isinstance(one, ImageContent) for one in call(endpoint, "search_similar_image", text="a").content)


def test_cancelling_over_http_ends_the_indexing(runtime: Runtime, photos: Path) -> None:
    begun, ended = threading.Event(), threading.Event()
    reports: list[IndexReport] = []
    real = runtime.index

    def watched(folder: Path, **options: Any) -> IndexReport:
        begun.set()
        while not options["cancelled"]():
            time.sleep(0.01)
        reports.append(real(folder, **options))
        ended.set()
        return reports[0]

    runtime.index = watched  # type: ignore[method-assign]

    async def go(url: str) -> int:
        async with client(url) as session:
            running = asyncio.create_task(session.call_tool("index_folder", {"folder": str(photos)}))
            assert await asyncio.to_thread(begun.wait, 10)
            id_ = session._request_id - 1
            cancel = CancelledNotification(params=CancelledNotificationParams(requestId=id_))
            await session.send_notification(ClientNotification(cancel))
            assert await asyncio.to_thread(ended.wait, 10)
            with pytest.raises(McpError, match="cancelled"):
                await running
            return len((await session.list_tools()).tools)

    with served(ImageTools(runtime)) as url:
        assert run_async(go(url)) == len(TOOLS)
    assert reports[0].cancelled


def test_twenty_clients_are_answered_at_once(endpoint: str) -> None:
    texts = ("a rocket", "a lion", "a cup of coffee", "a motorcycle", "a cat")

    async def one(number: int) -> list[str]:
        async with client(endpoint) as session:
            found = [await session.call_tool("search_similar_image", {"text": texts[number % 5], "k": 1}) for _ in "ab"]
            return [one.structuredContent["hits"][0]["label"] for one in found]  # type: ignore[index]

    async def go() -> list[list[str]]:
        return await asyncio.gather(*(one(number) for number in range(20)))

    expected = ["rocket", "lion", "coffee", "motorcycle", "cat"] * 4
    assert run_async(go()) == [[label] * 2 for label in expected]


def test_the_roots_of_a_client_bound_what_it_may_name(tmp_path: Path) -> None:
    copy_photos(tmp_path / "photos")
    program = (
        "from imgret_tools import ImageTools, Runtime, Settings; from imgret_tools.mcp import run_stdio\n"
        "with Runtime.open(Settings.from_env()) as runtime: run_stdio(ImageTools(runtime))"
    )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "IMGRET_ROOTS": str(tmp_path),
        "IMGRET_ENCODER": "mini",
        "IMGRET_DATA_DIR": str(tmp_path / "data"),
    }

    async def roots(_: Any) -> ListRootsResult:
        return ListRootsResult(roots=[Root(uri=FileUrl(f"file://{tmp_path}/photos/lion"))])

    async def go() -> tuple[CallToolResult, CallToolResult]:
        server = StdioServerParameters(command=sys.executable, args=["-c", program], env=environment)
        async with stdio_client(server) as (read, write):
            async with ClientSession(read, write, list_roots_callback=roots) as session:
                await session.initialize()
                outside = await session.call_tool("index_folder", {"folder": str(tmp_path / "photos")})
                return outside, await session.call_tool("index_folder", {"folder": str(tmp_path / "photos" / "lion")})

    outside, inside = run_async(go())
    assert outside.isError
    assert "outside the roots that this client has given" in text(outside)
    assert inside.structuredContent["added"] == 1  # type: ignore[index]


def test_a_name_that_is_allowed_later_is_answered(indexed: ImageTools) -> None:
    server = make_mcp(indexed)
    app = Starlette()
    mount(app, server)
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    headers = {"Accept": "application/json, text/event-stream", "Host": "abc.gradio.live"}
    with TestClient(app, base_url="http://127.0.0.1") as asked:
        assert asked.post("/mcp", json=body, headers=headers).status_code == 421
        server.allow_host("abc.gradio.live")
        assert asked.post("/mcp", json=body, headers=headers).status_code == 200
