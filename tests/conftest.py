"""What all tests share: no network, a data folder of their own, real photos out of installed packages."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import hypothesis
import numpy as np
import pytest
from PIL import Image

from imgret_tools import ImageTools, Runtime, Settings, settings
from imgret_tools.records import Entry

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

hypothesis.settings.register_profile("patient", deadline=None)  # no test asserts a duration
hypothesis.settings.register_profile("long", deadline=None)  # what test_fuzz tries much more under
hypothesis.settings.load_profile("patient")

ROOT = Path(__file__).parent.parent

READ_ONLY = {
    f"/{tool}"
    for tool in (
        "search_similar_image",
        "compare_metrics",
        "list_libraries",
        "describe_library",
        "show_image",
        "find_duplicates",
    )
}
"""The endpoints of a shared app: all that change nothing."""

# Converted once for all tests, their parallel workers and the processes they start, not for each of their data folders.
if "IMGRET_TESTS_CONVERTED" not in os.environ:
    os.environ["IMGRET_TESTS_CONVERTED"] = tempfile.mkdtemp(prefix="imgret-converted-")
    atexit.register(shutil.rmtree, os.environ["IMGRET_TESTS_CONVERTED"], ignore_errors=True)
CONVERTED = Path(os.environ["IMGRET_TESTS_CONVERTED"])
os.environ["IMGRET_CACHE_DIR"] = str(CONVERTED)
settings._default_cache_dir = lambda data_dir: CONVERTED

PHOTOS = {
    "cat": ["skimage/data/chelsea.png"],
    "cheetah": [
        "gradio/media_assets/images/cheetah.jpg",
        "gradio/media_assets/images/cheetah1.jpg",
        "gradio/test_data/cheetah2.jpg",
    ],
    "coffee": ["skimage/data/coffee.png"],
    "lion": ["gradio/media_assets/images/lion.jpg"],
    "motorcycle": ["skimage/data/motorcycle_left.png", "skimage/data/motorcycle_right.png"],
    "people": ["skimage/data/astronaut.png", "matplotlib/mpl-data/sample_data/grace_hopper.jpg"],
    "rocket": ["skimage/data/rocket.jpg"],
    "tower": ["gradio/media_assets/images/tower.jpg"],
}


def other_python(name: str) -> Path:
    """The Python of an environment that `.ci/environments` makes, on top of this one's packages."""
    python = ROOT / ".ci" / name / "bin" / "python"
    if not python.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"there is no {python}; run .ci/environments")
        pytest.skip("needs environments with other versions of packages; .ci/environments makes them")
    return python


def photo(name: str) -> Path:
    """The file of a photo that an installed package ships, `package/path/in/it`."""
    package, _, rest = name.partition("/")
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / rest


def entries_of(runtime: Runtime, library: str = "default") -> list[Entry]:
    """All pictures of a library, by id."""
    with runtime.view(library) as view:
        return sorted(view.entries(), key=lambda entry: entry.id)


def rows_of(runtime: Runtime, library: str = "default") -> np.ndarray:
    """The embedding rows (n, dim) of a library, by ascending id."""
    with runtime.view(library) as view:
        return np.array(view.matrix[view.in_order_of_ids()[0]])


def row_of(runtime: Runtime, id_: str) -> np.ndarray:
    """The embedding row of a picture of the library `default`."""
    with runtime.view() as view:
        return np.array(view.row(id_))


def labels_of(runtime: Runtime) -> dict[str, int]:
    """How many pictures of the library `default` each label has."""
    with runtime.view() as view:
        return view.labels()


def copy_photos(folder: Path) -> Path:
    """`folder` filled with the photos, a sub-folder a label."""
    for label, names in PHOTOS.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(photo(name), folder / label / Path(name).name)
    return folder


