"""Whatever strangers send ends in an answer or in an error of ours: no crash, no hang, nothing outside its place.

Short in the suite; `pytest tests/test_fuzz.py --hypothesis-profile long -n 0` tries two hundred times as much.
"""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_encoder
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.engine import runtime as runtime_module
from imgret_tools.errors import BadInput, ImageError, ImgretError
from imgret_tools.library.filters import FIELDS, parse_where
from imgret_tools.mcp import make_mcp, mount
from imgret_tools.pictures.open import open_picture
from imgret_tools.schemas import available
from imgret_tools.tools import MAX_K
from imgret_tools.ui.gate import Gate
from imgret_tools.ui.link import Asked
from imgret_tools.ui.patches import endpoint
from imgret_tools.ui.uploads import unpack
from imgret_tools.uploads import of_data_url

LONG = settings.get_current_profile_name() == "long"
TRIED = settings(
    max_examples=10_000 if LONG else 50,
    deadline=None,  # a busy machine is no hang
    suppress_health_check=list(HealthCheck),
    derandomize=not LONG,
    database=None,
)
FEW = settings(TRIED, max_examples=1_000 if LONG else 15)

nasty = st.sampled_from(
    [
        "",
        "\0",
        "../" * 9 + "etc/passwd",
        "' OR 1=1 --",
        "\ud800",
        "a" * 5000,
        "%00",
        "{",
        "[[",
        "1e999",
        "-0",
        "NaN",
        "\u202e",
    ]
)
texts = st.one_of(nasty, st.text(max_size=60), st.text("abl=~<>!|,\"'\\ 0123456789-*", max_size=40))
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageTools]:
    patch = pytest.MonkeyPatch()
    patch.setattr(runtime_module, "make_encoder", lambda spec, **_: fake_encoder.FakeEncoder())
    folder = tmp_path_factory.mktemp("fuzzed")
    for number in range(3):
        scene(folder / "photos" / f"class{number}" / f"{number}.jpg", number)
    with Runtime.open(Settings(data_dir=folder / "data", roots=(folder,), encoder="fake")) as runtime:
        runtime.index(folder / "photos", library="lib")
        runtime.settings = Settings(
            data_dir=folder / "data", roots=(folder,), read_only=True, library="lib", only=("lib",)
        )
        yield ImageTools(runtime)
    patch.undo()


def scene(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(path)


@TRIED
@given(st.dictionaries(st.sampled_from([*Asked.__dataclass_fields__, "lang"]), texts, max_size=9))
def test_links(parameters: dict[str, str]) -> None:
    asked = Asked.of_link(parameters, "lib")
    if asked is not None:
        again = Asked.of_link({name: str(value) for name, value in asked.link().items()}, "lib")
        assert again is None or 0 <= again.k <= MAX_K


@TRIED
@given(st.lists(st.one_of(texts, st.builds("{}{}{}".format, st.sampled_from(sorted(FIELDS)), st.sampled_from(
    ["=", "!=", "~", ">", ">=", "<", "<="]), texts)), max_size=3))  # fmt: skip
def test_filters_and_the_queries_made_of_them(tools: ImageTools, where: list[str]) -> None:
    try:
        conditions = parse_where(where)
    except BadInput as error:
        assert len(str(error)) < 3000
        return
    with tools.runtime.view("lib") as view:
        assert 0 <= view.count(conditions) <= 3


@TRIED
@given(st.data())
def test_arguments_of_any_type_over_the_api(tools: ImageTools, data: st.DataObject) -> None:
    """Gradio checks no types: a number as `image` was an error of ours without a word."""
    tool = data.draw(st.sampled_from(available(tools)))
    names = list(tool.arguments.model_fields)
    given_ = data.draw(st.dictionaries(st.sampled_from(names), values, max_size=3)) if names else {}
    needed = {name: "x" for name, one in tool.arguments.model_fields.items() if one.is_required()}
    called = endpoint(tools, tool)
    try:
        json.loads(called(**{**needed, **given_}))
    except Exception as error:
        assert type(error).__name__ == "Error", repr(error)  # gr.Error: told to the visitor
        assert str(tools.runtime.settings.data_dir) not in str(error)


@TRIED
@given(st.one_of(texts, st.builds("data:{}{},{}".format, texts, st.sampled_from(["", ";base64", ";x;base64"]), texts)))
def test_data_urls(url: str) -> None:
    try:
        of_data_url(url)
    except BadInput as error:
        assert len(str(error)) < 400


def of_form(form: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.arange(24 * 32 * 3, dtype=np.uint8).reshape(24, 32, 3)).save(out, form)
    return out.getvalue()


SEEDS = {form: of_form(form) for form in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "AVIF")}


