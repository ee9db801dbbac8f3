"""Who holds the link of a read-only app learns no path, no folder, no place, no other library: every way in is judged.

A new route, endpoint, page event, tool or resource fails here until somebody has thought about what it tells strangers and
named it below. What there is then gets attacked, and no answer may hold a mark that only the owner's machine knows.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_encoder
import numpy as np
import pytest
from conftest import READ_ONLY
from fastapi.routing import APIRoute
from gradio.routes import App
from PIL import Image
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.chat.models import make_model
from imgret_tools.chat.talk import Chat
from imgret_tools.engine import runtime as runtime_module
from imgret_tools.schemas import available
from imgret_tools.ui.app import build_app, mount
from imgret_tools.ui.gate import Gate

REST = ("auto", None, None, 0, "best", "auto", None, "weak")
"""The other arguments of a search, as usual."""
SECRET, PLACE, HIDDEN = "OPENAI_API_KEY=sk-very-secret", 48.85837, "diary-of-anna"

TOOLS = {name.removeprefix("/") for name in READ_ONLY}
RESOURCES = {
    "imgret://thumbnail/{library}/{id}",
    "imgret://picture/{library}/{id}",
    "imgret://record/{id}",
    "imgret://label/{library}/{label}",
}
SHUT = {
    "/gradio_api/custom_component/{id}/{environment}/{type}/{file_name}": "there are none",
    "/gradio_api/token": "shows a script the cookie that it cannot read otherwise",
    "/gradio_api/deep_link": "writes a file for each call",
    "/gradio_api/openapi.json": "nobody asks for it",
    "/gradio_api/dev/reload": "for developers",
    "/gradio_api/proxy={url_path:path}": "asks other hosts",
    "/gradio_api/file/{path:path}": "an older name of file=",
    "/gradio_api/runs": "history is off",
    "/gradio_api/stream/{event_id}": "nothing is streamed",
    "/gradio_api/stream/{event_id}/close": "nothing is streamed",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist.m3u8": "nothing is streamed",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/{segment_id}.{ext}": "nothing is streamed",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist-file": "nothing is streamed",
    "/gradio_api/process_recording": "nothing is recorded",
    "/gradio_api/vibe-edit": "writes the app's own code",
    "/gradio_api/undo-vibe-edit": "writes the app's own code",
    "/gradio_api/vibe-code": "shows the app's own code",
    "/gradio_api/vibe-starter-queries": "asks other hosts",
    "/gradio_api/profiling/traces": "for developers",
    "/gradio_api/profiling/summary": "for developers",
    "/gradio_api/profiling/clear": "for developers",
    "/monitoring": "off",
    "/monitoring/summary": "off",
    "/monitoring/{key}": "off",
    "/docs": "off",
    "/docs/oauth2-redirect": "off",
    "/redoc": "off",
    "/openapi.json": "off",
}
"""Routes of Gradio that are not there for anybody, and why."""


class Shared:
    """A read-only app on one of two libraries, as its visitors reach it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = folder / "secret.env"
        self.secret.write_text(SECRET)
        self.other = folder / "other.png"
        for number, name in enumerate(("photos/cat/a.jpg", "photos/dog/b.jpg", f"{HIDDEN}/x/c.jpg", "other.png")):
            scene(number, folder / name)
        settings = Settings(data_dir=folder / "data", roots=(folder,))
        self.runtime = Runtime.open(settings)
        self.runtime.index(folder / "photos", library="lib", encoder="fake")
        self.runtime.index(folder / HIDDEN, library=HIDDEN, encoder="fake")
        hidden = self.runtime.view(HIDDEN)
        with hidden as view:
            self.hidden = view.entries()[0].id
        with self.runtime.view("lib") as view:
            self.shown = view.entries()[0].id
        self.runtime.settings = Settings(
            data_dir=folder / "data", roots=(folder,), read_only=True, library="lib", only=("lib",)
        )
        self.tools = ImageTools(self.runtime)
        self.page = build_app(self.tools, library="lib", start_talk=lambda: Chat(self.tools, make_model("")))
        self.app: Gate = mount(self.tools, self.page)

    def marks(self) -> list[str]:
        """What no answer may hold."""
        return [
            SECRET[:8],
            "sk-very",
            str(self.folder),
            self.folder.name,
            str(self.folder / "data"),
            str(PLACE),
            f"{PLACE:.4f}",
            HIDDEN,
            "photos/cat",
        ]

    def attacks(self) -> list[str]:
        """What a visitor may send as any text: paths of every kind, ids and names he should not know."""
        inside, here = self.secret, self.folder
        return [
            str(inside),
            str(self.other),
            str(here / "nothing.png"),
            f"file://{inside}",
            f"{here}/photos/../secret.env",
            str(inside).replace("/", "%2F"),
            str(inside).upper(),
            "~/.ssh/id_rsa",
            "/proc/self/environ",
            "/proc/self/fd/0",
            "/dev/zero",
            "\\\\?\\C:\\secret.env",
            str(here / "photos"),
            HIDDEN,
            self.hidden,
            self.shown,
            "http://127.0.0.1:1/x.png",
            "upload-000000000000",
            f"path~{here}",
            "latitude>0",
            "../" * 12 + "etc/passwd",
            "a\0b",
        ]