def multiply(photos: Path, times: int) -> None:
    """`times` more of each photo in a folder, all different, so that indexing them takes a while."""
    for path in sorted(photos.rglob("*.*")):
        with Image.open(path) as picture:
            small = picture.convert("RGB").resize((200, 200))
        for number in range(times):
            small.crop((0, 0, 199 - number, 200)).save(path.with_name(f"{path.stem}-{number}.jpg"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in a browser are slow; in CI, on a machine that others load, they have a second try, counted as a rerun."""
    for item in items:
        if not {"browser", "chromium"}.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
            if os.environ.get("CI"):
                item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(autouse=True)
def _own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the person who runs the tests reaches them."""
    for name in [name for name in os.environ if name.startswith(("IMGRET_", "HF_", "GRADIO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("IMGRET_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of twelve real photos in eight labelled sub-folders, one's own to change."""
    return copy_photos(tmp_path / "photos")


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """A runtime on an empty data folder; `mini` makes new libraries."""
    with Runtime.open(Settings(data_dir=tmp_path / "data", encoder="mini", roots=(tmp_path,))) as opened:
        yield opened


@pytest.fixture(scope="session")
def converted() -> Path:
    """A cache of networks converted to ONNX for the whole session; the first test that needs one converts it."""
    return CONVERTED


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageTools]:
    """Tools on a library `default` of the photos; read only, please."""
    folder = tmp_path_factory.mktemp("indexed")
    copy_photos(folder / "photos")
    with Runtime.open(Settings(data_dir=folder / "data", encoder="mini", roots=(folder,))) as opened:
        opened.index(folder / "photos")
        yield ImageTools(opened)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until_listening(port: int, server: subprocess.Popen[Any], log: Path, *, seconds: float) -> None:
    """Returns once `server` can be reached; fails with what it has written to `log` when it ends or takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    pytest.fail(f"no server in {seconds:.0f} s: {log.read_text()}")


WITH_TESTS = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
"""PYTHONPATH of a process that imports the fake encoder."""


@contextmanager
def serving(
    command: list[str], folder: Path, *, ready: str = "", seconds: float = 180, **environment: str
) -> Iterator[str]:
    """The address of `command` on a free port of loopback, once it listens there and has printed `ready`.

    What it prints goes to `folder/log`.
    """
    port = free_port()
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [*command, "--port", str(port)],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            stdout=log,
            stderr=log,
            cwd=folder,
        ) as server,
    ):
        try:
            wait_until_listening(port, server, folder / "log", seconds=seconds)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.fixture
def chroma_server(tmp_path: Path) -> Iterator[str]:
    """The address of a Chroma server of one's own on loopback."""
    command = [str(Path(sys.executable).parent / "chroma"), "run", "--host", "127.0.0.1"]
    with serving([*command, "--path", str(tmp_path / "server")], tmp_path) as address:
        yield address


CHROMIUM_FLAGS = ["--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run"]


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `gradio_app.py` as a user starts it, on a folder of one's own beside the demo."""
    folder = tmp_path_factory.mktemp("app")
    copy_photos(folder / "photos")
    (folder / "photos" / "broken.jpg").write_text("<b>not a picture</b>")
    environment = {"IMGRET_DATA_DIR": str(folder / "data"), "IMGRET_ENCODER": "mini", "IMGRET_ROOTS": str(folder)}
    with serving([sys.executable, str(ROOT / "gradio_app.py")], folder, ready="is ready", **environment) as address:
        yield address


@pytest.fixture(scope="module")  # its event loop must not outlive the module's tests
def browser() -> Iterator[Browser]:
    """A headless Chromium; without one the tests skip and say so, under CI they fail."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("CI has no Chromium")
        pytest.skip("there is no Chromium on this machine; install one to run the page's tests")
    flags = [*CHROMIUM_FLAGS, "--no-sandbox"] if os.geteuid() == 0 else CHROMIUM_FLAGS
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, app: str) -> Iterator[Page]:
    """A fresh visit; every request must stay with the app."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
    opened = context.new_page()
    foreign: list[str] = []
    host = urlsplit(app).netloc
    opened.on(
        "request",
        lambda request: foreign.append(request.url) if urlsplit(request.url).netloc not in (host, "") else None,
    )
    opened.set_default_timeout(20_000)
    yield opened
    context.close()
    assert foreign == []
