"""The wheel in an environment that has the bare install's packages and no others: tools and shell work, each face says what it lacks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

import pytest
from conftest import CONVERTED, ROOT, photo
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.slow


def closure(package: str, extra: str = "") -> set[str]:
    """The packages that `pip install PACKAGE[EXTRA]` brings, without it."""
    there, todo = {(package, extra)}, [(package, extra)]
    while todo:
        name, extra = todo.pop()
        try:
            wanted = metadata.requires(name) or ()
        except metadata.PackageNotFoundError:  # of another platform
            continue
        for one in map(Requirement, wanted):
            if one.marker is None or one.marker.evaluate({"extra": extra}):
                found = {(str(canonicalize_name(one.name)), extra) for extra in ("", *one.extras)} - there
                there |= found
                todo += found
    return {name for name, _ in there} - {package}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the scripts of such an environment."""
    folder = tmp_path_factory.mktemp("bare")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)], check=True
    )
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    for name in closure("imgret-tools"):
        try:
            files = metadata.distribution(name).files or ()
        except metadata.PackageNotFoundError:
            continue
        for top in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(metadata.distribution(name).locate_file(top))
    return folder / "venv" / "bin"


def test_the_hashes_are_of_the_tested_versions_and_of_all_that_the_app_brings() -> None:
    tested = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    lines = (ROOT / "hashes.txt").read_text()
    hashed = dict(re.findall(r"^([\w.-]+)==([^ ]+)[^\\]*\\\n +--hash=sha256:[0-9a-f]{64}", lines, re.MULTILINE))
    assert len(hashed) == len(re.findall(r"^[\w.-]+==", lines, re.MULTILINE))
    assert closure("imgret-tools", "all") - {"imgret-tools"} <= {str(canonicalize_name(name)) for name in hashed}
    pins = {str(canonicalize_name(name)): version for name, version in tested.items()}
    assert {
        name: version for name, version in hashed.items() if pins.get(str(canonicalize_name(name)), version) != version
    } == {}


def ran(bare: Path, *command: str, fails: bool = False) -> str:
    """What a command printed; where it `fails`, its line on stderr."""
    environment = {"IMGRET_CACHE_DIR": str(CONVERTED), "IMGRET_DATA_DIR": os.environ["IMGRET_DATA_DIR"]}
    done = subprocess.run(
        [str(bare / "python"), *command], capture_output=True, text=True, cwd=bare, env=environment, check=False
    )
    assert (done.returncode == 1) == fails, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if fails else done.stdout


def imgret(bare: Path, *arguments: str, fails: bool = False) -> str:
    return ran(bare, "-m", "imgret_tools.cli", *arguments, fails=fails)


def test_indexing_searching_and_comparing_need_no_extra(bare: Path, tmp_path: Path) -> None:
    for name in ("gradio/media_assets/images/lion.jpg", "gradio/media_assets/images/tower.jpg"):
        place = tmp_path / "photos" / Path(name).stem / "one.jpg"
        place.parent.mkdir(parents=True)
        place.write_bytes(photo(name).read_bytes())
    assert json.loads(imgret(bare, "index", str(tmp_path / "photos"), "--json"))["added"] == 2
    hits = json.loads(imgret(bare, "search", "--text", "a lion", "--json"))["hits"]
    assert hits[0]["label"] == "lion"
    drawn = tmp_path / "figure.png"
    imgret(bare, "compare", "--image", str(tmp_path / "photos" / "lion" / "one.jpg"), "--plot", str(drawn))
    assert drawn.stat().st_size > 10_000
    told = ran(bare, "-c", "import imgret_tools as it; print(all(getattr(it, name) for name in it.__all__))")
    assert told == "True\n"


@pytest.mark.parametrize(
    ("arguments", "missing", "extra"),
    [
        (["serve"], "gradio", "app"),
        (["mcp"], "mcp", "mcp"),
        (["chat", "find lions"], "langchain_core", "langchain"),
        (["collect", "crawl", "spec.json"], "protego", "collect"),
    ],
)
def test_a_face_says_which_extra_it_lacks(bare: Path, arguments: list[str], missing: str, extra: str) -> None:
    (bare / "spec.json").write_text(
        json.dumps({"url": "http://127.0.0.1:9/?q={search_term}", "categories": {"fruit": ["apple"]}})
    )
    told = imgret(bare, *arguments, fails=True)
    assert f"needs {missing}, which is not installed: pip install 'imgret-tools[{extra}]'" in told


def test_the_app_as_a_script_says_so_too(bare: Path) -> None:
    (bare / "gradio_app.py").write_text((ROOT / "gradio_app.py").read_text("utf-8"), "utf-8")
    assert "pip install 'imgret-tools[app]'" in ran(bare, "gradio_app.py", fails=True)