def scene(seed: int, path: Path) -> Path:
    """A small picture with a place in it."""
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 30.132), 3: "E", 4: (2.0, 17.0, 40.0)})
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    options: dict[str, Any] = {"exif": exif} if path.suffix == ".jpg" else {}
    Image.fromarray(grid).resize((320, 240)).save(path, **options)
    return path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    patch = pytest.MonkeyPatch()
    patch.setattr(runtime_module, "make_encoder", lambda spec, **_: fake_encoder.FakeEncoder())
    opened = Shared(tmp_path_factory.mktemp("of-the-owner"))
    yield opened
    opened.runtime.close()
    patch.undo()


@pytest.fixture(scope="module")
def asked(shared: Shared) -> Iterator[TestClient]:
    with TestClient(shared.app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def tells_nothing(shared: Shared, answer: str, *, sent: str = "") -> None:
    """No mark stands in an answer, but for what was sent and comes back."""
    plain = answer
    for form in (sent, json.dumps(sent)[1:-1], json.dumps(json.dumps(sent)[1:-1])[1:-1]):
        plain = plain.replace(form, "") if form else plain
    echoed = "…" in plain or "photos/cat" in sent  # what was sent comes back shortened, or without its folder
    found = [mark for mark in shared.marks() if mark in plain and not (echoed and mark in sent)]
    assert found == [], f"{sent!r}: {plain[:2000]}"


def call(asked: TestClient, name: str, data: list[object]) -> str:
    """What an endpoint answers over the protocol that curl uses."""
    begun = asked.post(f"/gradio_api/call/{name}", json={"data": data})
    if begun.status_code != 200:
        return begun.text
    return asked.get(f"/gradio_api/call/{name}/{begun.json()['event_id']}").text


# Every way in is judged


def test_every_route_is_open_or_shut_by_decision(shared: Shared) -> None:
    """A route that a new version of Gradio brings is shut, and fails here until it is named."""
    outer = shared.app.app
    inner = next(route.app for route in outer.routes if isinstance(route, Mount) and isinstance(route.app, App))  # type: ignore[attr-defined]
    paths: dict[str, set[str]] = {}
    for route in itertools.chain(outer.routes, routes_of(inner)):  # type: ignore[attr-defined]
        if isinstance(route, Route | APIRoute):
            paths.setdefault(route.path, set()).update(route.methods or {"GET", "POST", "DELETE"})
    assert len(paths) > 60
    open_ = {path for path, methods in paths.items() if any(is_open(method, filled(path)) for method in methods)}
    undecided = {path for path in paths if path not in open_ and path.rstrip("/") not in {p.rstrip("/") for p in SHUT}}
    assert undecided == set()
    assert not {path for path in open_ if path.rstrip("/") in SHUT}


def routes_of(app: object) -> list[object]:
    """All routes of an app, those of the routers that it includes too."""
    found: list[object] = []
    for route in getattr(app, "routes", []):
        inner = getattr(route, "original_router", None) or getattr(route, "router", None)
        found += [route, *(routes_of(inner) if inner is not None else [])]
    return found


def filled(path: str) -> str:
    return re.sub(r"\{\w+(:\w+)?\}", "1", path)


def is_open(method: str, path: str) -> bool:
    from imgret_tools.ui.gate import _OPEN

    return any(method in methods and known.fullmatch(path) for methods, known in _OPEN)


def test_the_published_endpoints_are_the_judged_tools(shared: Shared, asked: TestClient) -> None:
    info = asked.get("/gradio_api/info").json()
    assert {name.removeprefix("/") for name in info["named_endpoints"]} == TOOLS
    assert info["unnamed_endpoints"] == {}
    assert {tool.name for tool in available(shared.tools)} == TOOLS
    whole = asked.get("/gradio_api/info?all_endpoints=true").text
    tells_nothing(shared, whole)


# Every way in is attacked


def test_no_tool_tells_anything_to_any_text(shared: Shared, asked: TestClient) -> None:
    info = asked.get("/gradio_api/info").json()["named_endpoints"]
    for name, attack in itertools.product(sorted(TOOLS), shared.attacks()):
        parameters = info[f"/{name}"]["parameters"]
        texts = [one["parameter_name"] for one in parameters if one["python_type"]["type"].startswith(("str", "list"))]
        for place in texts:
            data = [attack if one["parameter_name"] == place else one.get("parameter_default") for one in parameters]
            if "image" in texts and place != "image" and name != "search_similar_image":
                data[0] = shared.shown
            tells_nothing(shared, call(asked, name, data), sent=attack)


def test_paths_are_refused_alike_whether_they_exist_or_not(shared: Shared) -> None:
    told = set()
    for path in (shared.secret, shared.other, shared.folder / "nothing.png", shared.folder / "photos"):
        for refused in (shared.tools.search_similar_image, shared.tools.compare_metrics, shared.tools.show_image):
            with pytest.raises(Exception, match="shared read-only") as caught:
                refused(image=str(path), library="lib")
            told.add(str(caught.value))
    assert len(told) == 1


def test_a_picture_is_found_without_its_place_and_folder(shared: Shared, asked: TestClient) -> None:
    """The answers that do tell something: they are right, and tell no more."""
    answer = call(asked, "search_similar_image", [shared.shown, None, 5, "cosine", "embedding", "lib", *REST])
    assert "b.jpg" in answer or "a.jpg" in answer
    tells_nothing(shared, answer)
    for name, data in (
        ("show_image", [shared.shown, "lib", "large"]),
        ("describe_library", ["lib"]),
        ("list_libraries", []),
        ("compare_metrics", [shared.shown, 2, "lib", None]),
        ("find_duplicates", ["lib", "any"]),
    ):
        answer = call(asked, name, data)
        assert "event: complete" in answer, name
        tells_nothing(shared, answer)


def events_of(page: Any) -> list[Any]:
    return [fn for fn in page.fns.values() if fn.fn is not None]


@pytest.mark.slow
def test_no_event_of_the_page_tells_anything(shared: Shared, asked: TestClient) -> None:
    """The page's own events are called as a stranger's script would: with any text in any place, or a file of ours."""
    number = 0
    for fn in events_of(shared.page):
        for attack in [*shared.attacks()[:4], HIDDEN, self_path(shared), "path~/"]:
            number += 1
            data = [sent_to(component, attack) for component in fn.inputs]
            begun = asked.post(
                "/gradio_api/queue/join",
                json={"fn_index": fn._id, "data": data, "session_hash": f"s{number}", "event_data": {"index": 0}},
            )
            told = begun.text
            if begun.status_code == 200:
                told = asked.get(f"/gradio_api/queue/data?session_hash=s{number}").text
            tells_nothing(shared, told, sent=attack)


def self_path(shared: Shared) -> str:
    return str(shared.folder / "photos" / "cat" / "a.jpg")


def sent_to(component: Any, attack: str) -> object:
    kind = component.get_block_name()
    if kind in ("image", "file"):
        return {"path": attack, "meta": {"_type": "gradio.FileData"}}
    if kind == "multimodaltextbox":
        return {"text": attack, "files": [{"path": attack, "meta": {"_type": "gradio.FileData"}}]}
    return {"state": None, "slider": 3, "number": 3}.get(kind, attack)


def test_the_first_page_and_its_settings_tell_nothing(shared: Shared, asked: TestClient) -> None:
    for path in (
        "/",
        "/config",
        "/?library=lib&text=cat",
        f"/?library={HIDDEN}&text=cat",
        f"/?image={self_path(shared)}",
    ):
        tells_nothing(shared, asked.get(path).text, sent=self_path(shared) if "image" in path else HIDDEN)


def test_thumbnails_have_addresses_without_folders_and_only_of_this_library(shared: Shared, asked: TestClient) -> None:
    mine = asked.get(f"/thumbnail/lib/{shared.shown}")
    assert mine.status_code == 200
    with Image.open(io.BytesIO(mine.content)) as picture:
        assert picture.size == (256, 192)
        assert not picture.getexif()
    assert asked.get(f"/thumbnail/{HIDDEN}/{shared.hidden}").status_code == 404
    assert asked.get(f"/thumbnail/lib/{shared.hidden}").status_code == 404
    for path in (shared.secret, shared.runtime.thumbnails.folder, "/etc/passwd", "http://127.0.0.1:1/x"):
        answer = asked.get(f"/gradio_api/file={path}")
        assert answer.status_code in (403, 404), path
        tells_nothing(shared, answer.text, sent=str(path))


def test_a_file_of_the_machine_is_no_upload(shared: Shared, asked: TestClient) -> None:
    for path in (str(shared.secret), str(shared.other), "http://127.0.0.1:1/x.png", "/dev/zero"):
        sent = {"path": path, "meta": {"_type": "gradio.FileData"}}
        answer = call(asked, "search_similar_image", [sent, None, 5, "cosine", "embedding", "lib", *REST])
        assert "event: error" in answer
        tells_nothing(shared, answer, sent=path)


@pytest.mark.slow
def test_the_chat_tells_nothing(shared: Shared) -> None:
    talk = Chat(shared.tools, make_model(""))
    for attack in [*shared.attacks(), "what libraries are there", "where are the pictures stored", "show folders"]:
        for question in (attack, f"compare {attack}"):
            told = " ".join(map(str, talk.ask(question)))
            tells_nothing(shared, told, sent=attack)


def rpc(asked: TestClient, method: str, **params: object) -> str:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = asked.post("/mcp", json=body, headers={"Accept": "application/json, text/event-stream"}).text
    return answer.partition("data: ")[2].strip() or answer


def test_mcp_tells_nothing(shared: Shared, asked: TestClient) -> None:
    listed = json.loads(rpc(asked, "tools/list"))["result"]["tools"]
    assert {tool["name"] for tool in listed} == TOOLS
    templates = json.loads(rpc(asked, "resources/templates/list"))["result"]["resourceTemplates"]
    assert {one["uriTemplate"] for one in templates} == RESOURCES
    assert json.loads(rpc(asked, "resources/list"))["result"]["resources"] == []
    assert (
        "prompts" not in rpc(asked, "prompts/list") or json.loads(rpc(asked, "prompts/list"))["result"]["prompts"] == []
    )
    for tool, attack in itertools.product(listed, shared.attacks()[:14]):
        for place, schema in tool["inputSchema"]["properties"].items():
            given = {place: [attack] if place == "where" else attack}
            if schema.get("type") not in ("string", "array") or "enum" in schema:
                continue
            tells_nothing(shared, rpc(asked, "tools/call", name=tool["name"], arguments=given), sent=attack)
    for template in RESOURCES:
        for library, id_ in (
            (HIDDEN, shared.hidden),
            ("lib", shared.hidden),
            ("lib", "..%2F..%2Fsecret.env"),
            (HIDDEN, "x"),
        ):
            uri = template.format(library=library, id=id_, label=id_) if "{" in template else template
            answer = rpc(asked, "resources/read", uri=uri)
            assert "blob" not in answer
            tells_nothing(shared, answer, sent=HIDDEN)
    for reference in ({"type": "ref/resource", "uri": "imgret://label/{library}/{label}"},):
        answer = rpc(asked, "completion/complete", ref=reference, argument={"name": "library", "value": ""})
        assert json.loads(answer)["result"]["completion"]["values"] == ["lib"]


def test_what_a_visitor_sends_is_found_again_by_him_alone(shared: Shared, asked: TestClient) -> None:
    """A picture sent as data is named by its own hash, and the answer names no file."""
    sent = "data:image/png;base64," + base64.b64encode(shared.other.read_bytes()).decode()
    answer = call(asked, "search_similar_image", [sent, None, 2, "cosine", "embedding", "lib", *REST])
    assert "event: complete" in answer
    assert re.search(r"upload-[0-9a-f]{12}", answer)
    tells_nothing(shared, answer)