@TRIED
@given(
    st.sampled_from(sorted(SEEDS)),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=12),
    st.integers(0, 4000),
)
def test_pictures_with_other_bytes_in_them(form: str, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(SEEDS[form])
    for place, value in changes:
        data[place % len(data)] = value
    try:
        opened = open_picture(bytes(data[: max(cut, 1)] if cut % 3 == 0 else data), max_megapixels=20)
        assert opened.image.mode == "RGB"
    except ImageError as error:
        assert len(str(error)) < 400


@TRIED
@given(st.binary(max_size=400), st.booleans())
def test_exif_of_any_bytes(exif: bytes, framed: bool) -> None:
    out = io.BytesIO()
    head = b"Exif\0\0MM\0*\0\0\0\x08" if framed else b""
    Image.new("RGB", (8, 8)).save(out, "JPEG", exif=head + exif)
    try:
        opened = open_picture(out.getvalue())
    except ImageError:
        return
    assert opened.latitude is None or -90 <= opened.latitude <= 90
    assert opened.longitude is None or -180 <= opened.longitude <= 180


@FEW
@given(st.lists(st.one_of(texts, st.builds("{}/{}".format, texts, texts)), min_size=1, max_size=4))
def test_names_in_a_zip_stay_inside(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("zip")
    archive, inside = folder / "x.zip", folder / "in" / "here"
    with zipfile.ZipFile(archive, "w") as made:
        for name in dict.fromkeys(names):
            try:
                made.writestr(zipfile.ZipInfo(f"{name}.png"), SEEDS["PNG"])
            except (ValueError, UnicodeError):
                return  # no zip can hold that name
        made.writestr("sure/one.png", SEEDS["PNG"])
    try:
        unpack([str(archive)], inside)
    except BadInput:
        return
    assert {path for path in folder.rglob("*") if path.is_file()} <= {archive, *inside.rglob("*")}


@pytest.fixture(scope="module")
def wire(tools: ImageTools) -> Iterator[TestClient]:
    app = Starlette()
    mount(app, make_mcp(tools, hosts=("*",)))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


frames = st.one_of(
    values,
    st.fixed_dictionaries(
        {},
        optional={
            "jsonrpc": st.one_of(st.just("2.0"), values),
            "id": st.one_of(st.integers(0, 9), values),
            "method": st.one_of(
                st.sampled_from(
                    ["tools/call", "tools/list", "resources/read", "completion/complete", "prompts/get", "ping"]
                ),
                texts,
            ),
            "params": st.one_of(
                values,
                st.fixed_dictionaries({"name": texts, "arguments": values}),
                st.fixed_dictionaries({"uri": texts}),
            ),
        },
    ),
)


@FEW
@given(frames)
def test_mcp_frames(wire: TestClient, frame: object) -> None:
    body = json.dumps(frame).encode("utf-8", "surrogatepass")
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    answer = wire.post("/mcp", content=body, headers=headers)
    assert answer.status_code < 500, (frame, answer.text[:500])
    assert "Traceback" not in answer.text


@FEW
@given(
    st.lists(st.tuples(st.integers(0, 200_000), st.binary(min_size=1, max_size=40)), min_size=1, max_size=5),
    st.integers(0, 9),
)
def test_catalogues_with_other_bytes_in_them(
    tools: ImageTools, tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]], cut: int
) -> None:
    """A damaged catalogue says so; it crashes nothing, and the other libraries are there."""
    data = tmp_path_factory.mktemp("damaged")
    source = tools.runtime.settings.data_dir / "libraries" / "lib"
    target = data / "libraries" / "lib"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("chroma*", "*.lock", "*-wal", "*-shm"))
    file = next(path for path in sorted(target.iterdir()) if path.read_bytes()[:6] == b"SQLite")
    content = bytearray(file.read_bytes())
    for place, bytes_ in changes:
        at = place % len(content)
        content[at : at + len(bytes_)] = bytes_
    file.write_bytes(content[: len(content) // 2] if cut == 0 else content)
    with Runtime.open(Settings(data_dir=data, roots=(data,), encoder="fake")) as runtime:
        damaged = ImageTools(runtime)
        for call in (
            damaged.list_libraries,
            lambda: damaged.search_similar_image(text="a", library="lib"),
            lambda: damaged.search_similar_image(where=["label=class1"], library="lib"),
            lambda: damaged.describe_library("lib"),
        ):
            try:
                call()
            except ImgretError as error:
                assert str(error)


@TRIED
@given(texts, st.one_of(st.none(), texts), st.sampled_from(["GET", "POST", "PUT", "HEAD", "x"]), texts)
def test_the_gate_answers_whatever_the_headers_say(host: str, origin: str | None, method: str, path: str) -> None:
    reached = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    told: list[int] = []

    async def send(message: Any) -> None:
        told.extend([message["status"]] if message["type"] == "http.response.start" else [])

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    headers = [(b"host", host.encode("latin-1", "replace"))]
    headers += [(b"origin", origin.encode("latin-1", "replace"))] if origin is not None else []
    scope = {"type": "http", "method": method, "path": f"/{path}", "headers": headers, "scheme": "http", "client": None}
    asyncio.run(Gate(behind)(scope, receive, send))
    assert len(told) == 1
    assert not reached or host.strip()


@pytest.mark.parametrize("entities", ["laughs", "outside"])
def test_drawings_that_multiply_or_read_files_show_neither(tmp_path: Path, entities: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("sk-very-secret")
    many = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    inside = f'<!ENTITY a0 "ha">{many}' if entities == "laughs" else f'<!ENTITY a11 SYSTEM "file://{secret}">'
    svg = f'<?xml version="1.0"?><!DOCTYPE svg [{inside}]><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><text>&a11;</text></svg>'
    try:
        opened = open_picture(svg.encode(), max_megapixels=20)
        assert opened.width == 9
    except ImageError as error:
        assert "secret" not in str(error)
