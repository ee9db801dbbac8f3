"""The `imgret` command as a user runs it: output, JSON, exit status, one plain line for an error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import copy_photos

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with photos, indexed into the library `default`."""
    folder = tmp_path_factory.mktemp("cli")
    copy_photos(folder / "photos")
    done = imgret(folder, "index", "photos", "--encoder", "mini", "--json")
    assert done.returncode == 0, done.stderr
    return folder


def imgret(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IMGRET_")}
    environment |= {"IMGRET_DATA_DIR": str(folder / "data"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "imgret_tools.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_index_again_changes_nothing(world: Path) -> None:
    report = answer(imgret(world, "index", "photos", "--json"))
    assert {name: report[name] for name in ("library", "encoder", "added", "updated", "unchanged", "removed", "failed")} == {
        "library": "default", "encoder": "mini", "added": 0, "updated": 0, "unchanged": 12, "removed": 0, "failed": [],
    }  # fmt: skip
    assert {"folder", "seconds", "images_per_second", "stages"} <= report.keys()


def test_search_by_text_image_and_id(world: Path) -> None:
    by_text = answer(imgret(world, "search", "--text", "a cheetah", "--k", "3", "--json"))
    assert {"library", "encoder", "query", "measure", "space", "searched", "seconds", "hits"} <= by_text.keys()
    hits = by_text["hits"]
    assert isinstance(hits, list)
    assert [hit["label"] for hit in hits] == ["cheetah"] * 3
    assert {"rank", "id", "path", "label", "score", "value", "metadata"} <= hits[0].keys()
    by_image = answer(imgret(world, "search", "--image", "photos/lion/lion.jpg", "--measure", "l2", "--json"))
    assert by_image["hits"][0]["label"] == "lion"  # type: ignore[index]
    assert by_image["hits"][0]["value"] == pytest.approx(0, abs=1e-3)  # type: ignore[index]
    by_id = answer(imgret(world, "search", "--image", hits[0]["id"], "--json"))
    assert hits[0]["id"] not in [hit["id"] for hit in by_id["hits"]]  # type: ignore[attr-defined]


def test_html_and_csv_are_written(world: Path) -> None:
    imgret(world, "search", "--text", "coffee", "--html", "out.html", "--csv", "out.csv")
    assert (world / "out.csv").read_text().splitlines()[0].startswith("rank,id,label,score,value,path")
    page = (world / "out.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 5
    assert "http" not in page.replace("http-equiv", "")


def test_compare_one_query_and_a_labelled_set(world: Path) -> None:
    one = answer(imgret(world, "compare", "--image", "photos/cheetah/cheetah.jpg", "--plot", "out.png", "--json"))
    assert {"k", "rows", "agreement"} <= one.keys()
    assert {(row["space"], row["measure"]) for row in one["rows"]} >= {  # type: ignore[attr-defined]
        (space, measure) for space in ("embedding", "pixels") for measure in ("cosine", "l2", "l1", "pearson")
    }
    assert (world / "out.png").read_bytes().startswith(b"\x89PNG")
    many = answer(imgret(world, "compare", "--queries", "photos", "--json"))
    row = many["rows"][0]  # type: ignore[index]
    assert {"queries", "precision_at_1", "precision_at_k", "map"} <= row.keys()


def test_libraries_info_and_doctor(world: Path) -> None:
    assert answer(imgret(world, "libraries", "--json"))["libraries"][0]["name"] == "default"  # type: ignore[index]
    assert answer(imgret(world, "info", "--json"))["images"] == 12
    assert answer(imgret(world, "doctor", "--rebuild", "--json")) == {
        "library": "default",
        "images": 12,
        "rebuilt": 12,
        "problems": [],
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["index", "missing"], "missing"),
        (["index", "data.txt"], "data.txt"),
        (["index", "photos", "--encoder", "nonsense"], "nonsense"),
        (
            ["index", "photos", "--library", "new", "--encoder", "openclip:ViT-B-32:/no/such.safetensors"],
            "/no/such.safetensors",
        ),
        (["search", "--text", "cat", "--k", "0"], "from 1 to 200"),
        (["search", "--text", " "], "empty"),
        (["search"], "give an image"),
        (["search", "--text", "cat", "--measure", "manhattan"], "cosine, l2, l1, pearson"),
        (["search", "--text", "cat", "--library", "zoo"], "zoo"),
        (["search", "--text", "cat", "--where", "colour=red"], "colour"),
        (["search", "--image", "data.txt"], "data.txt"),
        (["search", "--text", "cat", "--space", "pixels"], "picture alone"),
        (["compare"], "--queries"),
        (["serve", "--auth", "nopassword"], "USER:PASS"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_1(world: Path, arguments: list[str], said: str) -> None:
    (world / "data.txt").write_text("no picture")
    done = imgret(world, *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_more_than_there_is_gives_what_there_is_and_says_so(world: Path) -> None:
    report = answer(imgret(world, "search", "--text", "cat", "--k", "50", "--json"))
    assert len(report["hits"]) == 12  # type: ignore[arg-type]
    assert "12 images" in str(report["notice"])


def test_wrong_usage_is_status_2(world: Path) -> None:
    assert imgret(world, "search", "--nonsense").returncode == 2
    assert imgret(world, "nonsense").returncode == 2
