"""A Hugging Face Space: what its build installs, and the app as it starts there.

A Space's build sees requirements.txt alone and installs `gradio[oauth,mcp]` of README's version in the same step. The checkout is
copied in afterwards, and `python gradio_app.py` is run from it by a plain user under the variables of `space`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import httpx
import pytest
import yaml
from conftest import READ_ONLY, ROOT, free_port, wait_until_listening
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.slow

CPU_INDEX = "--extra-index-url https://download.pytorch.org/whl/cpu"
EXTRAS = ("oauth", "mcp")
LEFT_TO_PIP = {
    "kubernetes",
    "pydantic-core",
    "setuptools",
}  # see requirements.txt; the last two hang on pydantic and pip
NOBODY = 65534
MOST_MEMORY = 4e9  # bytes, of the 16e9 that a free Space has


def lines(name: str) -> list[str]:
    """What a requirements file says, without its comments."""
    return [line.strip() for line in (ROOT / name).read_text().splitlines() if line.strip() and line[0] != "#"]


def pins(name: str) -> dict[str, str]:
    pairs = (line.split("==") for line in lines(name) if "==" in line)
    return {canonicalize_name(one): version for one, version in pairs}


def front_matter() -> dict[str, object]:
    found = re.match(r"---\n(.*?)\n---\n", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert found, "README.md does not begin with a front matter"
    return dict(yaml.safe_load(found[1]))


def project() -> dict[str, object]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


def dependencies() -> list[Requirement]:
    """What the app needs: the bare install, and the extra `app` with those it names."""
    optional = project()["optional-dependencies"]
    found, todo = list(map(Requirement, project()["dependencies"])), ["app"]  # type: ignore[call-overload]
    while todo:
        for one in map(Requirement, optional[todo.pop()]):  # type: ignore[index]
            todo += one.extras if one.name == "imgret-tools" else ()
            found += [one] if one.name != "imgret-tools" else []
    return found


def test_requirements_are_pins_and_nothing_that_the_build_cannot_see() -> None:
    assert [line for line in lines("requirements.txt") if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == [CPU_INDEX]


def test_requirements_hold_every_dependency_in_its_range() -> None:
    pinned = pins("requirements.txt")
    for one in dependencies():
        assert pinned[canonicalize_name(one.name)] in one.specifier, one


def test_requirements_are_the_tested_versions_or_what_gradio_allows_on_a_space() -> None:
    tested = pins("constraints.txt")
    allowed = {
        str(canonicalize_name(one.name)): one.specifier
        for one in map(Requirement, metadata.requires("gradio") or [])
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in EXTRAS)
    }
    for name, version in pins("requirements.txt").items():
        if name not in allowed or tested[name] in allowed[name]:
            assert version == tested[name], name
        else:
            assert version in allowed[name], f"{name} {version}: gradio{list(EXTRAS)} asks for {allowed[name]}"


def test_requirements_leave_nothing_open_that_could_change_under_a_space() -> None:
    version = str(front_matter()["python_version"])
    there = {"python_version": version, "python_full_version": f"{version}.0", "sys_platform": "linux"}
    there |= {"platform_system": "Linux", "platform_machine": "x86_64"}
    needed: set[str] = set()
    todo = [(canonicalize_name(one.name), frozenset(one.extras)) for one in dependencies()]
    seen = set(todo)
    while todo:
        name, extras = todo.pop()
        needed.add(name)
        for one in map(Requirement, () if name in LEFT_TO_PIP else metadata.requires(name) or ()):
            if one.marker is None or any(one.marker.evaluate(there | {"extra": extra}) for extra in (extras or {""})):
                found = (canonicalize_name(one.name), frozenset(one.extras))
                todo += [found] if found not in seen else []
                seen.add(found)
    assert needed - pins("requirements.txt").keys() <= LEFT_TO_PIP


def test_the_front_matter_names_what_is_there() -> None:
    matter = front_matter()
    assert matter["sdk"] == "gradio"
    assert matter["sdk_version"] == pins("requirements.txt")["gradio"]
    assert (ROOT / str(matter["app_file"])).is_file()
    assert len(str(matter["short_description"])) <= 60
    assert isinstance(matter["python_version"], str), "3.10 without quotes would be 3.1"
    assert matter["python_version"] in Requirement(f"python{project()['requires-python']}").specifier


# The app as a Space runs it


def as_nobody() -> list[str]:
    """What a command must begin with to run as a user of no rights who can run this interpreter; nothing if not started by root.

    Where the interpreter lies in a folder that is closed to others, that user may read everything, and still write nothing.
    """
    plain = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    reading = [*plain, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    if os.geteuid() == 0 and shutil.which("setpriv"):
        for prefix in (plain, reading):
            if subprocess.run([*prefix, sys.executable, "-c", "import numpy"], capture_output=True).returncode == 0:
                return prefix
    return []


@dataclass(frozen=True, slots=True)
class Space:
    """An app that came up: its address, its process, the folders it was given, and how long it took in seconds."""

    url: str
    process: subprocess.Popen[bytes]
    checkout: Path
    home: Path
    temporary: Path
    seconds: float


@pytest.fixture(scope="module")
def checkout() -> Iterator[Path]:
    """The files of this commit, which nobody may write, where everybody can read them."""
    top = Path(tempfile.mkdtemp())
    top.chmod(0o755)
    copy = top / "app"
    for name in subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0"):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield copy
    for path in (copy, *copy.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(top)


@contextmanager
def space(checkout: Path, *, home_mode: int) -> Iterator[Space]:
    """The app, started as a Space starts it."""
    prefix = as_nobody()
    home, temporary = checkout.parent / f"home{home_mode:o}", checkout.parent / f"tmp{home_mode:o}"
    for folder in (home, temporary):
        folder.mkdir()
        if prefix:
            os.chown(folder, NOBODY, NOBODY)
    home.chmod(home_mode)
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "HF_HOME": str(home / ".cache" / "huggingface"),
        "SYSTEM": "spaces",
        "SPACE_ID": "someone/imgret",
        "SPACE_AUTHOR_NAME": "someone",
        "SPACE_REPO_NAME": "imgret",
        "SPACE_TITLE": "imgret",
        "SPACE_HOST": "someone-imgret.hf.space",
        "GRADIO_SERVER_NAME": "127.0.0.1",  # 0.0.0.0 there
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ALLOW_FLAGGING": "never",
        "GRADIO_NUM_PORTS": "1",
        "GRADIO_THEME": "huggingface",
        "CPU_CORES": "2",
        "MEMORY": "16Gi",
        "PYTHONUNBUFFERED": "1",
    }
    log = checkout.parent / f"log{home_mode:o}"
    command = [*prefix, sys.executable, str(front_matter()["app_file"])]
    started = time.monotonic()
    with (
        log.open("wb") as out,
        subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=checkout) as process,
    ):
        try:
            wait_until_listening(port, process, log, seconds=120)
            url = f"http://127.0.0.1:{port}"
            yield Space(url, process, checkout, home, temporary, time.monotonic() - started)
            assert "Traceback" not in log.read_text()
        finally:
            process.terminate()


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of everything in a folder; byte code, which only root could write, aside."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def peak_memory(process: subprocess.Popen[bytes]) -> int:
    """The most memory that a process has held at once, in bytes (Linux)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def search(url: str) -> dict[str, object]:
    from gradio_client import Client

    client = Client(url, verbose=False)
    try:
        endpoints = client.view_api(print_info=False, return_format="dict")["named_endpoints"]
        assert set(endpoints) == READ_ONLY, "a Space is read-only"
        found = client.predict(text="a motorcycle", k=3, api_name="/search_similar_image")
        return dict(json.loads(found))
    finally:
        client.close()


def test_the_app_starts_as_a_space_does(checkout: Path) -> None:
    before = state(checkout)
    with space(checkout, home_mode=0o755) as app:
        assert httpx.get(app.url, trust_env=False).status_code == 200
        found = search(app.url)
        hits = found["hits"]
        assert isinstance(hits, list)
        assert hits[0]["label"] == "motorcycle"
        shown = {path.parent.name for path in app.home.rglob("demo/*/*")}
        assert "flower" in shown
        assert "lion" not in shown, "Gradio's examples are not everybody's to show"
        assert all("/" not in hit["path"] and not hit["metadata"].get("folder") for hit in hits)
        assert not any(str(folder) in json.dumps(found) for folder in (app.checkout, app.home, app.temporary))
        if Path("/proc/self/status").exists():
            memory = peak_memory(app.process)
            print(f"up in {app.seconds:.1f} s, {memory / 1e6:.0f} MB at most")  # shown by pytest -rP
            assert memory < MOST_MEMORY
        assert list((app.home / ".local" / "share" / "imgret").glob("libraries/*")), (
            "the library lies in the user's home"
        )
    assert state(checkout) == before


def test_without_a_home_that_can_be_written_the_app_keeps_its_data_in_a_temporary_folder(checkout: Path) -> None:
    before = state(checkout)
    with space(checkout, home_mode=0o555) as app:
        assert search(app.url)["hits"]
        assert list(app.temporary.glob("imgret/libraries/*"))
        if as_nobody() or os.geteuid() != 0:
            assert files(app.home) == []
    assert state(checkout) == before
